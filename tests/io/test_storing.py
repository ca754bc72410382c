"""How skops is imported: with the list of estimators that it would make itself, and no slower than needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from model_name.io import storing

_LIST = """
import sys
from model_name.io import storing
if sys.argv[1:] == ["kept"]:
    storing.import_skops()
else:
    storing._keep_names = storing._read_names = lambda file: []
import sklearn.utils
import skops.io
from sklearn.utils import discovery
from skops.io import _trusted_types as trusted
assert sklearn.utils.all_estimators is discovery.all_estimators
print("sklearn.semi_supervised" in sys.modules, *sorted(trusted.SKLEARN_ESTIMATOR_TYPE_NAMES))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which names are kept, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return storing._kept_names()


def _imported(*how: str) -> tuple[str, list[str]]:
    """Import skops in a process; return whether all of scikit-learn came with it, and whom skops trusts."""
    command = [sys.executable, "-c", _LIST, *how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    walked, *names = done.stdout.split()
    return walked, names


@pytest.mark.skipif(sys.platform != "linux", reason="the cache is moved with a variable of Linux")
def test_kept_names_are_those_that_skops_finds(cache: Path) -> None:
    plain = _imported()
    assert plain[0] == "True"
    assert "sklearn.linear_model._ridge.Ridge" in plain[1]
    assert _imported("kept") == plain, "the first process keeps the names"
    assert cache.is_file()
    assert _imported("kept") == ("False", plain[1])


@pytest.mark.parametrize("content", ["", "[", "3", '{"a": 1}', '[["one"]]', "[7]"])
def test_a_damaged_cache_counts_as_none(content: str, tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text(content)
    assert storing._read_names(file) == []


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    storing._keep_names(tmp_path / "file" / "names.json")
    assert storing._read_names(tmp_path / "file" / "names.json") == []
