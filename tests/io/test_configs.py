"""Configurations: merging, overrides, interpolation, every bad input, explanations, and the round trip."""

import datetime as dt
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic as pdt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_name.core import errors
from model_name.io import configs

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into an empty working directory, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(content: str | bytes, name: str = "a.yaml") -> str:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write_file


def refusal(files: list[str], overrides: list[str] | None = None) -> str:
    with pytest.raises(errors.ConfigError) as caught:
        configs.load(files, overrides or [])
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ merging
def test_files_merge_from_left_to_right_and_lists_are_replaced(write: Write) -> None:
    files = [
        write("job: {a: 1, b: {x: 1, y: [1, 2]}}"),
        write("job:\n  b: {y: [3]}\n  c: 4", "b.yaml"),
    ]
    loaded = configs.load(files)
    assert loaded.data == {"job": {"a": 1, "b": {"x": 1, "y": [3]}, "c": 4}}
    assert loaded.origin(("job", "b", "y", 0)) == "b.yaml:2"
    assert loaded.origin(("job", "b", "x")) == "a.yaml:1"
    assert loaded.origin(("job", "c", "not", "there")) == "b.yaml:3"


def test_another_kind_replaces_the_mapping(write: Write) -> None:
    files = [write("model: {KIND: A, depth: 3}"), write("model: {KIND: B}", "b.yaml")]
    assert configs.load(files).data == {"model": {"KIND": "B"}}
    assert configs.load(files[:1], ["model.KIND=B"]).data == {"model": {"KIND": "B"}}
    assert configs.load(files[:1], ["model.KIND=A"]).data == {"model": {"KIND": "A", "depth": 3}}
    assert configs.load(files[:1], ["model.rate=1", "model.KIND=B"]).data == {
        "model": {"KIND": "B", "rate": 1}
    }


def test_anchors_and_merge_keys(write: Write) -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3}\none: {<<: *base, a: 9}\ntwo: {<<: [*more, *base]}\n"
    data = configs.load([write(text)]).data
    assert (data["one"], data["two"]) == ({"a": 9, "b": 2}, {"a": 1, "b": 3})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("job.x=8", {"metrics": [{"name": "a"}, {"name": "b"}], "x": 8}),
        ("job.x = text", {"metrics": [{"name": "a"}, {"name": "b"}], "x": "text"}),
        ("job.x=", {"metrics": [{"name": "a"}, {"name": "b"}], "x": None}),
        ("job.x=007", {"metrics": [{"name": "a"}, {"name": "b"}], "x": "007"}),
        ("job.x=a=b", {"metrics": [{"name": "a"}, {"name": "b"}], "x": "a=b"}),
        ("job.metrics.1.name=c", {"metrics": [{"name": "a"}, {"name": "c"}]}),
        ("job.metrics[0].name=c", {"metrics": [{"name": "c"}, {"name": "b"}]}),
        ("job.metrics=[]", {"metrics": []}),
        ("job.k={a.b: 1}", {"metrics": [{"name": "a"}, {"name": "b"}], "k": {"a.b": 1}}),
    ],
)
def test_overrides(write: Write, override: str, expected: dict[str, Any]) -> None:
    loaded = configs.load([write("job: {metrics: [{name: a}, {name: b}]}")], [override])
    assert loaded.data == {"job": expected}


def test_the_origin_of_an_override_hides_secrets() -> None:
    loaded = configs.load(
        [], ["job.x=1", "job.db_password=hunter2", "job.kafka={sasl.password: hunter2}"]
    )
    assert loaded.origin(("job", "x")) == "-s job.x=1"
    assert loaded.origin(("job", "db_password")) == "-s job.db_password=***"
    assert loaded.origin(("job", "kafka", "sasl.password")) == "-s job.kafka={...}"


def test_interpolation(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "here")
    text = "a: ${oc.env:BUCKET}/x\nb: ${d.e}\nc: ${d}\nd: {e: 1, f.g: '${.e}'}\n"
    text += "h: ${oc.env:NOT_SET_HERE,7}\ni: \\${a}\n"
    data = configs.load([write(text)]).data
    inner = {"e": 1, "f.g": 1}
    assert data == {"a": "here/x", "b": 1, "c": inner, "d": inner, "h": "7", "i": "${a}"}


def test_a_file_in_an_object_store() -> None:
    import fsspec

    with fsspec.open("memory://configs/a.yaml", "w") as stream:
        stream.write("job: {a: 1}")
    loaded = configs.load(["memory://configs/a.yaml"])
    assert (loaded.data, loaded.origin(("job",))) == (
        {"job": {"a": 1}},
        "memory://configs/a.yaml:1",
    )
    assert "memory://***@configs/none.yaml: no such file" in refusal(
        ["memory://me:hunter2@configs/none.yaml?sig=1"]
    )
    assert "cannot be read" in refusal(["nosuchprotocol://a.yaml"])


