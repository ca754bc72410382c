"""Scoring by partitions: the same bits as one table, only what is new, nothing lost and nothing doubled."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from joblib.externals.loky import reusable_executor

from model_name.core import errors
from model_name.io import datasets, services
from model_name.jobs import inference, partitions
from model_name.utils import clusters
from tasks import clusters as processes

DAYS = 4
NAMES = ["01", "02", "03", "010"]  # as texts, 010 comes before 02


@pytest.fixture
def hive(tmp_path: Path, hours: datasets.SimulatedReader) -> Path:
    """Four days of hours; each is a folder."""
    folder, table = tmp_path / "inputs", hours.read()
    for day, name in enumerate(NAMES):
        write(folder / f"zip={name}" / "part-0.parquet", table.iloc[24 * day : 24 * (day + 1)])
    return folder


def write(path: Path, rows: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(path, index=False, row_group_size=10)


def infer(
    store: services.MlflowService,
    inputs: Path | str,
    out: Path,
    cluster: Any = None,
    **settings: Any,
) -> inference.InferenceResult:
    parted = None if out.suffix else partitions.PartitionSettings(**({"n_jobs": None} | settings))
    with inference.InferenceJob(
        inputs=datasets.ParquetReader(path=str(inputs)),
        outputs=datasets.ParquetWriter(path=str(out)),
        alias_or_version="latest",
        partitions=parted,
        cluster=cluster,
        mlflow_service=store,
        logger_service=services.LoggerService(level="ERROR"),
    ) as job:
        return job.run()


def answers(out: Path) -> pd.DataFrame:
    return datasets.ParquetReader(path=str(out)).read().drop(columns="zip", errors="ignore")


@pytest.fixture
def whole(trained: services.MlflowService, hive: Path, tmp_path: Path) -> pd.DataFrame:
    infer(trained, hive, tmp_path / "whole.parquet")
    return answers(tmp_path / "whole.parquet")


def test_partitions_have_the_bits_of_one_table(
    trained: services.MlflowService, hive: Path, whole: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = infer(trained, hive, out)
    pd.testing.assert_frame_equal(answers(out), whole)
    assert (first.rows, first.partitions, first.scored_partitions) == (len(whole), DAYS, DAYS)
    order = [entry.partition for entry in partitions.read_manifest(str(out))]
    assert order == [f"zip={name}/part-0.parquet" for name in NAMES], "2 before 10"
    assert datasets.ParquetReader(path=str(out)).read()["zip"].iloc[0] == "01"
    by_groups = infer(trained, f"{hive}/zip=*/*.parquet", tmp_path / "groups", rows=10)
    assert by_groups.partitions == DAYS * 3
    pd.testing.assert_frame_equal(answers(tmp_path / "groups"), whole)


def test_only_what_is_new_or_changed_is_scored_again(
    trained: services.MlflowService, hive: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", hive / "zip=03" / "part-0.parquet"
    infer(trained, hive, out)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    os.utime(file)
    assert infer(trained, hive, out).scored_partitions == 0, "a later time is no change"
    same = file.stat()
    write(file, pd.read_parquet(file).assign(hum=0.5))
    os.utime(file, ns=(same.st_atime_ns, same.st_mtime_ns))
    write(
        hive / "zip=013" / "part-0.parquet", pd.read_parquet(file).assign(instant=range(900, 924))
    )
    (hive / "zip=01" / "part-0.parquet").unlink()
    again = infer(trained, hive, out)
    assert (again.scored_partitions, again.partitions) == (2, DAYS)
    left = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert len(left) == DAYS
    assert len(left.items() & files.items()) == DAYS - 2, "others are as they were"
    infer(trained, hive, tmp_path / "whole.parquet")
    pd.testing.assert_frame_equal(answers(out), answers(tmp_path / "whole.parquet"))
    # zip=02, zip=03 and zip=010, and not zip=013, which is new
    back = infer(trained, hive, out, backfill=["zip=02", "zip=010"])
    assert (back.scored_partitions, back.partitions) == (3, DAYS)
    assert infer(trained, hive, out, resume=False).scored_partitions == DAYS


def test_a_label_in_two_partitions_is_refused_and_the_old_manifest_stays(
    trained: services.MlflowService, hive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    infer(trained, hive, out)
    before, rows = (out / "_manifest.json").read_bytes(), answers(out)
    table = pd.read_parquet(hive / "zip=010" / "part-0.parquet")
    write(hive / "zip=010" / "part-1.parquet", table.head(3))
    with pytest.raises(
        errors.DataError, match=r"index label 73 .*zip=010/part-0.* and zip=010/part-1"
    ):
        infer(trained, hive, out)
    assert (out / "_manifest.json").read_bytes() == before
    pd.testing.assert_frame_equal(answers(out), rows)
    write(hive / "zip=010" / "part-1.parquet", pd.concat([table.head(1).assign(instant=5000)] * 2))
    with pytest.raises(
        errors.DataError, match=r"(?s)part-1.parquet: .*5000 is there more than once"
    ):
        infer(trained, hive, out)


def test_a_wrong_value_names_its_file_and_nothing_becomes_visible(
    trained: services.MlflowService, hive: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", hive / "zip=03" / "part-0.parquet"
    table = pd.read_parquet(file)
    write(file, table.assign(hr=99))
    with pytest.raises(errors.DataError, match=r"(?s)zip=03/part-0.parquet: .*hr: 99 is above"):
        infer(trained, hive, out)
    with pytest.raises(errors.DataError, match="is not finished"):
        answers(out)
    write(file, table)
    done = infer(trained, hive, out)
    assert done.scored_partitions == DAYS
    assert not (out / "_unfinished").exists()


def test_what_is_refused(trained: services.MlflowService, hive: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the outputs are in the folder of the inputs"):
        infer(trained, hive, hive / "out")
    with pytest.raises(errors.ConfigError, match="no partition is 'zip=99'"):
        infer(trained, hive, tmp_path / "out", backfill=["zip=01", "zip=99"])
    write(tmp_path / "others" / "a.parquet", pd.DataFrame({"a": [1]}))
    with pytest.raises(errors.DataError, match="has files, and no manifest"):
        infer(trained, hive, tmp_path / "others")
    with pytest.raises(errors.DataError, match="there is no file"):
        infer(trained, f"{hive}/zip=9*/*.parquet", tmp_path / "none")


def test_a_memory_file_system(
    trained: services.MlflowService, hive: Path, whole: pd.DataFrame
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(hive), "/partitions-in", recursive=True)
    with inference.InferenceJob(
        inputs=datasets.ParquetReader(path="memory://partitions-in"),
        outputs=datasets.ParquetWriter(path="memory://partitions-out"),
        alias_or_version="latest",
        partitions=partitions.PartitionSettings(n_jobs=None),
        mlflow_service=trained,
        logger_service=services.LoggerService(level="ERROR"),
    ) as job:
        job.run()
    written = datasets.ParquetReader(path="memory://partitions-out").read().drop(columns="zip")
    pd.testing.assert_frame_equal(written, whole)


def kill_after_a_part(out: Path, find: Callable[[], int]) -> threading.Thread:
    """Kill a process once the first file is written."""

    def kill() -> None:
        while not any(out.rglob("*.parquet")):
            time.sleep(0.005)
        os.kill(find(), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


# --------------------------------------------------------------------------------- several processes of this machine
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_local_processes_have_the_same_bits_also_after_one_was_killed(
    trained: services.MlflowService, hive: Path, whole: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    thread = kill_after_a_part(out, lambda: next(iter(reusable_executor._executor._processes)))
    with pytest.raises(errors.ServiceError, match="a worker process of this machine was killed"):
        infer(trained, hive, out, n_jobs=2, rows=1)
    thread.join()
    assert partitions.read_manifest(str(out)) == [], "nothing is visible before all is there"
    parts = DAYS * 3
    done = infer(trained, hive, out, n_jobs=2, rows=1)
    assert (done.rows, done.scored_partitions) == (len(whole), parts)
    pd.testing.assert_frame_equal(answers(out), whole)
    assert len(list(out.rglob("*.parquet"))) == parts, "no file is left over"


# ------------------------------------------------------------------------------------------------ a real cluster
@pytest.fixture(scope="module")
def cluster() -> Iterator[processes.Cluster]:
    with processes.running(workers=2) as running:
        yield running


def test_a_cluster_has_the_same_bits_though_a_worker_dies(
    cluster: processes.Cluster,
    trained: services.MlflowService,
    hive: Path,
    whole: pd.DataFrame,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    thread = kill_after_a_part(out, lambda: cluster.workers[0].pid)
    place = clusters.DaskCluster(address=cluster.address)
    done = infer(trained, hive, out, cluster=place, n_jobs=-1)
    thread.join()
    assert (done.rows, done.scored_partitions) == (len(whole), DAYS)
    pd.testing.assert_frame_equal(answers(out), whole)
    listed = json.loads((out / "_manifest.json").read_text())["partitions"]
    assert len(listed) == len(list(out.rglob("*.parquet"))) == DAYS, "no file is left over"
    assert infer(trained, hive, out, cluster=place, n_jobs=-1).scored_partitions == 0
