"""New projects: names and folders that cannot be meant, what is written, and that it is what their own checks want."""

import configparser
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from model_name import scripts, settings
from model_name.core import errors
from model_name.io import configs
from model_name.scaffold import exports, profiles, projects

NAME = "guests"
BIN = Path(sys.executable).parent
MARKS = "{{source}} {target} ${HOME} $(PYTHON) %(name)s \\n `x` # 1"


def visits(rows: int = 400) -> pd.DataFrame:
    """Labels, gaps, names that Python does not take, a column that gives the answer away."""
    random = np.random.default_rng(8)
    table = pd.DataFrame(
        {
            "guest_id": [f"G{row:05d}" for row in range(rows)],
            "age (years)": random.integers(18, 90, rows),
            "class": random.choice(["first", "second", None], rows),
            "2nd": random.normal(size=rows).round(3),
            "naïve": random.choice([True, False], rows),
        }
    )
    table["returns"] = np.where(table["age (years)"] + 9 * table["2nd"] > 55, "yes", "no")
    return table.assign(verdict=table["returns"].map({"yes": "+", "no": "-"}))


def quoted(rows: int = 300) -> pd.DataFrame:
    """Whatever could be taken for code, a mark or the end of a string, in names, labels and the target."""
    random = np.random.default_rng(9)
    labels = [
        "it's",
        'a "quoted" one',
        "both ' and \"",
        "back\\slash",
        MARKS,
        "'''",
        '"""',
        "{{name}}",
        "日本",
    ]
    columns = {
        f"{MARKS} {'w' * 9 * width}": random.choice(labels[width:], rows) for width in range(6)
    }
    columns |= {
        "many": random.choice([f"a label with the number {number}" for number in range(20)], rows)
    }
    columns |= {
        "day": pd.date_range("2024-01-01", periods=rows).strftime("%Y-%m-%d"),
        "n": random.normal(size=rows),
    }
    return pd.DataFrame(columns).assign(**{f"target {MARKS}": random.normal(size=rows).round(2)})


TABLES = {
    "visits.csv": (visits, "returns"),
    f'it\'s "quoted" {MARKS}.csv'.replace("\\n", ""): (quoted, f"target {MARKS}"),
}


