"""What an index label means, the same in every job: one row where it is declared unique, nothing where it is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing.pandas import Index, Series

from model_name.core import alignment, errors, models, schemas
from model_name.core import metrics as metrics_
from model_name.io import datasets, services
from model_name.jobs import evaluations, explanations, inference, tables, training, tuning
from model_name.utils import searchers, splitters

ROWS, TEST = 300, 60
Use = Callable[[dict[str, Any]], None]


def visits() -> pd.DataFrame:
    """Draw visits of a few customers; what a customer spends follows from the minutes and the shop."""
    random = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "customer": random.choice(["anna", "bert", "cleo", "dora"], ROWS),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(ROWS) // 4, unit="D"),
            "minutes": random.uniform(1, 60, ROWS),
            "shop": random.choice(["north", "south"], ROWS),
        }
    )
    table["spent"] = (
        2 * table["minutes"] + 40 * (table["shop"] == "north") + random.normal(0, 1, ROWS)
    )
    return table


def declare(index: dict[str, Any] | None) -> dict[str, Any]:
    """Declare the tables of visits, with an index that is unique, one that is not, or none."""
    columns: dict[str, Any] = {
        "day": (Series[pa.DateTime], pa.Field(metadata={"time": True, "feature": False})),
        "minutes": (Series[float], pa.Field()),
        "shop": (Series[str], pa.Field(metadata={"slice": True, "season": True})),
    }
    label: dict[str, Any] = {} if index is None else {"customer": (Index[str], pa.Field(**index))}

    def schema(name: str, fields: dict[str, Any]) -> type[schemas.Schema]:
        fields = label | fields
        namespace = {key: field for key, (_, field) in fields.items()}
        annotations = {key: kind for key, (kind, _) in fields.items()}
        return type(
            name,
            (schemas.Schema,),
            namespace | {"__annotations__": annotations, "__module__": __name__},
        )

    return {
        "InputsSchema": schema("Inputs", columns),
        "TargetsSchema": schema("Targets", {"spent": (Series[float], pa.Field())}),
        "OutputsSchema": schema("Outputs", {"prediction": (Series[float], pa.Field())}),
    }


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any] | None], None]:
    def declared(index: dict[str, Any] | None) -> None:
        for name, schema in declare(index).items():
            monkeypatch.setattr(schemas, name, schema)

    return declared


def written(table: pd.DataFrame, path: Path) -> datasets.CsvReader:
    table.to_csv(path, index=False)
    return datasets.CsvReader(path=str(path))


@pytest.mark.parametrize("index", [{"unique": False}, None])
def test_every_job_takes_rows_by_position_where_labels_repeat(
    index: dict[str, Any] | None, use: Any, store: services.MlflowService, tmp_path: Path
) -> None:
    use(index)
    table = visits()
    reader = written(table, tmp_path / "visits.csv")
    quiet: dict[str, Any] = {
        "mlflow_service": store,
        "logger_service": services.LoggerService(level="ERROR"),
    }
    pair: dict[str, Any] = {"inputs": reader, "targets": reader}
    split = splitters.TrainTestSplitter(test_size=TEST)
    model = models.GradientBoostingModel(max_iter=60, n_jobs=1)
    with tuning.TuningJob(
        model=model,
        holdout=split,
        splitter=splitters.TimeSeriesSplitter(n_splits=2, test_size=40),
        searcher=searchers.GridCVSearcher(param_grid={"max_leaf_nodes": [7, 15]}, n_jobs=1),
        **pair,
        **quiet,
    ) as job:
        assert job.run().rows == ROWS - TEST
    with training.TrainingJob(model=model, splitter=split, tuned="latest", **pair, **quiet) as job:
        trained = job.run()
    assert len(trained.scored) == trained.test_rows == TEST
    assert trained.metrics["r2_score"] > 0.95
    with evaluations.EvaluationsJob(resamples=20, thresholds={}, **pair, **quiet) as job:
        evaluated = job.run()
    assert (evaluated.rows, len(evaluated.scored)) == (TEST, TEST)
    assert evaluated.metrics["r2_score"] == pytest.approx(trained.metrics["r2_score"])
    assert evaluated.slices.loc[evaluated.slices["slice"] == "shop", "rows"].sum() == TEST
    assert evaluated.scored["spent"].tolist() == pytest.approx(table["spent"].tail(TEST).tolist())
    results = []
    for size in (7, 300):
        outputs = datasets.ParquetWriter(path=str(tmp_path / f"{size}.parquet"))
        with inference.InferenceJob(
            inputs=reader, outputs=outputs, alias_or_version=1, batch_size=size, **quiet
        ) as job:
            assert job.run().rows == ROWS
        results.append(pd.read_parquet(outputs.path))
    pd.testing.assert_frame_equal(*results)
    if index:
        assert results[0]["customer"].tolist() == table["customer"].tolist()
    with explanations.ExplanationsJob(
        samples=20,
        alias_or_version=1,
        shown=["anna"] if index else [],
        n_jobs=1,
        resamples=5,
        shap_values=datasets.ParquetWriter(path=str(tmp_path / "values.parquet")),
        feature_importances=datasets.ParquetWriter(path=str(tmp_path / "importances.parquet")),
        report=str(tmp_path / "page.html"),
        **pair,
        **quiet,
    ) as job:
        explained = job.run()
    assert len(explained.shap_values) == explained.rows >= 20
    assert sum(name.startswith("sample_anna") for name in explained.figures) == (
        (table["customer"].tail(TEST) == "anna").sum() if index else 0
    )


@pytest.mark.parametrize("size", [7, 1_000])
def test_a_doubled_unique_label_is_refused_at_every_batch_size(
    size: int, use: Any, store: services.MlflowService, tmp_path: Path
) -> None:
    use({"unique": True})
    table = visits().assign(customer=[f"c{row}" for row in range(ROWS)])
    table.loc[250, "customer"] = "c3"
    reader = written(table, tmp_path / "visits.csv")
    quiet: dict[str, Any] = {
        "mlflow_service": store,
        "logger_service": services.LoggerService(level="ERROR"),
    }
    good = written(table.drop(index=250), tmp_path / "good.csv")
    with training.TrainingJob(
        inputs=good,
        targets=good,
        model=models.GradientBoostingModel(max_iter=5, n_jobs=1),
        splitter=splitters.TrainTestSplitter(test_size=TEST),
        **quiet,
    ) as job:
        job.run()
    outputs = datasets.ParquetWriter(path=str(tmp_path / "out.parquet"))
    with (
        pytest.raises(errors.DataError, match="c3.*there more than once"),
        inference.InferenceJob(
            inputs=reader, outputs=outputs, alias_or_version=1, batch_size=size, **quiet
        ) as job,
    ):
        job.run()
    assert not Path(outputs.path).exists()


# ---------------------------------------------------------------------------------------------- two tables, one meaning
def pair(tmp_path: Path, inputs: pd.DataFrame, targets: pd.DataFrame) -> tuple[Any, Any]:
    checks = (schemas.InputsSchema, schemas.TargetsSchema)
    readers = (written(inputs, tmp_path / "inputs.csv"), written(targets, tmp_path / "targets.csv"))
    return tables.read_pair(readers, checks)


def test_unique_labels_match_tables_in_any_order(use: Any, tmp_path: Path) -> None:
    use({"unique": True})
    table = visits().assign(customer=[f"c{row}" for row in range(ROWS)])
    inputs, targets = pair(
        tmp_path, table.drop(columns="spent"), table.sample(frac=1)[["customer", "spent"]]
    )
    assert targets.index.equals(inputs.index)
    assert targets["spent"].tolist() == table["spent"].tolist()
    with pytest.raises(errors.DataError, match=r"1 row\(s\) only in the inputs, such as c9$"):
        pair(tmp_path, table.drop(columns="spent"), table.drop(index=9)[["customer", "spent"]])


def test_repeated_labels_have_to_agree_position_by_position(use: Any, tmp_path: Path) -> None:
    use({"unique": False})
    table = visits()
    inputs, targets = pair(tmp_path, table.drop(columns="spent"), table[["customer", "spent"]])
    assert targets["spent"].tolist() == table["spent"].tolist()
    assert targets.index.equals(inputs.index)
    with pytest.raises(
        errors.DataError,
        match=r"matched by position, and row \d+ is \w+ in the inputs and \w+ in the",
    ):
        pair(tmp_path, table.drop(columns="spent"), table[::-1][["customer", "spent"]])
    with pytest.raises(
        errors.DataError, match=r"inputs \(300 rows\) and targets \(299 rows\).*matched by position"
    ):
        pair(tmp_path, table.drop(columns="spent"), table[["customer", "spent"]].head(299))


def test_tables_without_labels_have_to_have_as_many_rows(use: Any, tmp_path: Path) -> None:
    use(None)
    table = visits()
    assert (
        pair(tmp_path, table.drop(columns="spent"), table[["spent"]])[1]["spent"].tolist()
        == table["spent"].tolist()
    )
    with pytest.raises(
        errors.DataError,
        match="no unique labels, so rows are matched by position; declare the index",
    ):
        pair(tmp_path, table.drop(columns="spent"), table[["spent"]].head(299))


# ---------------------------------------------------------------------------------------------------- parts of the jobs
def test_the_naive_forecast_and_slices_with_repeated_labels(use: Any) -> None:
    """The same figures as with labels that do not repeat."""
    found = []
    for index in ({"unique": False}, {"unique": True}):
        use(index)
        table = visits()
        if index["unique"]:
            table["customer"] = [f"c{row}" for row in range(ROWS)]
        inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
        rows = np.arange(ROWS) >= ROWS - TEST
        naive = evaluations.naive_forecast(inputs, targets, rows)
        scored = alignment.join_by_position(targets[rows], naive)
        metric = metrics_.SklearnMetric(name="mean_absolute_error", greater_is_better=False)
        slices = evaluations.slice_scores(
            [metric], inputs[rows], scored, ["shop", "minutes", "day"]
        )
        found.append((naive["prediction"].tolist(), slices.astype("str").to_numpy().tolist()))
    assert found[0] == found[1]


def test_tables_side_by_side() -> None:
    index = pd.Index(["a", "a", "b"], name="key")
    left, right = (
        pd.DataFrame({"self": [1, 2, 3]}, index=index),
        pd.DataFrame({"y": [4, 5, 6]}, index=index),
    )
    both = alignment.join_by_position(left, right)
    assert both.to_numpy().tolist() == [[1, 4], [2, 5], [3, 6]]
    assert both.index.equals(index)
    with pytest.raises(errors.DataError, match="more than one table has a column named 'y'"):
        alignment.join_by_position(right, right)
    with pytest.raises(errors.DataError, match="not about the same rows"):
        alignment.join_by_position(left, right[::-1])


# ----------------------------------------------------------------------------------------------------------------- time
def test_rows_without_a_time_come_last_and_none_is_lost() -> None:
    days = pd.to_datetime(["2024-03-02", None, "2024-03-01"])
    inputs, targets = alignment.sort_by_time(
        pd.DataFrame({"day": days}), pd.DataFrame({"y": [1, 2, 3]}), ["day"]
    )
    assert targets["y"].tolist() == [3, 1, 2]
    assert inputs["day"].isna().tolist() == [False, False, True]


def test_the_repeated_hour_is_put_into_its_true_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inputs(schemas.Schema):
        at: Series[pa.DateTime] = pa.Field(metadata={"time": True, "zone": "Europe/Berlin"})

    class Targets(schemas.Schema):
        load: Series[int]

    monkeypatch.setattr(schemas, "InputsSchema", Inputs)
    monkeypatch.setattr(schemas, "TargetsSchema", Targets)
    hours = pd.date_range("2024-10-26T22:00", "2024-10-27T04:00", freq="30min", tz="UTC")
    table = pd.DataFrame({"at": hours.strftime("%Y-%m-%dT%H:%M:%SZ"), "load": range(len(hours))})
    reader = written(table.sample(frac=1, random_state=2), tmp_path / "load.csv")
    inputs, targets = tables.read_pair((reader, reader), (Inputs, Targets))
    assert targets["load"].tolist() == list(range(len(hours)))
    assert inputs["at"].tolist() == hours.tz_convert("Europe/Berlin").tz_localize(None).tolist()
    assert inputs["at"].duplicated().sum() == 2
