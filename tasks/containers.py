"""The container image and the services around it."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from invoke import Context, Exit, task

from tasks.exports import PACKAGE
from tasks.notebooks import ROOT

CONTAINERFILE = ROOT / "Containerfile"
COMPOSE = ROOT / "compose.yaml"
WORKFLOWS = [*(ROOT / ".github" / "workflows").glob("*.yaml")]
ENGINES = ("docker", "podman")


@task
def lint(c: Context) -> None:
    """Do hadolint and the schema of compose files accept Containerfile and compose.yaml?"""
    if shutil.which("hadolint"):
        c.run("hadolint Containerfile")
    else:
        print("hadolint is not made for this system: Containerfile is linted elsewhere.")
    c.run("check-jsonschema --builtin-schema vendor.compose-spec compose.yaml")
    problems = [
        *unpinned(CONTAINERFILE.read_text(encoding="utf-8")),
        *unhealthy(COMPOSE.read_text(encoding="utf-8")),
        *(line for path in WORKFLOWS for line in movable(path.read_text(encoding="utf-8"))),
    ]
    if problems:
        raise Exit("\n".join(problems))


@task(help={"tag": "the name of the image"})
def build(c: Context, tag: str = f"{PACKAGE}:local") -> None:
    """Build the image with docker or podman."""
    c.run(f"{engine()} build --file Containerfile --tag {shlex.quote(tag)} .")


@task
def up(c: Context) -> None:
    """Start MLflow on PostgreSQL, Kafka and the stream job, and wait until they are healthy."""
    c.run(f"{engine()} compose up --build --detach --wait")


@task(help={"volumes": "remove the data as well: every run, model and message"})
def down(c: Context, volumes: bool = False) -> None:
    """Stop the services of compose.yaml."""
    c.run(f"{engine()} compose down" + (" --volumes" if volumes else ""))


def engine() -> str:
    """Name the container engine of this machine."""
    found = next((name for name in ENGINES if shutil.which(name)), None)
    if found is None:
        raise Exit(
            "There is no container engine here: install Docker or Podman. "
            "`inv containers.rehearse` runs the steps of the build without one."
        )
    return found


# ----------------------------------------------------------------------------------------- what the linters leave out
def unpinned(containerfile: str) -> Iterator[str]:
    """Find base images without a version of three numbers."""
    for line in re.findall(r"^(?:FROM|ARG) .*$", containerfile, re.MULTILINE):
        value = line.split()[1]
        if "${" not in value and not re.search(r"\d+\.\d+\.\d+", value):
            yield f"Containerfile: {line!r} names no exact version: a build next year would be another one"


def movable(workflow: str) -> Iterator[str]:
    """Find the actions of a workflow that are named by a tag, which can be moved, and not by a commit."""
    for action in re.findall(r"(?m)^\s*-? *uses: (\S+)", workflow):
        if not action.startswith("./") and not re.search("@[0-9a-f]{40}$", action):
            yield f"{action} is not pinned to a commit: write the 40 digits, and the version behind them"


def unhealthy(compose: str) -> Iterator[str]:
    """Find services that nobody can tell to work, images that change, rights that are too many, and open ports."""
    import yaml

    for name, service in yaml.safe_load(compose)["services"].items():
        image = service["image"]
        if not re.search(r":\d+\.\d+(\.\d+)?", image) and "build" not in service:
            yield f"compose.yaml: service {name} has image {image!r}, which names no exact version"
        if (
            "profiles" not in service
            and "healthcheck" not in service
            and "depends_on" not in service
        ):
            yield f"compose.yaml: service {name} has no healthcheck"
        kept = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
        if loose := [key for key, value in kept.items() if service.get(key) != value]:
            yield f"compose.yaml: service {name} has other rights than it needs: {', '.join(loose)}"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"compose.yaml: service {name} opens port {port} to the network: write 127.0.0.1:{port}"


# ------------------------------------------------------------------------------------------------------- rehearsal
class Step(NamedTuple):
    """One instruction of a Containerfile."""

    name: str
    arguments: str


def steps(text: str) -> Iterator[Step]:
    """Read the instructions of a Containerfile."""
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, arguments = line.partition(" ")
        yield Step(name.upper(), arguments.strip())


def context(copied: str, ignore: str) -> list[Path]:
    """Find what a COPY takes from the project, less what .dockerignore keeps back."""
    lines = [
        line.strip() for line in ignore.splitlines() if line.strip() and not line.startswith("#")
    ]
    source = ROOT / copied
    found = [
        path
        for path in ([source] if source.is_file() else sorted(source.rglob("*")))
        if path.is_file()
    ]
    return [path for path in found if _reaches_builder(path.relative_to(ROOT).as_posix(), lines)]


def _reaches_builder(name: str, patterns: list[str]) -> bool:
    """Tell whether a file is in the build context; as in Docker, the last pattern that fits decides."""
    parents = [name, *(parent.as_posix() for parent in Path(name).parents)]
    kept = True
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        anywhere = plain.removeprefix("**/")
        fits = any(
            fnmatch.fnmatchcase(each, plain) and each.count("/") == plain.count("/")
            for each in parents
        )
        if fits or (
            plain != anywhere
            and any(fnmatch.fnmatchcase(Path(each).name, anywhere) for each in parents)
        ):
            kept = pattern.startswith("!")
    return kept


class Rehearsal:
    """The stages of a Containerfile as folders of one temporary folder, each with a Python of its own.

    What an image would have as /src is FOLDER/src here, and so on. Users are not made: that needs an image.
    """

    def __init__(self, folder: Path) -> None:
        """Make the Python that the base image brings."""
        self.folder = folder
        self.place = folder
        self.variables = {"PATH": f"{folder}/python/bin:/usr/bin:/bin", "HOME": f"{folder}/home"}
        self.variables |= {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("UV_", "PIP_", "SSL_"))
        }
        self.entrypoint: list[str] = []
        self.skipped: list[str] = []
        subprocess.run([sys.executable, "-m", "venv", folder / "python"], check=True)

    def run(self, step: Step) -> None:
        """Do what one instruction says."""
        action = getattr(self, f"_{step.name.lower()}", None)
        if action:
            action(step.arguments)

    def call(self, *command: str) -> None:
        """Run a program as the image would, and show what it says when it fails."""
        done = subprocess.run(
            command, cwd=self.place, env=self.variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Exit(f"{shlex.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")

    def moved(self, text: str) -> str:
        """Put the absolute paths of the image into the folder."""
        return re.sub(r"(?<![\w.}/:])/(src|opt|work)\b", rf"{self.folder}/\1", text)

    def _workdir(self, place: str) -> None:
        self.place = Path(self.moved(place))
        self.place.mkdir(parents=True, exist_ok=True)

    def _env(self, settings: str) -> None:
        for setting in shlex.split(settings):
            name, _, value = self.moved(setting).partition("=")
            self.variables[name] = value.replace("$PATH", self.variables["PATH"])

    def _copy(self, arguments: str) -> None:
        *sources, target = arguments.split()
        if sources[0].startswith("--from="):
            return  # both stages are in this folder, under the same paths
        ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8")
        for source in sources:
            files = context(source, ignore)
            if not files:
                raise Exit(f"COPY {source}: .dockerignore keeps it back, or it does not exist.")
            for path in files:
                inside = path.relative_to(ROOT / source) if path != ROOT / source else Path()
                place = self.place / target / (path.name if target.endswith("/") else inside)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)

    def _run(self, command: str) -> None:
        if command.startswith("useradd"):
            self.skipped.append(command)
        else:
            self.call("bash", "-o", "pipefail", "-e", "-c", self.moved(command))

    def _entrypoint(self, command: str) -> None:
        self.entrypoint = re.findall(r'"([^"]*)"', command)


@task(help={"arguments": "what the container is started with"})
def rehearse(_c: Context, arguments: str = "run train --in-process") -> None:
    """Run the build steps of the Containerfile in an empty folder, then its entry point; needs no container engine."""
    with tempfile.TemporaryDirectory() as folder:
        rehearsal = Rehearsal(Path(folder))
        for step in steps(CONTAINERFILE.read_text(encoding="utf-8")):
            start = time.monotonic()
            rehearsal.run(step)
            print(
                f"{time.monotonic() - start:6.1f} s  {step.name} {step.arguments[:100]}", flush=True
            )
        shutil.rmtree(rehearsal.folder / "src")  # the build stage does not travel
        print(f"not rehearsed, because it needs an image: {'; '.join(rehearsal.skipped)}, USER")
        command = [*rehearsal.entrypoint, *shlex.split(arguments)]
        print(f"        {shlex.join(command)}", flush=True)
        rehearsal.call(*command)
        size = sum(
            path.lstat().st_size for path in Path(folder, "opt").rglob("*") if path.is_file()
        )
        print(
            f"done: {size / 2**20:,.0f} MiB above the base image; left in /runs: {_listed(rehearsal.place)}"
        )


def _listed(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
