"""Classes of a user's own in a configuration: where they are found, and what is said when they are not."""

import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic as pdt
import pytest

from model_name.core import kinds


class Shape(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    KIND: str


class Circle(Shape):
    KIND: Literal["Circle"] = "Circle"
    radius: float = 1.0


class Point(Shape):
    KIND: Literal["Point"] = "Point"


class Drawing(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    shape: Annotated[Circle | Point, pdt.Field(discriminator="KIND"), kinds.Extensible(Shape)]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])

    def write(name: str, text: str) -> None:
        Path(f"{name}.py").write_text(
            f"from {__name__} import Shape\nfrom typing import Literal\n\n{text}"
        )

    monkeypatch.setitem(sys.modules, __name__, types.SimpleNamespace(Shape=Shape))
    return write


def test_a_class_in_the_working_directory_is_found_and_survives_a_round_trip(
    own_module: Any,
) -> None:
    own_module(
        "own_square",
        'class Square(Shape):\n    KIND: Literal["own_square:Square"] = "own_square:Square"\n'
        "    sides: tuple[float, float] = (1.0, 1.0)\n",
    )
    text = '{"shape": {"KIND": "own_square:Square", "sides": [2, 3]}}'
    drawing = Drawing.model_validate_json(text)
    assert drawing.shape.model_dump() == {"KIND": "own_square:Square", "sides": (2.0, 3.0)}
    assert Drawing.model_validate_json(drawing.model_dump_json()) == drawing
    with pytest.raises(pdt.ValidationError, match="sides"):
        Drawing.model_validate_json(text.replace("3", '"x"'))


def test_the_kinds_of_the_project_are_as_before() -> None:
    assert Drawing.model_validate({"shape": {"KIND": "Circle", "radius": 2.0}}).shape == Circle(
        radius=2.0
    )
    with pytest.raises(pdt.ValidationError, match="union_tag_invalid"):
        Drawing.model_validate({"shape": {"KIND": "Circel"}})
    with pytest.raises(pdt.ValidationError, match="union_tag_not_found"):
        Drawing.model_validate({"shape": {}})


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("no_such_module_here:Shape", "there is no module 'no_such_module_here'"),
        ("fractions:Fractoin", "has no 'Fractoin'; did you mean 'Fraction'"),
        ("fractions:Fraction", "fractions:Fraction is not a Shape: derive it from"),
        (
            "own_broken:Shape",
            r"own_broken:Shape: the module fails when it is imported: ZeroDivisionError",
        ),
        (
            "own_silent:Square",
            "own_silent:Square does not say so: write in the class KIND: Literal",
        ),
        ("own_other:Square", "own_other:Square does not say so"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(own_module: Any, address: str, message: str) -> None:
    own_module("own_broken", "1 / 0\n")
    own_module("own_silent", "class Square(Shape):\n    pass\n")
    own_module("own_other", 'class Square(Shape):\n    KIND: Literal["Square"] = "Square"\n')
    with pytest.raises(pdt.ValidationError, match=message):
        Drawing.model_validate({"shape": {"KIND": address}})


def test_editors_learn_that_an_address_may_stand_there() -> None:
    schema = Drawing.model_json_schema()["properties"]["shape"]["anyOf"]
    assert schema[0]["discriminator"]["propertyName"] == "KIND"
    assert schema[1]["properties"]["KIND"]["pattern"].endswith(":[A-Za-z_]\\w*$")
