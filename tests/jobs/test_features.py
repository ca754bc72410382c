"""Features of one's own through the jobs: batches, streams, history, explanations."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model_name.core import errors, features, models, schemas, workspaces
from model_name.core.features import feature
from model_name.io import datasets, registries, services
from model_name.jobs import evaluations, explanations, inference, training, tuning
from model_name.streaming import codecs, deadletters, scorers
from model_name.utils import searchers, splitters

QUIET = services.LoggerService(level="ERROR")


@feature(role="numeric")
def felt_difference(inputs: pd.DataFrame) -> pd.Series:
    return inputs["atemp"] - inputs["temp"]


@feature(role="numeric", looks_back="7D", by="hr", target=True)
def same_hour(history: pd.DataFrame) -> float:
    return float(history["cnt"].mean())


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(workspaces.declared().__dict__, "features", [felt_difference, same_hour])
    for cached in (features._declared, features._read_by_functions):
        cached.cache_clear()
    yield
    for cached in (features._declared, features._read_by_functions):
        cached.cache_clear()


def files(folder: Path) -> dict[str, Any]:
    """Write 40 days, of which the last ten are to be predicted, and name their readers."""
    table = datasets.SimulatedReader(rows=24 * 40).read()
    parts = {
        "all": table,
        "past": table.iloc[: 24 * 30],
        "now": table.iloc[24 * 30 :].drop(columns="cnt"),
    }
    for name, part in parts.items():
        part.to_parquet(folder / f"{name}.parquet", index=False)
    return {name: datasets.ParquetReader(path=str(folder / f"{name}.parquet")) for name in parts}


def test_jobs_compute_features_alike(tmp_path: Path, store: services.MlflowService) -> None:
    readers = files(tmp_path)
    shared: dict[str, Any] = {"mlflow_service": store, "logger_service": QUIET}
    both = {"inputs": readers["past"], "targets": readers["past"]}
    with training.TrainingJob(
        **both,
        model=models.GradientBoostingModel(max_iter=20),
        splitter=splitters.TrainTestSplitter(test_size=240),
        **shared,
    ) as job:
        job.run()

    def infer(**settings: Any) -> pd.DataFrame:
        path = str(tmp_path / "predictions.parquet")
        writer = datasets.ParquetWriter(path=path)
        with inference.InferenceJob(
            inputs=readers["now"], outputs=writer, alias_or_version="latest", **settings, **shared
        ) as job:
            job.run()
        return pd.read_parquet(path)

    together = infer(history=readers["past"])
    pd.testing.assert_frame_equal(infer(history=readers["past"], batch_size=10), together)
    assert not infer()["prediction"].equals(together["prediction"]), (
        "without history the target's past is missing"
    )

    # a stream that is told the value answers bit by bit the same
    version = registries.find_version(store.client(), store.resolved_registry_name, "latest")
    adapter = registries.CustomLoader().load(registries.model_uri(version)).require_same_tables()
    now = schemas.InputsSchema.check(readers["now"].read())
    seen = features.look_back(now, history=readers["past"].read()).head(20)
    served = scorers.LoadedVersion("bikes", 1, adapter.predictor())
    scorer = scorers.Scorer(lambda: served, codecs.JsonDecoder(), codecs.JsonEncoder(), 10_000)
    records = seen.reset_index().to_json(orient="records", date_format="iso", double_precision=15)
    answers = scorer([json.dumps(record).encode() for record in json.loads(records)])
    told = [json.loads(answer)["prediction"] for answer in answers if isinstance(answer, bytes)]
    assert told == together["prediction"].head(20).tolist()
    record = json.loads(records)[0]
    del record["same_hour"]
    refused = scorer([json.dumps(record).encode()])[0]
    assert isinstance(refused, deadletters.Rejected)
    assert "same_hour looks back, and a stream has no history" in refused.reason

    everything = {
        "inputs": readers["all"],
        "targets": readers["all"],
        "alias_or_version": "latest",
    } | shared
    with evaluations.EvaluationsJob(**everything, resamples=20, beat_naive=False) as job:
        scored = job.run().scored
    assert (
        scored["prediction"].tail(24).tolist() != together["prediction"].tail(24).tolist()
    )  # targets are known here
    with explanations.ExplanationsJob(
        **everything,
        samples=10,
        resamples=2,
        shap_values=datasets.ParquetWriter(path=str(tmp_path / "shap.parquet")),
        feature_importances=datasets.ParquetWriter(path=str(tmp_path / "importances.parquet")),
        report=str(tmp_path / "report.html"),
    ) as job:
        result = job.run()
    assert {"felt_difference", "same_hour"} <= set(result.importances["feature"])


def test_folds_that_would_show_targets_of_the_test_are_refused(
    tmp_path: Path, store: services.MlflowService
) -> None:
    readers = files(tmp_path)
    both: dict[str, Any] = {"inputs": readers["past"], "targets": readers["past"]}
    shuffled = splitters.TrainTestSplitter(test_size=0.2, shuffle=True)
    search = searchers.GridCVSearcher(param_grid={"max_iter": [5]})
    for job in (
        training.TrainingJob(**both, splitter=shuffled, mlflow_service=store, logger_service=QUIET),
        tuning.TuningJob(
            **both,
            holdout=None,
            splitter=shuffled,
            searcher=search,
            mlflow_service=store,
            logger_service=QUIET,
        ),
    ):
        with (
            job as started,
            pytest.raises(errors.ConfigError, match="some training rows come after test rows"),
        ):
            started.run()
