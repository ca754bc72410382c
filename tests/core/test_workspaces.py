"""Which project a process works for: what is declared, what is wrong with it, and what a saved model carries."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_name.core import errors, workspaces
from tests.conftest import copy_store

ROOT = Path(__file__).parents[2]

CHURN = """
from typing import Optional

import pandas as pd
import pandera.pandas as pa
import pandera.typing.pandas as papd
from pandera.typing.pandas import Series

from model_name.core.columns import Schema


class InputsSchema(Schema):
    Age: Series[int] = pa.Field(ge=0)
    Balance: Series[float] = pa.Field(nullable=True)
    Country: Series[str] = pa.Field()
    Joined: Series[pa.DateTime] = pa.Field(metadata={"feature": False})


Inputs = papd.DataFrame[InputsSchema]


class TargetsSchema(Schema):
    Exited: Series[bool] = pa.Field()


Targets = papd.DataFrame[TargetsSchema]


class OutputsSchema(Schema):
    prediction: Series[bool] = pa.Field()
    probability: Optional[Series[float]] = pa.Field(alias="probability_.+", regex=True, ge=0, le=1)


Outputs = papd.DataFrame[OutputsSchema]
"""

MODELS = """
from typing import Literal

from churn.schemas import InputsSchema
import churn.constants
from model_name.core import models
from model_name.core.features import feature


@feature(role="numeric")
def balance_per_year(inputs):
    return inputs["Balance"] / (inputs["Age"] + churn.constants.ONE)


@feature(role="numeric")
def weekday_joined(inputs):
    return inputs["Joined"].dt.dayofweek


class Own(models.BaselineSklearnModel):
    KIND: Literal["churn.models:Own"] = "churn.models:Own"
    note: str = churn.constants.NOTE


features = [balance_per_year, weekday_joined]
"""


def declare(
    folder: Path,
    schemas: str = CHURN,
    toml: str = '[tool.model_name]\nschemas = "churn.schemas"\nfeatures = "churn.models:features"\n',
    constants: str = 'ONE = 1\nNOTE = "first"\n',
    models: str = MODELS,
) -> Path:
    """Write a project."""
    package = folder / "churn"
    package.mkdir(parents=True)
    files = {"__init__": "", "schemas": schemas, "models": models, "constants": constants}
    for name, source in files.items():
        (package / f"{name}.py").write_text(source, encoding="utf-8")
    (folder / "pyproject.toml").write_text(toml, encoding="utf-8")
    return folder


def python(code: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a program with nothing but the library installed."""
    cwd.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MODEL_NAME_", "PYTHON"))
    }
    environment = kept | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )


def ask(code: str, cwd: Path, **variables: str) -> Any:
    """Return what a program printed last, as JSON."""
    done = python(code, cwd, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


WHO = "import json, os; from model_name.core import schemas; print(json.dumps([schemas.task(), schemas.target_name()]))"
CHURNS, BIKES = ["classification", "Exited"], ["regression", "cnt"]


# ------------------------------------------------------------------------------------------------ which project it is
def test_the_nearest_declaration_above_the_working_directory_decides(tmp_path: Path) -> None:
    folder = declare(tmp_path / "a project with spaces, ü")
    assert ask(WHO, folder / "nbs/runs") == CHURNS
    (folder / "vendored").mkdir()
    (folder / "vendored/pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert ask(WHO, folder / "vendored") == CHURNS
    assert ask(WHO, tmp_path / "elsewhere") == BIKES


def test_the_variable_wins(tmp_path: Path) -> None:
    folder = declare(tmp_path / "one")
    other = declare(tmp_path / "two", schemas=CHURN.replace("Exited", "Left"))
    assert ask(WHO, folder, MODEL_NAME_PROJECT=str(other)) == ["classification", "Left"]
    assert ask(WHO, tmp_path, MODEL_NAME_PROJECT="two") == ["classification", "Left"]


def test_child_processes_work_for_the_same_project(tmp_path: Path) -> None:
    folder = declare(tmp_path / "one")
    code = f"""
import subprocess, sys
from model_name.core import schemas
schemas.task()
print(subprocess.run([sys.executable, "-c", {WHO!r}], cwd="/", capture_output=True, text=True).stdout, end="")
"""
    assert ask(code, folder) == CHURNS


def test_workers_find_the_classes_of_the_project(tmp_path: Path) -> None:
    code = """
import json
from model_name.core import schemas
from model_name.utils import parallel
schemas.task()
import churn.models
own = churn.models.Own
print(json.dumps(list(parallel.run(own.get_params, [own(note="a")] * 2, workers=2))[1]["note"]))
"""
    assert ask(code, declare(tmp_path / "one")) == "a"


# ------------------------------------------------------------------------------------------------------ what is wrong
WRONG = {
    "no such folder": ({}, {"MODEL_NAME_PROJECT": "nowhere"}, "MODEL_NAME_PROJECT=nowhere: this folder has no"),
    "no TOML": ({"toml": "[tool.model_name\n"}, {}, "pyproject.toml cannot be read"),
    "no schemas": ({"toml": "[tool.model_name]\n"}, {}, 'needs schemas = "churn.schemas"'),
    "misspelt": ({"toml": '[tool.model_name]\nschema = "a"\n'}, {}, "no key 'schema'; did you mean 'schemas'?"),
    "a path": ({"toml": '[tool.model_name]\nschemas = "a/b.py"\n'}, {}, "it has schemas = 'a/b.py'"),
    "no such module": (
        {"toml": '[tool.model_name]\nschemas = "churn.tables"\n'}, {}, "there is no 'churn.tables', neither"
    ),
    "no such package": ({"toml": '[tool.model_name]\nschemas = "tea.schemas"\n'}, {}, "there is no 'tea'"),
    "a missing requirement": ({"schemas": "\nimport teapot\n"}, {}, "schemas.py, line 2: ModuleNotFoundError"),
    "a syntax error": ({"schemas": "\n\nclass Inputs(:\n"}, {}, "schemas.py, line 3: SyntaxError"),
    "an exception": ({"schemas": "x = 1\ny = x / 0\n"}, {}, "schemas.py, line 2: ZeroDivisionError: division by zero"),
    "a missing class": (
        {"schemas": CHURN.replace("OutputsSchema", "OutputSchema")}, {},
        "has no class OutputsSchema; did you mean 'OutputSchema'?",
    ),
    "another base": (
        {"schemas": CHURN.replace("TargetsSchema(Schema)", "TargetsSchema(pa.DataFrameModel)")}, {},
        "TargetsSchema is not a Schema: write class TargetsSchema(Schema)",
    ),
    "no type": ({"schemas": CHURN.replace("Exited: Series[bool]", "Exited: Series[list]")}, {}, "TargetsSchema"),
    "the library's schemas": (
        {"schemas": "from model_name.core import schemas\n" + CHURN}, {}, "imports model_name.core.schemas"
    ),
    "a class of the library's schemas": (
        {"schemas": "from model_name.core.schemas import InputsSchema\n" + CHURN}, {}, "imports model_name.core.schemas"
    ),
}  # fmt: skip


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process decide anew which project it works for, and forget it afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(workspaces, "locate", functools.cache(workspaces.locate.__wrapped__))
    monkeypatch.setattr(workspaces, "_declared", functools.cache(workspaces._declared.__wrapped__))
    monkeypatch.setenv(workspaces.VARIABLE, "")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "churn"]:
        del sys.modules[name]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("files", "variables", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_project_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    variables: dict[str, str],
    message: str,
) -> None:
    folder = declare(tmp_path / "one", **files)
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.ConfigError) as caught:
        workspaces.declared()
    assert message in str(caught.value)
    assert str(folder) in str(caught.value) or variables
    with pytest.raises(errors.ConfigError):
        workspaces.declared()  # and nothing half-decided is left


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    folder = declare(tmp_path / "one", schemas="x = 1\ny = x / 0\n")
    done = python(
        "import sys; from model_name.scripts import main; sys.exit(main(['check', 'train']))",
        folder,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the module 'churn.schemas' of this project fails")
    assert "Traceback" not in done.stderr


def test_a_schema_that_imports_what_needs_it_is_told_so(tmp_path: Path) -> None:
    folder = declare(tmp_path / "one", schemas="from model_name.core import metrics\n" + CHURN)
    done = python("from model_name.core import schemas; schemas.task()", folder)
    assert "imports model_name.core.schemas, or a module that needs it" in done.stderr


def test_another_package_of_the_name_is_refused(tmp_path: Path) -> None:
    folder = declare(tmp_path / "one")
    other = declare(tmp_path / "two", schemas=CHURN.replace("Exited", "Left"))
    imported = f"import sys; sys.path.insert(0, {str(other)!r}); import churn\n"
    done = python(imported + "from model_name.core import schemas; schemas.task()", folder)
    assert "this process has imported another 'churn'" in done.stderr
    not_yet = f"import sys; sys.path.insert(0, {str(other)!r})\n"
    assert ask(not_yet + WHO, folder) == CHURNS  # the project's own comes before an installed copy


# ------------------------------------------------------------------------------------------------- carried by a model
TRAIN = """
import json, sys
import mlflow, numpy as np, pandas as pd
from model_name.core import features, models, schemas
from model_name.io import registries
from model_name.io import services
from model_name.io import stores
from model_name.utils import signers
import churn.models

random = np.random.default_rng(1)
table = pd.DataFrame({
    "Age": random.integers(18, 90, 200), "Balance": random.uniform(0, 9, 200),
    "Country": random.choice(["FR", "DE"], 200),
    "Joined": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 99, 200), unit="D"),
})
table["Exited"] = table["Balance"] / (table["Age"] + 1) > 0.1
table.to_parquet(sys.argv[1] + "/table.parquet")
inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
artifacts = mlflow.create_experiment(sys.argv[1], artifact_location=sys.argv[1] + "/artifacts")
uris = {}
for name in sys.argv[2:]:
    kind, saver = name.split("-")
    own = kind == "own"
    model = churn.models.Own(n_estimators=5, n_jobs=1) if own else models.GradientBoostingModel(max_iter=5, n_jobs=1)
    model.fit(inputs, targets)
    outputs = model.predict(inputs)
    signature = signers.InferSigner().sign(features.sent_columns(inputs), outputs)
    how = registries.CustomSaver() if saver == "custom" else registries.BuiltinSaver(flavor="sklearn")
    with mlflow.start_run(experiment_id=artifacts):
        uris[name] = how.save(model, signature, inputs.head(3)).model_uri
    outputs.to_parquet(f"{sys.argv[1]}/{name}.parquet")
print(json.dumps(uris))
"""

LOAD = """
import json, sys
import numpy as np, pandas as pd
from model_name.core import schemas
from model_name.core import workspaces
from model_name.core import packing
from model_name.io import registries

def look(folder, name, uri):
    table, wanted = (pd.read_parquet(f"{folder}/{file}.parquet") for file in ("table", name))
    adapter = registries.CustomLoader().load(uri)
    with workspaces.using(adapter.project):
        inputs = schemas.InputsSchema.check(table)
    answers = adapter.predict(inputs)
    quick = adapter.predictor()(inputs)
    model = adapter.unwrap()
    same = [np.array_equal(each["prediction"], wanted["prediction"])
            for each in (answers, quick, model.predict(inputs))]
    credit = model.explain(inputs.head(5)).features
    return [same, credit, type(model).__name__, getattr(model, "note", None), schemas.target_name(),
            [name for name in sys.modules if name.partition(".")[0] == "churn"]]

print(json.dumps([look(sys.argv[1], *each.split("=")) for each in sys.argv[2:]]))
"""


MODELS_OF = [
    "own-custom",
    "library-custom",
    "library-builtin",
]  # whose class it is, and in which format it is saved


@pytest.fixture(scope="module")
def trained_churn(
    empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with a store, a table, answers, and models whose project is gone; and the addresses of the models."""
    folder = tmp_path_factory.mktemp("churn")
    copy_store(empty_store, folder)
    uris = run(TRAIN, declare(folder / "one"), str(folder), *MODELS_OF, store=folder)
    (folder / "one").rename(folder / "gone")
    return folder, uris


@pytest.fixture(scope="module")
def loaded_churn(
    trained_churn: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Any]]:
    """What a process that knows nothing of the project finds in each of its models."""
    folder, uris = trained_churn
    given = [f"{name}={uri}" for name, uri in uris.items()]
    found = run(LOAD, tmp_path_factory.mktemp("elsewhere"), str(folder), *given, store=folder)
    return dict(zip(uris, found, strict=True))


def run(code: str, cwd: Path, *arguments: str, store: Path, **variables: str) -> Any:
    """Run a program with arguments and a store of MLflow's."""
    address = f"sqlite:///{store / 'mlflow.db'}"
    variables = {
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_REGISTRY_URI": address,
        "OMP_NUM_THREADS": "1",
    } | variables
    return ask(f"import sys; sys.argv[1:] = {list(arguments)!r}\n{code}", cwd, **variables)


@pytest.mark.parametrize("model", MODELS_OF)
def test_a_model_loads_where_its_project_is_not(
    loaded_churn: dict[str, list[Any]], model: str
) -> None:
    same, credit, name, note, target, imported = loaded_churn[model]
    assert same == [True, True, True]
    assert credit == ["Age", "Balance", "Country", "balance_per_year", "weekday_joined"]
    assert (name, note) == (
        ("Own", "first") if model.startswith("own") else ("GradientBoostingModel", None)
    )
    assert target == "cnt", "the process itself still works for the example"
    assert imported == []


def test_an_older_version_keeps_its_code_beside_the_project_of_today(
    tmp_path: Path, trained_churn: tuple[Path, dict[str, str]]
) -> None:
    folder, uris = trained_churn
    today = declare(tmp_path / "one", constants='ONE = 10_000_000\nNOTE = "second"\n')
    [found] = run(LOAD, today, str(folder), f"own-custom={uris['own-custom']}", store=folder)
    same, _, name, note, target, imported = found
    assert same == [True, True, True], "the ratio is that of the training"
    assert (name, note, target) == ("Own", "first", "Exited")
    assert imported == ["churn", "churn.schemas"], "only the tables of today"


def test_two_models_of_two_projects_in_two_threads(
    tmp_path: Path, trained_churn: tuple[Path, dict[str, str]]
) -> None:
    store, uris = trained_churn
    second = declare(tmp_path / "two", constants='ONE = 500\nNOTE = "x"\n')
    others = run(TRAIN, second, str(tmp_path), "own-custom", store=store)
    places = [(str(store), uris["own-custom"]), (str(tmp_path), others["own-custom"])]
    code = f"""
import json
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pandas as pd
from model_name.core import schemas
from model_name.core import workspaces
from model_name.core import packing
from model_name.io import registries
loaded = [(registries.CustomLoader().load(uri), pd.read_parquet(f"{{place}}/table.parquet"),
           pd.read_parquet(f"{{place}}/own-custom.parquet")) for place, uri in {places!r}]
assert loaded[0][0].project.digest != loaded[1][0].project.digest
def same(number):
    adapter, table, wanted = loaded[number % 2]
    with workspaces.using(adapter.project):
        inputs = schemas.InputsSchema.check(table)
    columns = ["prediction", "probability_True"]
    answers = adapter.predict(inputs)
    return schemas.target_name() == "cnt" and np.array_equal(answers[columns], wanted[columns])
with ThreadPoolExecutor(2) as pool:
    print(json.dumps(list(pool.map(same, range(12)))))
"""
    assert run(code, tmp_path / "elsewhere", store=store) == [True] * 12


def test_a_job_names_the_columns_that_mean_something_else(
    tmp_path: Path, trained_churn: tuple[Path, dict[str, str]]
) -> None:
    store, uris = trained_churn
    uri = uris["library-custom"]
    changed = CHURN.replace("Age: Series[int]", "Age: Series[float]")
    changed = changed.replace("    Country: Series[str] = pa.Field()\n", "")
    other = declare(
        tmp_path / "two", schemas=changed, toml='[tool.model_name]\nschemas = "churn.schemas"\n'
    )
    code = f"""
import json
from model_name.core import errors
from model_name.io import registries
adapter = registries.CustomLoader().load({uri!r})
try:
    adapter.require_same_tables()
except errors.ModelError as error:
    print(json.dumps(str(error).splitlines()))
"""
    lines = run(code, other, store=store)
    assert (
        lines[1]
        == "- InputsSchema: 'Age' is numeric (int64) to the model and numeric (float64) here"
    )
    assert lines[2].startswith("- InputsSchema: 'Country' is categorical (")
    assert lines[2].endswith(") to the model and not declared here")
    assert len(lines) == 4
    quiet = f"{code}else:\n    print(json.dumps([]))\n"
    assert run(quiet, declare(tmp_path / "one"), store=store) == []


def test_a_model_of_the_example_answers_within_a_project(tmp_path: Path, empty_store: Path) -> None:
    copy_store(empty_store, tmp_path)
    code = """
import json, sys
import mlflow
from model_name.core import models, schemas
from model_name.io import datasets, registries
from model_name.utils import signers
table = datasets.SimulatedReader(limit=200).read()
inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
outputs = model.predict(inputs)
signature = signers.InferSigner().sign(inputs[schemas.InputsSchema.features()], outputs)
artifacts = mlflow.create_experiment(sys.argv[1], artifact_location=sys.argv[1] + "/artifacts")
with mlflow.start_run(experiment_id=artifacts):
    saved = registries.CustomSaver().save(model, signature, inputs.head(3))
table.to_parquet(sys.argv[1] + "/table.parquet")
outputs.to_parquet(sys.argv[1] + "/bikes.parquet")
print(json.dumps(saved.model_uri))
"""
    uri = run(code, tmp_path / "bikes", str(tmp_path), store=tmp_path)
    [found] = run(LOAD, declare(tmp_path / "one"), str(tmp_path), f"bikes={uri}", store=tmp_path)
    same, credit, _, _, target, _ = found
    assert (same, target) == ([True, True, True], "Exited")
    assert "hr" in credit
