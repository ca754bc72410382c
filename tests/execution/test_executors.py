"""The executor: real kernels, a real store, and every way in which a notebook can end."""

import ast
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from mlflow.entities import Run

from model_name.core import errors
from model_name.execution import executors, kernels, terminals
from model_name.io import redaction, services, stores

posix = pytest.mark.skipif(sys.platform == "win32", reason="uses the signals of POSIX systems")
QUIET = executors.PapermillExecutor(show_log=False, show_progress=False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> services.MlflowService:
    """A store with one experiment."""
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    service = services.MlflowService(
        tracking_uri=f"sqlite:///{store.as_posix()}", experiment_name="tests"
    )
    service.start()
    return service


@pytest.fixture
def elsewhere(tmp_path: Path) -> services.MlflowService:
    """A store that nobody has made, for notebooks without runs."""
    return services.MlflowService(tracking_uri=f"sqlite:///{tmp_path.as_posix()}/none.db")


def write(path: Path, *cells: str, parameters: str | None = "config = None") -> Path:
    """Write a notebook, by default one with a parameter."""
    tagged: list[tuple[dict[str, list[str]], str]] = (
        [] if parameters is None else [({"tags": ["parameters"]}, parameters)]
    )
    body: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell{number}",
            "metadata": metadata,
            "source": textwrap.dedent(source),
            "outputs": [],
            "execution_count": None,
        }
        for number, (metadata, source) in enumerate([*tagged, *(({}, cell) for cell in cells)])
    ]
    path.write_text(
        json.dumps({"cells": body, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
        encoding="utf-8",
    )
    return path


def run_cell(service: services.MlflowService, then: str = "pass") -> str:
    """Write a cell that does something inside an MLflow run."""
    return (
        "from model_name.io import services\n"
        f"service = services.MlflowService(tracking_uri={service.tracking_uri!r}, experiment_name='tests')\n"
        "service.start()\n"
        f"with service.run_context(service.RunConfig(name='job')) as run:\n    {then}\n"
    )


def outputs(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def text(notebook: Path) -> str:
    return "".join("".join(output.get("text", [])) for output in outputs(notebook))


def all_runs(service: services.MlflowService) -> list[Run]:
    client = service.client()
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    return list(
        client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    )


# ------------------------------------------------------------------------------------------------------- it works
def test_a_notebook_with_a_run(
    service: services.MlflowService,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    configuration = '{"name": "007", "note": "\\"quoted\\" \\n back\\\\slash, ünïcode, {braces}"}'
    source = write(
        tmp_path / "train {1}.ipynb",
        "import os, sys, json",
        "print(os.getcwd(), sys.executable, sep='|')",
        "print('read 3 rows', file=sys.stderr)",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        run_cell(service, "print(run.info.run_id)"),
        f"""
        from IPython.display import display
        for summary in ("first", "last"):
            record = {{"summary": summary, "config": config, "notebook": os.environ[{stores.NOTEBOOK_VARIABLE!r}]}}
            display({{{stores.RECORD_MIME!r}: record, "text/plain": summary}}, raw=True)
        """,
    )
    before, environment = source.read_bytes(), dict(os.environ)
    destination = tmp_path / "new" / "folder" / "train {1}.ipynb"
    executor = executors.PapermillExecutor(show_progress=True)
    execution = executor.execute(source, {"config": configuration}, destination, service)

    assert (execution.error, execution.notebook) == (None, destination)
    assert execution.result == {
        "summary": "last",
        "config": configuration,
        "notebook": str(destination),
    }
    lines = text(destination).splitlines()
    assert lines[0] == f"{tmp_path}|{sys.executable}"
    assert [lines[-1]] == list(execution.run_ids)
    assert any("image/png" in output.get("data", {}) for output in outputs(destination))
    shown = capsys.readouterr().err
    assert "read 3 rows\n" in shown
    assert "train {1}: cell 8 of 8" in shown
    assert "IPKernelApp" not in shown

    client = service.client()
    run = client.get_run(execution.run_ids[0])
    assert run.info.status == "FINISHED"
    attached = client.list_artifacts(run.info.run_id, "notebook")
    assert [artifact.path for artifact in attached] == [
        "notebook/train {1}.html",
        "notebook/train {1}.ipynb",
    ]
    (tmp_path / "down").mkdir()
    downloaded = Path(
        client.download_artifacts(run.info.run_id, attached[1].path, str(tmp_path / "down"))
    )
    assert downloaded.read_bytes() == destination.read_bytes()
    assert json.loads(destination.read_text())["metadata"]["papermill"]["output_path"] == str(
        destination
    )
    assert execution.page == destination.with_suffix(".html")
    assert sorted(destination.parent.iterdir()) == [execution.page, destination]  # no draft
    assert (source.read_bytes(), dict(os.environ)) == (before, environment)


@settings(deadline=None)
@given(st.text())
def test_a_text_goes_in_as_it_is(value: str) -> None:
    executors._papermill()
    from papermill.translators import papermill_translators

    translator = papermill_translators.find_translator("python3", "python")
    (statement,) = ast.parse(translator.codify({"config": value})).body
    assert isinstance(statement, ast.Assign)
    assert ast.literal_eval(statement.value) == value


def test_papermill_finds_the_parameters_of_an_executed_notebook(tmp_path: Path) -> None:
    """papermill's own tools read the parameters, and replace them."""
    papermill = executors._papermill()
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    python = {"kernel_name": "python3", "language": "python"}
    source = load_notebook_node(str(write(tmp_path / "train.ipynb", "print(config)")))
    config = "job:\n  path: C:\\data\n---\nfolder: .\n"
    executed = parameterize_notebook(source, {"config": config}, **python)
    cell = executed.cells[1].source.splitlines()
    assert cell[1:4] == ['config = """\\', "job:", "  path: C:\\\\data"]
    executed.metadata["kernelspec"] = {"name": "python3", "language": "python"}
    (tmp_path / "one.ipynb").write_text(json.dumps(executed), encoding="utf-8")
    assert list(papermill.inspect_notebook(str(tmp_path / "one.ipynb"))) == ["config"]
    again = parameterize_notebook(executed, {"config": "a: 1\nb: 2\n"}, **python)
    injected = [cell.source for cell in again.cells if "injected-parameters" in cell.metadata.tags]
    assert injected == ['# Parameters\nconfig = """\\\na: 1\nb: 2\n"""\n']


def test_importing_papermill_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(
        sys.modules, "rfc3987_syntax", raising=False
    )  # which tasks/ hides from the process for good
    executors._papermill.__wrapped__()
    assert sys.modules.get("rfc3987_syntax", "absent") is not None
    with terminals.hidden("json"):
        assert sys.modules["json"] is json
    with terminals.hidden("no_such_module"), pytest.raises(ModuleNotFoundError):
        __import__("no_such_module")
    assert "no_such_module" not in sys.modules


# ------------------------------------------------------------------------------------- refused before a kernel starts
@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the start of a kernel an error."""
    monkeypatch.setattr(kernels.Kernel, "launch", lambda self: pytest.fail("a kernel was started"))


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train.ipynb",
            "config: str = None\nx = 1",
            "train.ipynb has no parameter 'confg' (it has: config, x)",
        ),
        ("train.ipynb", "config = None", "did you mean 'config'?"),
        ("train.ipynb", "1 + 1", "(it has: none)"),
        ("train.ipynb", "config = = 1", "the parameters cell of train.ipynb is not valid Python"),
        ("train.ipynb", None, "train.ipynb has no cell with the tag 'parameters'"),
        ("trian.ipynb", "config = None", "trian.ipynb; did you mean 'train.ipynb'?"),
    ],
)
def test_parameters_and_sources_that_cannot_be_meant(
    name: str, content: str | None, message: str, elsewhere: services.MlflowService, tmp_path: Path
) -> None:
    write(tmp_path / "train.ipynb", parameters=content)
    with pytest.raises(errors.ConfigError, match=re.escape(message)):
        QUIET.execute(tmp_path / name, {"confg": "{}"}, tmp_path / "out" / "train.ipynb", elsewhere)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_kernel")
@pytest.mark.parametrize("content", ["", "KIND: TrainingJob", "{}", "[]", '{"cells": 3}', "\xff"])
def test_a_file_that_is_not_a_notebook(
    content: str, elsewhere: services.MlflowService, tmp_path: Path
) -> None:
    source = tmp_path / "train.yaml"
    source.write_bytes(content.encode("latin-1"))
    with pytest.raises(errors.ConfigError, match="train.yaml is not a notebook that can be read"):
        QUIET.execute(source, {}, tmp_path / "out.ipynb", elsewhere)


@pytest.mark.usefixtures("no_kernel")
def test_destinations_that_cannot_be_written(
    elsewhere: services.MlflowService, tmp_path: Path
) -> None:
    source = write(tmp_path / "train.ipynb")
    with pytest.raises(errors.ConfigError, match="would be replaced by its own execution"):
        QUIET.execute(source, {}, source, elsewhere)
    with pytest.raises(errors.NotebookError, match="cannot be written to .*train.ipynb.*out.ipynb"):
        QUIET.execute(source, {}, source / "out.ipynb", elsewhere)
    with pytest.raises(errors.NotebookError, match="it is a folder"):
        QUIET.execute(source, {}, tmp_path, elsewhere)


# ------------------------------------------------------------------------------------------------------ cells that fail
def test_a_cell_that_raises_fails_a_run_that_was_finished(
    service: services.MlflowService, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "train.ipynb", run_cell(service, "print('so far')"), "int('x')", "print('never')"
    )
    execution = QUIET.execute(source, {}, tmp_path / "out.ipynb", service)
    assert type(execution.error) is errors.NotebookError
    assert str(execution.error) == (
        "train.ipynb, cell 3: ValueError: invalid literal for int() with base 10: 'x'"
    )
    assert execution.error.__notes__ == [
        f"To look into it, with this configuration: jupyter lab {tmp_path / 'out.ipynb'}"
    ]
    assert text(tmp_path / "out.ipynb") == "so far\n"
    (run,) = (service.client().get_run(identifier) for identifier in execution.run_ids)
    assert run.info.status == "FAILED"
    page, notebook = service.client().list_artifacts(run.info.run_id, "notebook")
    assert (page.path, notebook.path) == ("notebook/out.html", "notebook/out.ipynb")
    shown = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "so far" in shown
    assert "invalid literal for int() with base 10" in shown


def test_a_gate_leaves_its_run_finished(service: services.MlflowService, tmp_path: Path) -> None:
    refusal = f"""
    from IPython.display import display
    from model_name.core import errors
    display({{{stores.RECORD_MIME!r}: {{"refusals": ["r2"]}}}}, raw=True)
    raise errors.GateError("r2 0.79 < 0.80\\nrmse 90 > 80")
    """
    source = write(tmp_path / "evaluate.ipynb", run_cell(service), refusal)
    execution = QUIET.execute(source, {}, tmp_path / "out.ipynb", service)
    assert (type(execution.error), str(execution.error)) == (
        errors.GateError,
        "r2 0.79 < 0.80\nrmse 90 > 80",
    )
    assert execution.result == {"refusals": ["r2"]}
    assert not hasattr(execution.error, "__notes__"), "there is nothing to fix in the notebook"
    assert service.client().get_run(execution.run_ids[0]).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%run no_such_file.py", "Exception: File `'no_such_file.py'` not found"),
        ("%no_such_magic", "UsageError: Line magic function `%no_such_magic` not found"),
        ("import sys; sys.exit(2)", "SystemExit: 2"),
    ],
)
def test_failures_that_are_not_exceptions_of_a_cell(
    cell: str, message: str, elsewhere: services.MlflowService, tmp_path: Path
) -> None:
    source = write(tmp_path / "train.ipynb", cell, "print('never')")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # where no signal handler can be set
        execution = pool.submit(
            QUIET.execute, source, {}, tmp_path / "out.ipynb", elsewhere
        ).result()
    assert message in str(execution.error)
    assert "train.ipynb, cell 2: " in str(execution.error)
    assert "error" in [output["output_type"] for output in outputs(tmp_path / "out.ipynb")]
    assert "never" not in text(tmp_path / "out.ipynb")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("ename", "evalue", "kind", "message"),
    [
        ("DataError", "\x1b[31mno rows\x1b[0m", errors.DataError, "no rows"),
        ("ConfigError", "x", errors.ConfigError, "x"),
        ("annotations", "x", errors.NotebookError, "a.ipynb, cell 4: annotations: x"),
        ("KeyError", "", errors.NotebookError, "a.ipynb, cell 4: KeyError"),
    ],
)
def test_an_error_keeps_its_class(ename: str, evalue: str, kind: type, message: str) -> None:
    error = executors._failure(ename, evalue, 4, Path("a.ipynb"), "")
    assert (type(error), str(error)) == (kind, message)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("out/train.ipynb", "jupyter lab out/train.ipynb"),
        ("my runs/a'b.ipynb", "jupyter lab 'my runs/a'\"'\"'b.ipynb'"),
    ],
)
def test_the_command_that_opens_a_notebook(
    path: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert executors.reopen_command(tmp_path / path) == command


def test_a_failed_notebook_fails_in_the_same_way_when_it_is_opened_again(
    elsewhere: services.MlflowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("a\n1\n")
    read = """
    import json
    from pathlib import Path
    from model_name import steps
    from model_name.io import configs, redaction
    loaded = configs.loads(config, "config").data
    steps._enter_folder(loaded["folder"])
    found = json.loads(redaction.unseal(json.dumps(loaded)))
    raise ValueError(f"{Path(found['path']).read_text().split()} for {len(found['password'])} letters")
    """
    source = write(tmp_path / "train.ipynb", read)
    text = "path: table.csv\npassword: <secret REOPENED_PASSWORD>\n---\nfolder: ../..\n"
    sealed = {"config": text}
    secret = {"REOPENED_PASSWORD": "hush-hush"}
    failed = QUIET.execute(
        source, sealed, tmp_path / "out" / "1" / "train.ipynb", elsewhere, secret
    )
    assert str(failed.error) == "train.ipynb, cell 3: ValueError: ['a', '1'] for 9 letters"
    assert failed.error is not None
    command = failed.error.__notes__[0].rpartition(": ")[2]
    assert command == "jupyter lab out/1/train.ipynb"

    nbconvert = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to",
        "notebook",
        "--execute",
        "--stdout",
        command.split()[-1],
    ]
    without = {
        name: value for name, value in os.environ.items() if name != stores.NOTEBOOK_VARIABLE
    }
    again = subprocess.run(nbconvert, env=without | secret, capture_output=True, text=True)
    assert again.returncode == 1
    assert ": ['a', '1'] for 9 letters" in again.stderr
    forgotten = subprocess.run(nbconvert, env=without, capture_output=True, text=True)
    assert "set the environment variable REOPENED_PASSWORD" in forgotten.stderr


# ------------------------------------------------------------------------------------------------- kernels that die
@posix
def test_a_killed_kernel_fails_its_runs(service: services.MlflowService, tmp_path: Path) -> None:
    nested = "import os, signal, mlflow; mlflow.start_run(nested=True, run_name='trial')"
    death = f"{nested}; os.kill(os.getpid(), signal.SIGKILL)"
    source = write(
        tmp_path / "train.ipynb", "print('first')", run_cell(service, death), "print('never')"
    )
    execution = QUIET.execute(source, {}, tmp_path / "out.ipynb", service)
    assert type(execution.error) is errors.NotebookError
    assert "train.ipynb: the kernel died in cell 3 (killed? out of memory?)" in str(execution.error)
    assert text(tmp_path / "out.ipynb") == "first\n"
    trial, job = all_runs(service)[:2]
    assert (job.info.run_id,) == execution.run_ids
    assert (job.info.status, trial.info.run_name, trial.info.status) == (
        "FAILED",
        "trial",
        "FAILED",
    )
    cells = json.loads(execution.notebook.read_text(encoding="utf-8"))["cells"]
    states = [
        cell["metadata"]["papermill"]["status"] for cell in cells if "papermill" in cell["metadata"]
    ]
    assert states == ["completed", "completed", "failed", "pending"]


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


@posix
def test_a_kernel_that_dies_while_it_starts_is_started_again(
    elsewhere: services.MlflowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"
    start = [
        f"echo x >> {tries}",
        f'[ $(wc -l < {tries}) -gt 2 ] && exec {sys.executable} "$@"',
        "exit 1",
    ]
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", *start))
    source = write(tmp_path / "train.ipynb", "print('ran')")
    execution = QUIET.execute(source, {}, tmp_path / "out.ipynb", elsewhere)
    assert (execution.error, text(tmp_path / "out.ipynb"), tries.read_text()) == (
        None,
        "ran\n",
        "x\nx\nx\n",
    )


@posix
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "echo No module named ipykernel_launcher >&2; exit 1",
            "died 3 times while it started: No module named ipy",
        ),
        ("echo wait >&2; exec sleep 600", "did not start within 5 seconds: wait"),
    ],
)
def test_a_kernel_that_does_not_start(
    line: str,
    message: str,
    elsewhere: services.MlflowService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", f"echo $$ >> {pids}", line))
    executor = executors.PapermillExecutor(show_log=False, show_progress=False, start_timeout=5.0)
    with pytest.raises(errors.NotebookError, match=re.escape(message)):
        executor.execute(
            write(tmp_path / "train.ipynb"), {}, tmp_path / "out" / "out.ipynb", elsewhere
        )
    assert list((tmp_path / "out").iterdir()) == []
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -------------------------------------------------------------------------------------------------- many at once
MANY = """
import sys
from pathlib import Path
from model_name.execution import executors
from model_name.execution import terminals
from model_name.execution import kernels
from model_name.io import services
from model_name.io import stores
source, destination, uri = sys.argv[1:]
service = services.MlflowService(tracking_uri=uri, experiment_name="tests")
done = executors.PapermillExecutor(show_log=False).execute(Path(source), {}, Path(destination), service)
sys.exit(str(done.error) if done.error else 0)
"""


def test_six_commands_at_the_same_moment_on_a_store_that_nobody_has_made(tmp_path: Path) -> None:
    store = services.MlflowService(
        tracking_uri=f"sqlite:///{tmp_path.as_posix()}/mlflow.db", experiment_name="tests"
    )
    source = write(
        tmp_path / "train.ipynb", run_cell(store, "import mlflow; mlflow.log_metric('score', 1.0)")
    )
    start = [sys.executable, "-c", MANY, str(source)]
    commands = [
        subprocess.Popen(
            [*start, str(tmp_path / f"{number}.ipynb"), str(store.tracking_uri)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    said = [command.communicate()[1] for command in commands]
    assert [command.returncode for command in commands] == [0] * 6, said
    runs = all_runs(store)
    assert [(run.info.status, run.data.metrics) for run in runs] == [
        ("FINISHED", {"score": 1.0})
    ] * 6
    for run in runs:
        assert len(store.client().list_artifacts(run.info.run_id, "notebook")) == 2


# ----------------------------------------------------------------------------------------------------- interruptions
PARENT = """
import sys
from pathlib import Path
from model_name.execution import executors
from model_name.execution import terminals
from model_name.execution import kernels
from model_name.io import redaction
from model_name.io import services
from model_name.io import stores
source, destination, uri = sys.argv[1:]
service = services.MlflowService(tracking_uri=uri, experiment_name="tests")
try:
    executors.PapermillExecutor().execute(Path(source), {"config": "{}"}, Path(destination), service)
except KeyboardInterrupt:
    sys.exit(130)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_everything(
    number: int, service: services.MlflowService, tmp_path: Path
) -> None:
    wait = "import os, sys, time; print('pid', os.getpid(), file=sys.stderr); time.sleep(600)"
    source = write(
        tmp_path / "train.ipynb", "print('so far')", run_cell(service, wait), "print('never')"
    )
    command = [
        sys.executable,
        "-c",
        PARENT,
        str(source),
        str(tmp_path / "out.ipynb"),
        str(service.tracking_uri),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        kernel = next(int(line.split()[1]) for line in process.stderr if line.startswith("pid"))
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait() == 130, rest
    assert "Interrupted. What ran is kept in" in rest
    assert "Traceback" not in rest
    assert not alive(kernel)
    assert all_runs(service)[0].info.status == "KILLED"
    assert [
        output["ename"]
        for output in outputs(tmp_path / "out.ipynb")
        if output["output_type"] == "error"
    ] == ["KeyboardInterrupt"]
    assert "so far\n" in text(tmp_path / "out.ipynb")
    assert "never\n" not in text(tmp_path / "out.ipynb")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.html",
        "out.ipynb",
        "train.ipynb",
    ]


@posix
@pytest.mark.parametrize(
    "stubborn",
    [
        "try:\n    os.kill({pid}, signal.SIGINT); threading.Event().wait()\nexcept KeyboardInterrupt: pass",
        "signal.signal(signal.SIGINT, signal.SIG_IGN); os.kill({pid}, signal.SIGINT); threading.Event().wait()",
    ],
    ids=["swallows", "ignores"],
)
def test_a_cell_cannot_refuse_an_interruption(
    stubborn: str,
    elsewhere: services.MlflowService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "_INTERRUPT_SECONDS", (0.2,))
    source = write(
        tmp_path / "train.ipynb",
        "import os, signal, threading",
        stubborn.format(pid=os.getpid()),
        "print('never')",
    )
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        QUIET.execute(source, {}, tmp_path / "out.ipynb", elsewhere)
    assert "never\n" not in text(tmp_path / "out.ipynb")
    assert signal.getsignal(signal.SIGINT) is before


@posix
@pytest.mark.parametrize("moment", ["before", "while"])
def test_an_interruption_while_the_kernel_starts(
    moment: str, elsewhere: services.MlflowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, interrupted = kernels._kernel_manager, threading.Event()

    def make_later(folder: Path) -> Any:
        assert interrupted.wait(60), "the process that starts did not interrupt this one"
        return make(folder)

    start = script(
        tmp_path / "python", f"echo $$ > {tmp_path}/pid", "kill -INT $PPID", "exec sleep 600"
    )
    monkeypatch.setattr(sys, "executable", start)
    if moment == "before":  # as on a machine that is busy: nobody manages the kernel yet
        monkeypatch.setattr(kernels, "_kernel_manager", make_later)
        hear = kernels.Interruption.interrupt
        monkeypatch.setattr(
            kernels.Interruption, "interrupt", lambda its: (hear(its), interrupted.set())
        )
    with pytest.raises(KeyboardInterrupt):
        QUIET.execute(write(tmp_path / "train.ipynb"), {}, tmp_path / "out.ipynb", elsewhere)
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not (tmp_path / "out.ipynb").exists()


@posix
def test_the_second_interruption_is_obeyed_at_once() -> None:
    interruption = kernels.Interruption()
    with kernels.interrupting(interruption):
        signal.raise_signal(signal.SIGINT)
        assert interruption.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


STOPS_BY_ITSELF = """
import signal, sys, threading
told = threading.Event()
signal.signal(signal.SIGINT, lambda *_: told.set())
print("ready", file=sys.stderr)
{first}told.wait()
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_ends_by_itself_is_only_asked(
    number: int, service: services.MlflowService, tmp_path: Path
) -> None:
    """Its cell finishes, the cells after it run, and the run is a success."""
    stops = run_cell(service, "; ".join(STOPS_BY_ITSELF.format(first="").strip().splitlines()))
    source = write(tmp_path / "train.ipynb", stops, "print('and after')")
    program = PARENT.replace(
        "Path(destination), service)", "Path(destination), service, shutdown_seconds=60)"
    )
    command = [
        sys.executable,
        "-c",
        program,
        str(source),
        str(tmp_path / "out.ipynb"),
        str(service.tracking_uri),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line == "ready\n" for line in process.stderr)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait() == 0, rest
    assert all_runs(service)[0].info.status == "FINISHED"
    assert "and after\n" in text(tmp_path / "out.ipynb")


@posix
def test_a_job_that_does_not_end_by_itself_is_interrupted(
    elsewhere: services.MlflowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_INTERRUPT_SECONDS", (0.2,))
    first = f"__import__('os').kill({os.getpid()}, signal.SIGTERM); told.wait(); "
    source = write(
        tmp_path / "train.ipynb", STOPS_BY_ITSELF.format(first=first) * 2, "print('never')"
    )
    with pytest.raises(KeyboardInterrupt):
        QUIET.execute(source, {}, tmp_path / "out.ipynb", elsewhere, shutdown_seconds=0.5)
    assert "never\n" not in text(tmp_path / "out.ipynb")


@posix
@pytest.mark.parametrize("isolated", [False, True])
def test_sigterm_where_sigint_is_ignored(
    isolated: bool, elsewhere: services.MlflowService, tmp_path: Path
) -> None:
    """As under nohup: the kernel is interrupted all the same, and needs not be killed."""
    source = write(
        tmp_path / "train.ipynb", f"import os, time; os.kill({os.getpid()}, 15); time.sleep(600)"
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    executor = executors.PapermillExecutor(show_log=False, show_progress=False, isolated=isolated)
    with pytest.raises(KeyboardInterrupt):
        executor.execute(source, {}, tmp_path / "out.ipynb", elsewhere)
    assert "KeyboardInterrupt" in [
        output["ename"]
        for output in outputs(tmp_path / "out.ipynb")
        if output["output_type"] == "error"
    ]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@posix
def test_a_signal_in_another_thread_wakes_the_one_that_waits(
    elsewhere: services.MlflowService, tmp_path: Path
) -> None:
    """The main thread waits for the kernel, and the system hands the signal to a thread that does not."""
    source = write(
        tmp_path / "train.ipynb",
        f"import pathlib, time; pathlib.Path({str(tmp_path / 'here')!r}).touch(); time.sleep(600)",
    )

    def send() -> None:
        while not (tmp_path / "here").exists():
            time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        QUIET.execute(source, {}, tmp_path / "out.ipynb", elsewhere)


@posix
def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        interruption = kernels.Interruption()
        with kernels.interrupting(interruption):
            signal.raise_signal(signal.SIGTERM)
        assert not interruption.interrupted
    finally:
        signal.signal(signal.SIGTERM, before)


# ------------------------------------------------------------------------------------------- stores, disks, terminals
def test_a_server_that_is_gone_does_not_hide_the_result(tmp_path: Path, warned: list[str]) -> None:
    show = f"from IPython.display import display\ndisplay({{{stores.RECORD_MIME!r}: {{'version': 3}}}}, raw=True)"
    source = write(tmp_path / "train.ipynb", show)
    gone = services.MlflowService(tracking_uri="http://127.0.0.1:9", experiment_name="tests")
    execution = QUIET.execute(source, {}, tmp_path / "out.ipynb", gone)
    assert (execution.result, execution.error, execution.run_ids) == ({"version": 3}, None, ())
    (warning,) = warned
    assert "MLflow does not have the executed notebook" in warning
    assert "http://127.0.0.1:9 cannot be reached" in warning


def test_a_disk_that_fills_up(
    elsewhere: services.MlflowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executors._papermill()
    from papermill import engines

    def full(notebook: Any, path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines, "write_ipynb", full)
    execution = QUIET.execute(
        write(tmp_path / "train.ipynb"), {}, tmp_path / "out.ipynb", elsewhere
    )
    assert type(execution.error) is errors.NotebookError
    assert "No space left on device" in str(execution.error)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_page_that_cannot_be_written_is_a_warning(
    elsewhere: services.MlflowService, tmp_path: Path, warned: list[str]
) -> None:
    (tmp_path / "out.html").mkdir()
    execution = QUIET.execute(
        write(tmp_path / "train.ipynb"), {}, tmp_path / "out.ipynb", elsewhere
    )
    assert (execution.error, execution.page) == (None, None)
    (warning,) = warned
    assert "out.ipynb is not rendered as HTML: " in warning


def terminal(log: bool, progress: bool) -> terminals.Terminal:
    terminal = terminals.Terminal("train", redaction.Scrubber(), log=log, progress=progress)
    terminal.start(2)
    return terminal


@pytest.mark.parametrize("make", [lambda: terminal(True, False), lambda: terminal(True, True)])
def test_the_log_is_shown_by_whole_lines(
    make: Callable[[], terminals.Terminal], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = make()
    for part in ["\x1b[32mre", "ad\x1b[0m\n10%\r50%\r100%\r\n", "\nlast"]:
        shown.cell()
        shown.write(part)
    shown.close()
    lines = re.sub(r"\r *\r?(train: [^\r\n]*)?", "", capsys.readouterr().err).splitlines()
    assert lines == ["read", "100%", "", "last"]


@posix
@pytest.mark.parametrize(("columns", "shown"), [(100, True), (0, True), (None, False)])
def test_progress_is_for_terminals(columns: int | None, shown: bool, tmp_path: Path) -> None:
    """A terminal that does not say how wide it is gets the line, too."""
    import fcntl
    import pty
    import struct
    import termios

    code = (
        "from model_name.execution import terminals; from model_name.io import redaction; import sys\n"
        "shown = sys.stderr.isatty()\n"
        "terminal = terminals.Terminal('train', redaction.Scrubber(), log=True, progress=shown)\n"
        "terminal.start(3); terminal.cell(); terminal.write('read 3 rows\\n'); terminal.cell(); terminal.close()"
    )
    ours, theirs = pty.openpty()
    if columns is not None:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    error = theirs if columns is not None else subprocess.PIPE
    done = subprocess.run([sys.executable, "-c", code], stderr=error, env=clean, check=True)
    os.close(theirs)
    said = done.stderr or b""
    with contextlib.suppress(OSError):  # Linux says so when the other side is closed
        while columns is not None and (part := os.read(ours, 4096)):
            said += part
    os.close(ours)
    assert b"read 3 rows" in said
    assert (b"train: cell 2 of 3, 00:0" in said) is shown


def test_a_quiet_terminal_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal(False, False)
    shown.cell()
    shown.write("read\n")
    shown.close()
    assert capsys.readouterr().err == ""
