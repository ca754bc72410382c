"""Another table: what a project does that has nothing to do with bikes, step by step.

A project is a declaration of three tables over the installed library; what else it needs is a configuration file.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent
VERBS = ("train", "evaluate", "promote", "infer", "explain")

TICKETS = {
    "Inputs": '''
class InputsSchema(Schema):
    """What is known about a ticket when it comes in."""

    ticket: Index[str] = pa.Field(unique=True, description="Number on the ticket, zeros in front included.")
    opened: Series[pa.DateTime] = pa.Field(nullable=True, description="When it was opened.")
    channel: Series[str] = pa.Field(nullable=True, description="How it came in.")
    urgency: Series[pd.CategoricalDtype] = pa.Field(isin=["low", "high"], nullable=True, description="As reported.")
    paying: Series[bool] = pa.Field(description="Whether a paying customer asks.")
    consented: Series[pd.BooleanDtype] = pa.Field(nullable=True, description="Whether we may call back.")
    words: Series[float] = pa.Field(ge=0, nullable=True, description="Length of the text.")
    attachments: Series[int] = pa.Field(ge=0, description="Number of files.")
    agent: Series[str] = pa.Field(nullable=True, metadata={"feature": False}, description="Who took it.")


Inputs = papd.DataFrame[InputsSchema]
''',
    "Targets": '''
class TargetsSchema(Schema):
    """What is to be predicted: who should answer."""

    ticket: Index[str] = pa.Field(unique=True, description="Number on the ticket, zeros in front included.")
    team: Series[str] = pa.Field(description="Team that closed it.")


Targets = papd.DataFrame[TargetsSchema]
''',
    "Outputs": '''
class OutputsSchema(Schema):
    """Who should answer, and how sure that is."""

    ticket: Index[str] = pa.Field(unique=True, description="Number on the ticket, zeros in front included.")
    prediction: Series[str] = pa.Field(description="Team that is likely to close it.")
    probability: Optional[Series[float]] = pa.Field(  # noqa: UP045 (pandera reads Optional as "may be absent")
        alias="probability_.+", regex=True, ge=0, le=1, description="Probability of each team."
    )


Outputs = papd.DataFrame[OutputsSchema]
''',
}

SALES = {
    "Inputs": '''
class InputsSchema(Schema):
    """What is known about a flat before it is sold."""

    sold: Series[pa.DateTime] = pa.Field(description="Day of the sale.")
    district: Series[pd.CategoricalDtype] = pa.Field(nullable=True, description="Where it is.")
    area: Series[float] = pa.Field(gt=0, description="In square metres.")
    floor: Series[pd.Int64Dtype] = pa.Field(nullable=True, description="0 is the ground floor.")


Inputs = papd.DataFrame[InputsSchema]
''',
    "Targets": '''
class TargetsSchema(Schema):
    """What is to be predicted: the distance to the estimate, which may be negative."""

    gap: Series[float] = pa.Field(description="Price less estimate, in thousands.")


Targets = papd.DataFrame[TargetsSchema]
''',
    "Outputs": '''
class OutputsSchema(Schema):
    """What a model answers."""

    prediction: Series[float] = pa.Field(description="Predicted gap, in thousands.")


Outputs = papd.DataFrame[OutputsSchema]
''',
}


def tickets(rows: int = 600) -> pd.DataFrame:
    """Draw tickets whose team follows from the channel, the length and the customer."""
    random = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "note": "not declared",
            "team": "",
            "agent": random.choice(["Ann", "Bob"], rows),
            "attachments": random.integers(0, 4, rows),
            "words": random.gamma(2, 60, rows).round(),
            "consented": random.choice(["yes", "no"], rows),
            "paying": random.choice(["True", "False"], rows),
            "urgency": random.choice(["low", "high"], rows),
            "channel": random.choice(["mail", "phone", "007"], rows),
            "opened": pd.date_range("2024-01-01", periods=rows, freq="7h").strftime(
                "%Y-%m-%dT%H:%M"
            ),
            "ticket": [f"{row:05d}" for row in range(rows)],
        }
    )
    billing = (table["channel"] == "phone") & (table["paying"] == "True")
    table["team"] = np.select(
        [billing, table["words"] > 120], ["billing", "second line"], "first line"
    )
    for name in ("words", "consented", "urgency", "channel", "opened", "agent"):
        table[name] = table[name].where(random.random(rows) > 0.05)
    return table


def sales(rows: int = 800) -> pd.DataFrame:
    """Draw sales whose gap follows from the district, the area and the date."""
    random = np.random.default_rng(6)
    table = pd.DataFrame(
        {
            "sold": pd.Timestamp("2020-01-01")
            + pd.to_timedelta(random.integers(0, 1_500, rows), unit="D"),
            "district": random.choice(["north", "south", "centre"], rows),
            "area": random.uniform(20, 150, rows),
            "floor": pd.array(random.integers(0, 9, rows), dtype="Int64"),
        }
    )
    days = (table["sold"] - pd.Timestamp("2020-01-01")).dt.days
    table["gap"] = (
        table["area"] * (table["district"] == "centre") - days / 20 + random.normal(0, 5, rows)
    )
    table.loc[::17, "floor"] = None
    table.loc[::23, "district"] = None
    return table


@dataclass
class Project:
    """A folder with a declaration of tables in it, and nothing of the library."""

    root: Path
    environment: dict[str, str] = field(repr=False)

    def run(self, *command: str) -> str:
        """Run a program in the project; return what it printed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def python(self, code: str) -> Any:
        """Evaluate an expression in the project."""
        return json.loads(
            self.run(
                sys.executable, "-c", f"import json; from model_name.core import schemas; {code}"
            )
        )


