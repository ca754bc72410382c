"""Inference: batches and memory, labels that occur twice, all or nothing, and the index there and back."""

import itertools
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_name.core import errors, schemas, scoring
from model_name.io import datasets, registries, services
from model_name.jobs import inference


def infer(
    store: services.MlflowService, reader: datasets.Reader, path: Path, **settings: Any
) -> inference.InferenceResult:
    defaults: dict[str, Any] = {
        "inputs": reader,
        "outputs": datasets.ParquetWriter(path=str(path)),
        "alias_or_version": "latest",
        "mlflow_service": store,
        "logger_service": services.LoggerService(level="ERROR"),
    }
    with inference.InferenceJob(**(defaults | settings)) as job:
        return job.run()


@pytest.fixture
def table(hours: datasets.SimulatedReader) -> pd.DataFrame:
    return hours.read().head(200)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(data: pd.DataFrame) -> datasets.ParquetReader:
        data.to_parquet(tmp_path / "inputs.parquet", index=False)
        return datasets.ParquetReader(path=str(tmp_path / "inputs.parquet"))

    return write


# --------------------------------------------------------------------------------------------------- labels
@given(
    labels=st.lists(st.integers(0, 40), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    text=st.booleans(),
)
def test_a_label_is_refused_if_and_only_if_an_earlier_batch_had_it(
    labels: list[int], cuts: list[int], text: bool
) -> None:
    edges = sorted({0, len(labels), *(cut for cut in cuts if cut < len(labels))})
    # within a batch labels are unique: the schema sees to that
    parts = [list(dict.fromkeys(labels[start:end])) for start, end in itertools.pairwise(edges)]
    batches = [
        pd.Index([f"row {label}" if text else label for label in part]) for part in parts if part
    ]
    together = [label for batch in batches for label in batch]
    unique = inference._UniqueLabels(again=lambda count: batches[:count])
    try:
        for batch in batches:
            unique.add(batch)
    except errors.DataError as error:
        label = str(error).split("label ")[1].split(" is there")[0]
        assert [str(each) for each in together].count(label) > 1
    else:
        assert len(set(together)) == len(together)


@given(sizes=st.lists(st.integers(0, 30), max_size=12), most=st.integers(1, 20))
def test_a_sample_is_spread_evenly(sizes: list[int], most: int) -> None:
    sample, start = inference._EvenSample(most), 0
    for size in sizes:
        sample.add(pd.DataFrame({"prediction": range(start, start + size)}))
        start += size
    assert len(sample.rows) <= most
    if start:
        assert sample.rows["prediction"].tolist() == list(range(0, start, sample.every))
        assert len(sample.rows) >= min(start, most) / 2


# --------------------------------------------------------------------------------------------------- the job
@pytest.mark.parametrize("batch_size", [1, 7, 20, 10_000])
def test_batches_make_no_difference(
    batch_size: int,
    trained: services.MlflowService,
    table: pd.DataFrame,
    write: Any,
    tmp_path: Path,
) -> None:
    rows = table.head(20)
    result = infer(trained, write(rows), tmp_path / "out.parquet", batch_size=batch_size)
    written = pd.read_parquet(tmp_path / "out.parquet")
    model = registries.CustomLoader().load("models:/model_name/1")
    expected = model.predict(schemas.InputsSchema.check(rows))
    assert written.columns.tolist() == ["instant", "prediction", "model_version"]
    assert written["instant"].tolist() == rows["instant"].tolist()
    assert written["prediction"].tolist() == expected["prediction"].tolist()
    assert set(written["model_version"]) == {1}
    assert (result.rows, len(result.sample)) == (len(rows), len(rows))
    run = trained.client().get_run(result.run_id)
    assert run.data.metrics["rows"] == len(rows)


def test_the_index_comes_back_as_it_was(
    trained: services.MlflowService, table: pd.DataFrame, write: Any, tmp_path: Path
) -> None:
    shuffled = table.sample(frac=1, random_state=2)
    infer(trained, write(shuffled), tmp_path / "out.parquet", batch_size=90)
    backwards = schemas.OutputsSchema.check(pd.read_parquet(tmp_path / "out.parquet"))
    assert backwards.index.tolist() == shuffled["instant"].tolist()
    in_order = infer(trained, write(table), tmp_path / "again.parquet")
    pd.testing.assert_frame_equal(
        backwards.sort_index(), schemas.OutputsSchema.check(pd.read_parquet(in_order.location))
    )


def test_targets_are_not_needed_and_gaps_are_no_error(
    trained: services.MlflowService, table: pd.DataFrame, write: Any, tmp_path: Path
) -> None:
    unknown = table.drop(columns="cnt").assign(temp=np.nan, weathersit=None)
    result = infer(trained, write(unknown), tmp_path / "out.parquet")
    assert np.isfinite(result.sample["prediction"]).all()


@pytest.mark.parametrize("wanted", ["Champion", 1, "1", "latest"])
def test_aliases_and_versions_alike(
    wanted: str | int,
    trained: services.MlflowService,
    table: pd.DataFrame,
    write: Any,
    tmp_path: Path,
) -> None:
    trained.start()
    client = trained.client()
    client.set_registered_model_alias("model_name", "Champion", "1")
    if wanted == "latest":
        client.create_model_version(
            "model_name", client.get_model_version("model_name", "1").source
        )
    result = infer(trained, write(table.head(5)), tmp_path / "out.parquet", alias_or_version=wanted)
    version = 2 if wanted == "latest" else 1
    assert result.model_version == version
    assert set(pd.read_parquet(tmp_path / "out.parquet")["model_version"]) == {version}


def test_an_alias_that_does_not_exist(
    trained: services.MlflowService, table: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(
        errors.RegistryError, match="no version or alias 'Champion' .*the versions 1 and no aliases"
    ):
        infer(
            trained,
            datasets.SimulatedReader(),
            tmp_path / "out.parquet",
            alias_or_version="Champion",
        )


def test_a_label_in_two_batches_leaves_the_old_file(
    trained: services.MlflowService, table: pd.DataFrame, write: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "predictions.parquet"
    infer(trained, write(table.head(50)), out)
    before = out.read_bytes()
    doubled = table.assign(instant=[*table["instant"].head(199), table["instant"].iloc[3]])
    with pytest.raises(
        errors.DataError, match=f"label {table['instant'].iloc[3]} is there more than once"
    ):
        infer(trained, write(doubled), out, batch_size=50)
    assert out.read_bytes() == before
    assert [file.name for file in out.parent.iterdir()] == ["predictions.parquet"], (
        "and nothing beside it"
    )


def test_a_wrong_value_in_the_last_batch_leaves_nothing(
    trained: services.MlflowService, table: pd.DataFrame, write: Any, tmp_path: Path
) -> None:
    wrong = table.assign(hr=[*table["hr"].head(199), 99])
    with pytest.raises(
        errors.DataError,
        match=r"hr: 99 is above the greatest allowed value, 23: row \d+ \(instant 200\)",
    ):
        infer(trained, write(wrong), tmp_path / "out" / "predictions.parquet", batch_size=50)
    assert list((tmp_path / "out").iterdir()) == []
    client = trained.client()
    [run] = client.search_runs(
        [client.get_experiment_by_name("model_name").experiment_id],
        "attributes.run_name = 'Inference'",
    )
    assert run.info.status == "FAILED"


def test_many_rows_are_answered_by_compiled_code_with_the_same_bits(
    trained: services.MlflowService,
    table: pd.DataFrame,
    write: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    infer(trained, write(table), tmp_path / "few.parquet", batch_size=50)
    calls: list[int] = []
    compiled = scoring.compile_trees

    def counted(*args: Any) -> Any:
        calls.append(1)
        return compiled(*args)

    monkeypatch.setattr(scoring, "compile_trees", counted)
    monkeypatch.setattr(registries, "_MANY_ROWS", 150)
    infer(trained, write(table), tmp_path / "many.parquet", batch_size=50)
    assert calls == [1], "from the third batch on, laid out once"
    few, many = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("few", "many"))
    pd.testing.assert_frame_equal(few, many, check_exact=True)


def test_a_writer_that_fails_stops_reading_and_scoring(
    trained: services.MlflowService, table: pd.DataFrame, write: Any, tmp_path: Path
) -> None:
    class Full(datasets.ParquetWriter):
        def _arrow_writer(self, file: Any, schema: Any) -> Any:
            raise OSError(28, "No space left on device")

    before = threading.active_count()
    with pytest.raises(errors.DataError, match="No space left"):
        infer(trained, write(table), tmp_path / "new.parquet", batch_size=50,
              outputs=Full(path=str(tmp_path / "full.parquet")))  # fmt: skip
    assert not any(tmp_path.glob("*full*"))
    assert threading.active_count() <= before


def test_a_place_that_cannot_be_written(
    trained: services.MlflowService, table: pd.DataFrame, write: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.DataError, match="file/out.parquet: cannot be written"):
        infer(trained, write(table), tmp_path / "file" / "out.parquet")


def test_memory_does_not_grow_with_the_rows(
    trained: services.MlflowService, tmp_path: Path
) -> None:
    """Four times as many rows, which would not fit into so little: one batch has 4,000."""

    def score(rows: int) -> None:
        infer(
            trained, datasets.SimulatedReader(rows=rows), tmp_path / "out.parquet", batch_size=4_000
        )

    def peak(rows: int) -> int:
        tracemalloc.start()
        score(rows)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    score(100)  # what is imported and cached stays
    few, many = peak(12_000), peak(48_000)
    assert many < 1.3 * few
