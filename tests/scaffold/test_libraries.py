"""The wheel and the lock that a project takes along."""

import hashlib
import importlib.metadata
import zipfile
from pathlib import Path

import pytest

from model_name.core import errors
from model_name.scaffold import libraries

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> libraries.Library:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return libraries.find_library()


@pytest.fixture
def installed(library: libraries.Library, tmp_path: Path) -> importlib.metadata.Distribution:
    """What an installer leaves of a wheel."""
    with zipfile.ZipFile(library.wheel) as archive:
        archive.extractall(tmp_path / "site")
    found = next(
        iter(importlib.metadata.distributions(name="model_name", path=[str(tmp_path / "site")]))
    )
    info = next((tmp_path / "site").glob("*.dist-info"))
    (info / "INSTALLER").write_text("uv")
    with (info / "RECORD").open("a") as record:
        record.write(
            f"{info.name}/INSTALLER,,\n../../bin/model_name,,\nmodel_name/__pycache__/a.cpython-311.pyc,,\n"
        )
    return found


def test_the_wheel_has_all_that_makes_a_project(library: libraries.Library) -> None:
    names = set(zipfile.ZipFile(library.wheel).namelist())
    for path in libraries.resource("project").rglob("*"):
        if path.is_file() and not {"__pycache__", ".ruff_cache"} & set(path.parts):
            assert (
                f"model_name/_resources/project/{path.relative_to(libraries.resource('project')).as_posix()}"
                in names
            )
    assert {
        f"model_name/_resources/{name}" for name in ("requirements.lock", "settings.ini")
    } <= names
    assert library.lock == (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_same_sources_are_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in libraries._sources(ROOT):
        copy = tmp_path / "ein Ort" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = libraries.build_wheel(tmp_path / "ein Ort")
    made = first.stat().st_mtime_ns
    assert libraries.build_wheel(tmp_path / "ein Ort") == first
    assert first.stat().st_mtime_ns == made
    (tmp_path / "ein Ort/README.md").write_text("another", encoding="utf-8")
    assert libraries.build_wheel(tmp_path / "ein Ort") != first
    assert not (tmp_path / "ein Ort/build").exists(), "the checkout stays as it was"


def test_an_installed_library_is_put_together_again(
    library: libraries.Library, installed: importlib.metadata.Distribution, tmp_path: Path
) -> None:
    wheel = libraries.repack_wheel(installed, tmp_path)
    assert wheel.name == library.wheel.name
    with zipfile.ZipFile(wheel) as again, zipfile.ZipFile(library.wheel) as before:
        assert set(again.namelist()) == set(before.namelist())
        same = [name for name in again.namelist() if not name.endswith("/RECORD")]
        assert all(again.read(name) == before.read(name) for name in same)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (
        hashlib.sha256(libraries.repack_wheel(installed, tmp_path).read_bytes()).hexdigest()
        == digest
    )
    assert f"--hash=sha256:{digest}" in libraries.open_library(wheel).requirement


def test_what_is_neither_checkout_nor_wheel(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="neither a checkout nor a wheel"):
        libraries.find_library(tmp_path)
    (tmp_path / "a.whl").write_text("no archive")
    with pytest.raises(errors.ConfigError, match="is not a wheel of model_name"):
        libraries.find_library(tmp_path / "a.whl")


def test_a_library_that_a_registry_has_is_named_instead_of_its_wheel(
    library: libraries.Library,
) -> None:
    public = library._replace(public="model-name-mlops")
    assert public.requirement == f"model-name-mlops=={library.version}\n"
    assert library.requirement.startswith(f"model-name=={library.version} \\\n    --hash=sha256:")


def test_entries_of_the_owner_stay_in_the_lock(library: libraries.Library) -> None:
    own = 'xgboost==3.0.0 ; sys_platform != "win32" \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n'
    lock = libraries.project_lock(library, own)
    assert libraries.own_entries(lock, library) == own
    assert libraries.own_entries(libraries.project_lock(library), library) == ""
    assert lock.count("==") == library.lock.count("==") + 2, "the library, and what is the owner's"
