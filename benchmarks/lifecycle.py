"""How long a person waits: the command, then train, evaluate, promote and infer, in process and as notebooks."""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import measuring
from benchmarks.measuring import Case

TRAIN_ROWS, TEST_ROWS, SCORED_ROWS = 13_900, 1_440, 3_500
FOREST = ["-s", "job.model={KIND: BaselineSklearnModel, n_estimators: 200, max_depth: 20}"]
BOOSTING = ["-s", "job.model={KIND: GradientBoostingModel}"]

# The estimator alone, on the same rows and the feature columns as they are; prints what `fit` took.
BARE_FIT = """
import sys, time
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
data = pd.read_parquet(sys.argv[1])
inputs, target = data.drop(columns="cnt").to_numpy("float64"), data["cnt"].to_numpy("float64")
kind, cores = sys.argv[2], int(sys.argv[3])
if kind == "forest":
    model = RandomForestRegressor(n_estimators=200, max_depth=20, random_state=42, n_jobs=cores)
else:
    model = HistGradientBoostingRegressor(
        loss="poisson", learning_rate=0.05, max_iter=500, max_leaf_nodes=15, early_stopping=False, random_state=42
    )
start, cpu = time.perf_counter(), time.process_time()
model.fit(inputs, target)
print(time.perf_counter() - start, time.process_time() - cpu)
"""

# What no job can do without: importing the libraries ...
IMPORTS = "import matplotlib.figure, mlflow.pyfunc, pandas, pandera.pandas, pyarrow.parquet, sklearn.ensemble"
# ... and, as a notebook, starting a kernel as well.
EMPTY_NOTEBOOK = """
import sys, nbformat, papermill
cell = nbformat.v4.new_code_cell(sys.argv[1])
kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), "empty.ipynb")
papermill.execute_notebook("empty.ipynb", "executed.ipynb", progress_bar=False)
"""

# The rows that the jobs train on, as a plain table: number columns and the target.
PLAIN_TABLE = """
import sys
from model_name.core import schemas
from model_name.io import datasets
rows = int(sys.argv[2])
if sys.argv[3:]:
    kind = datasets.CsvReader if sys.argv[3].endswith(".csv") else datasets.ParquetReader
    data = kind(path=sys.argv[3], limit=rows).read()
else:
    data = datasets.SimulatedReader(rows=rows).read()
inputs, targets = schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
inputs[schemas.InputsSchema.features()].astype("float64").join(targets).to_parquet(sys.argv[1])
"""


class Lifecycle:
    """The cases, and the folders that they run in."""

    def __init__(self, table: Path | None, folder: Path) -> None:
        self.table, self.folder = table, folder
        self.new_folders = 0
        self.training, self.judging = folder / "training", folder / "judging"
        for made in (self.training, self.judging):
            made.mkdir()

    def data(self, rows: int) -> list[str]:
        """Name the first rows of the table, or as many simulated ones, as every job's data."""
        if self.table is None:
            return ["-s", "data.table.KIND=SimulatedReader", "-s", f"data.table.rows={rows}"]
        return ["--data", str(self.table), "-s", f"data.table.limit={rows}"]

    def job(
        self, verb: str, *options: str, folder: Path, rows: int = TRAIN_ROWS + TEST_ROWS
    ) -> measuring.Sample:
        """Run one job."""
        return measuring.run_command("run", verb, *self.data(rows), *options, folder=folder)

    def start(self) -> list[Case]:
        """How long the command takes to say what it can do."""
        python = "python -c pass"
        return [
            Case(python, lambda: measuring.run_python("pass", folder=self.folder)),
            *(
                Case(
                    f"model_name {words}",
                    partial(measuring.run_command, *words.split(), folder=self.folder),
                    python,
                )
                for words in ("--help", "--version", "check train")
            ),
        ]

    def train(self, kind: str, options: list[str], cores: tuple[int, ...]) -> list[Case]:
        """How long training takes beside the bare fit; the MLflow store is there already."""
        plain = self.folder / "plain.parquet"
        table = [str(self.table)] if self.table else []
        measuring.run_python(PLAIN_TABLE, str(plain), str(TRAIN_ROWS), *table, folder=self.folder)
        self.job("train", "--in-process", "-s", "job.model.max_iter=1", folder=self.training)
        bare = {count: f"bare {kind} fit, {count} core{'s' * (count > 1)}" for count in cores}
        fit = partial(self._bare_fit, plain, kind)
        reference = bare[max(cores)]
        in_process, first = ["--in-process", *options], f"train {kind}, in process, empty folder"
        return [
            *(
                Case(name, partial(fit, count), reference if name != reference else None)
                for count, name in bare.items()
            ),
            Case(
                f"train {kind}, in process",
                lambda: self.job("train", *in_process, folder=self.training),
                reference,
            ),
            Case(
                f"train {kind}, notebook",
                lambda: self.job("train", *options, folder=self.training),
                reference,
            ),
            Case(
                first, lambda: self.job("train", *in_process, folder=self._new_folder()), reference
            ),
        ]

    def _bare_fit(self, plain: Path, kind: str, cores: int) -> measuring.Sample:
        command = [sys.executable, "-c", BARE_FIT, str(plain), kind, str(cores)]
        return measuring.run_process(
            command, self.folder, {"OMP_NUM_THREADS": str(cores)}, timed_inside=True
        )

    def _new_folder(self) -> Path:
        self.new_folders += 1
        folder = self.folder / f"new-{self.new_folders}"
        folder.mkdir()
        return folder

    def judge(self) -> list[Case]:
        """How long the other jobs take beside what none of them can do without."""
        for verb in ("train", "evaluate", "promote"):
            self.job(verb, "--in-process", folder=self.judging)
        imports, notebook = "imports alone", "a notebook with the imports alone"
        cases = [
            Case(imports, lambda: measuring.run_python(IMPORTS, folder=self.folder)),
            Case(
                notebook, lambda: measuring.run_python(EMPTY_NOTEBOOK, IMPORTS, folder=self.folder)
            ),
        ]
        whole = TRAIN_ROWS + TEST_ROWS
        for verb, rows in {"evaluate": whole, "promote": whole, "infer": SCORED_ROWS}.items():
            run = partial(self.job, verb, folder=self.judging, rows=rows)
            cases.append(Case(f"{verb}, in process", partial(run, "--in-process"), imports))
            cases.append(Case(f"{verb}, notebook", run, notebook))
        return cases

    def whole(self) -> list[Case]:
        """How long all four take, as `make run` starts them."""
        verbs = ("train", "evaluate", "promote", "infer")

        def run(*options: str) -> measuring.Sample:
            rows = self.data(TRAIN_ROWS + TEST_ROWS)
            return measuring.run_command("run", *verbs, *rows, *options, folder=self._new_folder())

        return [
            Case("all four, in process, empty folder", partial(run, "--in-process")),
            Case("all four, notebooks, empty folder", run, "all four, in process, empty folder"),
        ]


def main() -> None:
    """Measure what the command line asks for."""
    given = measuring.arguments(__doc__, rounds=5)
    with tempfile.TemporaryDirectory(prefix="lifecycle-") as folder:
        bench = Lifecycle(given.table, Path(folder))
        groups: dict[str, Callable[[], list[Case]]] = {
            "start": bench.start,
            "train-forest": lambda: bench.train("forest", FOREST, (1, 2)),
            "train-boosting": lambda: bench.train("boosting", BOOSTING, (1, 2)),
            "jobs": bench.judge,
            "whole": bench.whole,
        }
        measuring.report(given, groups)


if __name__ == "__main__":
    main()
