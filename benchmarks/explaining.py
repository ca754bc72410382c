"""What explanations cost: 1,000 rows of both models, beside shap on the same trees and beside prediction."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.measuring import Case
from model_name.core import models, schemas
from model_name.io import datasets

TRAIN_ROWS, ROWS, SHAP_ROWS = 13_900, 1_000, 10


class Explaining:
    """The data that both models are fitted on, and the rows that are explained."""

    def __init__(self, table: Path | None) -> None:
        reader: datasets.Reader = datasets.SimulatedReader()
        if table:
            kind = datasets.CsvReader if table.suffix == ".csv" else datasets.ParquetReader
            reader = kind(path=str(table))
        raw = reader.read()
        inputs, targets = schemas.InputsSchema.check(raw), schemas.TargetsSchema.check(raw)
        self.train, self.targets = inputs.head(TRAIN_ROWS), targets.head(TRAIN_ROWS)
        rest = inputs.iloc[TRAIN_ROWS:]
        self.samples = rest.iloc[np.random.default_rng(0).permutation(len(rest))[:ROWS]]

    def fitted(self, model: models.SklearnModel) -> models.SklearnModel:
        """Fit, explain once so that the code is compiled or loaded, and say how exact that is."""
        model.fit(self.train, self.targets)
        found = model.explain(self.samples)
        print(
            f"{model.KIND}: {found.scale}, largest residual {found.residuals.max():.1e} of {found.tolerance:.1e}"
        )
        return model

    def forest(self) -> list[Case]:
        """The default forest, 200 trees of depth 20, beside shap."""
        model, reference = (
            self.fitted(models.BaselineSklearnModel()),
            f"shap, interventional, {SHAP_ROWS} rows",
        )
        shap = Case(
            reference,
            lambda: measuring.run_here(lambda: self._shap(model)),
            amount=SHAP_ROWS,
            unit="rows",
        )
        return [shap, *self._ours(model, reference)]

    def boosting(self) -> list[Case]:
        """Gradient boosting with native categories, of which shap has wrong values, beside prediction."""
        model = self.fitted(models.GradientBoostingModel())
        predict = Case("predict", lambda: measuring.run_here(lambda: model.predict(self.samples)))
        return [predict, *self._ours(model, "predict")]

    def _ours(self, model: models.SklearnModel, reference: str) -> list[Case]:
        def explain(threads: int) -> measuring.Sample:
            model.n_jobs = threads
            return measuring.run_here(lambda: model.explain(self.samples))

        names = {1: f"explain {ROWS:,} rows, 1 thread", 2: f"explain {ROWS:,} rows, 2 threads"}
        return [
            Case(name, functools.partial(explain, threads), reference, len(self.samples), "rows")
            for threads, name in names.items()
        ]

    def _shap(self, model: models.SklearnModel) -> Any:
        import shap

        pipeline = model.get_internal_model()
        encoded = pipeline["encode"].transform(self.samples.head(SHAP_ROWS))
        trees, background = pipeline["estimate"], pipeline.background_
        explainer = shap.TreeExplainer(trees, background, feature_perturbation="interventional")
        return explainer.shap_values(
            encoded, check_additivity=False
        )  # its sums miss this forest's predictions


def main() -> None:
    """Measure what the command line asks for."""
    given = measuring.arguments(__doc__, rounds=3)
    bench = Explaining(given.table)
    groups: dict[str, Callable[[], list[Case]]] = {
        "forest": bench.forest,
        "boosting": bench.boosting,
    }
    measuring.report(given, groups)


if __name__ == "__main__":
    main()
