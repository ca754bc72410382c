"""Stored models: whatever is changed in their files is noticed before anything of it is loaded."""

import importlib
import io
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
import skops.io
import yaml
from pandera.typing.pandas import Series

from model_name import scripts
from model_name.core import errors, models, schemas
from model_name.io import datasets, modelfiles, osvariables, registries, services
from model_name.utils import signers
from tests.io.conftest import Keys


class Planted:
    """What an attacker pickles: it writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


class Stateful:
    """What an attacker stores in skops' format: it writes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __getstate__(self) -> dict[str, str]:
        return {"file": self.file}

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["file"]).touch()


@pytest.fixture(scope="module")
def inputs() -> schemas.Inputs:
    """A few hours."""
    return schemas.InputsSchema.check(datasets.SimulatedReader(rows=100).read())


@pytest.fixture(scope="module")
def model(inputs: schemas.Inputs) -> models.SklearnModel:
    """A small model."""
    targets = schemas.TargetsSchema.check(datasets.SimulatedReader(rows=100).read())
    return models.GradientBoostingModel(max_iter=3).fit(inputs, targets)


def save(
    store: services.MlflowService,
    model: models.Model,
    inputs: schemas.Inputs,
    saver: registries.Saver,
) -> tuple[str, Path]:
    """Save and register a model; return its address and its folder."""
    store.start()
    names = schemas.InputsSchema.features()
    signature = signers.InferSigner().sign(inputs[names], model.predict(inputs))
    with store.run_context(store.RunConfig(name="Training")):
        saved = saver.save(model, signature, inputs.head(3))
    version = registries.MlflowRegister().register("model_name", saved.model_uri)
    folder = modelfiles._local_folder(saved.model_uri)
    assert folder is not None
    return registries.model_uri(version), folder


@pytest.fixture
def stored(
    keys: Keys, store: services.MlflowService, model: models.Model, inputs: schemas.Inputs
) -> tuple[str, Path]:
    """The address and the folder of a model that ann has signed."""
    return save(store, model, inputs, registries.CustomSaver())


def refusal(uri: str, **settings: Any) -> str:
    """Why a model is not loaded."""
    with pytest.raises(errors.GateError) as caught:
        registries.CustomLoader(**settings).load(uri)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- altered files