# ------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.yaml: the file is empty"),
        ("# only a comment\n", "a.yaml: the file is empty"),
        ("\n- 1\n", "a.yaml:2: the top level is not a mapping but a list"),
        ("hello", "a.yaml:1: the top level is not a mapping but 'hello'"),
        ("a: 1\nb: [1, 2\nc: 3", "a.yaml:3:2: not YAML: expected ',' or ']'"),
        (
            "a:\n\tb: 1\n",
            "a.yaml:2:1: not YAML: found character 'tab' that cannot start any token; YAML indents",
        ),
        ("a: 1\n\n\na: 2", "a.yaml:4: the key 'a' is given twice, in lines 1 and 4"),
        ("b:\n- x: {k: 1, k: 2}", "a.yaml:2: the key 'k' is given twice"),
        ("a: 1\n---\nb: 2", "not YAML: but found another document"),
        ("a: 1\nb: \x07", "a.yaml:2:4: not YAML: a control character"),
        ("a: 1\nb: caf\xe9".encode("latin-1"), "a.yaml:2: not UTF-8 (byte 0xe9)"),
        ("a: 1".encode("utf-16"), "a.yaml:1: not UTF-8"),
        ("a:\n  1: x", "a.yaml:2: a key has to be text, and 1 is not; put it in quotes"),
        ("? [a]\n: 1", "a.yaml:1: a key has to be text, and a mapping or list is not"),
        (
            "a: !!python/object:os.system x",
            "a.yaml:1: the tag '!!python/object:os.system' is not understood",
        ),
        ("a: !!int many", "a.yaml:1: the tag '!!int' is not understood"),
        ("a: !!bool maybe", "a.yaml:1: the tag '!!bool' is not understood"),
        ("a: {<<: 3}", "a.yaml:1: '<<' takes a mapping"),
        ("a: &x [*x]", "a.yaml: nested too deeply, or an anchor contains itself"),
        ("a: ${", "a.yaml:1: a: the interpolation cannot be replaced"),
        (
            "a: ${b}\nb: ${a}",
            "a.yaml:1: a: the interpolation cannot be replaced: Recursive interpolation",
        ),
        (
            "a:\n  b: ${a}",
            "a.yaml:2: a.b: the interpolation cannot be replaced: Interpolation to parent node",
        ),
        ("a:\n  b: ${c}\nc:\n  d: ${a}", "a.yaml:2: an interpolation contains itself"),
        (
            "a: {b: 1}\nc:\n- ${a.bb}",
            "a.yaml:3: c.0: the interpolated key 'a.bb' does not exist; did you mean 'a.b'?",
        ),
        (
            "a: ${oc.env:NOT_SET_HERE}",
            "a.yaml:1: a: the environment variable NOT_SET_HERE is not set; set it, or write",
        ),
    ],
)
def test_bad_files(write: Write, content: str | bytes, message: str) -> None:
    assert message in refusal([write(content)])


def test_every_unresolved_interpolation_is_told(write: Write) -> None:
    told = refusal([write("a: ${oc.env:NOT_SET_1}\nb:\n  c: ${oc.env:NOT_SET_2}")]).splitlines()
    assert [line.split(": ")[:2] for line in told] == [["a.yaml:1", "a"], ["a.yaml:3", "b.c"]]


@pytest.mark.parametrize(
    "override", ["job.x", "=1", "job..x=1", ".x=1", "job.x.=1", "a b=1", "", "job[x]=1"]
)
def test_bad_overrides(override: str) -> None:
    assert "expected key=value, for instance -s job.model.max_depth=8" in refusal([], [override])


def test_other_bad_overrides(write: Write) -> None:
    file = write("job: {metrics: [1, 2], none: []}")
    assert "-s job.metrics.2=5: the list has no item 2; the last one is 1" in refusal(
        [file], ["job.metrics.2=5"]
    )
    assert "the list has no item 0; it is empty" in refusal([file], ["job.none.0=5"])
    assert "-s job.x={...}: not YAML" in refusal([file], ["job.x=[1, 2"])
    assert "-s a={...}: the key 'b' is given twice, in the same mapping" in refusal(
        [], ["a={b: 1, b: 2}"]
    )
    assert "hunter2" not in refusal([], ["token={hunter2"])


