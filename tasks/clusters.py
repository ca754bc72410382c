"""A Dask cluster on this machine, for tests and benchmarks: one scheduler and workers, each a process of its own."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path


class Cluster:
    """A scheduler and its workers; each process can be killed."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        """Start on free ports, and wait until all workers are there."""
        self.folder, self.address = folder, ""
        self.workers: list[subprocess.Popen[bytes]] = []
        self.file = folder / "scheduler.json"
        options = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--no-show"]
        self.scheduler = self._start("scheduler", *options)
        self._until(self._read_address, self.scheduler)
        started = [self._start_worker() for _ in range(workers)]
        for ready, worker in started:
            self._until(ready.is_file, worker)

    def _read_address(self) -> bool:
        """Read where the scheduler listens; return whether it has written all of that."""
        with contextlib.suppress(OSError, ValueError):
            self.address = json.loads(self.file.read_text(encoding="utf-8"))["address"]
            return True
        return False

    def add(self) -> None:
        """Start one more worker, and wait until it is there."""
        ready, worker = self._start_worker()
        self._until(ready.is_file, worker)

    def _start_worker(self) -> tuple[Path, subprocess.Popen[bytes]]:
        """Start one more worker; return the file that it makes when it is there."""
        name = f"worker-{len(self.workers)}"
        ready = self.folder / name
        options = ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--name", name]
        preload = f"def dask_setup(worker): open({str(ready)!r}, 'w').close()"
        worker = self._start(
            "worker", *options, "--local-directory", str(self.folder), "--preload", preload
        )
        self.workers.append(worker)
        return ready, worker

    def _start(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a process of the cluster; it writes into a file of its own."""
        command = [sys.executable, "-m", "distributed.cli.dask_" + role]
        with (self.folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--scheduler-file", str(self.file), *options],
                stdout=log, stderr=log, cwd=self.folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def _until(
        self, done: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 60
    ) -> None:
        """Wait until something is done, for as long as a process lives."""
        end = time.monotonic() + seconds
        while not done():
            if process.poll() is not None or time.monotonic() > end:
                logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
                raise RuntimeError(f"the Dask cluster did not start:\n{logs}")
            time.sleep(0.02)

    def close(self) -> None:
        """End all processes."""
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(workers: int = 2) -> Iterator[Cluster]:
    """Run a cluster for as long as this context lasts."""
    with tempfile.TemporaryDirectory(prefix="dask-") as folder:
        cluster = Cluster(Path(folder), workers)
        try:
            yield cluster
        finally:
            cluster.close()