HEAD = """
from typing import Optional

import pandas as pd
import pandera.pandas as pa
import pandera.typing.pandas as papd
from pandera.typing.pandas import Index, Series

from model_name.core.columns import Schema

"""


def declare(place: Path, tables: dict[str, str]) -> Project:
    """Write a project: its tables, where they are, and the library's configuration of each job to begin with."""
    (place / "mine").mkdir(parents=True)
    (place / "confs").mkdir()
    for verb in VERBS:
        shutil.copy(ROOT / "confs" / f"{verb}.yaml", place / "confs")
    (place / "mine/__init__.py").write_text("", encoding="utf-8")
    (place / "mine/schemas.py").write_text(HEAD + "\n".join(tables.values()), encoding="utf-8")
    (place / "pyproject.toml").write_text(
        '[tool.model_name]\nschemas = "mine.schemas"\n', encoding="utf-8"
    )
    private = ("MLFLOW_", "MODEL_NAME_", "PYTHONDONTWRITEBYTECODE")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(private)
    }
    return Project(place, environment | {"PYTHONPATH": str(ROOT)})


def configure(project: Project, **files: str) -> list[str]:
    """Write configuration files; return their paths as the command line takes them."""
    for name, text in files.items():
        (project.root / f"confs/{name}.yaml").write_text(text, encoding="utf-8")
    return [f"confs/{name}.yaml" for name in files]


def executed(project: Project) -> dict[str, dict[str, Any]]:
    """Return the executed notebooks by verb, after a look that nothing failed in them."""
    notebooks = {}
    for path in sorted((project.root / "outputs/notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output["output_type"] == "error"]
        notebooks[path.stem.rpartition("-")[2]] = notebook
    return notebooks


def figures(notebook: dict[str, Any]) -> int:
    """Count the figures that a notebook shows."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return sum(
        any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs
    )


QUICK = """
job:
  KIND: EvaluationsJob
  resamples: 20
"""


def test_labels_in_a_csv_file(tmp_path: Path) -> None:
    project = declare(tmp_path / "tickets", TICKETS)
    table = tickets()
    table.to_csv(project.root / "tickets.csv", index=False)
    files = configure(
        project,
        tickets="data:\n  table:\n    KIND: CsvReader\n    path: tickets.csv\n",
        forest="job:\n  KIND: TrainingJob\n  model: {KIND: BaselineSklearnModel, n_estimators: 20}\n"
        "  splitter: {KIND: TrainTestSplitter, test_size: 0.25}\n",
        quick=QUICK,
    )
    asked = "print(json.dumps([schemas.task(), schemas.target_name(), schemas.InputsSchema.features()]))"
    features = ["opened", "channel", "urgency", "paying", "consented", "words", "attachments"]
    assert project.python(asked) == ["classification", "team", features]

    said = project.run(sys.executable, "-m", "model_name", "run", *VERBS, *files)

    assert "Left out 1 undeclared column(s): note" in said
    notebooks = executed(project)
    assert list(notebooks) == list(VERBS)
    assert all(figures(notebooks[verb]) for verb in ("train", "evaluate", "infer", "explain"))
    predictions = pd.read_parquet(project.root / "outputs/predictions.parquet")
    if "ticket" in predictions:
        predictions = predictions.set_index("ticket")
    assert predictions.index.tolist() == table["ticket"].tolist(), "zeros in front are kept"
    teams = ["billing", "first line", "second line"]
    assert sorted(predictions) == sorted(
        ["prediction", "model_version", *(f"probability_{team}" for team in teams)]
    )
    assert (predictions["prediction"].to_numpy() == table["team"].to_numpy()).mean() > 0.9
    np.testing.assert_allclose(predictions.filter(like="probability_").sum(axis=1), 1)
    assert set(predictions["model_version"]) == {1}


def test_a_regression_without_an_index_in_a_parquet_file(tmp_path: Path) -> None:
    project = declare(tmp_path / "sales", SALES)
    table = sales()
    table.to_parquet(project.root / "sales.parquet")
    files = configure(
        project,
        sales="data:\n  table:\n    KIND: ParquetReader\n    path: sales.parquet\n",
        boosting="job:\n  KIND: TrainingJob\n  model: {KIND: GradientBoostingModel, max_iter: 60, learning_rate: 0.2}\n"
        "  splitter: {KIND: TrainTestSplitter, test_size: 0.25, shuffle: true}\n",
        csv="job:\n  KIND: InferenceJob\n  outputs: {KIND: CsvWriter, path: outputs/gaps.csv}\n",
        quick=QUICK,
    )
    asked = "print(json.dumps([schemas.task(), schemas.is_count(), schemas.InputsSchema.roles()]))"
    roles = {"sold": "date", "district": "categorical", "area": "numeric", "floor": "numeric"}
    assert project.python(asked) == ["regression", False, roles]

    project.run(sys.executable, "-m", "model_name", "run", *VERBS, *files)

    notebooks = executed(project)
    assert list(notebooks) == list(VERBS)
    assert all(figures(notebooks[verb]) for verb in ("train", "evaluate", "infer", "explain"))
    predictions = pd.read_csv(project.root / "outputs/gaps.csv")
    assert len(predictions) == len(table)
    assert np.corrcoef(predictions["prediction"], table["gap"])[0, 1] > 0.97
    assert predictions["prediction"].min() < 0 < predictions["prediction"].max()