def test_a_byte_flipped_in_each_file(stored: tuple[str, Path]) -> None:
    """Each file is named; the check of all files is that of the loader, which is tried with one."""
    uri, folder = stored
    names = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(names) > 50
    for file in names:
        content = file.read_bytes()
        for position in {len(content) // 2, 0 if file.suffix != ".py" else len(content) // 2}:
            changed = bytearray(content)
            changed[position] ^= 1
            file.write_bytes(changed)
            with pytest.raises(errors.GateError) as caught:
                modelfiles.verify(folder, "the model")
            name = file.relative_to(folder).as_posix()
            assert f"the file {name} " in str(caught.value)
        file.write_bytes(content)
    (folder / "conda.yaml").write_text("channels: []\n")
    assert refusal(uri) == (
        f"the model {uri} is not what was signed: the file conda.yaml was altered. Nothing of it was loaded: restore "
        "the file, or train a version again"
    )


def test_files_that_were_added_removed_and_linked(stored: tuple[str, Path], tmp_path: Path) -> None:
    """A link to the very content is refused, too: what it leads to can change after the check."""
    uri, folder = stored
    for name in ("extra.pkl", "code/sitecustomize.py", ".git/config", "data/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        assert f"the file {name} was added" in refusal(uri)
        (folder / name).unlink()
    for name in ("requirements.txt", "data/model/model.json", "MLmodel"):
        (folder / name).rename(tmp_path / "away")
        assert f"the file {name} is missing" in refusal(uri)
        (tmp_path / "away").rename(folder / name)
    for name in ("data/model/pipeline.skops", "data", "model.sig"):
        (folder / name).rename(tmp_path / "away")
        (folder / name).symlink_to(tmp_path / "away")
        assert "is a symbolic link" in refusal(uri) or name == "model.sig"
        (folder / name).unlink()
        (tmp_path / "away").rename(folder / name)
    registries.CustomLoader().load(uri)


def test_what_mlflow_leaves_in_a_folder_is_no_difference(
    stored: tuple[str, Path], inputs: schemas.Inputs, model: models.Model
) -> None:
    uri, folder = stored
    mlflow.pyfunc.load_model(uri)
    assert (folder / "registered_model_meta").is_file()
    loaded = registries.CustomLoader().load(uri)
    assert loaded.predict(inputs).equals(model.predict(inputs))
    assert loaded.predictor()(inputs).equals(model.predict(inputs))


def test_byte_code_beside_the_code_of_a_model_is_left_behind(
    stored: tuple[str, Path], inputs: schemas.Inputs, model: models.Model
) -> None:
    """Python writes it when MLflow's own functions load the model; nobody has signed it, so nobody runs it."""
    uri, folder = stored
    compiled = folder / "code" / "model_name" / "__pycache__"
    compiled.mkdir()
    (compiled / "__init__.cpython-311.pyc").write_bytes(b"anything")
    assert registries.CustomLoader().load(uri).predict(inputs).equals(model.predict(inputs))
    with modelfiles.fetch(uri) as copy:
        assert not list(Path(copy).rglob("__pycache__"))


def test_what_is_no_signature(stored: tuple[str, Path]) -> None:
    uri, folder = stored
    for content in (b"", b"{}", b"[1]", b"\xff", b"[" * 100_000):
        (folder / "model.sig").write_bytes(content)
        assert f"the file model.sig of the model {uri} is not a signature" in refusal(uri)


def test_the_signature_of_another_model(
    stored: tuple[str, Path],
    store: services.MlflowService,
    model: models.Model,
    inputs: schemas.Inputs,
) -> None:
    uri, folder = stored
    _, other = save(store, model, inputs, registries.CustomSaver())
    shutil.copy(other / "model.sig", folder / "model.sig")
    assert "is not what was signed: the file MLmodel was altered" in refusal(uri)


def test_a_planted_pickle_is_never_executed(stored: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = stored
    planted = pickle.dumps(Planted(tmp_path / "executed"))
    (folder / "data" / "model" / "pipeline.skops").write_bytes(planted)
    assert "pipeline.skops was altered" in refusal(uri)
    with pytest.raises(errors.RegistryError):
        registries.CustomLoader(verification="off").load(uri)
    assert not (tmp_path / "executed").exists(), "the format is no pickle, even unverified"
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"] |= {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    (folder / "python_model.pkl").write_bytes(planted)
    assert "the file MLmodel was altered" in refusal(uri)
    (folder / "model.sig").unlink()
    assert "is not signed" in refusal(uri)
    assert not (tmp_path / "executed").exists()


def test_types_that_the_file_itself_allows(
    keys: Keys,
    store: services.MlflowService,
    model: models.Model,
    inputs: schemas.Inputs,
    tmp_path: Path,
) -> None:
    """MLflow takes the allowed types from the model's own file; this project does not."""
    uri, folder = save(store, model, inputs, registries.BuiltinSaver(flavor="sklearn"))
    assert registries.BuiltinLoader().load(uri).predict(inputs).equals(model.predict(inputs))
    described = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = described["flavors"]["sklearn"]
    flavor["skops_trusted_types"] += [f"{Stateful.__module__}.Stateful"]
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    skops.io.dump(Stateful(tmp_path / "executed"), folder / flavor["pickled_model"])
    with pytest.raises(errors.ProjectError, match="Stateful"):
        registries.BuiltinLoader(verification="off").load(uri)
    assert not (tmp_path / "executed").exists()


# -------------------------------------------------------------------------------------------------------- keys
def test_a_model_that_another_user_signed(stored: tuple[str, Path], keys: Keys) -> None:
    uri, _ = stored
    keys.become("bob")
    assert "which is not trusted here" in refusal(uri)
    keys.become("bob", TRUSTED_SIGNERS=str(keys.folder / "ann"))
    loaded = registries.CustomLoader().load(uri)
    digest, key = registries.verify_model(uri)
    assert loaded.digest == digest
    keys.become("bob", TRUSTED_SIGNERS=str(keys.folder / "ann"), REVOKED_SIGNERS=key[:16])
    assert "which REVOKED_SIGNERS revokes" in refusal(uri)


# -------------------------------------------------------------------------------------------- without verification
def test_verification_off_loads_anything_and_the_run_tells(
    stored: tuple[str, Path],
    store: services.MlflowService,
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, folder = stored
    (folder / "model.sig").unlink()
    assert f"the model {uri} is not signed (there is no file model.sig)" in refusal(uri)
    with store.run_context(store.RunConfig(name="Inference")) as run:
        loaded = registries.CustomLoader.model_validate(
            {"KIND": "CustomLoader", "verification": False}
        )
        assert loaded.load(uri).digest is None
    tags = store.client().get_run(run.info.run_id).data.tags
    assert "without verification" in tags["warning.verification"]
    assert [message for message in warned if "without verification" in message]
    monkeypatch.setenv("MODEL_VERIFICATION", "off")
    osvariables.env.cache_clear()
    assert registries.CustomLoader().load(uri).digest is None
    assert "is not signed" in refusal(uri, verification="on")


# -------------------------------------------------------------------------------------- models from before, pickles
def test_a_pickle_by_declaration_is_loaded_with_a_trusted_signature_only(
    keys: Keys,
    store: services.MlflowService,
    model: models.Model,
    inputs: schemas.Inputs,
) -> None:
    class Local(models.GradientBoostingModel):
        pass

    Local.__module__ = "__main__"
    local = Local(max_iter=2).fit(
        inputs, schemas.TargetsSchema.check(datasets.SimulatedReader(rows=100).read())
    )
    with pytest.raises(errors.ModelError, match="declare `serialization: pickle` in the saver"):
        save(store, local, inputs, registries.CustomSaver())
    uri, _ = save(store, local, inputs, registries.CustomSaver(serialization="pickle"))
    assert registries.CustomLoader().load(uri).predict(inputs).equals(local.predict(inputs))
    keys.become("bob")
    assert "which is not trusted here" in refusal(uri)


class Asked(schemas.Schema):
    """What is known about a ticket; much of it may be missing."""

    channel: Series[str] = pa.Field(nullable=True)
    urgency: Series[pd.CategoricalDtype] = pa.Field(isin=["low", "high"], nullable=True)
    paying: Series[bool] = pa.Field()
    consented: Series[pd.BooleanDtype] = pa.Field(nullable=True)
    words: Series[float] = pa.Field(nullable=True)


class Team(schemas.Schema):
    """Who answers it."""

    team: Series[str] = pa.Field()


class Answer(schemas.Schema):
    """Who is likely to answer it."""

    prediction: Series[str] = pa.Field()
    probability: Series[float] | None = pa.Field(alias="probability_.+", regex=True, ge=0, le=1)


def tickets(rows: int = 120) -> pd.DataFrame:
    """Draw tickets with every kind of missing value."""
    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "channel": random.choice(["mail", "phone", None, "söme ‘name’"], rows),
            "urgency": pd.Categorical(random.choice(["low", "high", None], rows), ["low", "high"]),
            "paying": random.choice([True, False], rows),
            "consented": pd.array(random.choice([True, False, None], rows), dtype="boolean"),
            "words": np.where(random.random(rows) < 0.2, np.nan, random.uniform(1, 60, rows)),
        }
    )
    return table.assign(
        team=np.where(table["paying"], "one", np.where(table["words"] > 30, "two", "three"))
    )


@pytest.mark.parametrize(
    ("kind", "serialization"),
    [
        (models.GradientBoostingModel, "skops"),
        (models.GradientBoostingModel, "pickle"),
        (models.BaselineSklearnModel, "skops"),
    ],
)
def test_a_classifier_answers_with_the_same_bits_after_loading(
    keys: Keys,
    store: services.MlflowService,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    serialization: Any,
) -> None:
    for name, schema in (("Inputs", Asked), ("Targets", Team), ("Outputs", Answer)):
        monkeypatch.setattr(schemas, f"{name}Schema", schema)
    table = tickets()
    asked, team = Asked.check(table), Team.check(table)
    few = {"max_iter": 10} if kind is models.GradientBoostingModel else {"n_estimators": 5}
    fitted = kind(**few).fit(asked, team)
    uri, folder = save(store, fitted, asked, registries.CustomSaver(serialization=serialization))
    loaded, expected = registries.CustomLoader().load(uri), fitted.predict(asked)
    assert {"one"} < set(expected["prediction"])
    for answers in (loaded.predict(asked), loaded.predictor()(asked)):
        pd.testing.assert_frame_equal(answers, expected, check_exact=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    assert "the file MLmodel was altered" in refusal(uri)


def test_a_version_from_before_is_signed_by_a_person(
    stored: tuple[str, Path],
    store: services.MlflowService,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri, folder = stored
    (folder / "model.sig").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(store.tracking_uri))
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", str(store.tracking_uri))
    osvariables.env.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert [scripts.main(["sign", "1"]) for _ in range(2)] == [0, 130], "no, and no answer"
    assert "is not signed" in refusal(uri)
    assert scripts.main(["sign", "latest", "--yes"]) == 0
    shown = capsys.readouterr().out
    for part in ("data/model/pipeline.skops  ", "code/ (", "together sha256", "is signed"):
        assert part in shown
    assert registries.CustomLoader().load(uri).digest in shown
    assert scripts.main(["keys"]) == 0
    assert os.environ["SIGNER_FILE"] in capsys.readouterr().out


def test_no_home_for_a_key_is_said_on_the_command_line(tmp_path: Path) -> None:
    """Before anything is read or fitted."""
    environment = {name: value for name, value in os.environ.items() if name != "SIGNER_FILE"}
    environment |= {"HOME": "/dev/null", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    environment = {
        name: value for name, value in environment.items() if not name.startswith("XDG_")
    }
    command = [sys.executable, "-m", osvariables.PACKAGE, "run", "train", "--in-process"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "error: no key for signatures can be made at /dev/null" in done.stderr
    assert "Set SIGNER_FILE to a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_code_of_a_namespace_package_goes_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a package has no file of its own, and may have several folders."""
    for root, module in (("one", "other"), ("two", "own")):
        (tmp_path / root / "spaced").mkdir(parents=True)
        (tmp_path / root / "spaced" / f"{module}.py").write_text(
            "from model_name.core import models\n\nclass Own(models.GradientBoostingModel):\n    pass\n"
        )
        monkeypatch.syspath_prepend(tmp_path / root)
    own = importlib.import_module("spaced.own").Own
    monkeypatch.setattr(registries, "_is_carried", lambda _: False)
    assert registries._code_paths(own())[1:] == [str(tmp_path / "two" / "spaced")]


def test_a_saver_refuses_before_a_model_is_fitted(keys: Keys, tmp_path: Path) -> None:
    class Constant(models.Model):
        KIND: str = "Constant"

        def fit(self, inputs: Any, targets: Any) -> Any:
            return self

        def predict(self, inputs: Any) -> Any:
            return inputs

    for saver in (registries.CustomSaver(), registries.CustomSaver(serialization="pickle")):
        saver.prepare(models.GradientBoostingModel())
    with pytest.raises(errors.ModelError, match="declare `serialization: pickle` in the saver"):
        registries.CustomSaver().prepare(Constant())
    registries.CustomSaver(serialization="pickle").prepare(Constant())
    (tmp_path / "file").touch()
    keys.become("file")
    with pytest.raises(errors.ConfigError, match="Set SIGNER_FILE to a file"):
        registries.BuiltinSaver(flavor="sklearn").prepare(models.GradientBoostingModel())
