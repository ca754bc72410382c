"""The distribution: built, looked into, and tried out as its users will meet it."""

import configparser
import filecmp
import gzip
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from invoke import Context, Exit, task

from tasks.exports import PACKAGE
from tasks.notebooks import ROOT

DIST = ROOT / "dist"
# What neither archive may hold: notebooks' by-products, stores, secrets, and what only develops the project.
UNWANTED = re.compile(
    r"(^|/)(\.env|\.git|\.venv|__pycache__|\.ipynb_checkpoints|mlflow\.db.*|mlruns|outputs|tests|tasks)(/|$)"
)
BIN, SUFFIX = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")


@task(help={"into": "the folder for the archives"})
def build(c: Context, into: str = "dist") -> None:
    """Build the sdist, and from it the wheel. The same commit has the same archives, byte for byte."""
    Path(f"{PACKAGE}.egg-info", "SOURCES.txt").unlink(
        missing_ok=True
    )  # setuptools would pack what an older one lists
    c.run(
        f"uv build --no-build-isolation --out-dir {shlex.quote(into)}",
        env={"SOURCE_DATE_EPOCH": _date(c)},
    )
    for path in Path(into).glob("*.tar.gz"):
        _normalise(path, int(_date(c)))


def _normalise(path: Path, date: int) -> None:
    """Write an sdist again without what differs from build to build: dates, owners and the order of its members."""
    with tarfile.open(path) as archive:
        members = [
            (member, archive.extractfile(member))
            for member in archive.getmembers()
            if member.isfile()
        ]
        contents = {member.name: (member.mode, file.read()) for member, file in members if file}
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=date) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(contents):
            mode, data = contents[name]
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = (
                len(data),
                date,
                0o755 if mode & 0o100 else 0o644,
            )
            archive.addfile(member, io.BytesIO(data))


