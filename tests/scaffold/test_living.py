"""Projects at work: made by an installed wheel, in odd places, side by side, and their models where they are not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model_name.scaffold import libraries, profiles, projects

QUICK = ("--in-process", "-s", "job.model.max_iter=60", "-s", "job.logger_service.level=ERROR")


def visits(rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(4)
    table = pd.DataFrame(
        {"größe": random.integers(150, 200, rows), "stadt": random.choice(["Wien", "Graz"], rows)}
    )
    return table.assign(
        returns=np.where(table["größe"] + random.normal(0, 6, rows) > 175, "yes", "no")
    )


def sales(rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(5)
    table = pd.DataFrame(
        {"day": pd.date_range("2024-01-01", periods=rows), "visitors": random.integers(0, 90, rows)}
    )
    return table.assign(sales=3.5 * table["visitors"] + random.normal(size=rows).round(2))


def run(folder: Path, *command: str | Path, path: list[Path], **more: str) -> str:
    """Run Python where nothing says which project is meant; give its output."""
    private = ("MLFLOW_", "MODEL_NAME_", "PYTHONPATH", "GIT_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    environment = (
        clean | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"} | more
    )
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two projects, in folders with spaces and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("projects") / 'meine Größen, 日本 & "co" #1 100%'
    folder.mkdir()
    for name, table, target in (("guests", visits(), "returns"), ("shop", sales(), "sales")):
        table.to_csv(folder / f"the {name}.csv", index=False)
        data = folder / f"the {name}.csv"
        projects.create(name, profiles.profile(data, target), data, folder / f"{name} é" / name)
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> dict[str, Path]:
    """Both projects, trained from a folder that is neither's, in one Python environment."""
    folders = {name: place / f"{name} é" / name for name in ("guests", "shop")}
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    for name in folders:
        said = run(elsewhere, "-m", name, "run", "train", *QUICK, path=list(folders.values()))
        assert f"version 1 of '{name}'" in said
    assert list(elsewhere.iterdir()) == [], "what a run leaves is in its project"
    return folders


def test_two_projects_live_in_one_environment(trained: dict[str, Path], place: Path) -> None:
    for name, folder in trained.items():
        assert (folder / "mlflow.db").is_file()
        said = run(place, "-m", name, "check", "infer", "--rows", path=list(trained.values()))
        assert "infer: InferenceJob is valid, 300 rows follow the schema" in said


def test_paths_on_the_command_line_are_meant_from_where_one_is(
    trained: dict[str, Path], place: Path
) -> None:
    data = trained["guests"] / "data/the guests.csv"
    (place / "newer.csv").write_bytes(b"\n".join(data.read_bytes().splitlines()[:6]) + b"\n")
    path = list(trained.values())
    assert "5 rows follow" in run(
        place, "-m", "guests", "check", "infer", "--rows", "--data", "newer.csv", path=path
    )
    (place / "more.yaml").write_text("job: {KIND: InferenceJob, alias_or_version: latest}\n")
    assert "infer: InferenceJob is valid" in run(
        place, "-m", "guests", "check", "more.yaml", path=path
    )


def test_a_model_is_loaded_where_only_the_library_is(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    code = (
        "import sys, pandas as pd; from model_name.io import registries; "
        "model = registries.CustomLoader().load('models:/guests/1'); "
        "print(model.predict(pd.DataFrame({'größe': [151, 199], 'stadt': ['Wien', 'Graz']}))['prediction'].tolist())"
    )
    store = f"sqlite:///{(trained['guests'] / 'mlflow.db').as_posix()}".replace("%", "%25").replace(
        "#", "%23"
    )
    said = run(tmp_path, "-c", code, path=[], MLFLOW_TRACKING_URI=store, MLFLOW_REGISTRY_URI=store)
    assert said.strip().splitlines()[-1] == "['no', 'yes']"


def test_a_project_is_made_by_an_installed_wheel_without_git(tmp_path: Path) -> None:
    library = libraries.find_library()
    with zipfile.ZipFile(library.wheel) as archive:
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()
    visits().to_csv(tmp_path / "visits.csv", index=False)
    command = [
        "-m",
        "model_name",
        "new",
        "guests",
        "--data",
        tmp_path / "visits.csv",
        "--target",
        "returns",
    ]
    variables = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    said = run(empty, *command, path=[tmp_path / "site"], **variables)
    assert "guests: classification of 'returns'" in said
    made = empty / "guests"
    assert not (made / ".git").exists()
    profile = profiles.profile(tmp_path / "visits.csv", "returns")
    digest = projects.digest_table(tmp_path / "visits.csv")
    expected = projects.compose("guests", profile, "data/visits.csv", digest)
    texts = {path: (made / path).read_text(encoding="utf-8") for path in expected}
    assert texts == expected
    wheel = libraries.open_library(next((made / "wheels").glob("*.whl")))
    assert wheel.requirement in (made / "requirements.lock").read_text(encoding="utf-8")
    assert (made / "data/visits.csv").read_bytes() == (tmp_path / "visits.csv").read_bytes()
