"""What large tables cost: scoring a million rows, their fingerprint, and saving a model with and without pins."""

import hashlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import Case

ROWS = 1_000_000

# Everything at once, with the fitted pipeline and nothing else: read, predict, write. Prints nothing.
PLAIN_PREDICT = """
import sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model("models:/model_name@Champion").unwrap_python_model().model.get_internal_model()
data = pd.read_parquet(sys.argv[1]).set_index("instant")
predicted = model["estimate"].predict(model["encode"].transform(data))
pd.DataFrame({"prediction": predicted}, index=data.index).to_parquet("plain.parquet")
"""


class Scale:
    """The cases, and what they share."""

    def __init__(self, table: Path | None, folder: Path) -> None:
        self.table, self.folder = table, folder

    def infer(self) -> list[Case]:
        """Throughput and memory of scoring, beside reading, predicting and writing everything at once."""
        data = ["--data", str(self.table)] if self.table else []
        measuring.run_command(
            "run", "train", "evaluate", "promote", "--in-process", *data, folder=self.folder
        )
        files = {
            rows: _simulated_table(self.folder / f"{rows}.parquet", rows)
            for rows in (ROWS // 4, ROWS)
        }
        store = {
            "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
            "MLFLOW_REGISTRY_URI": "sqlite:///mlflow.db",
        }

        def plain(rows: int) -> measuring.Sample:
            command = [sys.executable, "-c", PLAIN_PREDICT, str(files[rows])]
            return measuring.run_process(command, self.folder, store)

        def job(rows: int, *options: str) -> measuring.Sample:
            return measuring.run_command(
                "run", "infer", "--data", str(files[rows]), *options, folder=self.folder
            )

        cases = []
        for rows in files:
            reference = f"plain predict, {rows:,} rows"
            cases += [
                Case(reference, partial(plain, rows), None, rows, "rows"),
                Case(
                    f"infer, in process, {rows:,} rows",
                    partial(job, rows, "--in-process"),
                    reference,
                    rows,
                    "rows",
                ),
            ]
        cases.append(
            Case(f"infer, notebook, {ROWS:,} rows", partial(job, ROWS), reference, ROWS, "rows")
        )
        return cases

    def scoring(self) -> list[Case]:
        """Rows a second of the loops over trees alone, beside scikit-learn on one core."""
        import threadpoolctl

        from model_name.core import models, schemas, scoring
        from model_name.io import datasets

        data = datasets.SimulatedReader(rows=15_340, missing=0.02).read()
        inputs, targets = schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
        cases = []
        kinds = [(models.GradientBoostingModel(), 200_000), (models.BaselineSklearnModel(), 40_000)]
        for unfitted, rows in kinds:
            pipeline = unfitted.fit(inputs, targets).get_internal_model()
            encoded = pipeline["encode"].transform(inputs).repeat(rows // len(inputs) + 1, axis=0)
            few, many = encoded[: rows // 10], encoded[:rows]
            estimator, reference = pipeline["estimate"], f"scikit-learn, {unfitted.KIND}"

            def plain(estimator: Any = estimator, few: Any = few) -> measuring.Sample:
                with threadpoolctl.threadpool_limits(1):
                    sample = measuring.run_here(lambda: estimator.predict(few))
                return measuring.Sample(10 * sample.seconds, 10 * sample.cpu)

            cases.append(Case(reference, plain, None, rows, "rows"))
            for count in (1, 2):
                predict = scoring.compile_trees(estimator, pipeline.background_, count)
                run = partial(measuring.run_here, partial(predict, many))
                name = f"compiled, {count} thread{'s' * (count > 1)}, {unfitted.KIND}"
                cases.append(Case(name, run, reference, rows, "rows"))
        return cases

    def fingerprint(self) -> list[Case]:
        """Gigabytes a second of the fingerprint, beside SHA-256 over the same columns."""
        import numpy as np

        from model_name.core import schemas
        from model_name.io import datasets
        from model_name.records import fingerprints, rowhashes

        data = schemas.InputsSchema.check(datasets.SimulatedReader(rows=ROWS).read())
        columns = [data.index.to_numpy(), *(data[name].to_numpy() for name in _plain_columns(data))]
        plain = data[_plain_columns(data)]
        size = sum(column.nbytes for column in columns) / 1e9

        def alone() -> None:
            for column in columns:
                hashlib.sha256(np.ascontiguousarray(column).view("u1").data).digest()

        reference = "hashlib.sha256 alone"
        works: dict[str, Callable[[Any], object]] = {
            "fingerprint": fingerprints.fingerprint,
            "row hashes": rowhashes.row_hashes,
            "as recorded, with the sketch of rows": lambda data: (
                fingerprints.Fingerprint().update(data).record()
            ),
        }
        return [
            Case(reference, partial(measuring.run_here, alone), None, size, "GB"),
            *(
                Case(name, partial(measuring.run_here, partial(work, plain)), reference, size, "GB")
                for name, work in works.items()
            ),
        ]

    def save(self) -> list[Case]:
        """Seconds to save a fitted model: MLflow left to infer what it requires, told so, and the project's saver."""
        import mlflow

        from model_name.core import models, schemas
        from model_name.io import datasets, registries
        from model_name.utils import signers

        mlflow.set_tracking_uri(f"sqlite:///{self.folder / 'saving.db'}")
        mlflow.create_experiment("saving", artifact_location=(self.folder / "artifacts").as_uri())
        mlflow.set_experiment("saving")
        data = datasets.SimulatedReader(rows=3_000).read()
        inputs, targets = schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
        model = models.GradientBoostingModel(max_iter=50).fit(inputs, targets)
        example = inputs[schemas.InputsSchema.features()].head(3)
        signature = signers.InferSigner().sign(example, model.predict(inputs.head(3)))
        wrapped = _Wrapped.around(model)

        def plain(**settings: Any) -> None:
            with mlflow.start_run():
                mlflow.pyfunc.log_model(
                    name="model", python_model=wrapped, signature=signature, **settings
                )

        def project() -> None:
            with mlflow.start_run():
                registries.CustomSaver().save(model, signature, inputs.head(3))

        sent, pinned = signers.to_signature_types(example), registries.pip_requirements()
        reference = "log_model, requirements inferred"
        pinned_case = partial(plain, pip_requirements=pinned, input_example=sent)
        return [
            Case(reference, lambda: measuring.run_here(partial(plain, input_example=sent))),
            Case(
                "log_model, requirements pinned", lambda: measuring.run_here(pinned_case), reference
            ),
            Case("the project's saver", lambda: measuring.run_here(project), reference),
        ]

    def load(self) -> list[Case]:
        """Seconds to load the default model with and without verification of its signature."""
        import mlflow

        from model_name.core import models, schemas
        from model_name.io import datasets, modelfiles, registries
        from model_name.utils import signers

        mlflow.set_tracking_uri(f"sqlite:///{self.folder / 'loading.db'}")
        mlflow.create_experiment("loading", artifact_location=(self.folder / "loading").as_uri())
        mlflow.set_experiment("loading")
        data = datasets.SimulatedReader(rows=3_000).read()
        inputs, targets = schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
        model = models.GradientBoostingModel().fit(inputs, targets)
        example = inputs[schemas.InputsSchema.features()].head(3)
        signature = signers.InferSigner().sign(example, model.predict(inputs.head(3)))
        with mlflow.start_run():
            uri = registries.CustomSaver().save(model, signature, inputs.head(3)).model_uri

        def load(verification: str) -> measuring.Sample:
            loader = registries.CustomLoader(verification=verification)
            return measuring.run_here(lambda: loader.load(uri))

        self.copy = modelfiles.fetch(uri)  # deleted with the benchmark
        folder = Path(self.copy.name, "model")

        def verify() -> measuring.Sample:
            return measuring.run_here(lambda: modelfiles.verify(folder, "the model"))

        unverified = "load, verification off"
        load("off")  # what is imported once is not part of a case
        return [
            Case(unverified, lambda: load("off")),
            Case("load, verified", lambda: load("on"), unverified),
            Case("verification alone", verify, unverified),
        ]


class _Wrapped:
    """The plain way to hand a model to MLflow."""

    @staticmethod
    def around(model: Any) -> Any:
        from mlflow.pyfunc.model import PythonModel

        class Plain(PythonModel):
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # MLflow reads hints
                from model_name.core import schemas

                rows = model_input.rename_axis(schemas.InputsSchema.index_name())
                return model.predict(
                    schemas.InputsSchema.check(rows, only=schemas.InputsSchema.features())
                )

        return Plain()


def _plain_columns(data: Any) -> list[str]:
    """Columns of fixed-size values, of which SHA-256 can read the memory as it is."""
    return [name for name in data.columns if data[name].dtype.kind in "iufbM"]


def _simulated_table(path: Path, rows: int) -> Path:
    """Write a table in pieces, so that this process stays small."""
    from model_name.io import datasets

    with datasets.ParquetWriter(path=str(path)).open() as sink:
        for batch in datasets.SimulatedReader(rows=rows).batches():
            sink.write(batch)
    return path


def main() -> None:
    """Measure what the command line asks for."""
    given = measuring.arguments(__doc__, rounds=5)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        bench = Scale(given.table, Path(folder))
        groups: dict[str, Callable[[], list[Case]]] = {
            "infer": bench.infer,
            "scoring": bench.scoring,
            "fingerprint": bench.fingerprint,
            "save": bench.save,
            "load": bench.load,
        }
        measuring.report(given, groups)


if __name__ == "__main__":
    main()