def _date(c: Context) -> str:
    """Give the date that goes into the archives: of the last commit, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    result = c.run("git log -1 --format=%ct", hide=True, warn=True, echo=False)
    return (
        result.stdout.strip() if result and result.ok else "315619200"
    )  # 1980-01-02: archives know no earlier day


@task
def content(_c: Context) -> None:
    """Do the archives in dist/ contain every module, configuration and job notebook, and no other files?"""
    problems = [problem for path in _archives() for problem in misplaced(path)]
    if problems:
        raise Exit("\n".join(problems))
    for path in _archives():
        print(
            f"{path.name}: {len(list(_names(path)))} files, {path.stat().st_size / 2**10:,.0f} KiB"
        )


def misplaced(path: Path) -> Iterator[str]:
    """Find what an archive should have and has not, and what it has and should not."""
    names = set(_names(path))
    modules = {file.relative_to(ROOT).as_posix() for file in ROOT.glob(f"{PACKAGE}/**/*.py")} | {
        f"{PACKAGE}/py.typed"
    }
    confs = {f"confs/{file.name}" for file in ROOT.glob("confs/*.yaml")}
    runs = {f"runs/{file.name}" for file in ROOT.glob("nbs/runs/*.ipynb")}
    if path.suffix == ".whl":
        wanted = modules | {f"{PACKAGE}/_resources/{name}" for name in confs | runs}
        yield from (
            f"{path.name}: {name} is not of the package"
            for name in names - wanted
            if ".dist-info/" not in name
        )
    else:
        wanted = modules | confs | {f"nbs/{name}" for name in runs}
        wanted |= {
            "settings.ini",
            "setup.py",
            "pyproject.toml",
            "requirements.lock",
            "README.md",
            "LICENSE",
        }
    yield from (f"{path.name}: {name} is missing" for name in wanted - names)
    yield from (
        f"{path.name}: {name} does not belong in it" for name in names if UNWANTED.search(name)
    )


def _names(path: Path) -> Iterator[str]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            yield from archive.namelist()
    else:
        with tarfile.open(path) as archive:
            yield from (
                member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()
            )


def _archives() -> list[Path]:
    found = sorted([*DIST.glob("*.tar.gz"), *DIST.glob("*.whl")])
    if not found:
        raise Exit("There is nothing in dist/: run inv packages.build")
    return found


@task
def reproduce(c: Context) -> None:
    """Do two builds in two folders have the same archives, byte for byte?"""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "a second place")
        date = _date(c)
        build(c, into=str(first))
        ignored = shutil.ignore_patterns(
            ".git", ".venv", "__pycache__", "*.egg-info", "outputs", "mlruns", "dist", "build"
        )
        shutil.copytree(ROOT, second / "source", ignore=ignored, symlinks=True)
        with c.cd(str(second / "source")):
            command = f"inv packages.build --into {shlex.quote(str(second / 'dist'))}"
            c.run(command, env={"SOURCE_DATE_EPOCH": date})
        names = sorted(path.name for path in first.iterdir() if path.suffix in {".whl", ".gz"})
        different = [
            name
            for name in names
            if not filecmp.cmp(first / name, second / "dist" / name, shallow=False)
        ]
        if different or len(names) != 2:
            raise Exit(f"Two builds differ: {', '.join(different) or names}")
        print(f"the same, byte for byte: {', '.join(names)}")


@task(
    help={
        "python": "a version, as in 3.12; by default every supported one that is on this machine",
        "quick": "ask the installed program for its version and check the configurations, without training",
    }
)
def tryout(c: Context, python: str = "", quick: bool = False) -> None:
    """Install the wheel from dist/ with its locked requirements in empty environments, and run it there."""
    wheel = next((path for path in _archives() if path.suffix == ".whl"), None)
    if wheel is None:
        raise Exit("There is no wheel in dist/: run inv packages.build")
    pythons = {version: path for version, path in interpreters().items() if python in ("", version)}
    if not pythons:
        raise Exit(
            f"There is no Python {python or 'of a supported version'} here: uv python install {python or '3.13'}"
        )
    for version, path in pythons.items():
        print(f"==== Python {version}: {path}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            _try(c, wheel, path, Path(folder), quick=quick)
    print(f"{wheel.name} works on Python {', '.join(pythons)}")


def _try(c: Context, wheel: Path, python: Path, folder: Path, *, quick: bool) -> None:
    place, work = folder / "environment", folder / "work"
    work.mkdir()
    lock = shlex.quote(str(ROOT / "requirements.lock"))
    c.run(f"uv venv --quiet --python {shlex.quote(str(python))} {place}")
    c.run(
        f"uv pip install --quiet --python {place} --constraints {lock} --verify-hashes {shlex.quote(str(wheel))}"
    )
    program = place / BIN / f"{PACKAGE}{SUFFIX}"
    private = ("PYTHON", "MLFLOW_", "JUPYTER", "IPYTHON", "VIRTUAL_ENV", PACKAGE.upper())
    clean = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    calls = [["--version"], ["check", *map(str, place.rglob(f"{PACKAGE}/_resources/confs/*.yaml"))]]
    calls += [] if quick else [["run", "train"]]
    for arguments in calls:
        print(f"$ {PACKAGE} {arguments[0]} ...", flush=True)
        done = subprocess.run(
            [program, *arguments], cwd=work, env=clean, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Exit(
                f"{program.name} {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )


def interpreters() -> dict[str, Path]:
    """Find a Python of each supported version: on PATH, as uv knows them, or where pyenv keeps them."""
    settings = configparser.ConfigParser(inline_comment_prefixes=("#",))
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    found = {}
    for version in settings["metadata"]["pythons"].split():
        kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
        uv = Path(sys.executable).with_name(f"uv{SUFFIX}")
        asked = [uv, "python", "find", "--no-project", "--system", version]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            found[version] = Path(answer.stdout.strip())
        elif kept:
            found[version] = kept[-1]
    return found


@task(name="all", default=True)
def everything(c: Context) -> None:
    """Build, check the archives, compare two builds, and test the wheel on every Python."""
    shutil.rmtree(DIST, ignore_errors=True)
    build(c)
    content(c)
    reproduce(c)
    tryout(c)
