"""Threads: as many as the work is worth and the machine has free, and the same answers with any number."""

import os
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
import sklearn.ensemble  # noqa: F401 (takes the number of cores from joblib when it is imported)
import threadpoolctl

from model_name.core import models, schemas, threads
from model_name.io import datasets


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that there are cores, each busy for a share of the time, and how many of them may be used."""

    def pretend(
        busy: list[float], allowed: set[int] | None = None, quota: int | None = None
    ) -> None:
        monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: busy)
        usable = allowed or set(range(len(busy)))
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: usable, raising=False)
        monkeypatch.setattr(joblib, "cpu_count", lambda **_: quota or len(usable))

    return pretend


@pytest.mark.parametrize(
    ("busy", "allowed", "quota", "free"),
    [
        ([0, 0], None, None, 2),
        ([9, 9], None, None, 2),  # a little is always going on
        ([100, 0], None, None, 1),
        ([100, 100], None, None, 1),
        ([100, 30, 0, 0], None, None, 2),
        ([0] * 16, None, 4, 4),  # a container's share
        ([0] * 16, {3, 4}, None, 2),
        ([100, 100, *[0] * 14], {0, 1, 2}, None, 1),  # idle cores that are not ours do not help
    ],
)
def test_free_cores_are_idle_allowed_and_within_the_quota(
    cores: Any, busy: list[float], allowed: set[int] | None, quota: int | None, free: int
) -> None:
    cores(busy, allowed, quota)
    assert threads.free_cores() == free


def test_a_machine_that_does_not_tell_is_taken_to_be_idle(
    cores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores([0] * 8)

    def silent(interval: float, percpu: bool) -> list[float]:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_percent", silent)
    assert threads.free_cores() == 8


@pytest.mark.parametrize(
    ("worth", "busy", "count"),
    [(0.5, 0, 1), (1.9, 0, 1), (3.7, 0, 3), (99, 0, 8), (99, 100, 1), (99, 75, 2)],
)
def test_the_number_follows_the_work_and_what_is_free(
    cores: Any, worth: float, busy: float, count: int
) -> None:
    cores([busy] * 8)
    assert threads.count(None, worth) == count


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_an_explicit_number_is_kept(cores: Any, n_jobs: int) -> None:
    cores([100] * 8)
    assert threads.count(n_jobs, worth=0.1) == n_jobs
    with threads.limit(n_jobs, worth=0.1):
        assert openmp() == n_jobs


def test_small_work_does_not_look_at_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "free_cores", lambda: pytest.fail("it takes a tenth of a second"))
    assert threads.count(None, worth=1.5) == 1


def openmp() -> int:
    found: int = max(
        p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "openmp"
    )
    return found


def test_a_limit_from_outside_is_not_raised_and_comes_back(cores: Any) -> None:
    cores([0] * 8)
    with threadpoolctl.threadpool_limits(3, user_api="openmp"):
        with threads.limit(None, worth=8) as chosen:
            assert chosen == openmp() == 3
        with threads.limit(-1, worth=8):
            assert openmp() == min(3, joblib.effective_n_jobs(-1))
        assert openmp() == 3


# --------------------------------------------------------------------------------------------------- what models do
@pytest.fixture(scope="module")
def table() -> tuple[Any, Any]:
    raw = datasets.SimulatedReader(rows=24 * 20).read()
    return schemas.InputsSchema.check(raw), schemas.TargetsSchema.check(raw)


MODELS = [models.BaselineSklearnModel(n_estimators=5), models.GradientBoostingModel(max_iter=5)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.KIND)
def test_a_small_table_is_fitted_predicted_and_explained_on_one_thread(
    model: models.SklearnModel, table: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that an estimator does, it does on one thread, on a machine with any number of idle cores."""
    monkeypatch.setattr(threads, "free_cores", lambda: 8)
    seen: set[int] = set()
    fitted = model.model_copy(deep=True)
    build = type(fitted).build

    def watched(self: Any) -> Any:
        pipeline = build(self)
        estimator = pipeline["estimate"]
        for verb in ("fit", "predict"):  # boosting asks OpenMP, a forest its own number
            original = getattr(type(estimator), verb)

            def watch(*given: Any, original: Any = original, **named: Any) -> Any:
                seen.add(estimator.get_params().get("n_jobs") or openmp())
                return original(*given, **named)

            monkeypatch.setattr(type(estimator), verb, watch)
        return pipeline

    monkeypatch.setattr(type(fitted), "build", watched)
    with threadpoolctl.threadpool_limits(4, user_api="openmp"):
        fitted.fit(*table)
        fitted.predict(table[0])
        fitted.explain(table[0].head(10))
        fitted.explain_model()
    assert seen == {1}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.KIND)
def test_large_work_takes_the_free_cores(
    model: models.SklearnModel, table: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_CELLS_PER_THREAD", "_TREE_CELLS_PER_THREAD", "_SAMPLES_PER_THREAD"):
        monkeypatch.setattr(models, name, 1)
    asked: list[int] = []
    monkeypatch.setattr(threads, "free_cores", lambda: asked.append(1) or 2)
    many = model.model_copy(deep=True).fit(*table)
    found, parts = many.predict(table[0]), many.explain(table[0].head(50))
    assert len(asked) >= 2
    one = model.model_copy(deep=True, update={"n_jobs": 1}).fit(*table)
    assert found.equals(one.predict(table[0])), "the same bits"
    assert np.array_equal(parts.values, one.explain(table[0].head(50)).values), "the same bits"


def test_two_threads_and_one_give_the_same_trees_on_a_table_of_many_rows() -> None:
    raw = datasets.SimulatedReader(rows=24 * 400).read()
    inputs, targets = schemas.InputsSchema.check(raw), schemas.TargetsSchema.check(raw)
    one, two = (
        models.GradientBoostingModel(max_iter=15, n_jobs=n).fit(inputs, targets) for n in (1, 2)
    )
    assert one.predict(inputs).equals(two.predict(inputs))


def test_openmp_is_limited_in_a_process_that_only_loads_a_model(
    tmp_path: Any, table: tuple[Any, Any]
) -> None:
    """The library is found even where scikit-learn is imported after the first question."""
    code = (
        "from model_name.core import threads\n"
        "with threads.limit(None, worth=1):\n"
        "    import threadpoolctl\n"
        "    print({p['num_threads'] for p in threadpoolctl.threadpool_info() if p['user_api'] == 'openmp'})\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "{1}"
