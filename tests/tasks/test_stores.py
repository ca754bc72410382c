"""A real store: backed up while it is written to, restored elsewhere, moved into the database of a server."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from model_name.core import schemas
from model_name.io import datasets, registries, services
from tasks import stores
from tests import servers

ROOT = Path(__file__).parents[2]


def database(service: services.MlflowService) -> Path:
    return stores.sqlite_path(service.resolved_tracking_uri)


def predictions(service: services.MlflowService, hours: datasets.SimulatedReader) -> list[float]:
    """Predict with version 1 of a store."""
    service.start()
    loader = registries.CustomLoader()
    inputs = schemas.InputsSchema.check(hours.read().head(24))
    version = registries.find_version(service.client(), service.resolved_registry_name, 1)
    return list(loader.load(registries.model_uri(version)).predict(inputs)["prediction"])


def log_a_run(address: str, number: int) -> None:
    client = MlflowClient(tracking_uri=address)
    run = client.create_run("0", run_name=f"run {number}")
    client.log_metric(run.info.run_id, "number", number)
    client.set_terminated(run.info.run_id)


def test_restored_elsewhere_a_store_gives_the_same_predictions(
    trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    expected = predictions(trained, hours)
    archive = tmp_path / "backups" / "a.zip"
    count = stores.backup(database(trained), archive)
    assert count == len(list(stores.files(database(trained).parent / "mlartifacts"))) > 0
    shutil.rmtree(database(trained).parent)
    place = tmp_path / "else where" / "mlflow.db"
    assert stores.restore(archive, place, replace=False) == count
    moved = services.MlflowService(tracking_uri=f"sqlite:///{place.as_posix()}")
    assert predictions(moved, hours) == expected
    counts, problems = stores.examine(place)
    assert (counts["runs"], counts["model_versions"], problems) == (1, 1, [])
    with stores.reading(place) as connection:
        assert str(tmp_path / "trained") not in "\n".join(connection.iterdump())


def test_backup_of_a_store_in_use_is_whole(empty_store: Path, tmp_path: Path) -> None:
    """Runs are written all the time; the backup opens, passes SQLite's check and holds runs to the last value."""
    shutil.copytree(empty_store, tmp_path / "store")
    path = tmp_path / "store" / "mlflow.db"
    done, failed, first = threading.Event(), [], threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            try:
                log_a_run(f"sqlite:///{path}", number)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test reports it
                failed.append(error)
            number += 1
            first.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert first.wait(60)
    for number in range(3):
        stores.backup(path, tmp_path / f"{number}.zip")
    done.set()
    writer.join()
    assert failed == []
    runs = []
    for number in range(3):
        stores.restore(
            tmp_path / f"{number}.zip", tmp_path / str(number) / "mlflow.db", replace=False
        )
        with stores.reading(tmp_path / str(number) / "mlflow.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            ended = "FROM runs JOIN metrics USING (run_uuid) WHERE status = 'FINISHED'"
            query = f"SELECT count(*), count(DISTINCT value) {ended}"
            finished, values = connection.execute(query).fetchone()
            assert finished == values
            runs.append(finished)
    assert runs == sorted(runs)
    assert runs[-1] > 0


def test_restore_replaces_only_when_told_to_and_keeps_what_was_there(
    trained: services.MlflowService, empty_store: Path, tmp_path: Path
) -> None:
    stores.backup(database(trained), tmp_path / "a.zip")
    shutil.copytree(empty_store, tmp_path / "other")
    place = tmp_path / "other" / "mlflow.db"
    before = place.read_bytes()
    with pytest.raises(stores.StoreError, match="--replace"):
        stores.restore(tmp_path / "a.zip", place, replace=False)
    assert place.read_bytes() == before
    stores.restore(tmp_path / "a.zip", place, replace=True)
    assert stores.examine(place)[0]["runs"] == 1
    assert [path.read_bytes() for path in place.parent.glob("mlflow.db.before-*")] == [before]


@pytest.mark.parametrize("fault", ["cut short", "changed", "incomplete", "another file"])
def test_damaged_backup_is_refused_before_anything_is_touched(
    trained: services.MlflowService, tmp_path: Path, fault: str
) -> None:
    archive, place = tmp_path / "a.zip", tmp_path / "new" / "mlflow.db"
    stores.backup(database(trained), archive)
    whole = archive.read_bytes()
    if fault == "cut short":
        archive.write_bytes(whole[: len(whole) // 2])
    elif fault == "another file":
        archive.write_text("not a backup", encoding="utf-8")
    else:
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
            for name in old.namelist():
                if fault == "changed":
                    new.writestr(name, old.read(name) + (b" " if name == "mlflow.db" else b""))
                elif name != "mlflow.db":
                    new.writestr(name, old.read(name))
        archive = tmp_path / "b.zip"
    with pytest.raises(stores.StoreError, match="take another"):
        stores.restore(archive, place, replace=False)
    assert list(place.parent.iterdir()) == []


def test_backup_never_overwrites_and_leaves_nothing_half_written(
    trained: services.MlflowService, tmp_path: Path
) -> None:
    target = tmp_path / "a.zip"
    target.write_text("mine", encoding="utf-8")
    with pytest.raises(stores.StoreError, match=r"a\.zip exists"):
        stores.backup(database(trained), target)
    assert target.read_text(encoding="utf-8") == "mine"
    with pytest.raises(sqlite3.DatabaseError):
        stores.backup(target, tmp_path / "b.zip")
    assert (
        list(tmp_path.glob("*.part"))
        + list(tmp_path.glob(".*.part"))
        + list(tmp_path.glob("b.zip"))
        == []
    )


def test_doctor_finds_lost_models_and_runs_that_never_ended(
    trained: services.MlflowService,
) -> None:
    path = database(trained)
    shutil.rmtree(path.parent / "mlartifacts")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'RUNNING', start_time = 0")
    _, problems = stores.examine(path)
    assert len(problems) == 2
    assert "for more than 24 hours" in problems[0]
    assert "version 1 of model_name has no model at" in problems[1]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:5000", "of kind http, not SQLite"),
        ("postgresql://u:secret@h/d", "pg_dump"),
        ("sqlite:////nowhere/mlflow.db", "no store at"),
    ],
)
def test_addresses_that_are_no_embedded_store_are_explained(address: str, message: str) -> None:
    with pytest.raises(stores.StoreError, match=message) as caught:
        stores.sqlite_path(address)
    assert "secret" not in str(caught.value)


# -------------------------------------------------------------------------------------- to the database of a server
@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of a new and empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/target.db"
    return servers.new_database(request.getfixturevalue("postgresql"))


def test_moved_store_says_the_same_and_counts_on(
    trained: services.MlflowService, target: str, tmp_path: Path
) -> None:
    path = database(trained)
    before, served = MlflowClient(trained.resolved_tracking_uri), tmp_path / "served"
    copied = stores.migrate(path, target, served)
    after = MlflowClient(target, target)
    assert copied["runs"] == copied["model_versions"] == 1
    ids = [experiment.experiment_id for experiment in before.search_experiments()]
    for old, new in zip(before.search_runs(ids), after.search_runs(ids), strict=True):
        assert old.data.to_dictionary() == new.data.to_dictionary()
        assert old.info.start_time == new.info.start_time
        assert new.info.artifact_uri == f"mlflow-artifacts:/{old.info.run_id}/artifacts"
    versions = [
        client.get_model_version(trained.resolved_registry_name, "1") for client in (before, after)
    ]
    assert versions[0].tags == versions[1].tags
    names = {
        file.relative_to(path.parent / "mlartifacts")
        for file in stores.files(path.parent / "mlartifacts")
    }
    assert {file.relative_to(served) for file in stores.files(served)} == names
    assert int(after.create_experiment("a new one")) > max(map(int, ids))
    log_a_run(target, 7)
    assert stores.examine(path)[1] == [], "the store itself stays as it was"

    with pytest.raises(stores.StoreError, match="only moved into an empty database"):
        stores.migrate(path, target, None)


def test_store_of_another_mlflow_is_refused_and_nothing_is_kept(
    trained: services.MlflowService, target: str
) -> None:
    path = database(trained)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    with pytest.raises(stores.StoreError, match="mlflow db upgrade"):
        stores.migrate(path, target, None)
    assert MlflowClient(target, target).search_registered_models() == []


def test_server_that_does_not_answer_is_named_without_its_password(
    trained: services.MlflowService,
) -> None:
    with pytest.raises(stores.StoreError, match=r"127\.0\.0\.1") as caught:
        stores.migrate(database(trained), "postgresql://u:secret@127.0.0.1:1/d", None)
    assert "secret" not in str(caught.value)


def test_address_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TARGET", raising=False)
    with pytest.raises(stores.StoreError, match="TARGET is not set"):
        stores.address_in("TARGET")
    monkeypatch.setenv("TARGET", "sqlite:///a.db")
    assert stores.address_in("TARGET") == "sqlite:///a.db"


def test_tasks_look_at_a_store_back_it_up_and_restore_it(empty_store: Path, tmp_path: Path) -> None:
    archive, place = tmp_path / "a.zip", tmp_path / "new" / "mlflow.db"
    command = [sys.executable, "-m", "invoke", "mlflow.doctor", "mlflow.backup", "--to", archive]
    command += ["mlflow.restore", archive, "--to", place]
    address = f"sqlite:///{empty_store.as_posix()}/mlflow.db"
    env = os.environ | {"MLFLOW_TRACKING_URI": address, "MLFLOW_REGISTRY_URI": address}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Nothing is wrong with it." in done.stdout
    assert f"{place}: restored, with 0 artifact files" in done.stdout
    assert stores.examine(place)[1] == []