def test_files_that_are_not_files(write: Write, tmp_path: Path) -> None:
    write("a: 1", "train.yaml")
    assert (
        refusal(["trian.yaml"])
        == "trian.yaml: no such file; did you mean 'train.yaml'? The folder holds: train.yaml"
    )
    assert refusal([str(tmp_path)]) == f"{tmp_path}: is a folder; name a YAML file in it"
    assert refusal(["nowhere/train.yaml"]) == "nowhere/train.yaml: no such file."
    assert "train.yaml/x: cannot be read" in refusal(["train.yaml/x"])


def test_a_byte_order_mark_and_windows_line_ends_are_read(write: Write) -> None:
    loaded = configs.load([write(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")])
    assert (loaded.data, loaded.origin(("b",))) == ({"a": 1, "b": 2}, "a.yaml:2")


# --------------------------------------------------------------------------------------------- explanations
class Forest(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    KIND: Literal["Forest"] = "Forest"
    max_depth: int | None = pdt.Field(3, ge=1, le=9, description="Depth.")
    criterion: Literal["absolute", "poisson"] = "poisson"


class Boosting(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    KIND: Literal["Boosting"] = "Boosting"
    grid: dict[str, list[int]] = pdt.Field({}, description="Values to try.")
    seed: int | str = 1
    steps: tuple[int, ...] = ()


Kinds = Annotated[Forest | Boosting, pdt.Field(discriminator="KIND")]


class Training(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    KIND: Literal["Training"] = "Training"
    model: Kinds
    several: list[Kinds] = []
    named: dict[str, Forest] = {}
    service: Forest = Forest()
    name: str = pdt.Field(min_length=2, max_length=5, description="Its name.")
    when: dt.date | None = None
    api: pdt.SecretStr | None = None
    db_password: str | None = None

    @pdt.model_validator(mode="after")
    def _check(self) -> "Training":
        if self.name == "bad":
            raise ValueError("a bad name")
        return self


class Other(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    KIND: Literal["Other"] = "Other"


class Settings(pdt.BaseModel, strict=True, frozen=True, extra="forbid"):
    job: Annotated[Training | Other, pdt.Field(discriminator="KIND")]


def explained(file: str, overrides: list[str] | None = None) -> list[str]:
    loaded = configs.load([file], overrides or [])
    with pytest.raises(pdt.ValidationError) as caught:
        Settings.model_validate_json(configs.to_json(loaded.data))
    error = configs.explain(caught.value, loaded, Settings)
    assert isinstance(error, errors.ConfigError)
    return str(error).splitlines()


def test_all_errors_at_once_by_line(write: Write) -> None:
    text = """\
job:
  KIND: Training
  model:
    KIND: Forest
    max_dept: 3
    max_depth: many
    criterion: poison
  several:
  - KIND: Forst
  - {}
  - 3
  - KIND: Boosting
    grid: {a: [1, x]}
    seed: 2.5
    steps: 7
  named:
    one: {max_depth: 99}
    two: {deep: 1}
  service: {KIND: Fores}
  when: someday
"""
    assert explained(write(text), ["job.model.x=1"]) == [
        "a.yaml:1: job.name: this key is required and missing (Its name.)",
        "a.yaml:5: job.model.max_dept: unknown key; did you mean 'max_depth'? Allowed: KIND, max_depth, criterion",
        "a.yaml:6: job.model.max_depth: 'many' is not an integer (Depth.)",
        "a.yaml:7: job.model.criterion: 'poison' is not allowed; did you mean 'poisson'? Allowed: absolute, poisson",
        "a.yaml:9: job.several.0.KIND: unknown KIND 'Forst'; did you mean 'Forest'? Allowed: Forest, Boosting",
        "a.yaml:10: job.several.1: the KIND is missing. Allowed: Forest, Boosting",
        "a.yaml:11: job.several.2: 3 is not a mapping",
        "a.yaml:13: job.several.3.grid.a.1: 'x' is not an integer (Values to try.)",
        "a.yaml:14: job.several.3.seed: 2.5 is not an integer or text",
        "a.yaml:15: job.several.3.steps: 7 is not a list",
        "a.yaml:17: job.named.one.max_depth: 99 is not allowed, it has to be at least 1 and at most 9 (Depth.)",
        "a.yaml:18: job.named.two.deep: unknown key. Allowed: KIND, max_depth, criterion",
        "a.yaml:19: job.service.KIND: 'Fores' is not allowed; did you mean 'Forest'? Allowed: Forest",
        "a.yaml:20: job.when: 'someday' is not a date like 2011-01-31",
        "-s job.model.x=1: job.model.x: unknown key. Allowed: KIND, max_depth, criterion",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1",
            [
                "a.yaml:1: a: unknown key. Allowed: job",
                "a.yaml:1: job: this key is required and missing",
            ],
        ),
        ("job:", ["a.yaml:1: job: null is not a mapping"]),
        ("job: [1]", ["a.yaml:1: job: a list is not a mapping"]),
        (
            "job: {KIND: Trainin}",
            [
                "a.yaml:1: job.KIND: unknown KIND 'Trainin'; did you mean 'Training'? Allowed: Training, Other"
            ],
        ),
        ("job: {KIND: Other, Other: 1}", ["a.yaml:1: job.Other: unknown key. Allowed: KIND"]),
    ],
)
def test_the_top(write: Write, text: str, expected: list[str]) -> None:
    assert explained(write(text)) == expected


def test_validators_and_lengths(write: Write) -> None:
    file = write("job: {KIND: Training, model: {KIND: Forest}, name: bad}")
    assert explained(file) == ["a.yaml:1: job: a bad name"]
    assert explained(file, ["job.name=toolong"]) == [
        (
            "-s job.name=toolong: job.name: 'toolong' is not allowed, "
            "it has to be 2 or more long and 5 or less long (Its name.)"
        )
    ]


def test_secrets_never_appear(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "hunter2")
    file = write(
        "job: {KIND: Training, model: {KIND: Forest, max_depth: '${oc.env:FROM_OUTSIDE}'}, db_password: 31337}"
    )
    told = explained(file, ["job.api=[31337]", "job.name=1", "job.name={KIND: hunter2}"])
    assert told[0] == "a.yaml:1: job.db_password: *** is not text"
    assert (
        told[1]
        == "a.yaml:1: job.model.max_depth: '${oc.env:FROM_OUTSIDE}' is not an integer (Depth.)"
    )
    assert "31337" not in "".join(told)
    assert "hunter2" not in "".join(told)
    assert (
        explained(file, ["job.api=31337", "job.name=abc"])[-1]
        == "-s job.api=***: job.api: *** is not text"
    )


# ------------------------------------------------------------------------------------------------ writing
plain_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(
        [
            "007",
            "1e-3",
            "1_000",
            "0x1F",
            "12:30",
            "no",
            "on",
            "~",
            "null",
            "<<",
            "=",
            ".inf",
            "2011-01-31",
            "${a}",
            "\\${a}",
            "\\\\${",
            "a\\",
            "???",
            "- x",
            "x: y",
            "# x",
            " x",
            "x ",
            "\ufeff",
            "\x85",
            "0o7",
            "1.",
            "+1",
            "{}",
        ]
    ),
)
mappings = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["1", "no", "a.b", "<<", "null"]),
    st.recursive(
        plain_values,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1"), inner, max_size=3)
        ),
    ),
    max_size=4,
)


@given(data=mappings)
@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_what_is_written_is_read_back(tmp_path: Path, data: dict[str, Any]) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(configs.to_yaml(data), encoding="utf-8", newline="")
    assert repr(configs.load([file]).data) == repr(data)  # repr also tells 1 from 1.0 and True
    assert repr(json.loads(configs.to_json(data))) == repr(data)


def test_what_yaml_has_no_plain_form_for(tmp_path: Path) -> None:
    data = {
        "day": dt.date(2011, 1, 31),
        "at": dt.datetime(2011, 1, 31, 12),
        "path": Path("a/b"),
        "pair": (1, 2),
    }
    expected = {"day": "2011-01-31", "at": "2011-01-31T12:00:00", "path": "a/b", "pair": [1, 2]}
    file = tmp_path / "x.yaml"
    file.write_text(configs.to_yaml(data | {"secret": pdt.SecretStr("hunter2"), "nan": math.nan}))
    loaded = configs.load([file]).data
    assert loaded.items() >= expected.items()
    assert set(loaded["secret"]) == {"*"}
    assert math.isnan(loaded["nan"])
    assert json.loads(configs.to_json(data)) == expected


def test_other_yaml_readers_see_the_same_texts() -> None:
    import yaml

    data = {"zip": "007", "no": "no", "day": "2011-01-31", "time": "12:30", "small": "1e-3"}
    assert yaml.safe_load(configs.to_yaml(data)) == data


# ----------------------------------------------------------------------- sections, and other names of keys
ALIASES = {"train": "job", "infer": None}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("job: {a: 1}\ntrain: {b: 2}\ninfer: {c: 3}\n", {"job": {"a": 1, "b": 2}}),
        (
            "train: {a: 2}\njob: {a: 1}\n",
            {"job": {"a": 2}},
        ),  # what is for one job wins over what is for all
        ("infer: {c: 3}\ndata: {d: 4}\n", {"data": {"d": 4}}),
        (
            "job: {KIND: TrainingJob}\ninfer: {c: 3}\n",
            {"job": {"KIND": "TrainingJob"}, "infer": {"c": 3}},
        ),
    ],
)
def test_a_file_without_a_job_has_sections_for_several(
    tmp_path: Path, text: str, data: dict[str, Any]
) -> None:
    file = tmp_path / "shared.yaml"
    file.write_text(text)
    assert configs.load([file], aliases=ALIASES).data == data