@pytest.fixture(scope="module", params=TABLES, ids=["plain", "quoted"])
def table(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    make, target = TABLES[request.param]
    path = tmp_path_factory.mktemp("table") / request.param
    make().to_csv(path, index=False)
    return path, target


@pytest.fixture(scope="module")
def files(table: tuple[Path, str]) -> dict[str, str]:
    path, target = table
    return projects.compose(NAME, profiles.profile(path, target), f"data/{path.name}", "0" * 64)


@pytest.fixture(scope="module")
def written(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    projects._write(files, folder)
    return folder


def ask(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------- names and folders
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("2nd", "e.g. column_2nd"),
        ("my-model", "e.g. my_model"),
        ("Churn", "e.g. churn"),
        ("größe", "e.g. grosse"),
        ("a b", "e.g. a_b"),
        ("_x", "has to be the name of a Python package"),
        ("", "has to be"),
        ("a" * 50, "2 to 40"),
        ("../x", "has to be"),
        ("class", "a word of Python; try my_class"),
        ("match", "a word of Python"),
        ("json", "standard library; try my_json"),
        ("pandas", "the installed package pandas"),
        ("sklearn", "the installed package scikit-learn"),
        ("tests", "projects use it themselves"),
        ("wheels", "projects use it themselves"),
        ("model_name", "projects use it themselves"),
    ],
)
def test_names_that_cannot_be_those_of_a_project(name: str, why: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        projects.check_name(name)
    assert why in str(caught.value)


def test_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.ConfigError, match=r"is not empty \(it has notes.txt\)"):
        projects.require_empty(tmp_path)
    with pytest.raises(errors.ConfigError, match="is a file"):
        projects.require_empty(tmp_path / "notes.txt")
    projects.require_empty(tmp_path / "new")


def test_arguments_that_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    visits().to_csv(tmp_path / "visits.csv", index=False)
    data, into = ["--data", str(tmp_path / "visits.csv")], ["--into", str(tmp_path / "new")]
    assert scripts.main(["new", NAME, *data, *into]) == 2
    assert "--data needs --target" in capsys.readouterr().err
    assert scripts.main(["new", NAME, "--target", "returns", *into]) == 2
    assert "name it with --data" in capsys.readouterr().err
    assert scripts.main(["new", NAME, *data, "--target", "return", *into]) == 1
    assert "did you mean 'returns'?" in capsys.readouterr().err
    assert scripts.main(["new", "Guests", *data, "--target", "returns", *into]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["visits.csv"], "nothing is left"


# --------------------------------------------------------------------------------------------------- what is written
def test_a_project_is_small(files: dict[str, str]) -> None:
    assert len(files) + 1 <= 25, "with the wheel"
    assert sum(text.count("\n") for text in files.values()) <= 2_500
    assert not [path for path, text in files.items() if "project_name" in path + text]


def test_every_file_is_one_of_its_language(files: dict[str, str]) -> None:
    for path, text in files.items():
        if path.endswith(".toml"):
            assert tomllib.loads(text)["tool"]["model_name"]["schemas"] == f"{NAME}.schemas"
        elif path.endswith(".ini"):
            parser = configparser.ConfigParser(inline_comment_prefixes=("#",), interpolation=None)
            parser.read_string(text)
            assert parser["metadata"]["name"] == NAME
        elif path.endswith((".yaml", ".yml")):
            assert isinstance(yaml.safe_load(text), dict)
        elif path.endswith(".ipynb"):
            nbformat.validate(nbformat.reads(text, as_version=4))


def test_what_comes_from_the_table_is_written_as_a_literal(
    files: dict[str, str], table: tuple[Path, str]
) -> None:
    path, target = table
    for verb in settings.verbs():
        loaded = configs.load([_conf(files, verb, path.parent)], [])
        if verb != "promote":
            assert loaded.data["data"]["table"]["path"] == f"data/{path.name}"
    module: dict[str, object] = {}
    exec(compile(files[f"{NAME}/schemas.py"], "schemas.py", "exec"), module)
    columns = pd.read_csv(path).columns
    inputs, targets = module["InputsSchema"], module["TargetsSchema"]
    assert targets.column_names() == [target]
    declared = {*inputs.column_names(), inputs.index_name(), target} - {None}
    assert declared == {name.strip() for name in columns} - {"verdict"}


def _conf(files: dict[str, str], verb: str, folder: Path) -> str:
    place = folder / f"{verb}.yaml"
    place.write_text(files[f"confs/{verb}.yaml"], encoding="utf-8")
    return str(place)


def test_the_project_is_in_the_form_that_its_tools_want(written: Path, tmp_path: Path) -> None:
    ask(written, BIN / "ruff", "format", "--check", ".")
    ask(written, BIN / "ruff", "check", ".")
    shutil.copytree(written / "nbs", tmp_path / "nbs")
    shutil.copy(written / "pyproject.toml", tmp_path)
    ask(tmp_path, BIN / "nbdev-export")
    ask(tmp_path, BIN / "ruff", "format", NAME)
    for module in ("schemas.py", "models.py"):
        assert (tmp_path / NAME / module).read_text("utf-8") == (written / NAME / module).read_text(
            "utf-8"
        )
    ask(tmp_path, BIN / "jupyter", "nbconvert", "--to", "markdown", "--output-dir", ".", "--output", "README",
        tmp_path / "nbs/index.ipynb")  # fmt: skip
    assert (tmp_path / "README.md").read_text("utf-8") == (written / "README.md").read_text("utf-8")


def test_notebooks_are_clean(written: Path) -> None:
    before = {path: path.read_text("utf-8") for path in (written / "nbs").glob("*.ipynb")}
    ask(written, BIN / "nbdev-clean")
    assert {path: path.read_text("utf-8") for path in before} == before


def test_editors_know_what_may_stand_in_a_configuration(files: dict[str, str]) -> None:
    schema = settings.MainSettings.model_json_schema()
    for verb in settings.verbs():
        text = files[f"confs/{verb}.yaml"]
        assert text.startswith("# yaml-language-server: $schema=../.schemas/configuration.json\n")
        data = yaml.safe_load(text)
        jsonschema.validate(data, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data | {"job": data["job"] | {"no_such_key": 1}}, schema)
    assert "/.schemas/" not in files[".gitignore"]
    assert ".schemas/" in files[".gitignore"]
    assert ".schemas/configuration.json" in files["Makefile"]


# ----------------------------------------------------------------------------------------------------- configurations
def profile_of(tmp_path: Path, table: pd.DataFrame, target: str) -> profiles.TableProfile:
    table.to_csv(tmp_path / "t.csv", index=False)
    return profiles.profile(tmp_path / "t.csv", target)


def test_rows_without_a_time_are_drawn_with_the_labels_in_their_shares(tmp_path: Path) -> None:
    files = projects.compose(NAME, profile_of(tmp_path, visits(), "returns"), "data/t.csv", "")
    tune, train = (yaml.safe_load(files[f"confs/{verb}.yaml"])["job"] for verb in ("tune", "train"))
    drawn = {"KIND": "TrainTestSplitter", "shuffle": True, "stratify": True, "test_size": 0.2}
    assert train["splitter"] == tune["holdout"] == tune["splitter"] == drawn
    assert "thresholds" not in files["confs/evaluate.yaml"], (
        "a classification has to beat the naive answer"
    )


def test_rows_with_a_time_are_tested_on_the_latest(tmp_path: Path) -> None:
    files = projects.compose(
        NAME, profile_of(tmp_path, quoted(), f"target {MARKS}"), "data/t.csv", ""
    )
    tune, train = (yaml.safe_load(files[f"confs/{verb}.yaml"])["job"] for verb in ("tune", "train"))
    assert (
        train["splitter"]
        == tune["holdout"]
        == {"KIND": "TrainTestSplitter", "shuffle": False, "test_size": 0.2}
    )
    assert tune["splitter"] == {"KIND": "TimeSeriesSplitter", "n_splits": 3, "test_size": 0.1}
    thresholds = yaml.safe_load(files["confs/evaluate.yaml"])["job"]["thresholds"]
    assert thresholds == {"r2_score": {"threshold": 0.0, "greater_is_better": True}}


def test_the_reader_of_the_profile_is_that_of_every_job(tmp_path: Path) -> None:
    visits().to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    profile = profiles.profile(tmp_path / "t.csv", "returns")
    files = projects.compose(NAME, profile, "data/t.csv", "")
    for verb in ("tune", "train", "evaluate", "infer", "explain", "stream"):
        data = yaml.safe_load(files[f"confs/{verb}.yaml"])["data"]
        assert data == {"table": {**profile.reader, "path": "data/t.csv"}}
    assert "data" not in yaml.safe_load(files["confs/promote.yaml"])


# ------------------------------------------------------------------------------------------------------ what is asked
def test_answers_change_what_is_written(tmp_path: Path) -> None:
    visits().to_csv(tmp_path / "visits.csv", index=False)
    words = [
        "new",
        NAME,
        "--data",
        str(tmp_path / "visits.csv"),
        "--target",
        "returns",
        "--into",
        str(tmp_path / NAME),
    ]
    done = CliRunner().invoke(scripts.cli, [*words, "--ask"], input="no\nyes\n", obj=tmp_path)
    assert done.exit_code == 0, done.output
    assert "does it name the rows" in done.output
    assert "is 'verdict' known when the answer is wanted?" in done.output
    schema = (tmp_path / NAME / NAME / "schemas.py").read_text("utf-8")
    assert "verdict: Series[" in schema
    assert "Index[" not in schema
    assert (tmp_path / NAME / "data/visits.csv").read_bytes() == (
        tmp_path / "visits.csv"
    ).read_bytes()


def test_what_is_said_about_a_new_project_fits_on_a_screen(table: tuple[Path, str]) -> None:
    path, target = table
    lines = list(projects.summary(NAME, profiles.profile(path, target)))
    assert len(lines) <= 20
    assert lines[0].startswith(f"{NAME}: ")
    assert repr(target) in lines[0]


# ------------------------------------------------------------------------------------------------- layout, as ruff does
@pytest.mark.parametrize("length", [1, 30, 60, 90, 130])
@pytest.mark.parametrize("quotes", ["", "'", '"', "'\""])
def test_declarations_are_broken_as_ruff_does(length: int, quotes: str, tmp_path: Path) -> None:
    labels = [f"{'x' * length}{quotes}{number}" for number in range(3)]
    name = f"a{'b' * length}"
    said = f"isin={json.dumps(labels)}, nullable=True, description={json.dumps(quotes)}"
    field = f"    {name}: Series[str] = pa.Field({said})"
    (tmp_path / "a.py").write_text(f"class A:\n{exports.lay_out(field)}\n")
    ask(tmp_path, BIN / "ruff", "format", "--check", "--line-length", "120", "--isolated", "a.py")
