"""Look after this repository: what is broken here, and another name for a fork of it."""

import configparser
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import NamedTuple

from invoke import Context, Exit, UnexpectedExit, task

from tasks import exports
from tasks.exports import PACKAGE
from tasks.notebooks import ROOT, clean, notebooks
from tasks.site import docs


# ------------------------------------------------------------------------------------------------------------ doctor
class Finding(NamedTuple):
    """What was looked at, what was found, and the command that fixes it, if something has to be fixed."""

    what: str
    found: str
    fix: str = ""
    needed: bool = True


def _settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(inline_comment_prefixes=("#",))
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser


def _ask(*command: str) -> str:
    """Run a program; give what it says, or nothing."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _python() -> Finding:
    supported = _settings()["metadata"]["pythons"].split()
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    fix = "" if here in supported else f"rm -rf .venv && make install PYTHON=python{supported[-1]}"
    return Finding("Python", f"{here}; {', '.join(supported)} are supported", fix)


def _pins() -> dict[str, str]:
    """Give the locked version of each package that this machine needs."""
    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.removesuffix("\\")) for line in lines if re.match("[a-z0-9]", line)]
    return {
        pin.name: str(pin.specifier).removeprefix("==")
        for pin in pins
        if not pin.marker or pin.marker.evaluate()
    }


def _environment() -> Finding:
    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "absent"

    pins = _pins()
    wrong = [
        f"{name} is {version(name)}, not {pin}"
        for name, pin in pins.items()
        if version(name) != pin
    ]
    name = _settings()["metadata"]["name"]
    if version(name) == "absent":
        wrong.insert(0, f"{name} itself is not installed")
    shown = "; ".join(wrong[:3]) + (f"; {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return Finding(
        "environment",
        shown or f"{len(pins)} packages as locked",
        "rm -f .venv/installed && make install" if wrong else "",
    )


def _lock() -> Finding:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    settings, pins = (
        _settings(),
        {canonicalize_name(name): version for name, version in _pins().items()},
    )
    lines = [
        *settings["requirements"]["runtime"].splitlines(),
        *settings["extras"]["dev"].splitlines(),
    ]
    wanted = [Requirement(line) for line in lines if line.strip()]
    wanted = [each for each in wanted if not each.marker or each.marker.evaluate()]
    missing = [
        str(each)
        for each in wanted
        if not each.specifier.contains(pins.get(canonicalize_name(each.name), "0"))
    ]
    found = (
        f"does not satisfy {', '.join(missing)} of settings.ini"
        if missing
        else "satisfies settings.ini"
    )
    return Finding("lock", found, "inv installs.lock && make install" if missing else "")


def _kernel() -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    fix = "python -m ipykernel install --sys-prefix"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding("kernel", "there is no kernel python3, which notebooks run on", fix)
    there = shutil.which(program) is not None
    return Finding(
        "kernel",
        f"python3 is {program}" + ("" if there else ", which does not exist"),
        "" if there else fix,
    )


def _git() -> Finding:
    if not _ask("git", "rev-parse", "--git-dir"):
        return Finding(
            "git", "not a repository: nothing can be committed", "git init && inv installs.git"
        )
    missing = [
        key
        for key in ("filter.nbclean.clean", "merge.nbmerge.driver")
        if not _ask("git", "config", key)
    ]
    found = f"{' and '.join(missing)} not set" if missing else "cleans and merges notebooks"
    return Finding("git", found, "inv installs.git" if missing else "")


def _hooks() -> Finding:
    folder = _ask("git", "rev-parse", "--git-path", "hooks")
    there = bool(folder) and (ROOT / folder / "pre-commit").exists()
    found = (
        "run before each commit"
        if there
        else "none before a commit: only the checks will notice a stale module"
    )
    return Finding("hooks", found, "" if there else "inv installs.hooks", needed=False)


def _exports() -> Finding:
    from tasks import checks

    try:
        checks.modules(Context())
    except (Exit, UnexpectedExit) as error:
        lines = str(getattr(error, "message", error)).splitlines()
        return Finding("exports", lines[0], "inv formats.modules")
    return Finding("exports", "the modules are what the notebooks export")


def _outputs() -> Finding:
    noisy = [path for path in notebooks() if clean(text := path.read_text("utf-8")) != text]
    found = (
        f"{noisy[0].relative_to(ROOT)} and {len(noisy) - 1} more are not clean"
        if noisy
        else "clean"
    )
    return Finding("notebooks", found, "inv formats.outputs" if noisy else "")


def _readme() -> Finding:
    same = docs.README.exists() and docs.README.read_text(encoding="utf-8") == exports.readme(ROOT)
    return Finding(
        "README",
        "as nbs/index.ipynb says" if same else "differs from nbs/index.ipynb",
        "" if same else "inv docs.readme",
    )


def _quarto() -> Finding:
    program = docs.quarto()
    version = _ask(program, "--version") if program else ""
    fix = "" if version else "inv docs.build   # installs it in this environment"
    return Finding(
        "Quarto", version or "not here; only the documentation needs it", fix, needed=False
    )


def _store() -> Finding:
    """Ask the tracking store for its experiments, in a process of its own, which can be given up."""
    package = _settings()["metadata"]["name"]
    code = (
        f"from {package}.io import osvariables; import mlflow; "
        "client = mlflow.MlflowClient(osvariables.env().mlflow_tracking_uri); "
        "print(len(client.search_experiments()), 'experiment(s)')"
    )
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address and not (ROOT / "mlflow.db").exists():
        return Finding("store", "MLflow on SQLite, which the first run will make")
    environment = os.environ | {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = (done.stdout if done.returncode == 0 else done.stderr).strip().rpartition("\n")[2]
        broken = done.returncode != 0
    except subprocess.TimeoutExpired:
        found, broken = "no answer within a minute", True
    fix = (
        "start the server, or: unset MLFLOW_TRACKING_URI"
        if address
        else "mv mlflow.db mlflow.db.old   # the next run makes one"
    )
    return Finding("store", found[:100], fix if broken else "")


def _broker() -> Finding:
    addresses = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if not addresses:
        return Finding("broker", "none is named, so streams use the one inside the process")
    for address in addresses.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
        except (OSError, ValueError) as error:
            fix = "start it, or: unset KAFKA_BOOTSTRAP_SERVERS"
            return Finding("broker", f"{address.strip()} does not answer: {error}", fix)
    return Finding("broker", f"{addresses} answers")


def _data() -> Finding:
    import yaml

    missing = set()
    for path in sorted((ROOT / "confs").glob("*.yaml")):
        table = ((yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("data") or {}).get(
            "table"
        ) or {}
        place = str(table.get("path", ""))
        if place and "://" not in place and not (ROOT / place).exists():
            missing.add(place)
    found = (
        f"{', '.join(sorted(missing))} is not there"
        if missing
        else "every configured table is there"
    )
    fix = "copy it there, or change the path in confs/*.yaml" if missing else ""
    return Finding("data", found, fix)


LOOKS: list[Callable[[], Finding]] = [
    _python, _environment, _lock, _kernel, _git, _hooks, _exports, _outputs, _readme, _quarto, _store, _broker, _data
]  # fmt: skip


def examine(looks: list[Callable[[], Finding]] | None = None) -> Iterator[Finding]:
    """Look at everything; what cannot be looked at is a finding too."""
    for look in LOOKS if looks is None else looks:
        try:
            yield look()
        except Exception as error:  # noqa: BLE001 - a doctor who faints helps nobody
            yield Finding(
                look.__name__.strip("_"), f"could not be examined: {error!r}"[:160], "make install"
            )


@task
def doctor(_c: Context) -> None:
    """List what is missing or broken in this project and on this machine, with the fixes."""
    findings = list(examine())
    for each in findings:
        state = "ok" if not each.fix else "BROKEN" if each.needed else "missing"
        print(f"{each.what:<12} {state:<8} {each.found}")
        if each.fix:
            print(f"{'':<21} fix: {each.fix}")
    broken = [each.what for each in findings if each.fix and each.needed]
    if broken:
        raise Exit(f"\n{len(broken)} to fix: {', '.join(broken)}")
    print("\nNothing that is needed is broken.")


# ------------------------------------------------------------------------------------------------------------ rename
# The name of the package, also after the `\n` of a string or the `\b` of a pattern. MLflow's own word stays.
_NAME = re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=\\[bnt]))(?<!registered_){PACKAGE}(?![A-Za-z0-9])")
_DASHED = re.compile(rf"(?<![A-Za-z0-9]){PACKAGE.replace('_', '-')}(?![A-Za-z0-9])")
_VARIABLE = re.compile(rf"(?<![A-Za-z0-9])(?<!REGISTERED_){PACKAGE.upper()}(?![A-Za-z0-9])")


def renamed(text: str, name: str) -> str:
    """Put a name in the place of this package's, also as the prefix of variables and with dashes."""
    text = _VARIABLE.sub(name.upper(), _NAME.sub(name, text))
    return _DASHED.sub(name.replace("_", "-"), text)


