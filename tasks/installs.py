"""Set up the environment and keep the lock file."""

import shlex
from pathlib import Path

from invoke import Context, task

GIT = {
    "filter.nbclean.clean": ".venv/bin/python -I tasks/notebooks.py",
    "merge.nbmerge.name": "merge notebooks cell by cell",
    "merge.nbmerge.driver": ".venv/bin/nbdev-merge %O %A %B %P",
}


@task(
    help={
        "upgrade": "take the newest versions of everything",
        "package": "take the newest version of this package only (can be repeated)",
    },
    iterable=["package"],
)
def lock(c: Context, package: list[str], upgrade: bool = False) -> None:
    """Write requirements.lock from settings.ini: one file for all systems and Pythons, hashed, without addresses.

    Holds what runs and what develops the project, which is what `make install` installs. The extras `dask` and `docs`
    stay outside: few need them, and they would make every installation larger.
    """
    command = [
        "uv pip compile setup.py --extra dev --universal --python-version 3.11 --generate-hashes",
        "--no-emit-index-url --no-emit-find-links --custom-compile-command 'inv installs.lock'",
        "--quiet --output-file requirements.lock",
    ]
    command += ["--upgrade"] if upgrade else []
    command += [f"--upgrade-package {shlex.quote(name)}" for name in package]
    c.run(" ".join(command))


@task
def git(c: Context) -> None:
    """Tell git how to clean and merge notebooks in this clone (.gitattributes names the drivers)."""
    if not Path(".git").exists():
        print("Not a git checkout: no notebook filter to register.")
        return
    for key, value in GIT.items():
        c.run(f"git config --local {key} {shlex.quote(value)}", echo=False)
