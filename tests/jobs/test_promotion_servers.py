"""Whole promotions on the stores that teams share: PostgreSQL, and an MLflow server with its own files."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from model_name.core import errors, models, schemas
from model_name.io import datasets, decisions, modelfiles, osvariables, registries, services
from model_name.utils import signers
from tests import servers
from tests.conftest import record_verdict


def register(store: services.MlflowService, artifacts: str | None = None) -> services.MlflowService:
    """Store a small model in an empty store, register it twice, and leave a verdict on each version."""
    store.start()
    mlflow.set_tracking_uri(store.resolved_tracking_uri)
    name = "shared"
    mlflow.create_experiment(name, artifact_location=artifacts)
    shared = store.model_copy(update={"experiment_name": name})
    shared.start()
    hours = datasets.SimulatedReader(rows=100).read()
    inputs, targets = schemas.InputsSchema.check(hours), schemas.TargetsSchema.check(hours)
    model = models.GradientBoostingModel(max_iter=3).fit(inputs, targets)
    signature = signers.InferSigner().sign(
        inputs[schemas.InputsSchema.features()], model.predict(inputs)
    )
    with shared.run_context(shared.RunConfig(name="Training")):
        saved = registries.CustomSaver().save(model, signature, inputs.head(3))
    for number in (1, 2):
        registries.MlflowRegister().register("model_name", saved.model_uri)
        record_verdict(shared, version=number)
    return shared


def promote_both(store: services.MlflowService, folder: Path) -> None:
    """Promote both versions at once, each in a process of its own: one wins, and the other says why it did not."""
    address = store.resolved_tracking_uri
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": address, "MLFLOW_REGISTRY_URI": address, "MLFLOW_EXPERIMENT_NAME": "shared",
    }  # fmt: skip
    command = [sys.executable, "-m", osvariables.PACKAGE, "run", "promote", "--in-process", "-s"]
    started = [
        subprocess.Popen(
            [*command, f"job.version={version}"], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for version in (1, 2)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0, 3], said
    winner, loser = codes.index(0) + 1, codes.index(3) + 1
    assert decisions.current_version(store.client(), "model_name", "Champion") == winner
    history = decisions.read_history(store.client(), "model_name").require()
    made = [entry.decision for entry in history.entries if entry.decision.event != "evaluated"]
    assert [decision.number for decision in made] == [3, 4], "a history without holes"
    assert {(decision.event, decision.model_version) for decision in made} == {
        ("promoted", winner), ("refused", loser),
    }  # fmt: skip
    reason = said[loser - 1]
    assert "was decided at the same moment" in reason or "not compared with the champion" in reason


def test_two_promotions_at_once_on_postgresql(postgresql: str, tmp_path: Path) -> None:
    address = servers.new_database(postgresql)
    store = services.MlflowService(tracking_uri=address, registry_uri=address)
    promote_both(register(store, (tmp_path / "files").as_uri()), tmp_path)


@pytest.mark.timeout(600)
def test_two_promotions_at_once_through_a_server_that_is_not_trusted(
    store: services.MlflowService, tmp_path: Path
) -> None:
    """The files come through the server, too: a byte that changes there is refused here."""
    with servers.mlflow(store, tmp_path / "served") as address:
        through = services.MlflowService(tracking_uri=address, registry_uri=address)
        promote_both(register(through), tmp_path)
        uri = "models:/model_name/1"
        assert modelfiles._local_folder(uri) is None, "the files are at the server"
        rows = schemas.InputsSchema.check(datasets.SimulatedReader(rows=5).read())
        assert len(registries.CustomLoader().load(uri).predict(rows)) == 5
        [file] = (tmp_path / "served").rglob("pipeline.skops")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(
            errors.GateError, match=r"the file data/model/pipeline.skops was altered"
        ):
            registries.CustomLoader().load(uri)
