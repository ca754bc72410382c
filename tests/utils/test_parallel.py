"""Parallel work: the order of results, the caps on threads, and what is shared only once."""

import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import threadpoolctl

from model_name.utils import parallel


@pytest.mark.parametrize(
    ("n_jobs", "threads", "workers"),
    [
        (None, 1, 1),
        (1, 8, 1),
        (3, 8, 3),
        (-1, 1, 6),
        (-1, 2, 3),
        (-1, 4, 1),
        (-2, 1, 5),
        (-9, 1, 1),
    ],
)
def test_workers_times_threads_fit_the_cores(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int | None, threads: int, workers: int
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    assert parallel.count_workers(n_jobs, threads) == workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    assert list(parallel.run(abs, range(-9, 0), workers)) == list(range(9, 0, -1))


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_are_capped_beneath_a_task(workers: int) -> None:
    import sklearn.ensemble  # noqa: F401 (loads OpenMP)

    before = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    infos = parallel.run(_threadpools, range(3), workers, threads=1)
    assert {library["num_threads"] for info in infos for library in info} == {1}
    assert [library["num_threads"] for library in threadpoolctl.threadpool_info()] == before


def _threadpools(_: int) -> list[dict[str, Any]]:
    return threadpoolctl.threadpool_info()


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel.run(_divide, [1, 0], workers=2))


def _divide(number: int) -> float:
    return 1 / number


_divide.__module__ = _threadpools.__module__ = (
    "__main__"  # pickled by value: workers cannot import a test
)


def test_processes_read_what_is_shared_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    dumps: list[Any] = []
    dump = joblib.dump
    monkeypatch.setattr(joblib, "dump", lambda value, file: dumps.append(file) or dump(value, file))
    with parallel.shared({"numbers": np.arange(1_000.0)}) as data:
        values = list(parallel.run(parallel.Shared.get, [data] * 6, workers=2))
        folder = Path(dumps[0]).parent
        assert folder.exists()
    assert len(dumps) == 1, "written once for six tasks"
    assert all(value["numbers"].sum() == 499_500 for value in values)
    assert not folder.exists()


def test_threads_and_loops_get_the_object_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "dump", lambda *_: pytest.fail("nothing has to be written"))
    table = {"numbers": np.arange(10.0)}
    with parallel.shared(table) as data:
        assert all(value is table for value in parallel.run(parallel.Shared.get, [data] * 2))
        with joblib.parallel_config("threading"):
            assert all(
                value is table for value in parallel.run(parallel.Shared.get, [data] * 2, workers=2)
            )


def test_work_is_done_by_other_processes() -> None:
    pids = set(parallel.run(_pid, range(4), workers=2))
    assert os.getpid() not in pids


def _pid(_: int) -> int:
    return os.getpid()


_pid.__module__ = "__main__"


ORPHANS = """
import os, time
from model_name.utils import parallel
def work(_):
    return os.getpid()
print(*set(parallel.run(work, range(8), workers=2)), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_workers_end_with_a_parent_that_was_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert workers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while any(_is_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "the workers are still there"
        time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )  # nobody may reap an orphan
    except OSError:
        return Path("/proc").exists() is False


TIDY = """
import os, sys
import numpy as np
from model_name.utils import parallel
def work(task):
    return int(task)
for _ in range(2):
    with parallel.shared(np.zeros(10)):
        print(list(parallel.run(work, range(4), workers=2)), flush=True)
os._exit(0)  # as a pool of processes ends its own
"""


def test_nothing_is_left_behind_by_a_process_that_ends_abruptly() -> None:
    """Joblib's folders are removed with the workers; its tracker would warn of those that are left."""
    ended = subprocess.run([sys.executable, "-c", TIDY], capture_output=True, text=True, check=True)
    assert ended.stdout == "[0, 1, 2, 3]\n" * 2
    assert "leaked" not in ended.stderr


# ------------------------------------------------------------------------------------------------------- one step ahead
@pytest.mark.parametrize("depth", [1, 2, 50])
def test_what_is_computed_ahead_comes_in_order(depth: int) -> None:
    assert list(parallel.ahead(map(str, range(20)), depth)) == [str(n) for n in range(20)]
    assert list(parallel.ahead([])) == []


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    items = parallel.ahead(broken(), depth=5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(items)


def test_whoever_stops_early_closes_the_source_in_its_thread_and_ends_it() -> None:
    threads: list[threading.Thread] = []

    def endless() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            threads.append(threading.current_thread())

    with contextlib.closing(parallel.ahead(endless())) as items:
        next(items)
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_a_thread_ahead_sees_the_context_of_its_caller() -> None:
    place = contextvars.ContextVar("place", default="nowhere")
    place.set("here")
    inner = (place.get() for _ in range(2))
    assert list(parallel.ahead(parallel.ahead(inner))) == ["here", "here"]
