"""Set up the environment and keep the lock file."""

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from invoke import Context, Exit, task

from tasks import brokers
from tasks.exports import PACKAGE
from tasks.hooks import HOOKS

PYTHON = ".venv/Scripts/python.exe" if os.name == "nt" else ".venv/bin/python"
# What git runs is a copy in .git, which no checkout changes. A branch that holds a .venv of its own runs nothing.
COPY = "git-tools"
TOOLS = ("hooks.py", "exports.py", "notebooks.py")
FIND = f"""t="$(git rev-parse --git-common-dir)/{COPY}/hooks.py"; \\
[ -x {PYTHON} ] && [ -f "$t" ] && [ -z "$(git ls-files .venv)" ]"""
# One process for all files of a command. Git would end where there is none to answer it, as in a work tree without
# .venv: there a line of shell answers in its place, that it can do nothing.
SERVE = f"""\
if {FIND}; then exec {PYTHON} -I "$t" serve; fi; \
echo 'notebooks are stored here as they are: make install sets up what cleans them' >&2; \
printf '0016git-filter-server\\n000eversion=2\\n00000000'; cat > /dev/null"""
GIT = {
    "filter.nbclean.clean": f'if {FIND}; then exec {PYTHON} -I "$t" clean; fi; cat',
    "filter.nbclean.process": SERVE,
    "merge.nbmerge.name": "merge notebooks cell by cell",
    "merge.nbmerge.driver": f'{FIND} && {PYTHON} -I "$t" merge-notebook %O %A %B %P',
    "merge.nbexport.name": "export generated files again instead of merging them",
    "merge.nbexport.driver": f'{FIND} && {PYTHON} -I "$t" merge-generated %O %A %B %P',
}
JUPYTER = Path(".venv/etc/jupyter/jupyter_server_config.py")
JUPYTER_MARK = "# Installed by `inv installs.git`:"
JUPYTER_CONFIG = """\
{mark} git learns at once that a saved notebook is, once cleaned, what it has already.
import runpy

c.FileContentsManager.post_save_hook = runpy.run_path({file!r})["after_save"]
"""
MARK = "# Installed by `inv installs.hooks`; `inv installs.hooks --remove` takes it away."
SHIM = """#!/bin/sh
{mark}
{find} || exit 0
exec {python} -I "$t" {name} "$@"
"""


def shim(name: str) -> str:
    """Give the text of a hook."""
    return SHIM.format(mark=MARK, name=name, python=PYTHON, find=FIND)


@task(
    help={
        "upgrade": "take the newest versions of everything",
        "package": "take the newest version of this package only (can be repeated)",
    },
    iterable=["package"],
)
def lock(c: Context, package: list[str], upgrade: bool = False) -> None:
    """Write requirements.lock from settings.ini: one file for all systems and Pythons, with hashes.

    Holds what runs, what develops the project, the driver of PostgreSQL and Dask (which tests need, too), which is what
    `make install` installs. The extra `docs` stays outside: few need it, and it would make every installation larger.
    """
    command = [
        "uv pip compile setup.py --extra dev --extra postgresql --extra dask --universal",
        "--python-version 3.11 --generate-hashes",
        "--no-emit-index-url --no-emit-find-links --custom-compile-command 'inv installs.lock'",
        "--quiet --output-file requirements.lock",
    ]
    command += ["--upgrade"] if upgrade else []
    command += [f"--upgrade-package {shlex.quote(name)}" for name in package]
    c.run(" ".join(command))


def _copy_tools(folder: Path, *, trust: bool = False) -> bool:
    """Copy what git is going to run into its own folder, if a person agrees; tell whether there is a copy.

    The first time is part of the installation that somebody started. Later, what is in tasks/ can come from any branch.
    """
    wanted = {name: Path("tasks", name).read_text(encoding="utf-8") for name in TOOLS}
    there = {name: folder / name for name in TOOLS if (folder / name).exists()}
    before = {name: path.read_text(encoding="utf-8") for name, path in there.items()}
    if before == wanted:
        return True
    changed = [f"tasks/{name}" for name in TOOLS if before.get(name) != wanted[name]]
    question = f"git will run a copy of {', '.join(changed)} with your rights at commits, merges and checkouts. Agree?"
    if not trust and sys.stdin.isatty():
        trust = input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    elif not trust:
        trust = (
            not before
        )  # nobody to ask: an installation from scratch goes on, a change has to be told
    if not trust:
        print(
            f"git goes on with what it had. {', '.join(changed)}: read them, then: inv installs.git --trust"
        )
        return bool(before)
    folder.mkdir(exist_ok=True)
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    print(f"git runs a copy of {', '.join(changed)} from {folder} now, whatever is checked out.")
    return True


