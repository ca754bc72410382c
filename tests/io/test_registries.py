"""Saving, registering, loading and finding models; what is served is what was trained."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pydantic as pdt
import pytest

from model_name.core import errors, models, schemas
from model_name.io import datasets, registries, services
from model_name.utils import signers

ROOT = Path(__file__).parents[2]
SMALL: list[models.Model] = [
    models.GradientBoostingModel(max_iter=5),
    models.BaselineSklearnModel(n_estimators=5, max_depth=4),
]


@pytest.fixture(scope="module")
def inputs(hours: datasets.SimulatedReader) -> schemas.Inputs:
    return schemas.InputsSchema.check(hours.read().head(300))


@pytest.fixture(scope="module")
def targets(hours: datasets.SimulatedReader) -> schemas.Targets:
    return schemas.TargetsSchema.check(hours.read().head(300))


def sign(inputs: schemas.Inputs, outputs: schemas.Outputs) -> Any:
    return signers.InferSigner().sign(inputs[schemas.InputsSchema.features()], outputs)


def save(
    store: services.MlflowService,
    saver: registries.Saver,
    model: models.Model,
    inputs: schemas.Inputs,
) -> tuple[Any, schemas.Outputs]:
    """Save a fitted model; return what MLflow knows about it, and its predictions."""
    store.start()
    outputs = model.predict(inputs)
    with store.run_context(store.RunConfig(name="Training")):
        return saver.save(model, sign(inputs, outputs), inputs.head(3)), outputs


def files_of(store: services.MlflowService, version: Any) -> Path:
    """Return the folder of a registered model's files."""
    source = store.client().get_model_version(version.name, version.version).source
    model = store.client().get_logged_model(str(source).rpartition("/")[2])
    return Path(model.artifact_location.removeprefix("file://"))


# --------------------------------------------------------------------------------------------- there and back again
@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.KIND)
@pytest.mark.parametrize(
    ("saver", "loader"),
    [
        (registries.CustomSaver(), registries.CustomLoader()),
        (registries.BuiltinSaver(flavor="sklearn", path="forest"), registries.BuiltinLoader()),
    ],
    ids=["custom", "builtin"],
)
def test_what_is_loaded_answers_what_was_trained(
    model: models.Model,
    saver: registries.Saver,
    loader: registries.Loader,
    store: services.MlflowService,
    inputs: schemas.Inputs,
    targets: schemas.Targets,
) -> None:
    saved, outputs = save(store, saver, model.model_copy(deep=True).fit(inputs, targets), inputs)
    version = registries.MlflowRegister(tags={"team": "bikes"}).register("bikes", saved.model_uri)
    assert (version.name, int(version.version), version.tags["team"]) == ("bikes", 1, "bikes")
    loaded = loader.load(registries.model_uri(version))
    pd.testing.assert_frame_equal(loaded.predict(inputs), outputs)
    backwards = loaded.predict(inputs[::-1])
    pd.testing.assert_frame_equal(backwards[::-1], outputs)
    gap = loaded.predict(inputs.assign(temp=np.nan).head(1))
    assert gap.index.tolist() == inputs.index[:1].tolist()
    assert np.isfinite(gap["prediction"]).all()


def test_the_requirements_are_exact_and_few(
    store: services.MlflowService, inputs: schemas.Inputs, targets: schemas.Targets
) -> None:
    model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
    saved, _ = save(store, registries.CustomSaver(), model, inputs)
    version = registries.MlflowRegister().register("bikes", saved.model_uri)
    lines = (files_of(store, version) / "requirements.txt").read_text().split()
    pins = dict(line.split("==") for line in lines)
    assert pins == {name: importlib.metadata.version(name) for name in pins}
    assert {"mlflow", "scikit-learn", "pandas", "pandera", "pydantic"} <= set(pins)
    assert not {"pytest", "hypothesis", "nbdev", "model_name", "jupyterlab"} & set(pins)


OWN_MODEL = """
from typing import Literal
from model_name.core import models

class Shallow(models.GradientBoostingModel):
    KIND: Literal["own_models:Shallow"] = "own_models:Shallow"
    max_iter: int = 3

    def predict(self, inputs):
        outputs = super().predict(inputs)
        return outputs.assign(prediction=outputs["prediction"] + 1000)
"""