def test_other_names_of_keys_meet_those_that_they_mean(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.yaml"
    ours.write_text("job:\n  values: {path: ours}\n")
    theirs.write_text("job:\n  samples: {path: theirs}\n")
    loaded = configs.load([ours, theirs], ["job.samples.limit=3"], synonyms={"samples": "values"})
    assert loaded.data == {"job": {"values": {"path": "theirs", "limit": 3}}}
    assert loaded.origin(["job", "values", "path"]) == f"{theirs}:2"


def test_two_names_of_one_key_in_one_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text("job:\n  values: 1\n  samples: 2\n")
    with pytest.raises(
        errors.ConfigError, match="both.yaml:3: 'samples' is another name of 'values'"
    ):
        configs.load([file], synonyms={"samples": "values"})


# ------------------------------------------------------------------------------- small files that become large
def doubling(first: str, line: str, lines: int = 40) -> str:
    return "\n".join([first, *(line.format(n=n, before=n - 1) for n in range(1, lines))])


BOMBS = {
    "aliases": doubling("a0: &a0 [x, x]", "a{n}: &a{n} [*a{before}, *a{before}]"),
    "merges": doubling("a0: &a0 {{}}", "a{n}: &a{n} {{<<: [*a{before}, *a{before}]}}").replace(
        "{{}}", "{}"
    ),
    "a long string": "a: " + "x" * 10_000_000,
    "many values": f"a: [{'1,' * 200_000}1]",
    "a deep list": f"a: {'[' * 5_000}{']' * 5_000}",
    "a deep key": f"? {'[' * 5_000}{']' * 5_000}\n: 1",
    "JSON": json.dumps({"a": json.loads("[" * 200 + "]" * 200)}),
    "interpolations": doubling("a0: xx", "a{n}: '${{a{before}}}${{a{before}}}'"),
    "relative ones": doubling("a0: xx", "a{n}: '${{.a{before}}}${{.a{before}}}'"),
    "selected ones": doubling("a0: xx", "a{n}: '${{oc.select:a{before}}}${{oc.select:a{before}}}'"),
    "mappings of them": doubling(
        "a0: {k: x}", "a{n}: {{x: '${{a{before}}}', y: '${{a{before}}}'}}"
    ),
    "computed ones": doubling("n: a\na0: xx", "a{n}: '${{${{n}}{before}}}${{${{n}}{before}}}'"),
    "a chain": doubling("a0: x", "a{n}: ${{a{before}}}", 2_000),
    "a long text with one": "b: 1\na: '" + "x" * 400_000 + "${b}'",
    "a nest": "b: 1\na: '" + "${" * 2_000 + "b" + "}" * 2_000 + "'",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_become_large_is_refused(name: str, write: Write) -> None:
    told = refusal([write(BOMBS[name])])
    assert any(word in told for word in ("more than", "longer than", "allowed")), told
    assert len(told) < 400


@pytest.mark.parametrize("value", [f"[{'1,' * 200_000}1]", "{a: " * 200 + "1" + "}" * 200])
def test_an_override_is_bounded_too(value: str) -> None:
    assert "no configuration needs that" in refusal([], [f"job.a={value}"])


def test_a_device_is_not_read_to_its_end() -> None:
    assert "/dev/zero: it is longer than" in refusal(["/dev/zero"])


def test_what_people_write_is_within_the_bounds(write: Write) -> None:
    text = "base: &base {a: 1, b: [x, y]}\nn: a\n"
    text += "".join(f"job{n}: {{<<: *base, p: '${{base.a}}/${{base.${{n}}}}'}}\n" for n in range(9))
    wide = "columns:\n" + "".join(
        f"  c{n}: {{kind: date, formats: ['%d.%m.%Y']}}\n" for n in range(1_500)
    )
    data = configs.load([write(text), write(wide, "b.yaml")]).data
    assert (data["job8"]["p"], len(data["columns"])) == ("1/1", 1_500)
