"""Errors: one family, exit codes that scripts can rely on, suggestions that help and never mislead."""

import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from model_name.core import errors

FAMILY = {
    errors.ConfigError: (ValueError, 2),
    errors.DataError: (ValueError, 1),
    errors.ModelError: (ValueError, 1),
    errors.RegistryError: (LookupError, 1),
    errors.ServiceError: (ConnectionError, 1),
    errors.NotebookError: (RuntimeError, 1),
    errors.GateError: (errors.ProjectError, 3),
}
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=5, max_size=15)


@pytest.mark.parametrize("kind", FAMILY)
def test_each_is_also_the_built_in_error_that_callers_expect(
    kind: type[errors.ProjectError],
) -> None:
    built_in, exit_code = FAMILY[kind]
    assert kind.exit_code == exit_code
    with pytest.raises(built_in, match=r"^what went wrong$") as caught:
        raise kind("what went wrong")
    assert isinstance(caught.value, errors.ProjectError)


def test_nobody_is_missing_from_the_family() -> None:
    assert set(errors.ProjectError.__subclasses__()) == set(FAMILY)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_travels_between_processes(kind: type[errors.ProjectError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("row 3 is wrong")))
    assert (type(copy), str(copy)) == (kind, "row 3 is wrong")


def test_a_notebook_shows_the_message_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell = InteractiveShell()
    shell.run_cell(
        "from model_name.core import errors\nraise errors.DataError('column price is missing')"
    )
    shown = capsys.readouterr().out
    assert "DataError: column price is missing" in shown
    assert "Traceback" not in shown


@given(candidates=st.lists(WORDS, unique=True, min_size=1, max_size=8), data=st.data())
def test_a_doubled_letter_is_traced_back(candidates: list[str], data: st.DataObject) -> None:
    meant = data.draw(st.sampled_from(candidates))
    place = data.draw(st.integers(0, len(meant) - 1))
    written = meant[:place] + meant[place] + meant[place:]
    assume(written not in candidates)
    assert errors.nearest(written, candidates) != ""
    assert errors.nearest(written, [meant]) == f"; did you mean {meant!r}?"


@given(candidates=st.lists(st.text(), max_size=5), name=st.text())
def test_a_suggestion_is_always_one_of_the_candidates(candidates: list[str], name: str) -> None:
    suggestions = {f"; did you mean {candidate!r}?" for candidate in candidates}
    assert errors.nearest(name, candidates) in suggestions | {""}


def test_capitals_are_a_mistake_like_any_other() -> None:
    assert errors.nearest("PRICE", ["age", "price"]) == "; did you mean 'price'?"
    assert errors.nearest("price", ["Age", "Price"]) == "; did you mean 'Price'?"


def test_what_is_far_from_everything_has_no_suggestion() -> None:
    assert errors.nearest("xyz", ["train", "tune"]) == errors.nearest("train", []) == ""


def test_a_name_need_not_be_a_text() -> None:
    assert errors.nearest(2024, ["2023", "x"]) == "; did you mean '2023'?"
