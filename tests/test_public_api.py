"""What a user of the package may rely on: names that exist, documentation, and a quick start."""

import importlib
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import model_name

HEAVY = (
    "pandas",
    "numpy",
    "pandera",
    "sklearn",
    "scipy",
    "mlflow",
    "matplotlib",
    "papermill",
    "pyarrow",
    "sqlalchemy",
)
NAMES = sorted(
    found.name
    for found in pkgutil.walk_packages(model_name.__path__, "model_name.")
    if not found.name.endswith(("__main__", "_modidx"))
)


@pytest.fixture(scope="module", params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_every_public_name_is_there_once(module: ModuleType) -> None:
    names = list(getattr(module, "__all__", ()))
    assert len(set(names)) == len(names)
    missing = [name for name in names if not hasattr(module, name)]
    assert missing == []
    assert [name for name in names if name.startswith("_")] == []


def test_every_public_thing_says_what_it_is(module: ModuleType) -> None:
    silent = (
        [] if module.__doc__ or not hasattr(module, "__all__") else [module.__name__]
    )  # no words for nothing
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if (
            not (inspect.isclass(thing) or inspect.isfunction(thing))
            or thing.__module__ != module.__name__
        ):
            continue
        silent += [] if (thing.__doc__ or "").strip() else [f"{module.__name__}.{name}"]
        members = vars(thing).items() if inspect.isclass(thing) else ()
        for member, value in members:
            value = getattr(value, "__func__", value)
            if member.startswith("_") or not (
                inspect.isfunction(value) or isinstance(value, property)
            ):
                continue
            silent += (
                []
                if inspect.getdoc(getattr(thing, member))
                else [f"{module.__name__}.{name}.{member}"]
            )
    assert silent == []


def test_every_module_is_covered() -> None:
    assert {
        "model_name.core.models",
        "model_name.io.datasets",
        "model_name.jobs.training",
        "model_name.scripts",
    } <= set(NAMES)


def test_the_version_is_that_of_the_distribution() -> None:
    assert model_name.__version__ == importlib.metadata.version("model_name")


def imported_by(program: str) -> set[str]:
    """Return the top-level modules that a program imports."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "program",
    [
        "import model_name",
        "from model_name import scripts; assert scripts.main(['--help']) == 0",
        "from model_name import scripts; assert scripts.main(['run', '--help']) == 0",
        "from model_name import scripts; assert scripts.main(['--version']) == 0",
        "from model_name import scripts; assert scripts.main(['completion', 'bash']) == 0",
    ],
)
def test_help_answers_at_once(program: str) -> None:
    assert imported_by(program) & {*HEAVY, "pydantic"} == set()


def test_importing_the_package_imports_nothing_else_of_it() -> None:
    program = "import sys, model_name; print(sorted(name for name in sys.modules if name.startswith('model_name')))"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "['model_name']\n"


def test_an_unknown_verb_is_told_without_a_library_for_models() -> None:
    program = "from model_name import scripts; assert scripts.main(['run']) == 2"
    assert imported_by(program) & set(HEAVY) == set()
