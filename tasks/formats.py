"""Write code and notebooks in the form that the checks expect."""

from invoke import Context, task

from tasks.notebooks import ROOT, clean, look_modified, notebooks, refresh
from tasks.site import diagrams, docs


@task
def code(c: Context) -> None:
    """Format Python files and the cells of notebooks with ruff."""
    c.run("ruff format .")


@task
def fixes(c: Context) -> None:
    """Apply ruff's safe fixes, except in generated modules (fix their notebook)."""
    c.run("ruff check --fix --exclude model_name .")


@task
def outputs(_c: Context) -> None:
    """Clean notebooks of counters, logs and the outputs of runs, as the git filter does."""
    for path in notebooks():
        before = path.read_text(encoding="utf-8")
        after = clean(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"cleaned {path}")


@task
def status(_c: Context) -> None:
    """Refresh the git status of notebooks that were saved without a change, so that git pull --rebase works.

    JupyterLab of `make lab` does it by itself; other editors and JupyterLabs do not.
    """
    for name in refresh(ROOT, look_modified(ROOT)):
        print(f"{name} differs from what git has")


@task
def modules(c: Context) -> None:
    """Export the notebooks to model_name/."""
    c.run("nbdev-export && ruff format model_name")


@task(name="all", default=True)
def everything(c: Context) -> None:
    """Format, clean and export notebooks, and write diagrams and README.md: run it before a commit."""
    code(c)
    outputs(c)
    modules(c)
    diagrams.draw(c)
    docs.readme(c)
