"""Remove what can be made again."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from invoke import Context, task

CACHES = [".mypy_cache", ".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis", ".coverage*", "htmlcov"]
BUILDS = ["build", "dist", "*.egg-info", "_site", "_proc"]
OUTPUTS = ["outputs", "mlflow.db*", "mlruns", "mlartifacts"]
SOURCES = ["benchmarks", "model_name", "nbs", "tasks", "tests"]


def _remove(paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        print(f"removing {path}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_matching(patterns: list[str]) -> None:
    _remove(path for pattern in patterns for path in Path().glob(pattern))


@task
def caches(_c: Context) -> None:
    """Remove the caches of the tools, byte code and JupyterLab's checkpoints."""
    _remove_matching(CACHES)
    for name in ("__pycache__", ".ipynb_checkpoints"):
        _remove(path for folder in SOURCES for path in Path(folder).rglob(name))


@task
def builds(_c: Context) -> None:
    """Remove built distributions and the built site."""
    _remove_matching(BUILDS)


@task
def outputs(_c: Context) -> None:
    """Remove what runs left in the checkout: outputs/, and the embedded MLflow with every run and model in it."""
    _remove_matching(OUTPUTS)


@task(name="all")
def everything(c: Context) -> None:
    """Remove caches, builds and outputs; `.venv` stays (remove it by hand to set up from nothing)."""
    caches(c)
    builds(c)
    outputs(c)
