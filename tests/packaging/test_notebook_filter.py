"""The git filter for notebooks: what JupyterLab adds does not reach git, and nothing a person wrote is lost."""

import copy
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from nbdev.clean import nbdev_clean

from tasks import installs
from tasks.notebooks import clean, look_modified, notebooks, refresh

ROOT = Path(__file__).parents[2]
FILTER = [sys.executable, "-I", str(ROOT / "tasks" / "notebooks.py")]


def stream(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": [text]}


def notebook(outputs: list[dict[str, Any]], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    cell = {
        "cell_type": "code",
        "id": "0a1b2c3d",
        "metadata": {"tags": list(tags)} if tags else {},
        "execution_count": None,
        "outputs": outputs,
        "source": ["größe = 1"],
    }
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    return {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def saved_by_jupyterlab(original: dict[str, Any]) -> dict[str, Any]:
    """Give the notebook with what JupyterLab adds when it runs and saves."""
    saved = copy.deepcopy(original)
    saved["cells"][0]["execution_count"] = 7
    saved["cells"][0]["metadata"] |= {
        "execution": {"iopub.status.busy": "2026-01-01T00:00:00Z"},
        "trusted": True,
    }
    saved["metadata"]["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    saved["metadata"]["language_info"] = {"name": "python", "version": "3.13.0"}
    return saved


def filtered(content: bytes) -> bytes:
    return subprocess.run(FILTER, input=content, capture_output=True, check=True).stdout


def test_saving_in_jupyterlab_changes_nothing() -> None:
    original = notebook([stream("stdout", "1\n")])
    assert clean(json.dumps(saved_by_jupyterlab(original))) == clean(json.dumps(original))
    assert json.loads(clean(json.dumps(original))) == original


def test_stderr_is_dropped_and_the_rest_is_joined() -> None:
    lasting = {"output_type": "display_data", "data": {"text/plain": ["R2 0.86"]}, "metadata": {}}
    outputs = [
        stream("stdout", "a\n"),
        stream("stderr", "a log line\n"),
        stream("stdout", "b\n"),
        lasting,
    ]
    cleaned = json.loads(clean(json.dumps(notebook(outputs))))["cells"][0]["outputs"]
    assert cleaned == [{"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]}, lasting]


def test_a_job_notebook_keeps_its_parameters_and_no_outputs() -> None:
    job = notebook([stream("stdout", "version 7\n")], tags=("parameters",))
    cell = json.loads(clean(json.dumps(saved_by_jupyterlab(job))))["cells"][0]
    assert (cell["metadata"], cell["outputs"]) == ({"tags": ["parameters"]}, [])


def test_form_is_that_of_nbdev_clean(tmp_path: Path) -> None:
    original = notebook([stream("stdout", "<object at 0x7f00aa>\n")])
    path = tmp_path / "nbs" / "a.ipynb"
    path.parent.mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path.write_text(json.dumps(saved_by_jupyterlab(original)), encoding="utf-8")
    expected = clean(path.read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        nbdev_clean.__wrapped__(fname=str(path))
    assert path.read_text(encoding="utf-8") == expected
    assert "at 0x" not in expected


@pytest.mark.parametrize(
    "path", list(notebooks()), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_cleaning_twice_is_cleaning_once(path: Path) -> None:
    once = clean(path.read_text(encoding="utf-8"))
    assert clean(once) == once


def test_filter_cleans_what_git_gives_it() -> None:
    saved = json.dumps(saved_by_jupyterlab(notebook([stream("stderr", "log\n")])))
    assert filtered(saved.encode()) == clean(saved).encode()


@pytest.mark.parametrize(
    "content", [b"", b"not json", b'{"cells": 1}', b"\xff\x00", b"<<<<<<< HEAD\n{}\n"]
)
def test_filter_passes_on_what_it_does_not_understand(content: bytes) -> None:
    assert filtered(content) == content


def test_one_process_serves_all_files_of_a_command(tmp_path: Path) -> None:
    files = {
        "a.ipynb": json.dumps(saved_by_jupyterlab(notebook([stream("stderr", "log\n")]))).encode(),
        "large.ipynb": json.dumps(notebook([stream("stdout", "x" * 200_000)])).encode(),
        "broken.ipynb": b"<<<<<<< HEAD\n{}\n",
        "empty.ipynb": b"",
        "size of a packet.ipynb": b"y" * 65_516,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".gitattributes").write_text("*.ipynb filter=nbclean\n")
    log = tmp_path / "started"
    quoted = " ".join(f"'{part}'" for part in [*FILTER, "serve"])

    def git(*arguments: str) -> bytes:
        served = f"filter.nbclean.process=echo once >> '{log}'; {quoted}"
        command = ["git", "-c", served, "-c", "filter.nbclean.required=true", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout

    git("init", "--quiet")
    git("add", "--all", *files)
    for name, content in files.items():
        assert git("show", f":{name}") == filtered(content), name
    assert log.read_text() == "once\n"
    assert b'execution_count": 7' not in git("show", ":a.ipynb")


def test_git_goes_on_where_nothing_can_clean(tmp_path: Path) -> None:
    content = json.dumps(saved_by_jupyterlab(notebook([]))).encode()
    (tmp_path / "a.ipynb").write_bytes(content)
    (tmp_path / ".gitattributes").write_text("*.ipynb filter=nbclean\n")

    def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        settings = [f"{name}={value}" for name, value in installs.GIT.items()]
        options = [part for setting in settings for part in ("-c", setting)]
        return subprocess.run(
            ["git", *options, *arguments], cwd=tmp_path, capture_output=True, check=True
        )

    git("init", "--quiet")
    assert b"make install" in git("add", "--all").stderr
    assert git("show", ":a.ipynb").stdout == content
    (tmp_path / "a.ipynb").unlink()
    git("checkout", "--", "a.ipynb")
    assert (tmp_path / "a.ipynb").read_bytes() == content


def test_saving_in_jupyterlab_leaves_nothing_modified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_server.services.contents.filemanager import FileContentsManager
    from traitlets.config.loader import PyFileConfigLoader

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path / "clone"), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()

    monkeypatch.chdir(ROOT)
    installs._configure_jupyter(
        tmp_path / "jupyter_server_config.py", ROOT / "tasks" / "notebooks.py"
    )
    config = PyFileConfigLoader("jupyter_server_config.py", path=str(tmp_path)).load_config()
    place = tmp_path / "clone"
    place.mkdir()
    git("init", "--quiet")
    git("config", "filter.nbclean.clean", " ".join(f"'{part}'" for part in FILTER))
    original = notebook([])
    (place / ".gitattributes").write_text("*.ipynb filter=nbclean\n")
    (place / ".gitignore").write_text(".ipynb_checkpoints/\n")
    (place / "a.ipynb").write_text(clean(json.dumps(original)))
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    git("clone", "--quiet", "--bare", ".", "../other")

    manager = FileContentsManager(root_dir=str(place), config=config)
    before = set(threading.enumerate())

    def save(content: dict[str, Any], name: str = "a.ipynb") -> str:
        manager.save({"type": "notebook", "format": "json", "content": content}, name)
        for thread in set(threading.enumerate()) - before:
            thread.join()
        return git("status", "--porcelain")

    assert save(saved_by_jupyterlab(original)) == ""
    assert json.loads((place / "a.ipynb").read_text())["cells"][0]["execution_count"] == 7, (
        "the file stays as it is"
    )
    git("pull", "--quiet", "--rebase", "../other", "HEAD")
    changed = saved_by_jupyterlab(original)
    changed["cells"][0]["source"] = ["größe = 2"]
    assert save(changed) == " M a.ipynb", "and nothing is staged that a person did not stage"
    assert save(original, "new.ipynb") == " M a.ipynb\n?? new.ipynb"

    (place / "a.ipynb").write_text(json.dumps(saved_by_jupyterlab(original)))  # by another editor
    assert (look_modified(place), refresh(place, look_modified(place))) == (["a.ipynb"], [])
    assert git("status", "--porcelain") == "?? new.ipynb"
