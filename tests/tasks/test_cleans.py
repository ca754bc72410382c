"""A table against the schema: every refused value with its row, and a copy that passes."""

from pathlib import Path

import pandas as pd
import pytest
from invoke import Exit

from model_name.core import errors, schemas
from model_name.io import datasets
from tasks import cleans


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Ten hours: one impossible, one in words, one without a target, and one that is there twice."""
    data = datasets.SimulatedReader(rows=10).read().reset_index()
    data = data.drop(columns=[name for name in data if name == "index"]).astype({"hr": "str"})
    data.loc[2, "hum"] = 1.5
    data.loc[4, "hr"] = "noon"
    data["cnt"] = data["cnt"].astype("Int64")
    data.loc[6, "cnt"] = pd.NA
    data.loc[9, "instant"] = data.loc[8, "instant"]
    path = tmp_path / "table.csv"
    data.to_csv(path, index=False)
    return path


def test_every_refused_value_is_named_and_the_copy_passes(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "clean.parquet"
    assert cleans.report(str(table), str(copy), rows=20) == 4
    said = capsys.readouterr().out
    assert "10 rows, 4 of them with 4 value(s) that the schema refuses" in said
    assert "hum is above the greatest allowed value, 1" in said
    assert "hr is not a whole number of 64 bits: 1" in said
    refused = pd.read_csv(tmp_path / "clean-refused.csv")
    assert refused[["row", "column"]].to_numpy().tolist() == [
        [3, "hum"],
        [5, "hr"],
        [7, "cnt"],
        [10, "instant"],
    ]
    clean = pd.read_parquet(copy)
    assert len(schemas.InputsSchema.check(clean)) == len(schemas.TargetsSchema.check(clean)) == 6


def test_without_a_copy_nothing_is_written_and_the_way_out_is_named(table: Path) -> None:
    before = sorted(table.parent.iterdir())
    with pytest.raises(Exit, match="--to FILE writes a copy without the 4 offending"):
        cleans.data.body(None, str(table))
    assert sorted(table.parent.iterdir()) == before


def test_table_that_passes_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.parquet"
    datasets.ParquetWriter(path=str(path)).write(datasets.SimulatedReader(rows=10).read())
    cleans.data.body(None, str(path))
    assert "10 rows, 0 of them" in capsys.readouterr().out


def test_table_without_a_column_is_refused_by_name(table: Path) -> None:
    pd.read_csv(table).drop(columns="hum").to_csv(table, index=False)
    with pytest.raises(errors.DataError, match="'hum' is missing"):
        cleans.report(str(table), "", rows=20)


def test_rows_whose_target_is_not_known_yet_are_checked_too(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv(table).drop(columns="cnt").to_csv(table, index=False)
    assert cleans.report(str(table), str(tmp_path / "clean.csv"), rows=20) == 3
    assert "10 rows, 3 of them" in capsys.readouterr().out
    assert "cnt" not in pd.read_csv(tmp_path / "clean.csv")


def test_store_is_only_removed_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").touch()
    cleans.outputs.body(None)
    with pytest.raises(Exit, match="--yes"):
        cleans.stores.body(None)
    assert (tmp_path / "mlflow.db").exists()
    cleans.stores.body(None, yes=True)
    assert not (tmp_path / "mlflow.db").exists()
