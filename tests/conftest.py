"""What all tests share."""

import contextlib
import datetime as dt
import faulthandler
import functools
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loguru
import psutil
import pytest
import pytest_timeout
import tqdm

from model_name.core import models
from model_name.io import datasets, decisions, services
from model_name.jobs import contests, training
from model_name.records import verdicts
from model_name.utils import splitters
from tasks import brokers
from tests import servers

ROOT = Path(__file__).parent.parent


# ------------------------------------------------------------------------------------------- signals, and what hangs
def pytest_configure() -> None:
    """Take signals as a terminal sends them: `nohup ... &` and some CI systems start programs with SIGINT ignored.

    A program that a test starts inherits what is ignored, and nothing else: it gets the system's defaults again.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Let a test that hangs end in the way below; pytest-timeout itself would leave its children behind."""
    timer = threading.Timer(settings.timeout, _end_hanging, (item, settings.timeout))
    timer.daemon = True
    item.cancel_timeout = timer.cancel  # type: ignore[attr-defined]  # what pytest-timeout calls in the end
    timer.start()
    return True


def _end_hanging(item: pytest.Item, seconds: float) -> None:
    """Write what the test has printed and where each thread stands, end all its children, and end the process.

    With xdist the process is a worker: the test counts as failed, and another worker goes on with the rest.
    """
    if pytest_timeout.is_debugging():
        return
    capture = item.config.pluginmanager.getplugin("capturemanager")
    printed = ("", "")
    if capture is not None:
        capture.suspend_global_capture(item)
        printed = capture.read_global_capture()
    print(
        f"\n+++ {item.nodeid} hangs: not done after {seconds:g} s +++",
        *printed,
        sep="\n",
        file=sys.stderr,
        flush=True,
    )
    faulthandler.dump_traceback(file=2, all_threads=True)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


@pytest.fixture(scope="session")
def bike_table() -> Path:
    """Path of the real table of hourly bike rentals, which the repository does not hold."""
    given = os.environ.get("BIKE_SHARING_CSV")
    path = Path(given) if given else ROOT.parent / "shared" / "data" / "bike_sharing_hour.csv"
    if not path.is_file():
        pytest.skip(
            f"the real bike table is not at {path}: set BIKE_SHARING_CSV to the path of hour.csv"
        )
    return path


@pytest.fixture
def no_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep progress bars out of what is compared: one appears after two seconds, so on a busy machine any can."""
    monkeypatch.setattr(
        tqdm.tqdm, "__init__", functools.partialmethod(tqdm.tqdm.__init__, disable=True)
    )


@pytest.fixture(scope="session", autouse=True)
def _no_run_in_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point MLflow to a temporary data base, so that a test that forgets to do so leaves nothing behind."""
    address = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.setenv("MLFLOW_REGISTRY_URI", address)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_key_in_the_home_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sign with a key of the tests, and trust no other: the user's own key stays out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNER_FILE", str(tmp_path_factory.mktemp("signer") / "signer.pem"))
        for name in ("TRUSTED_SIGNERS", "REVOKED_SIGNERS", "MODEL_VERIFICATION"):
            patch.delenv(name, raising=False)
        yield


