"""What surrounds a run must not change it in silence: leftover variables, links, proxies, names, other checkouts."""

import errno
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loguru
import mlflow
import pandas as pd
import pydantic as pdt
import pytest

from model_name.core import errors
from model_name.execution import pages
from model_name.io import datasets, files, osvariables, registries, services, stores
from model_name.jobs import base, promotion
from model_name.records import gitstates, provenance, reproductions

ROOT = Path(__file__).parents[2]
TRAINING = services.MlflowRunConfig(name="Training")
NAMES = ["a?b 50% #1", "a%20b%3Fc", 'kid\'s "größe" 日', "a&b=c;d+e@f[g]*"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Leave the environment, which MLflow changes too, as it was."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    osvariables.env.cache_clear()


# ------------------------------------------------------------------------------------------ a run of its own
def test_a_leftover_run_id_leads_nowhere(
    store: services.MlflowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.start()
    with store.run_context(TRAINING) as first:
        mlflow.log_metric("r2", 0.9)
    before = store.client().get_run(first.info.run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", first.info.run_id)
    assert store.remarks(TRAINING) == [
        "MLFLOW_RUN_ID is set and ignored: a job starts a run of its own"
    ]
    with store.run_context(services.MlflowRunConfig(name="Inference")) as second:
        mlflow.log_metric("rows", 5)
    with (
        pytest.raises(ZeroDivisionError),
        store.run_context(services.MlflowRunConfig(name="Evaluation")) as third,
    ):
        _ = 1 / 0
    after = store.client().get_run(first.info.run_id)
    assert (after.to_dictionary(), os.environ["MLFLOW_RUN_ID"]) == (
        before.to_dictionary(),
        first.info.run_id,
    )
    assert len({run.info.run_id for run in (first, second, third)}) == 3
    ends = [store.client().get_run(run.info.run_id).info.status for run in (second, third)]
    assert ends == ["FINISHED", "FAILED"]


VARIABLES = {
    "MLFLOW_RUN_ID": "0" * 32,
    "MLFLOW_EXPERIMENT_ID": "4711",
    "MLFLOW_RUN_CONTEXT": '{"mlflow.parentRunId": "1", "team": "x"}',
    "MLFLOW_ACTIVE_MODEL_ID": "m-1",
    "_MLFLOW_ACTIVE_MODEL_ID": "m-1",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
}


def test_variables_that_redirect_are_ignored_and_said(store: services.MlflowService) -> None:
    code = (
        "import json, sys; from model_name.io import services; import mlflow\n"
        "service = services.MlflowService(tracking_uri=sys.argv[1], experiment_name='mine'); service.start()\n"
        "config = service.RunConfig(name='Training'); remarks = service.remarks(config)\n"
        "with service.run_context(config) as run:\n    mlflow.log_metrics({'a': 1.0}); mlflow.log_params({'b': 2})\n"
        "run = service.client().get_run(run.info.run_id)\n"
        "tags = {each: run.data.tags.get(each) for each in ('mlflow.parentRunId', 'team')}\n"
        "experiment = service.client().get_experiment(run.info.experiment_id).name\n"
        "print(json.dumps([remarks, run.data.metrics, run.data.params, tags, experiment, run.info.status]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, store.resolved_tracking_uri]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **VARIABLES}
    )
    assert done.returncode == 0, done.stderr
    remarks, *rest = json.loads(done.stdout)
    assert sorted(remark.partition(" ")[0].partition("=")[0] for remark in remarks) == sorted(
        VARIABLES
    )
    assert all("ignored: " in remark for remark in remarks)
    assert rest == [
        {"a": 1.0},
        {"b": "2"},
        {"mlflow.parentRunId": None, "team": None},
        "mine",
        "FINISHED",
    ]


def test_system_metrics_are_the_environments_choice_when_the_configuration_leaves_it(
    store: services.MlflowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "bikes")
    followed = "MLFLOW_WORKSPACE=bikes is followed: runs and models are in this workspace"
    assert store.remarks(services.MlflowRunConfig(name="a", log_system_metrics=None)) == [followed]


def test_a_run_that_is_active_becomes_the_parent(store: services.MlflowService) -> None:
    store.start()
    with mlflow.start_run() as outer:
        store.start()
        with store.run_context(TRAINING) as inner:
            mlflow.log_metric("r2", 0.9)
        mlflow.log_metric("compared", 1)
        assert store.client().get_run(outer.info.run_id).info.status == "RUNNING"
    runs = [store.client().get_run(run.info.run_id) for run in (outer, inner)]
    assert [run.data.metrics for run in runs] == [{"compared": 1}, {"r2": 0.9}]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert runs[1].data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_a_run_that_is_active_in_another_store_is_not_lost(
    store: services.MlflowService, empty_store: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_store / "mlflow.db", tmp_path / "other.db")
    other = services.MlflowService(tracking_uri=osvariables.sqlite_address(tmp_path / "other.db"))
    other.start()
    with (
        mlflow.start_run() as outer,
        pytest.raises(errors.ServiceError, match="is active in .*other.db.*end_run"),
    ):
        store.start()
    assert other.client().get_run(outer.info.run_id).info.status == "FINISHED"


# ------------------------------------------------------------------------------------------ addresses and names
@pytest.mark.parametrize("name", NAMES)
def test_a_store_is_in_its_folder_whatever_that_is_called(
    name: str, empty_store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_store / "mlflow.db", folder)
    address = osvariables.sqlite_address(folder / "mlflow.db")
    assert osvariables.sqlite_path(address) == folder / "mlflow.db"
    service = services.MlflowService(tracking_uri=address, experiment_name="mine")
    service.start()
    with service.run_context(TRAINING) as run:
        mlflow.log_text("hello", "notes/a.txt")
    assert names_in(tmp_path) == [name], "nothing was made elsewhere"
    kept = folder / "mlartifacts" / run.info.run_id / "artifacts" / "notes" / "a.txt"
    assert kept.read_text() == "hello"
    assert list(provenance.artifact_hashes(service.client(), run.info.run_id)) == ["notes/a.txt"]


def test_the_default_store_is_in_a_folder_with_a_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "what?").mkdir()
    monkeypatch.chdir(tmp_path / "what?")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    osvariables.env.cache_clear()
    assert (
        osvariables.sqlite_path(osvariables.env().mlflow_tracking_uri)
        == tmp_path / "what?" / "mlflow.db"
    )


def test_an_address_that_was_pasted_together_is_refused() -> None:
    pasted = services.MlflowService(tracking_uri="sqlite:////srv/what?/mlflow.db")
    with pytest.raises(
        errors.ServiceError, match=r"its address is 'sqlite\+pysqlite:////srv/what%3F/mlflow.db'"
    ):
        pasted.start()


@pytest.mark.parametrize(
    "name", ["kid's bikes", 'the "new" one', "50% off", "a#b", "größe 日", "a;b & c"]
)
def test_a_model_is_found_again_whatever_its_name(
    name: str, trained: services.MlflowService
) -> None:
    service = trained.model_copy(update={"registry_name": osvariables.check_model_name(name)})
    service.start()
    client = service.client()
    source = client.get_model_version("model_name", "1").source
    made = registries.MlflowRegister().register(name, source)
    assert registries.find_version(client, name, "latest").version == made.version
    assert registries.CustomLoader().load(registries.model_uri(made)) is not None
    with pytest.raises(errors.RegistryError, match="it has the versions 1 and no aliases"):
        registries.find_version(client, name, 9)


@pytest.mark.parametrize(
    "name",
    [
        "demand/hourly",
        "a:b",
        "a?b",
        "a@b",
        "..",
        "..a",
        " ",
        "a\tb",
        "a\nb",
        'it\'s "a"',
        "x" * 241,
    ],
)
def test_a_name_that_mlflow_cannot_find_again_is_refused_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        pdt.ValidationError, match="cannot be the name of a registered model.*demand-hourly"
    ):
        services.MlflowService(registry_name=name)
    monkeypatch.setenv("MLFLOW_REGISTERED_MODEL_NAME", name)
    osvariables.env.cache_clear()
    with pytest.raises(
        errors.ConfigError, match="variable MLFLOW_REGISTERED_MODEL_NAME.*cannot be the name"
    ):
        osvariables.env()


def test_other_names_are_checked_where_they_are_configured() -> None:
    with pytest.raises(pdt.ValidationError, match="the name of an experiment is empty"):
        services.MlflowService(experiment_name=" ")
    with pytest.raises(pdt.ValidationError, match="'who\\?' cannot be the name of a tag"):
        services.MlflowRunConfig(name="a", tags={"who?": "me"})
    with pytest.raises(pdt.ValidationError, match="'who\\?' cannot be the name of a tag"):
        registries.MlflowRegister(tags={"who?": "me"})
    with pytest.raises(
        pdt.ValidationError,
        match="'v1.2' cannot be the name of a model within its run: it has '.' in it",
    ):
        registries.CustomSaver(path="v1.2")
    with pytest.raises(pdt.ValidationError, match="'best one' cannot be an alias"):
        promotion.PromotionJob(alias="best one")


@pytest.mark.parametrize(
    "variable", ["MLFLOW_REGISTERED_MODEL_NAME", "job.mlflow_service.registry_name"]
)
def test_check_refuses_a_name(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_name import steps

    overrides = []
    if variable.startswith("job"):
        overrides = [f"{variable}=demand/hourly"]
    else:
        monkeypatch.setenv(variable, "demand/hourly")
    osvariables.env.cache_clear()
    with pytest.raises(
        errors.ConfigError, match="'demand/hourly' cannot be the name of a registered model"
    ):
        steps.load_steps(["train"], overrides)


# ------------------------------------------------------------------------------------------ files in their place
TABLE = pd.DataFrame({"hr": [1, 2], "cnt": [3.5, 4.5]})


def write_csv(path: Path) -> None:
    datasets.CsvWriter(path=str(path)).write(TABLE)


def write_parquet(path: Path) -> None:
    datasets.ParquetWriter(path=str(path)).write(TABLE)


def write_text(path: Path) -> None:
    datasets.write_text(str(path), "<p>")


def write_page(path: Path) -> None:
    source = path.parent / "source.ipynb"
    source.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    pages.write(source, path)


WRITERS = [write_csv, write_parquet, write_text, write_page]


@pytest.mark.parametrize("write", WRITERS)
def test_a_link_stays_and_its_target_is_written(write: Any, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "june"
    target.parent.mkdir()
    target.write_text("before")
    target.chmod(0o640)
    link, second = tmp_path / "latest", tmp_path / "newest"
    link.symlink_to(Path("elsewhere", "june"))
    second.symlink_to("latest")
    write(second)
    assert (os.readlink(second), os.readlink(link)) == ("latest", os.path.join("elsewhere", "june"))  # noqa: PTH115, PTH118
    assert (target.stat().st_mode & 0o777, target.read_bytes() != b"before") == (0o640, True)
    assert [path.name for path in target.parent.iterdir()] == ["june"]


def test_a_link_to_nothing_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "latest.csv").symlink_to("june.csv")
    write_csv(tmp_path / "latest.csv")
    assert ((tmp_path / "latest.csv").is_symlink(), (tmp_path / "june.csv").is_symlink()) == (
        True,
        False,
    )


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes are of POSIX")
@pytest.mark.parametrize("write", WRITERS)
def test_a_device_and_a_pipe_are_written_to(write: Any, tmp_path: Path) -> None:
    pipe, ordinary = tmp_path / "pipe", tmp_path / "ordinary"
    os.mkfifo(pipe)
    write(ordinary)
    received: list[bytes] = []
    listener = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    listener.start()
    write(pipe)
    listener.join(timeout=30)
    assert received == [ordinary.read_bytes()]
    assert pipe.is_fifo()
    (tmp_path / "nothing").symlink_to(os.devnull)
    write(tmp_path / "nothing")
    assert (Path(os.devnull).is_char_device(), (tmp_path / "nothing").is_symlink()) == (True, True)


def test_a_mode_is_kept_and_a_new_file_has_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    for mode in (0o600, 0o664, 0o777):
        path = tmp_path / f"{mode:o}.csv"
        path.touch()
        path.chmod(mode)
        write_csv(path)
        assert path.stat().st_mode & 0o7777 == mode
    write_csv(tmp_path / "new.csv")
    assert (tmp_path / "new.csv").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away"
)
def test_an_owner_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.touch()
    os.chown(path, 12345, 12346)
    write_csv(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_text])