@pytest.mark.parametrize("kind", ["GradientBoostingModel", "own_models:Shallow"])
def test_a_model_is_served_without_the_checkout(
    kind: str,
    store: services.MlflowService,
    inputs: schemas.Inputs,
    targets: schemas.Targets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The code travels with the model: a process that cannot import it from elsewhere loads the model and asks it."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own_models.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(tmp_path / "own")
    chosen = pdt.TypeAdapter(models.ModelKind).validate_python({"KIND": kind, "max_iter": 3})
    saved, outputs = save(store, registries.CustomSaver(), chosen.fit(inputs, targets), inputs)
    version = registries.MlflowRegister().register("bikes", saved.model_uri)
    shutil.move(files_of(store, version), tmp_path / "model")
    asked = signers.to_signature_types(inputs[schemas.InputsSchema.features()])
    asked.to_parquet(tmp_path / "inputs.parquet")
    program = f"""
import importlib.util, json, sys
sys.path = [path for path in sys.path if path not in ("", {str(ROOT)!r})]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path_hooks = [hook for hook in sys.path_hooks if "editable" not in repr(hook).lower()]
assert importlib.util.find_spec("model_name") is None, "the package is not there"
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model("model")
answers = model.predict(pd.read_parquet("inputs.parquet"))
import model_name
print(json.dumps([model_name.__file__, answers["prediction"].tolist()]))
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))
    }
    command = [sys.executable, "-I", "-c", program]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    file, answers = json.loads(ended.stdout.splitlines()[-1])
    assert Path(file) == tmp_path / "model" / "code" / "model_name" / "__init__.py"
    assert answers == outputs["prediction"].tolist()
    assert (min(answers) > 900) == (kind == "own_models:Shallow")


def test_a_class_from_an_installed_library_makes_it_a_requirement() -> None:
    cls = type("Elsewhere", (models.GradientBoostingModel,), {"__module__": "sklearn.base"})
    pins = registries.pip_requirements(cls())
    assert (
        f"scikit-learn=={importlib.metadata.version('scikit-learn')}"
        in pins[len(registries.pip_requirements()) :]
    )


def test_a_served_model_checks_what_it_is_asked(
    store: services.MlflowService, inputs: schemas.Inputs, targets: schemas.Targets
) -> None:
    model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
    saved, outputs = save(store, registries.CustomSaver(), model, inputs)
    served = mlflow.pyfunc.load_model(saved.model_uri)
    features = inputs[schemas.InputsSchema.features()].head(5)
    asked = json.loads(features.to_json(orient="split"))
    frame = pd.DataFrame(
        asked["data"], columns=asked["columns"]
    )  # as a server reads it: no index, its own types
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("int64"), "float64"))
    assert served.predict(frame)["prediction"].tolist() == outputs["prediction"].head(5).tolist()
    with pytest.raises(errors.DataError, match="column 'hum' is missing"):
        served.predict(frame.drop(columns="hum"))
    with pytest.raises(mlflow.MlflowException, match="hr"):
        served.predict(frame.drop(columns="hr"))
    with pytest.raises(errors.DataError, match="hr: 25 is above the greatest allowed value, 23"):
        served.predict(frame.assign(hr=25.0))


def test_a_model_that_cannot_answer_its_example(
    store: services.MlflowService, inputs: schemas.Inputs, targets: schemas.Targets
) -> None:
    model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
    signature = sign(inputs, model.predict(inputs))
    store.start()
    with (
        pytest.raises(
            errors.ModelError, match=r"(?s)cannot answer its own input example: .*hr: 99"
        ),
        store.run_context(store.RunConfig(name="Training")) as run,
    ):
        registries.CustomSaver().save(model, signature, inputs.head(3).assign(hr=99))
    assert store.client().get_run(run.info.run_id).outputs.model_outputs == []


# ------------------------------------------------------------------------------------------------------ refusals
def test_a_signature_is_required(
    store: services.MlflowService, inputs: schemas.Inputs, targets: schemas.Targets
) -> None:
    model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
    store.start()
    with store.run_context(store.RunConfig(name="Training")):
        saved = mlflow.sklearn.log_model(
            model.get_internal_model(),
            name="model",
            serialization_format="cloudpickle",
            pip_requirements=[],
        )
    with pytest.raises(errors.RegistryError, match="has no signature"):
        registries.MlflowRegister().register("bikes", saved.model_uri)
    assert store.client().search_registered_models() == []


def test_a_flavor_that_does_not_exist(
    store: services.MlflowService, inputs: schemas.Inputs, targets: schemas.Targets
) -> None:
    model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
    with pytest.raises(errors.ConfigError, match="no flavor 'sklean'; did you mean 'sklearn'"):
        save(store, registries.BuiltinSaver(flavor="sklean"), model, inputs)
    with pytest.raises(pdt.ValidationError, match="flavor"):
        registries.BuiltinSaver()  # type: ignore[call-arg]  # this is the point


def test_a_model_that_is_not_fitted(store: services.MlflowService, inputs: schemas.Inputs) -> None:
    with pytest.raises(ValueError, match="Model is not fitted yet!"):
        save(store, registries.CustomSaver(), models.GradientBoostingModel(), inputs)


# ------------------------------------------------------------------------------------------------ finding versions
def register_again(store: services.MlflowService, times: int) -> None:
    """Register version 1 again."""
    store.start()
    source = store.client().get_model_version("model_name", "1").source
    for _ in range(times):
        store.client().create_model_version("model_name", source)


def test_versions_are_found_in_three_ways(trained: services.MlflowService) -> None:
    register_again(trained, 11)
    client = trained.client()
    client.set_registered_model_alias("model_name", "Champion", "3")

    def find(wanted: str | int) -> int:
        return int(registries.find_version(client, "model_name", wanted).version)

    assert [find(wanted) for wanted in ("latest", "Champion", 2, "2", 10)] == [12, 3, 2, 2, 10], (
        "12 is newer than 9"
    )
    client.delete_model_version("model_name", "12")
    assert find("latest") == 11
    assert (
        registries.model_uri(registries.find_version(client, "model_name", "Champion"))
        == "models:/model_name/3"
    )


def test_what_the_registry_does_not_have(trained: services.MlflowService) -> None:
    register_again(trained, 8)
    client = trained.client()
    client.set_registered_model_alias("model_name", "Champion", "3")

    def refusal(name: str, wanted: str | int) -> str:
        with pytest.raises(errors.RegistryError) as caught:
            registries.find_version(client, name, wanted)
        return str(caught.value)

    has = "(it has the versions 1, 2, ..., 7, 8, 9 and the aliases Champion)"
    assert refusal("model_name", 10) == f"the model 'model_name' has no version or alias 10 {has}"
    assert refusal("model_name", 0) == f"the model 'model_name' has no version or alias 0 {has}"
    champion = (
        f"the model 'model_name' has no version or alias 'Campion'; did you mean 'Champion'? {has}"
    )
    assert refusal("model_name", "Campion") == champion
    assert refusal("model_nam", "latest") == (
        "the registry has no model 'model_nam'; did you mean 'model_name'? (it has model_name). "
        "The train job registers one."
    )
    assert refusal("it's", "latest").startswith(
        'the registry has no model "it\'s" (it has model_name)'
    )


def test_an_empty_registry_and_a_model_without_versions(store: services.MlflowService) -> None:
    client = store.client()
    with pytest.raises(
        errors.RegistryError, match=re.escape("the registry has no model 'bikes' (it has no model)")
    ):
        registries.find_version(client, "bikes", "latest")
    client.create_registered_model("bikes")
    nothing = re.escape("has no version or alias 'latest' (it has no versions and no aliases)")
    with pytest.raises(errors.RegistryError, match=nothing):
        registries.find_version(client, "bikes", "latest")


# ----------------------------------------------------------------------------------------------- damaged models
@pytest.mark.parametrize("damage", ["pipeline", "MLmodel", "all"])
def test_a_damaged_model(damage: str, trained: services.MlflowService) -> None:
    trained.start()
    version = registries.find_version(trained.client(), "model_name", 1)
    folder = files_of(trained, version)
    if damage == "pipeline":
        file = folder / "data" / "model" / "pipeline.skops"
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "MLmodel":
        (folder / "MLmodel").write_text("not: [a, model")
    else:
        shutil.rmtree(folder)
    uri = registries.model_uri(version)
    if damage != "all":
        with pytest.raises(errors.GateError, match="was altered"):
            registries.CustomLoader().load(uri)
    with pytest.raises(
        errors.RegistryError, match=r"the model models:/model_name/1 cannot be loaded: \S"
    ):
        registries.CustomLoader(verification="off").load(uri)


# ----------------------------------------------------------------------------------------------------- verdicts
def test_verdicts_are_kept_with_the_version(trained: services.MlflowService) -> None:
    client = trained.client()

    def version() -> Any:
        return registries.find_version(client, "model_name", 1)

    assert registries.read_verdict(version()) is None
    refused = registries.Verdict(
        "refused", run_id="0a1b", rows="unseen", reasons="r2_score is 0.4; it's “poor”"
    )
    passed = registries.Verdict("passed", run_id="2c3d", rows="unseen")
    for verdict in (refused, passed):
        registries.keep_verdict(client, version(), verdict)
        assert registries.read_verdict(version()) == verdict, "the newest one, whole"


def test_tags_that_somebody_else_wrote(trained: services.MlflowService) -> None:
    client = trained.client()
    client.set_model_version_tag("model_name", "1", "evaluation.note", "looks good")
    client.set_model_version_tag("model_name", "1", "my evaluation.of", "it")
    assert registries.read_verdict(registries.find_version(client, "model_name", 1)) is None