def _refuse_skips(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where nothing may be skipped; an expected failure is not a skip."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"CI=true, so nothing may be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _refuse_skips(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _refuse_skips(report)
    return report


# ------------------------------------------------------------------------------------------------------------ the log
@pytest.fixture
def warned() -> Iterator[list[str]]:
    """The messages of warnings in the log."""
    messages: list[str] = []
    handler = loguru.logger.add(
        lambda message: messages.append(message.record["message"]), level="WARNING"
    )
    yield messages
    loguru.logger.remove(handler)


# ------------------------------------------------------------------------------------------------ stores with MLflow
_SAY_NOTHING = services.LoggerService(level="ERROR")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an MLflow data base that has its tables and nothing else: making them takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    services.MlflowService(tracking_uri=f"sqlite:///{folder.as_posix()}/mlflow.db").start()
    return folder


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> services.MlflowService:
    """A store of its own, not started: nothing is recorded, nothing registered."""
    return copy_store(empty_store, tmp_path / "store")


@pytest.fixture(scope="session")
def hours() -> datasets.SimulatedReader:
    """Ten weeks of simulated hours."""
    return datasets.SimulatedReader(rows=24 * 70)


@pytest.fixture(scope="session")
def trained_once(
    empty_store: Path, tmp_path_factory: pytest.TempPathFactory, hours: datasets.SimulatedReader
) -> Path:
    """A folder with a store in which version 1 was trained on the first 60 of the 70 days."""
    folder = tmp_path_factory.mktemp("trained")
    with training.TrainingJob(
        inputs=hours,
        targets=hours,
        model=models.GradientBoostingModel(max_iter=20),
        splitter=splitters.TrainTestSplitter(test_size=240),
        mlflow_service=copy_store(empty_store, folder),
        logger_service=_SAY_NOTHING,
    ) as job:
        job.run()
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> services.MlflowService:
    """A store of its own, not started, in which version 1 was trained on the first 60 of the 70 days of `hours`."""
    return copy_store(trained_once, tmp_path / "trained")


def copy_store(source: Path, target: Path) -> services.MlflowService:
    """Copy a store, files and all; what the copy says about places is about the copy."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        for place in (
            "experiments.artifact_location",
            "runs.artifact_uri",
            "logged_models.artifact_location",
            "model_versions.source",
            "model_versions.storage_location",
        ):
            table, column = place.split(".")
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (source.as_posix(), target.as_posix()),
            )
    return services.MlflowService(tracking_uri=f"sqlite:///{target.as_posix()}/mlflow.db")


def add_version(store: services.MlflowService) -> int:
    """Register the files of version 1 once more; return the number of the new version."""
    store.start()
    first = store.client().get_model_version("model_name", "1")
    made = store.client().create_model_version("model_name", first.source, run_id=first.run_id)
    return int(made.version)


def record_verdict(
    store: services.MlflowService,
    version: int = 1,
    run_tags: dict[str, str] | None = None,
    **changes: Any,
) -> str:
    """Leave behind the signed verdict that an evaluation leaves behind; return its run."""
    store.start()
    with store.run_context(store.RunConfig(name="Evaluations", tags=run_tags)) as run:
        fields = {
            "registry_name": "model_name", "model_version": version,
            "model_sha256": decisions.model_digest("model_name", version), "run_id": run.info.run_id,
            "judged_rows": "unseen", "rows": 240, "rows_sha256": "7d79", "metrics": (), "slices": (),
            "thresholds": {}, "outcome": "passed", "contract_sha256": contests.contract_digest(),
            "code_sha256": "9f86", "evaluated": dt.datetime.now(dt.UTC), "by": "ann@lab",
        } | changes  # fmt: skip
        verdict = verdicts.VerdictDocument(**fields)
        evidence = verdicts.save_verdict(verdict)
    decisions.record(
        store.client(),
        decisions.Decision(
            event="evaluated", registry_name="model_name", model_version=version,
            model_sha256=verdict.model_sha256, evidence=evidence, run_id=verdict.run_id, by="ann@lab",
        ),
    )  # fmt: skip
    return str(run.info.run_id)


def decide(store: services.MlflowService, version: int, alias: str = "Champion") -> None:
    """Decide that an alias points to a version, as a promotion by force does."""
    store.start()
    client, name = store.client(), "model_name"
    history = decisions.read_history(client, name).require()
    decision = decisions.Decision(
        event="promoted", registry_name=name, model_version=version, alias=alias, forced=True,
        model_sha256=decisions.model_digest(name, version), reason="a test needs it", by="ann@lab",
        replaces=decisions.champion_version(client, history, alias),
    )  # fmt: skip
    decisions.append(client, history, decision)
    decisions.point(client, name, alias)


# -------------------------------------------------------------------------------------------------- a real database
@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a running PostgreSQL server, without the name of a database."""
    if reason := servers.missing_postgresql():
        pytest.skip(reason)
    with servers.postgresql() as address:
        yield address


# ------------------------------------------------------------------------------------------------- a real Kafka broker
@pytest.fixture(scope="module")
def broker() -> Iterator[brokers.Broker]:
    """A running broker of Apache Kafka."""
    if reason := brokers.missing():
        pytest.skip(reason)
    running = brokers.Broker("-XX:TieredStopAtLevel=1")
    yield running
    running.close()


def contest(
    gain: float = 1.0,
    noise: float = 0.5,
    night: float = 10.0,
    champion: int = 1,
    rows: int = 120,
    **changes: Any,
) -> verdicts.Contest:
    """Return a comparison: champion and challenger with a mean absolute error of 40, and 10 at night."""
    name = "mean_absolute_error"
    one = {"column": "hr", "value": "2", "rows": rows}
    fields: dict[str, Any] = {
        "champion": champion, "rows": 240,
        "gains": (
            verdicts.Gain(
                metric=name, greater_is_better=False, challenger=40.0 - gain, champion=40.0,
                gain=gain, low=gain - noise, high=gain + noise,
            ),
        ),
        "challenger_slices": (verdicts.SliceScore(**one, scores={name: night}),),
        "champion_slices": (verdicts.SliceScore(**one, scores={name: 10.0}),),
    }  # fmt: skip
    return verdicts.Contest(**(fields | changes))
