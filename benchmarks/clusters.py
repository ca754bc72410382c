"""What work on a cluster costs beside the work: a connection, a task, shared data, and each step of a partition.

`python -m benchmarks.clusters` prints one line for each figure. Steps of a partition are in processor time, which a
neighbour on the same machine hardly changes; the rest is time on the clock.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from model_name.core import models, schemas
from model_name.io import datasets
from model_name.records.fingerprints import Fingerprint
from model_name.utils import clusters, parallel
from tasks import clusters as processes

ROWS = 200_000
TASKS = 200
SHARED_BYTES = 50_000_000


def main() -> None:
    """Measure everything, and print it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name, value in itertools.chain(_partition_steps(), _cluster_figures()):
        print(f"{name:<70}{value}", flush=True)


def _cpu(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def _partition_steps() -> Iterator[tuple[str, str]]:
    """Measure what each step of a partition costs per row, on one core."""
    data = datasets.SimulatedReader(rows=24 * 365 * 2).read()
    model = models.GradientBoostingModel().fit(
        schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
    )
    with tempfile.TemporaryDirectory() as folder:
        file, out = f"{folder}/part-0.parquet", f"{folder}/out.parquet"
        datasets.ParquetWriter(path=file).write(datasets.SimulatedReader(rows=ROWS).read())
        [part] = datasets.parquet_parts(datasets.ParquetReader(path=file))
        raw, reading = _cpu(part.read)
        inputs, checking = _cpu(lambda: schemas.InputsSchema.check(raw))
        predict = model.set_params(n_jobs=1).predictor()  # as a worker does from 50,000 rows on
        predict(inputs.iloc[:1_000])
        outputs, scoring = _cpu(lambda: predict(inputs))
        made = outputs.assign(model_version=1)
        steps = {
            "digest of the bytes": _cpu(part.digest)[1],
            "read": reading,
            "check": checking,
            "predict, default boosting": scoring,
            "write": _cpu(lambda: datasets.ParquetWriter(path=out).write(made))[1],
            "read again and fingerprint": _cpu(lambda: _fingerprint(out))[1],
        }
        for name, seconds in steps.items():
            yield (
                f"partition: {name}, microseconds of a core per row",
                f"{seconds / ROWS * 1e6:.3f}",
            )
        sizes = (f"{Path(path).stat().st_size / ROWS:.0f}" for path in (file, out))
        yield "partition: bytes per row, in and out", " and ".join(sizes)


def _fingerprint(path: str) -> str:
    return Fingerprint(sketch=False).update(datasets.ParquetReader(path=path).read()).hexdigest()


def _cluster_figures() -> Iterator[tuple[str, str]]:
    """Measure what a connection, a task and shared data cost."""
    with (
        processes.running(workers=2) as cluster,
        clusters.using(clusters.DaskCluster(address=cluster.address)),
    ):
        start = time.perf_counter()
        clusters.current()
        yield "cluster: connect and compare versions, seconds", f"{time.perf_counter() - start:.2f}"
        list(parallel.run(abs, range(8), workers=2))  # workers import the library
        start = time.perf_counter()
        list(parallel.run(abs, range(TASKS), workers=2))
        yield (
            "cluster: one task that does nothing, milliseconds",
            f"{(time.perf_counter() - start) / TASKS * 1e3:.1f}",
        )
        scheduler = psutil.Process(cluster.scheduler.pid)
        before, start = _traffic(scheduler), time.perf_counter()
        with parallel.shared(np.random.default_rng(1).random(SHARED_BYTES // 8)) as held:
            list(parallel.run(_total, [held, held], workers=2))
        yield "cluster: 50 MB to two workers, seconds", f"{time.perf_counter() - start:.2f}"
        yield (
            "cluster: of them through the scheduler, kB",
            f"{(_traffic(scheduler) - before) / 1e3:.0f}",
        )


def _total(held: Any) -> float:
    return float(held.get().sum())


_total.__module__ = "__main__"  # workers cannot import the benchmarks


def _traffic(process: psutil.Process) -> int:
    counted = process.io_counters()
    return int(counted.read_chars + counted.write_chars)


if __name__ == "__main__":
    main()
