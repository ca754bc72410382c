"""The wheel as its users meet it: installed in an empty environment, run in a folder of their own."""

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[2]
UV = (
    shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    or "uv"
)
BIN = "Scripts" if os.name == "nt" else "bin"


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a program without what this environment says about Python, MLflow or Jupyter; give its output."""
    private = ("PYTHON", "MLFLOW_", "JUPYTER", "IPYTHON", "VIRTUAL_ENV", "COV", "MODEL_NAME_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean | env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, place: Path) -> Path:
    """Build an sdist, and from it a wheel, as `inv packages.build` does; give the wheel."""
    python = ["--python", sys.executable]
    run(
        UV,
        "build",
        *python,
        "--no-build-isolation",
        "--out-dir",
        place,
        source,
        cwd=ROOT,
        SOURCE_DATE_EPOCH="1700000000",
    )
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the command line of the wheel, installed with its locked requirements and nothing else."""
    place = tmp_path_factory.mktemp("empty") / "environment"
    run(UV, "venv", "--python", sys.executable, place, cwd=place.parent)
    locked = ["--constraints", ROOT / "requirements.lock", "--verify-hashes"]
    run(UV, "pip", "install", "--python", place, *locked, wheel, cwd=place.parent)
    return place / BIN / "model_name"


def test_wheel_holds_every_module_and_resource_and_nothing_else(wheel: Path) -> None:
    expected = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("model_name/**/*.py")} | {
        "model_name/py.typed"
    }
    expected |= {f"model_name/_resources/confs/{path.name}" for path in ROOT.glob("confs/*.yaml")}
    expected |= {
        f"model_name/_resources/runs/{path.name}" for path in ROOT.glob("nbs/runs/*.ipynb")
    }
    project = ROOT / "nbs/scaffold/_project"
    files = (
        path
        for path in project.rglob("*")
        if path.is_file() and not {"__pycache__", ".ruff_cache"} & set(path.parts)
    )
    expected |= {
        f"model_name/_resources/project/{path.relative_to(project).as_posix()}" for path in files
    }
    expected |= {"model_name/_resources/requirements.lock", "model_name/_resources/settings.ini"}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert any("/confs/" in name for name in names)
    assert any("/runs/" in name for name in names)
    assert "model_name/_resources/project/Makefile" in names


def test_same_sources_give_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    source = tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", "*.egg-info", "outputs", "mlruns"
    )
    shutil.copytree(ROOT, source, ignore=ignored, symlinks=True)
    again = build(source, tmp_path / "dist")
    assert (
        hashlib.sha256(again.read_bytes()).hexdigest()
        == hashlib.sha256(wheel.read_bytes()).hexdigest()
    )


def test_version_is_the_one_in_settings(program: Path, tmp_path: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    assert settings["metadata"]["version"] in run(program, "--version", cwd=tmp_path)


def test_configurations_in_the_wheel_are_valid(program: Path, tmp_path: Path) -> None:
    paths = sorted(program.parents[1].rglob("model_name/_resources/confs/*.yaml"))
    said = run(program, "check", *paths, cwd=tmp_path)
    assert said.count("is valid") == len(paths) > 0


def test_training_runs_outside_the_repository(program: Path, tmp_path: Path) -> None:
    rows = "from model_name.io import datasets; datasets.SimulatedReader(rows=3_000).read().to_parquet('rows.parquet')"
    run(program.with_name("python"), "-c", rows, cwd=tmp_path)
    run(program, "run", "train", "--data", "rows.parquet", cwd=tmp_path)
    assert (tmp_path / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.rglob("*.ipynb")] != []


if os.name != "nt":  # the Makefile of a project knows .venv/bin, which is .venv/Scripts there

    def test_installed_wheel_makes_the_project_that_a_checkout_makes(
        program: Path, tmp_path: Path
    ) -> None:
        """The one has no tool of the developers, and no git knows the folder; the other's wheel is built anew."""
        rows = [
            "age,city,2nd visit",
            *(f"{20 + k * k % 53},{'AB'[k % 2]},{k % 7}" for k in range(300)),
        ]
        trees = {}
        for place, command in {
            "wheel": [program],
            "checkout": [sys.executable, "-m", "model_name"],
        }.items():
            folder = tmp_path / place
            folder.mkdir()
            (folder / "people.csv").write_text("\n".join(rows), encoding="utf-8")
            said = run(
                *command, "new", "people", "--data", "people.csv", "--target", "age", cwd=folder
            )
            assert "people: regression of 'age'" in said
            files = (
                path
                for path in (folder / "people").rglob("*")
                if path.is_file() and ".git" not in path.parts
            )
            trees[place] = {
                path.relative_to(folder).as_posix(): path.read_bytes() for path in files
            }
        assert trees["wheel"].keys() == trees["checkout"].keys()
        differ = {
            name for name, content in trees["wheel"].items() if content != trees["checkout"][name]
        }
        assert differ <= {
            "people/requirements.lock",
            *(name for name in trees["wheel"] if name.endswith(".whl")),
        }