@task(
    help={"name": "the new name of the package: lower-case letters, digits and underscores"},
    positional=["name"],
)
def rename(c: Context, name: str) -> None:
    """Rename a fork of this repository: the package, its folder, its command, its settings.

    For those who want to own the machinery. Who wants a project about a table needs no fork: `model_name new`.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*[a-z0-9]", name) or name in sys.stdlib_module_names:
        raise Exit(
            f"{name!r} cannot be the name of a package: lower-case letters, digits and underscores can be"
        )
    if _ask("git", "status", "--porcelain", "--untracked-files=no"):
        raise Exit(
            "there are changes that are not committed: commit them first, so that this can be undone"
        )
    for path in _ask("git", "ls-files").splitlines():
        place = ROOT / path
        if place.is_symlink() or not place.is_file():
            continue
        try:
            before = place.read_bytes().decode()
        except UnicodeDecodeError:
            continue  # an image
        if (after := renamed(before, name)) != before:
            place.write_bytes(after.encode())
    c.run(f"git mv {PACKAGE} {name}")
    c.run(
        f"ruff check --fix --exit-zero --quiet --exclude {name} ."
    )  # imports are in another order now
    c.run(f"ruff format --quiet . && nbdev-export && ruff format --quiet {name}")
    print(
        f"Now it is {name}: rm -rf .venv && make install && .venv/bin/inv installs.git --trust formats.all,\n"
        "then make test, and commit it."
    )
