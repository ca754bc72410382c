"""A real Dask cluster on this machine: the same results as here, and what happens when parts of it die."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from model_name.core import errors, metrics, models, schemas
from model_name.io import datasets
from model_name.jobs import explanations
from model_name.utils import clusters, parallel, searchers, spaces, splitters
from tasks import clusters as processes


@pytest.fixture(scope="module")
def cluster() -> Iterator[processes.Cluster]:
    with processes.running(workers=2) as running:
        yield running


@pytest.fixture
def used(cluster: processes.Cluster) -> Iterator[clusters.Connection]:
    with clusters.using(clusters.DaskCluster(address=cluster.address)):
        connection = clusters.current()
        assert connection is not None
        yield connection


def traffic(process: psutil.Process) -> int:
    """Bytes that a process has read and written, over the network too."""
    counted = process.io_counters()
    return int(counted.read_chars + counted.write_chars)


def total(task: tuple[Any, int]) -> tuple[int, float]:
    held, number = task
    time.sleep(0.05)
    return number, float(held.get()[number::10].sum())


total.__module__ = "__main__"  # pickled by value: workers cannot import a test


# ------------------------------------------------------------------------------------------------ the same results
@pytest.fixture(scope="module")
def tables() -> tuple[Any, Any]:
    data = datasets.SimulatedReader(rows=300).read()
    return schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)


def search(searcher: searchers.Searcher, tables: tuple[Any, Any]) -> Any:
    metric = metrics.SklearnMetric(name="mean_absolute_error", greater_is_better=False)
    folds = splitters.TimeSeriesSplitter(n_splits=2, test_size=50)
    details, score, params = searcher.search(
        models.GradientBoostingModel(max_iter=5), metric, *tables, folds
    )
    lasting = [name for name in details if "time" not in name and name != "seconds"]
    return details[lasting].to_json(double_precision=15), score, params


@pytest.mark.parametrize(
    "searcher",
    [
        searchers.OptunaSearcher(
            param_grid={"max_leaf_nodes": spaces.IntDistribution(low=4, high=31)},
            n_trials=4, batch_size=2, storage=None,
        ),
        searchers.GridCVSearcher(param_grid={"max_leaf_nodes": [7, 15]}, n_jobs=-1),
        searchers.GridCVSearcher(param_grid={"max_leaf_nodes": [7]}),
    ],
    ids=["optuna", "grid", "one at a time"],
)  # fmt: skip
def test_a_search_has_the_same_trials_and_scores(
    cluster: processes.Cluster, tables: tuple[Any, Any], searcher: searchers.Searcher
) -> None:
    here = search(searcher, tables)
    with clusters.using(clusters.DaskCluster(address=cluster.address)):
        before = traffic(psutil.Process(cluster.workers[0].pid))
        assert search(searcher, tables) == here
    assert traffic(psutil.Process(cluster.workers[0].pid)) > before


def test_explanations_have_the_same_bits(
    used: clusters.Connection, tables: tuple[Any, Any]
) -> None:
    model = models.GradientBoostingModel(max_iter=5).fit(*tables)
    rows = tables[0].head(50)
    here, there = model.explain(rows), explanations._spread(model, rows)
    assert np.array_equal(here.values, there.values)
    assert np.array_equal(here.answers, there.answers)
    assert here.features == there.features


# ------------------------------------------------------------------------------------------------ what travels, and how
def test_shared_data_does_not_go_through_the_scheduler(
    cluster: processes.Cluster, used: clusters.Connection
) -> None:
    scheduler = psutil.Process(cluster.scheduler.pid)
    data = np.random.default_rng(1).random(50_000_000 // 8)
    with parallel.shared(
        data[:10].copy()
    ) as held:  # files of modules that are read once count, too
        list(parallel.run(total, [(held, 0)] * 2, workers=2))
    before = traffic(scheduler)
    with parallel.shared(data) as held:
        results = list(parallel.run(total, [(held, number) for number in range(10)], workers=2))
    assert results == [(number, float(data[number::10].sum())) for number in range(10)]
    assert traffic(scheduler) - before < 1_000_000


def test_an_error_of_a_task_comes_back_as_it_was(used: clusters.Connection) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(parallel.run(open, ["/nowhere"], workers=2))


def test_the_threads_of_the_workers_count_as_cores(used: clusters.Connection) -> None:
    assert [parallel.count_workers(jobs) for jobs in (None, 5, -1, -2)] == [1, 5, 2, 1]


# ------------------------------------------------------------------------------------------------ what can go wrong
def later(seconds: float, *actions: Any) -> threading.Thread:
    def act() -> None:
        time.sleep(seconds)
        for action in actions:
            action()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("killed", [1, 2])
def test_killed_workers_lose_nothing(
    cluster: processes.Cluster, used: clusters.Connection, killed: int
) -> None:
    """All of them, and with them the data that they hold: it is sent again."""
    data = np.arange(1_000.0)
    doomed = [worker for worker in cluster.workers if worker.poll() is None][:killed]
    with parallel.shared(data) as held:
        tasks = [(held, number % 10) for number in range(20)]
        results = parallel.run(total, tasks, workers=2)
        first = next(results)
        thread = later(0.1, *(worker.kill for worker in doomed), *[cluster.add] * killed)
        rest = list(results)
        thread.join()
    assert [first, *rest] == [(n % 10, float(data[n % 10 :: 10].sum())) for n in range(20)]


def test_a_worker_with_other_versions_is_refused(
    cluster: processes.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = clusters.versions()
    for name in ("python", "numpy", "scikit-learn", "model_name"):
        monkeypatch.setattr(clusters, "versions", lambda name=name: there | {name: "0.1.2"})
        with (
            clusters.using(clusters.DaskCluster(address=cluster.address)),
            pytest.raises(
                errors.ServiceError, match=f"worker tcp://.*{name} is .* there and 0.1.2 here"
            ),
        ):
            list(parallel.run(abs, [-1], workers=2))


def test_a_scheduler_that_is_not_there() -> None:
    with (
        clusters.using(clusters.DaskCluster(address="tcp://127.0.0.1:1", timeout=0.3)),
        pytest.raises(errors.ServiceError, match=r"tcp://127.0.0.1:1 does not answer .* start it"),
    ):
        list(parallel.run(abs, [-1], workers=2))


def test_a_lost_scheduler_leaves_a_search_that_goes_on(
    tables: tuple[Any, Any], tmp_path: Path
) -> None:
    storage = tmp_path / "study.journal"
    space = {"max_leaf_nodes": spaces.IntDistribution(low=4, high=31)}
    options: dict[str, Any] = {"param_grid": space, "n_trials": 6, "batch_size": 1}
    searcher = searchers.OptunaSearcher(**options, storage=str(storage))

    def end_after_a_score(process: subprocess.Popen[bytes]) -> None:
        while not storage.exists() or b"intermediate_value" not in storage.read_bytes():
            time.sleep(0.01)
        process.kill()

    with processes.running(workers=1) as lost:
        thread = threading.Thread(target=end_after_a_score, args=(lost.scheduler,), daemon=True)
        thread.start()
        with (
            clusters.using(clusters.DaskCluster(address=lost.address, timeout=3)),
            pytest.raises(
                errors.ServiceError, match="was lost in the middle of the work: start it"
            ),
        ):
            search(searcher, tables)
        thread.join()
    resumed = search(searcher, tables)
    assert resumed == search(searchers.OptunaSearcher(**options, storage=None), tables)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_local_worker_that_is_killed_is_an_error_with_a_way_out() -> None:
    with pytest.raises(errors.ServiceError, match="a worker process of this machine was killed"):
        list(parallel.run(_die, range(4), workers=2))


def _die(_: int) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


_die.__module__ = "__main__"