def test_what_cannot_be_written_is_said(write: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    fixed = tmp_path / "fixed"
    fixed.write_text("before")
    fixed.chmod(0o444)
    for name, reason in {
        "folder": "it is a folder; name a file in it",
        "loop": "a symbolic link that leads to itself; remove it",
        "fixed": "the file is read-only; make it writable or name another one",
        "fixed/below": "Not a directory|File exists",
    }.items():
        with pytest.raises(errors.DataError, match=f"{name}: cannot be written: .*({reason})"):
            write(tmp_path / name)
    assert fixed.read_text() == "before"
    assert names_in(tmp_path) == ["fixed", "folder", "loop"]


def test_a_failure_within_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")

    def fail() -> None:
        with files.replacing(path) as draft:
            draft.write_text("half")
            raise OSError(errno.EIO, "of somebody else")

    with pytest.raises(OSError, match="of somebody else") as caught:
        fail()
    assert (caught.value.errno, path.read_text(), names_in(tmp_path)) == (
        errno.EIO,
        "before",
        ["a.csv"],
    )


def test_names_in_the_same_second(tmp_path: Path) -> None:
    wanted, names, barrier = (
        tmp_path / "new" / "20260131-120000-train.ipynb",
        [],
        threading.Barrier(8),
    )

    def start() -> None:
        barrier.wait()
        with files.reserve(wanted) as path:
            names.append(path.name)
            barrier.wait()
            path.write_text(path.name)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == sorted(
        [wanted.name, *(f"20260131-120000-train-{n}.ipynb" for n in range(2, 9))]
    )
    assert sorted(path.name for path in wanted.parent.iterdir()) == sorted(names)
    with files.reserve(wanted) as path:
        assert path.name == "20260131-120000-train-9.ipynb", "nobody's file is replaced"


# ------------------------------------------------------------------------------------------ where tables come from
def test_the_source_of_a_data_set_has_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(reader: datasets.Reader) -> Any:
        return json.loads(reader.lineage("inputs", TABLE).source.to_json())

    place = tmp_path / "what? 50%" / "table.csv"
    monkeypatch.chdir(tmp_path)
    assert source(datasets.CsvReader(path=str(place))) == {"uri": place.as_uri()}
    assert source(datasets.ParquetReader(path="a.parquet")) == {
        "uri": (tmp_path / "a.parquet").as_uri()
    }
    assert source(datasets.ParquetReader(path="s3://bucket/a")) == {"uri": "s3://bucket/a"}
    web = datasets.CsvReader(path="https://me:hunter2@example.org/a.csv?sig=hunter2")
    assert source(web) == {"url": "https://***@example.org/a.csv?***"}
    monkeypatch.setenv("DB", "postgresql://me:hunter2@db.example.org/shop?password=hunter2")
    found = source(datasets.SqlReader(address_variable="DB", table="orders"))["tags"]
    assert (found["uri"], found["location"]) == (
        "postgresql://db.example.org/shop",
        "$DB, table orders",
    )
    assert source(datasets.SimulatedReader())["tags"]["kind"] == "SimulatedReader"


# ------------------------------------------------------------------------------------------ the code that runs
def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def notebook(*cells: str, count: int | None = None, tags: tuple[str, ...] = ()) -> str:
    """Return a notebook as an editor writes it: run, if there is a count."""
    outputs = (
        [] if count is None else [{"output_type": "stream", "name": "stdout", "text": ["x" * 99]}]
    )
    code = {
        "cell_type": "code",
        "execution_count": count,
        "metadata": {"tags": list(tags)},
        "outputs": outputs,
    }
    listed = [{**code, "id": f"{number:08}", "source": [text]} for number, text in enumerate(cells)]
    return json.dumps(
        {"cells": listed, "metadata": {"saved": count}, "nbformat": 4, "nbformat_minor": 5},
        indent=1,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout of this project with one commit."""
    folder = tmp_path / "checkout"
    for name in ("nbs/runs", "confs", "model_name/core"):
        (folder / name).mkdir(parents=True)
    for name in ("model_name/__init__.py", "model_name/core/__init__.py", "settings.ini", "a.txt"):
        (folder / name).touch()
    (folder / "nbs" / "runs" / "train.ipynb").write_text(notebook("a = 1"))
    git(folder, "init", "-b", "work")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_outputs_and_counters_are_no_change(checkout: Path) -> None:
    file = checkout / "nbs" / "runs" / "train.ipynb"
    file.write_text(notebook("a = 1", count=7))
    assert git(checkout, "status", "--porcelain") == "M nbs/runs/train.ipynb"
    assert gitstates.git_state(checkout).dirty is False
    (checkout / "a.txt").write_text("changed")
    patch, left_out = gitstates.git_patch(checkout)
    assert (gitstates.git_state(checkout).dirty, "train.ipynb" in str(patch), left_out) == (
        True,
        False,
        [],
    )
    git(checkout, "checkout", "--", "a.txt")
    for changed in (
        notebook("a = 2", count=7),
        notebook("a = 1", "b", count=7),
        notebook("a = 1", tags=("x",)),
        "{}",
    ):
        file.write_text(changed)
        assert gitstates.git_state(checkout).dirty is True
    file.unlink()
    assert gitstates.git_state(checkout).dirty is True


def test_a_filter_is_applied_before_files_are_compared(checkout: Path) -> None:
    (checkout / ".gitattributes").write_text("*.txt text\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "line ends")
    (checkout / "b.txt").write_text("one\ntwo\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "text")
    (checkout / "b.txt").write_bytes(b"one\r\ntwo\r\n")
    assert git(checkout, "status", "--porcelain") == "M b.txt"
    assert gitstates.git_state(checkout).dirty is False


def test_dubious_ownership_is_said_with_the_way_out(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("LANGUAGE", "de")
    state = gitstates.git_state(checkout)
    assert (state.commit, state.dirty) == (None, None)
    assert str(state.reason).endswith(
        f"another user: git config --global --add safe.directory {checkout}"
    )
    monkeypatch.setattr(osvariables, "package_checkout", lambda: checkout)
    monkeypatch.chdir(checkout)
    assert gitstates.code_remarks(state) == [f"the commit of the code is unknown: {state.reason}"]


def test_the_repository_of_a_hook_is_not_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-b", "other", "hooked")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "hooked" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "hooked" / "index"))
    assert (gitstates.git_state(checkout).branch, gitstates.git_state(checkout).dirty) == (
        "work",
        False,
    )


def test_a_shallow_clone_has_a_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "a.txt").write_text("2")
    git(checkout, "commit", "-am", "second")
    git(tmp_path, "clone", "--depth", "1", checkout.as_uri(), "shallow")
    state = gitstates.git_state(tmp_path / "shallow")
    assert (state.commit, state.dirty, state.reason) == (
        git(checkout, "rev-parse", "HEAD"),
        False,
        None,
    )


BEGIN = (
    "import json; from model_name.records import provenance\n"
    "record = provenance.begin({}); print(json.dumps([record.git.commit, record.git.reason, record.remarks]))"
)


def begun(folder: Path, *, package: Path) -> Any:
    """Return commit, reason and remarks of a record that is begun in a folder, with the package of another one."""
    code = f"import sys; sys.path.insert(0, {str(package)!r})\n{BEGIN}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the real package, a second work tree of it at another commit, and an installed copy."""
    place = tmp_path_factory.mktemp("copies")
    first = place / "first"
    first.mkdir()
    (first / "nbs").mkdir()
    (first / "nbs" / "a.txt").touch()
    shutil.copy(ROOT / "settings.ini", first)
    shutil.copytree(
        ROOT / "model_name", first / "model_name", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(first / "model_name", place / "installed" / "model_name")
    git(first, "init", "-b", "work")
    git(first, "add", ".")
    git(first, "commit", "-m", "first")
    git(first, "worktree", "add", "-b", "second", str(place / "second"))
    (place / "second" / "model_name" / "core" / "errors.py").write_text(
        "raise ImportError('the other code')\n"
    )
    git(place / "second", "commit", "-am", "second")
    return place


def test_a_record_names_the_commit_of_the_code_that_runs(copies: Path) -> None:
    first, second = copies / "first", copies / "second"
    commit = git(first, "rev-parse", "HEAD")
    assert begun(first, package=first) == [commit, None, []]
    found, reason, remarks = begun(second, package=first)
    assert (found, reason) == (commit, None)
    assert [
        f"the code that runs is in {first}/model_name, not in {second}" in remark
        for remark in remarks
    ] == [True]
    assert begun(copies, package=first) == [commit, None, []], (
        "an editable installation that is used from elsewhere"
    )


def test_an_installed_package_has_no_commit_in_anybodys_repository(
    copies: Path, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-b", "work")
    git(tmp_path, "commit", "--allow-empty", "-m", "somebody's")
    installed = copies / "installed"
    commit, reason, remarks = begun(tmp_path, package=installed)
    assert (commit, remarks) == (None, [])
    assert reason == f"the package is installed in {installed}/model_name, not in a checkout"
    commit, _, remarks = begun(copies / "first", package=installed)
    assert (commit, len(remarks)) == (None, 1)


class Nothing(base.Job):
    """Does nothing, and records it."""

    VERB = "nothing"
    KIND: str = "Nothing"

    def run(self) -> base.JobResult:
        with self.recording(TRAINING) as recorder:
            return base.JobResult(job=self.KIND, summary="", run_id=recorder.run_id, experiment="")


def test_the_record_of_a_job_says_what_is_unusual(
    store: services.MlflowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(
        gitstates, "code_state", lambda: gitstates.GitState(reason="git is not installed here")
    )
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with Nothing(
        mlflow_service=store, logger_service=services.LoggerService(sink=os.devnull)
    ) as job:
        handler = loguru.logger.add(
            lambda message: warned.append(message.record["message"]), level="WARNING"
        )
        done = job.run()
        loguru.logger.remove(handler)
    record = reproductions.find_record(done.run_id, store)
    assert (
        warned
        == record.remarks
        == [
            "the commit of the code is unknown: git is not installed here",
            "MLFLOW_RUN_ID is set and ignored: a job starts a run of its own",
        ]
    )
    tags = store.client().get_run(done.run_id).data.tags
    assert (record.git.commit, tags["mlflow.source.git.commit"]) == (None, "unknown")


# ------------------------------------------------------------------------------------------ proxies and warnings
class Health(http.server.BaseHTTPRequestHandler):
    """Says that it is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("known", ["", "example.org"])
def test_a_server_on_this_machine_is_asked_without_the_proxy(
    host: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", known)
    monkeypatch.setenv("NO_PROXY", known)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    address = f"http://{host}:{server.server_port}"
    try:
        with pytest.raises(requests.exceptions.ProxyError):
            requests.get(address, timeout=5)
        stores.reach(address)
        assert requests.get(f"{address}/health", timeout=5).status_code == 200, (
            "MLflow asks in this way"
        )
    finally:
        server.shutdown()
        server.server_close()
    assert (
        os.environ["NO_PROXY"]
        == os.environ["no_proxy"]
        == ",".join(filter(None, [known, host, f"[{host}]"]))
    )


def test_other_servers_are_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(errors.ServiceError, match="http://mlflow.example.org cannot be reached"):
        stores.reach("http://mlflow.example.org")
    assert "no_proxy" not in os.environ
    near = ["localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "a.localhost"]
    far = ["example.org", "10.0.0.1", "localhost.example.org", "", None, "127.example.org"]
    assert [stores.is_on_this_machine(host) for host in near + far] == [True] * 6 + [False] * 6


@pytest.mark.parametrize("option", [["-W", "error"], []])
def test_warnings_that_were_made_errors_do_not_end_a_job(
    option: list[str], empty_store: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_store / "mlflow.db", tmp_path)
    code = (
        "from model_name.jobs import base\n"
        "from model_name.io import services; import os, warnings\n"
        "class Job(base.Job):\n"
        "    VERB = 'try'\n    KIND: str = 'Try'\n    def run(self): warnings.warn('old', DeprecationWarning)\n"
        f"place = services.MlflowService(tracking_uri='sqlite:///{tmp_path.as_posix()}/mlflow.db')\n"
        "with Job(mlflow_service=place) as job:\n    job.run()\n"
        "print('done', os.environ.get('PYTHONWARNINGS'))"
    )
    variables = {} if option else {"PYTHONWARNINGS": "error"}
    command = [sys.executable, *option, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
    assert (done.returncode, done.stdout) == (0, "done None\n"), done.stderr
    assert "PYTHONWARNINGS=error is not followed" in done.stderr


# ------------------------------------------------------------------------------------------ and what else there is
def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, shutil, sys; shutil.rmtree(os.getcwd())\n"
        "from model_name import scripts; sys.exit(scripts.main(['check', 'train']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=gone, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (
        2,
        "error: the working directory does not exist any more: change to a folder that exists (cd), and start again",
    )


def test_no_colours_when_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert services._shows_colors("stderr") is True
    monkeypatch.setenv("NO_COLOR", "1")
    assert services._shows_colors("stderr") is False


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu"},
        {"COLUMNS": "1", "TERM": "dumb", "HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
    ],
)
def test_a_command_works_in_an_unusual_environment(
    variables: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "model_name", "check", "train"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )
    assert (done.returncode, done.stdout) == (0, "train: TrainingJob is valid\n"), done.stderr