def _common_folder(c: Context) -> Path:
    """Return the folder that the repository and its work trees share."""
    result = c.run("git rev-parse --git-common-dir", hide=True, echo=False)
    return Path(result.stdout.strip() if result else ".git").resolve()


@task(help={"trust": "let git run what is in tasks/ now, without asking"})
def git(c: Context, trust: bool = False) -> None:
    """Register the filter and the merge drivers for notebooks in this clone (see .gitattributes) and in JupyterLab."""
    if not Path(".git").exists():
        print("Not a git checkout: no notebook filter to register.")
        return
    folder = _common_folder(c) / COPY
    if not _copy_tools(folder, trust=trust):
        return
    for key, value in GIT.items():
        c.run(f"git config --local {key} {shlex.quote(value)}", echo=False)
    if Path(".venv").is_dir():
        _configure_jupyter(JUPYTER, folder / "notebooks.py")


def _configure_jupyter(path: Path, tool: Path) -> None:
    """Let the JupyterLab of .venv tell git of notebooks that it saves, unless a person configured it."""
    if path.exists() and not path.read_text(encoding="utf-8").startswith(JUPYTER_MARK):
        print(
            f"{path} is your own and stays as it is: after saving notebooks, inv formats.status tells git of them."
        )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    text = JUPYTER_CONFIG.format(mark=JUPYTER_MARK, file=str(tool))
    path.write_text(text, encoding="utf-8")


@task(name="hooks", help={"remove": "take the hooks away again"})
def commit_hooks(c: Context, remove: bool = False) -> None:
    """Install the git hooks: commits export their notebooks, and messages have to be Conventional Commits.

    Hooks of your own, in this clone or in the folder that `core.hooksPath` names, are never touched.
    """
    if not Path(".git").exists():
        print("Not a git checkout: no hooks to install.")
        return
    result = c.run(
        "git rev-parse --git-path hooks && git rev-parse --git-common-dir", hide=True, echo=False
    )
    folder, own = (
        (Path(line).resolve() for line in result.stdout.splitlines())
        if result
        else (Path(), Path())
    )
    if own not in folder.parents:
        print(f"Your hooks are in {folder}, which is not of this clone: nothing was changed there.")
        return
    for name in HOOKS:
        _install_hook(folder / name, shim(name), remove=remove)


def _install_hook(path: Path, content: str, *, remove: bool) -> None:
    """Write or remove one hook, unless a person wrote what is there."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before and MARK not in before:
        print(
            f"{path} is your own and stays as it is. What it would do: {content.splitlines()[-1]}"
        )
    elif remove:
        path.unlink(missing_ok=True)
    elif before != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="\n")
        path.chmod(0o755)


@task
def kernel(c: Context) -> None:
    """Register this environment as a Jupyter kernel of this user, with the project's name."""
    c.run(
        f"python -m ipykernel install --user --name {PACKAGE} --display-name {shlex.quote(f'Python ({PACKAGE})')}"
    )


@task
def environment(c: Context) -> None:
    """Install the packages of requirements.lock into .venv, and remove others."""
    c.run("uv pip sync --require-hashes requirements.lock --python .venv --compile-bytecode")
    c.run("uv pip install --no-deps --no-build-isolation --editable . --python .venv")


# Maven knows where its repository is, or its settings say so: no address is written here.
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>model_name</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


@task
def kafka(c: Context) -> None:
    """Download Apache Kafka, for tests on a real broker, into a cache outside the repository (needs Java and Maven)."""
    place = brokers.libraries()
    if place.is_dir():
        print(f"Apache Kafka {brokers.VERSION} is at {place}")
        return
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if absent:
        raise Exit(
            f"Apache Kafka needs {' and '.join(absent)}: apt-get install default-jre-headless maven"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        Path(folder, "pom.xml").write_text(POM.format(version=brokers.VERSION), encoding="utf-8")
        with c.cd(folder):
            c.run(
                "mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libraries"
            )
        Path(folder, "libraries").rename(place)
    print(f"Apache Kafka {brokers.VERSION} is now at {place}")
