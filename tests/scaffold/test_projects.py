"""New projects: names and folders that cannot be meant, what travels, and that nothing of the example is left."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model_name import scripts
from model_name.core import errors
from model_name.scaffold import profiles, projects

NAME = "guests"


def visits(rows: int = 400) -> pd.DataFrame:
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


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "visits.csv"
    visits().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def rendered(table: Path) -> projects.Files:
    profile = profiles.profile(table, "returns")
    record = projects.Record(version="0.1.0", name=NAME, profile=profile, path="data/visits.csv")
    return projects.render(projects.template(), record)


def text(files: projects.Files, path: str) -> str:
    return files[path].content.decode("utf-8")


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
        ("tests", "the template uses it itself"),
        ("model_name", "the template uses it itself"),
    ],
)
def test_names_that_cannot_be_those_of_a_project(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        projects.create(name, into=tmp_path / "new")
    assert why in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left"


def test_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.ConfigError, match=r"is not empty \(it has notes.txt\)"):
        projects.create(NAME, into=tmp_path)
    with pytest.raises(errors.ConfigError, match="is a file"):
        projects.create(NAME, into=tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_arguments_that_belong_together(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = ["--into", str(tmp_path / "new")]
    assert scripts.main(["new", NAME, "--data", str(table), *into]) == 2
    assert "--data needs --target" in capsys.readouterr().err
    assert scripts.main(["new", NAME, "--target", "returns", *into]) == 2
    assert "name it with --data" in capsys.readouterr().err
    assert scripts.main(["new", NAME, "--data", str(table), "--target", "return", *into]) == 1
    assert "did you mean 'returns'?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ what travels
def test_nothing_of_the_template_or_its_example_is_left(rendered: projects.Files) -> None:
    left = []
    for path, file in rendered.items():
        content = file.content.decode("utf-8", "replace")
        names = content.replace("registered_model_name", "").replace("REGISTERED_MODEL_NAME", "").lower()
        if "model_name" in names or "model-name" in names or "model_name" in path:
            left.append(f"{path}: the template's name")
        if found := projects.EXAMPLE_WORDS.search(content):
            left.append(
                f"{path}: {content[max(found.start() - 40, 0) : found.end() + 20]!r}: say it without the "
                "example, or list the file in OF_THE_EXAMPLE of nbs/scaffold/projects.ipynb"
            )
    assert left == []


def test_no_word_of_the_code_is_the_name_of_a_project(rendered: projects.Files) -> None:
    """What was called `model_name` for another reason than the package would be called after the project."""
    words = re.compile(rf"(?<![\w.]){NAME}(: str|=(?!=))|\w\.{NAME}\b(?!/)")
    found = [
        f"{path}: {line.strip()}"
        for path, file in rendered.items()
        if path.endswith((".ipynb", ".py"))
        for line in file.content.decode("utf-8").splitlines()
        if words.search(line)
    ]
    assert found == []


def test_what_makes_projects_stays_behind(rendered: projects.Files) -> None:
    assert not [
        path for path in rendered if "profiles" in path or path.startswith("template/") or "/projects.ipynb" in path
    ]
    assert "def new(" not in text(rendered, "nbs/scripts.ipynb")
    for path in ("setup.py", "pyproject.toml", "MANIFEST.in", "tasks/checks.py", "tests/packaging/test_wheel.py"):
        assert "template:" not in text(rendered, path), path
    assert "scaffold.projects" not in text(rendered, "pyproject.toml")
    assert {"nbs/runs/train.ipynb", "confs/train.yaml", "Makefile", ".ci/run", "tests/test_project.py"} <= set(rendered)


def test_every_module_comes_along_whole(rendered: projects.Files) -> None:
    for path, file in projects.template().items():
        own = path in ("nbs/core/schemas.ipynb", "nbs/io/simulators.ipynb", "nbs/index.ipynb", "nbs/scripts.ipynb")
        if (
            not path.startswith("nbs/")
            or not path.endswith(".ipynb")
            or own
            or path not in rendered
            or "/guides/" in path
        ):
            continue
        before, after = (
            [
                "".join(cell["source"])
                for cell in json.loads(content)["cells"]
                if "".join(cell["source"]).startswith("#| exp")
            ]
            for content in (file.content, rendered[path].content)
        )
        assert [projects.rename(source, NAME) for source in before] == after, path


def test_the_schema_says_what_was_seen(rendered: projects.Files) -> None:
    cells = json.loads(rendered["nbs/core/schemas.ipynb"].content)["cells"]
    prose = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for column in visits():
        assert f"**`{column}`" in prose
    assert "**`verdict` gives the answer away**: each of its values" in prose
    assert "Missing in" in prose.partition("**`class`**")[2].partition("\n\n")[0]
    assert 'class_: Series[pd.CategoricalDtype] = pa.Field(nullable=True, metadata={"slice": True' in code
    assert '"seen": ["first", "second"]}' in code, "a new text of a feature is no reason to refuse a row"
    assert 'age_years: Series[int] = pa.Field(ge=0, metadata={"seen": (18, 89)}, alias="age (years)"' in code
    assert code.count("guest_id: Index[str]") == 3
    assert 'returns: Series[str] = pa.Field(isin=["no", "yes"]' in code
    assert "prediction: Series[str]" in code
    assert "verdict" not in code


def test_columns_called_like_those_of_the_example_are_described_too(tmp_path: Path) -> None:
    own = visits().rename(columns={"class": "casual", "2nd": "rental", "verdict": "cnt"})
    own["month"] = [k % 12 + 1 for k in range(len(own))]
    own.to_csv(tmp_path / "bikes.csv", index=False)
    profile = profiles.profile(tmp_path / "bikes.csv", "returns")
    record = projects.Record(version="0.1.0", name=NAME, profile=profile, path="data/bikes.csv")
    cells = json.loads(text(projects.render(projects.template(), record), "nbs/core/schemas.ipynb"))["cells"]
    prose = " ".join(" ".join("".join(cell["source"]).split()) for cell in cells if cell["cell_type"] == "markdown")
    for said in (
        "The table is `bikes.csv`",
        "**`casual`**: 2 different texts",
        "**`rental`**: numbers",
        "**`cnt` gives",
    ):
        assert said in prose
    assert "12 different whole numbers from 1 to 12" in prose
    assert "Declared with both ends" not in prose, "limits never come from what was seen"
    assert all("any-schema" not in cell["metadata"].get("tags", []) for cell in cells)


def test_configurations_read_the_table(rendered: projects.Files) -> None:
    configured = text(rendered, "confs/train.yaml")
    assert 'KIND: CsvReader\n    trim: true\n    missing: ["", "NA", ' in configured
    assert '    path: "data/visits.csv"' in configured
    assert "shuffle: true\n    stratify: true\n    test_size: 0.2" in text(rendered, "confs/train.yaml")
    assert "data:" not in text(rendered, "confs/promote.yaml")
    assert "/data/" in text(rendered, ".gitignore")


def test_the_first_threshold_is_the_answer_that_knows_nothing(rendered: projects.Files, table: Path) -> None:
    assert "thresholds" not in text(rendered, "confs/evaluate.yaml"), "a classification has to beat the naive answer"
    profile = profiles.profile(table, "2nd")
    record = projects.Record(version="0.1.0", name=NAME, profile=profile, path="data/visits.csv")
    configured = text(projects.render(projects.template(), record), "confs/evaluate.yaml")
    assert "    r2_score: {threshold: 0.0, greater_is_better: true}" in configured


def test_pages_that_stay_behind_are_not_linked(rendered: projects.Files) -> None:
    listed = re.findall(r"(?m)^\s*- (\S+\.ipynb)$", text(rendered, "_quarto.yml"))
    assert [page for page in listed if f"nbs/{page}" not in rendered] == []
    assert "guides/start.ipynb" in listed
    assert "nbs/guides/schedule.ipynb" in rendered
    assert "nbs/guides/tune.ipynb" not in rendered, "it runs on the rows of the example"
    files = {"nbs/a.ipynb", "nbs/guides/b.ipynb"}
    said = "[one](a.ipynb), [two](guides/b.ipynb#part), [three](guides/c.ipynb), ![four](c.ipynb)"
    kept = projects._without_lost_links("nbs/x.ipynb", said, files)
    assert kept == "[one](a.ipynb), [two](guides/b.ipynb#part), three, ![four](c.ipynb)"


def test_without_a_table_it_is_the_example_under_another_name() -> None:
    files = projects.render(projects.template(), projects.Record(version="0.1.0", name=NAME))
    assert "class InputsSchema" in text(files, "nbs/core/schemas.ipynb")
    assert "dteday" in text(files, "nbs/core/schemas.ipynb")
    assert "tests/jobs/test_training.py" in files
    assert f"from {NAME}.core import" in text(files, "tests/core/test_models.py")
    assert not [path for path in files if "model_name" in path]


def test_rendering_again_gives_the_same_files_without_the_table(rendered: projects.Files, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(rendered[projects.RECORD].content)
    projects.render_again(tmp_path / "record.json", tmp_path / "again")
    again = {
        path.relative_to(tmp_path / "again").as_posix(): path
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
    }
    assert set(again) == set(rendered)
    assert [name for name, path in again.items() if path.read_bytes() != rendered[name].content] == []
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(errors.ConfigError, match="does not say which template"):
        projects.render_again(tmp_path / "record.json", tmp_path / "other")


# -------------------------------------------------------------------------------------------------------- from one end
@pytest.fixture(scope="module")
def project(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / NAME
    said = projects.create(NAME, into=folder, data=table, target="returns")
    assert said == folder
    return folder


def ask(folder: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment | {"PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_is_committed_clean_and_in_form(project: Path) -> None:
    assert ask(project, "git", "status", "--porcelain") == ""
    assert ask(project, "git", "log", "--format=%B").count("Template-Version: ") == 1
    ask(project, sys.executable, "-m", "ruff", "check", ".")
    ask(project, sys.executable, "-m", "ruff", "format", "--check", ".")
    assert (project / "data/visits.csv").read_bytes() != b""
    assert "data/visits.csv" not in ask(project, "git", "ls-files")
    assert (project / NAME / "core/schemas.py").is_file()


def test_the_schema_of_a_project_takes_its_table(project: Path) -> None:
    code = (
        f"from {NAME} import scripts; from {NAME}.core import schemas; "
        "table = scripts.load_steps(['train'])[0].job.inputs.read(); "
        "print(len(schemas.InputsSchema.check(table)), len(schemas.TargetsSchema.check(table)), schemas.task())"
    )
    assert ask(project, sys.executable, "-c", code).split() == ["400", "400", "classification"]


def test_what_is_said_about_a_new_project(project: Path) -> None:
    lines = list(projects.summary(project))
    assert lines[0] == "guests: classification of 'returns' on 4 features, 400 rows of visits.csv"
    assert lines[1].startswith("left out 'verdict': each of its values")
    assert lines[-1].endswith("&& make run")
