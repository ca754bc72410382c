"""How good a search is for its time: Optuna beside a grid over the same space, and the same trials at 1, 2, 4 workers.

Scores are cross-validated on all but the last 1,440 rows, which no search sees; the chosen parameters are then fitted
on the rows before and scored on those.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import loguru
import pandas as pd

from benchmarks import measuring
from benchmarks.measuring import Case
from model_name.core import metrics, models, schemas
from model_name.io import datasets
from model_name.utils import searchers, spaces, splitters

HELD_BACK = 1_440
FOLDS = splitters.TimeSeriesSplitter(n_splits=3, test_size=1_440)
METRIC = metrics.SklearnMetric(name="root_mean_squared_error", greater_is_better=False)
MODEL = models.GradientBoostingModel()
GRID = {  # 3 x 2 x 3 x 2 = 36 candidates in the space below
    "learning_rate": [0.03, 0.08, 0.2],
    "max_iter": [200, 500],
    "max_leaf_nodes": [10, 21, 45],
    "min_samples_leaf": [8, 40],
}
SPACE = {
    "learning_rate": spaces.FloatDistribution(low=0.02, high=0.3, log=True),
    "max_iter": spaces.IntDistribution(low=100, high=500, log=True),
    "max_leaf_nodes": spaces.IntDistribution(low=7, high=63, log=True),
    "min_samples_leaf": spaces.IntDistribution(low=5, high=80, log=True),
}


class Bench:
    """The table, the cases, and what each of them found."""

    def __init__(self, table: Path | None, folder: Path) -> None:
        kind = (
            datasets.CsvReader
            if table is None or table.suffix == ".csv"
            else datasets.ParquetReader
        )
        reader = datasets.SimulatedReader() if table is None else kind(path=str(table))
        data = reader.read()
        self.all = schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
        self.rows = tuple(part.iloc[:-HELD_BACK] for part in self.all)
        self.table, self.folder = table, folder
        self.found: dict[str, dict[str, Any]] = {}
        self.trials: dict[str, pd.DataFrame] = {}

    def search(
        self, name: str, searcher: searchers.GridCVSearcher | searchers.OptunaSearcher
    ) -> measuring.Sample:
        """Time a search; note what it found, and how that does on the rows that it has not seen."""
        start = time.perf_counter()
        details, score, params = searcher.search(MODEL, METRIC, *self.rows, FOLDS)
        seconds = time.perf_counter() - start
        model = models.GradientBoostingModel(**(MODEL.get_params() | params)).fit(*self.rows)
        test = METRIC.scorer(model, *(part.iloc[-HELD_BACK:] for part in self.all))
        self.trials[name] = details.drop(
            columns=[n for n in details if "time" in n or n == "seconds"]
        )
        self.found[name] = {
            "cross-validated": -score,
            "test": -test,
            "candidates": len(details),
            "params": params,
        }
        return measuring.Sample(seconds)

    def grid(self) -> list[Case]:
        """Optuna beside a grid, both with two workers."""
        grid, optuna = "grid, 36 candidates", "Optuna, {} trials, batches of {}"
        cases = [
            Case(
                grid,
                partial(self.search, grid, searchers.GridCVSearcher(param_grid=GRID, n_jobs=2)),
            )
        ]
        for trials, batch in ((20, 2), (36, 2), (36, 4)):
            name = optuna.format(trials, batch)
            searcher = searchers.OptunaSearcher(
                param_grid=SPACE, n_trials=trials, batch_size=batch, n_jobs=2, storage=None
            )
            cases.append(Case(name, partial(self.search, name, searcher), grid))
        return cases

    def workers(self) -> list[Case]:
        """The same search with 1, 2 and 4 workers, and killed on its way."""
        cases = []
        for count in (1, 2, 4):
            name = f"Optuna, {count} worker(s)"
            searcher = searchers.OptunaSearcher(param_grid=SPACE, n_jobs=count, storage=None)
            reference = None if count == 1 else "Optuna, 1 worker(s)"
            cases.append(Case(name, partial(self.search, name, searcher), reference))
        return [*cases, Case("Optuna, killed three times", self.killed, "Optuna, 1 worker(s)")]

    def killed(self) -> measuring.Sample:
        """Kill the process that searches three times, at growing ages of its journal; then let it end."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        storage = folder / "search.journal"
        command = [sys.executable, "-m", "benchmarks.tuning", "--victim", str(storage)]
        command += ["--table", str(self.table)] if self.table else []
        start = time.perf_counter()
        for lines in (12, 90, 170):
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while process.poll() is None and not (
                storage.exists() and storage.read_bytes().count(b"\n") >= lines
            ):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        searcher = searchers.OptunaSearcher(param_grid=SPACE, n_jobs=2, storage=str(storage))
        self.search("Optuna, killed three times", searcher)
        return measuring.Sample(time.perf_counter() - start)

    def report(self) -> None:
        """Print what was found, and whether the trials are the same."""
        for name, found in self.found.items():
            print(
                f"{name:<34} RMSE {found['cross-validated']:.3f} cross-validated, {found['test']:.3f} on the held back "
                f"rows; {found['candidates']} candidates; {json.dumps(found['params'])}"
            )
        first = self.trials.get("Optuna, 1 worker(s)")
        for name, table in self.trials.items():
            if first is not None and ("worker" in name or "killed" in name):
                print(f"{name:<28} the same table of trials as 1 worker: {table.equals(first)}")


def main() -> None:
    """Measure what the command line asks for."""
    loguru.logger.remove()
    if "--victim" in sys.argv:
        place = sys.argv.index("--victim")
        storage = sys.argv[place + 1]
        del sys.argv[place : place + 2]
        bench = Bench(measuring.arguments(__doc__, rounds=1).table, Path())
        searcher = searchers.OptunaSearcher(param_grid=SPACE, n_jobs=2, storage=storage)
        searcher.search(MODEL, METRIC, *bench.rows, FOLDS)
        return
    given = measuring.arguments(__doc__, rounds=1)
    with tempfile.TemporaryDirectory(prefix="tuning-", ignore_cleanup_errors=True) as folder:
        bench = Bench(given.table, Path(folder))
        groups: dict[str, Callable[[], list[Case]]] = {"grid": bench.grid, "workers": bench.workers}
        measuring.report(given, groups)
        bench.report()


if __name__ == "__main__":
    main()
