"""What has to hold before a change goes in. `make test` runs all of it."""

import os
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path

from invoke import Context, Exit, UnexpectedExit, task

from tasks import containers, examples, exports
from tasks.cells import cells
from tasks.notebooks import ROOT, clean, notebooks
from tasks.site import diagrams, docs

PASSED, FAILED = "passed", "FAILED"
# Tests and notebooks already run side by side. OpenMP's threads would wait for one another on cores that are busy.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# names that tempfile makes, which are others in every run
TEMPORARY = re.compile(r"/tmp\w{8}\b")


@task
def formats(c: Context) -> None:
    """Is everything formatted, notebooks included?"""
    c.run("ruff format --check .")


@task
def lint(c: Context) -> None:
    """Does ruff find mistakes, missing documentation or unsafe calls?"""
    c.run("ruff check .")


@task
def security(c: Context) -> None:
    """Does the package call unsafe functions, and are the workflows safe?"""
    # `lint` has these rules too; here they are alone, with the exceptions that pyproject.toml gives reasons for
    c.run("ruff check --select S --ignore S404,S603,S607 model_name setup.py")
    c.run("check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml")
    c.run(
        "zizmor --offline --quiet --persona pedantic --config .github/zizmor.yml .github/workflows"
    )


# Advisories that do not concern this project, each with the reason: "GHSA-...": "only on Windows, for ..."
ACCEPTED: dict[str, str] = {}
UNREACHABLE = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|ServiceError|ProxyError|SSLError"
)


@task(
    help={
        "lock": "the requirements to ask about",
        "database": "another address of the OSV database",
    }
)
def audit(c: Context, lock: str = "requirements.lock", database: str = "") -> str:
    """Does the OSV database know a vulnerability of a locked package? Reports when it cannot be reached."""
    command = f"pip-audit --requirement {shlex.quote(lock)} --disable-pip --no-deps --progress-spinner off -s osv"
    command += f" --osv-url {shlex.quote(database)}" if database else ""
    command += "".join(f" --ignore-vuln {name}" for name in ACCEPTED)
    result = c.run(command, hide=True, warn=True)
    assert result is not None  # invoke gives None only for a dry run
    said = f"{result.stdout}\n{result.stderr}".strip()
    if result.ok:
        print(said)
        return "no known vulnerability"
    if "Found " not in said and UNREACHABLE.search(said):
        message = "not audited: the database of vulnerabilities cannot be reached"
        print(
            f"{message}. Nothing is known about new ones; ask again with a network: inv checks.audit"
        )
        return message
    raise Exit(
        f"{said}\nUpgrade what is named (inv installs.lock --package NAME), or add the id to ACCEPTED with a reason."
    )


@task(name="containers")
def container_files(c: Context) -> None:
    """Are Containerfile and compose.yaml valid?"""
    containers.lint(c)


@task
def types(c: Context) -> None:
    """Are the types of the package correct under `mypy --strict`?"""
    c.run("mypy")


@task
def imports(c: Context) -> None:
    """Do modules import only what the package map allows?"""
    c.run("lint-imports --no-cache")


@task
def modules(_c: Context) -> None:
    """Does exporting the notebooks write exactly the modules in model_name/, no more and no fewer?"""
    with tempfile.TemporaryDirectory() as folder:
        exports.prepare(ROOT, Path(folder))
        try:
            exported = exports.export(Path(folder))
        except exports.ExportError as error:
            raise Exit(str(error)) from error
    _compare(exported=exported, committed=exports.modules(ROOT))


def _compare(exported: dict[str, str], committed: dict[str, str]) -> None:
    missing = [f"{name} is missing" for name in exported.keys() - committed.keys()]
    orphans = [f"{name} has no notebook" for name in committed.keys() - exported.keys()]
    both = exported.keys() & committed.keys()
    different = [
        f"{name} is not what its notebook exports"
        for name in both
        if exported[name] != committed[name]
    ]
    _refuse_any(
        missing + orphans + different,
        "Run `inv formats.modules`; delete a module whose notebook is gone.",
    )


@task
def outputs(_c: Context) -> None:
    """Are notebooks free of counters, logs and the outputs of runs?"""
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in notebooks()}
    noisy = [
        f"{name} is not in its clean form" for name, text in texts.items() if clean(text) != text
    ]
    _refuse_any(noisy, "Run `inv formats.outputs`.")
    fleeting = [
        f"{name} shows the name of a temporary folder"
        for name, text in texts.items()
        if any(map(TEMPORARY.search, examples.shown(text)))
    ]
    _refuse_any(fleeting, "Change into the folder, and use names within it.")


@task
def readme(_c: Context) -> None:
    """Is README.md the same as nbs/index.ipynb?"""
    if docs.README.read_text(encoding="utf-8") != exports.readme(ROOT):
        raise Exit(
            "README.md differs from nbs/index.ipynb.\nEdit the notebook, then run `inv docs.readme`."
        )


@task
def site(c: Context) -> None:
    """Are the pages of the site valid (links, alternative texts, names, commands), and the diagrams up to date?"""
    diagrams.check(c)
    docs.check(c)


@task(
    name="notebooks",
    help={
        "only": "a regular expression of names",
        "update": "write the outputs that differ into the notebooks",
    },
)
def run_notebooks(c: Context, only: str = "", update: bool = False) -> None:
    """Does every notebook run from top to bottom, write no files, and have the committed outputs?"""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as store:
        changed = examples.run(c, Path(folder), _mlflow(store) | ONE_THREAD, only)
    for name, now in changed.items():
        print("\n".join(examples.differences(name, now)))
        if update:
            (ROOT / name).write_text(now, encoding="utf-8")
    if not update:
        shown = [f"{name} shows something else than what is committed" for name in changed]
        _refuse_any(shown, "Run `inv checks.notebooks --update` and look at what changed.")


def _mlflow(folder: str) -> dict[str, str]:
    address = f"sqlite:///{folder}/mlflow.db"
    return {"MLFLOW_TRACKING_URI": address, "MLFLOW_REGISTRY_URI": address}


@task
def tests(c: Context) -> str:
    """Do the tests pass?"""
    return _pytest(c, "-n 2 --dist worksteal --durations 25", ONE_THREAD)


@task
def coverage(c: Context) -> str:
    """Is the test coverage of the package as high as pyproject.toml requires? Takes twice the time of `tests`.

    It is no part of `checks.all`: a workflow of its own runs it beside the other checks.
    """
    with tempfile.TemporaryDirectory() as folder:
        env = {"COVERAGE_FILE": f"{folder}/coverage"} | ONE_THREAD
        return _pytest(c, "-n 2 --dist worksteal --cov --cov-report term-missing:skip-covered", env)


@task
def wheel(c: Context) -> str:
    """Does the wheel run outside the repository, installed in an empty environment?"""
    return _pytest(c, "-m wheel tests/packaging")


@task
def projects(_c: Context) -> str:
    """Do projects about two different tables pass all of their own checks, and promote a model?"""
    from tasks import samples

    with tempfile.TemporaryDirectory() as folder:
        return "; ".join(samples.try_all(Path(folder)))


def _pytest(c: Context, arguments: str, env: dict[str, str] | None = None) -> str:
    """Run pytest and give its count of passed and failed tests."""
    result = c.run(f"pytest {arguments}", env=env or {}, warn=True)
    assert result is not None  # invoke gives None only for a dry run
    last = result.stdout.strip().rpartition("\n")[2]
    counts = re.findall(r"(\d+) (passed|failed|errors?)\b", last)
    passed = sum(int(number) for number, what in counts if what == "passed")
    failed = sum(int(number) for number, what in counts if what != "passed")
    summary = f"{passed} passed, {failed} failed"
    if not result.ok:
        raise Exit(summary, result.exited)
    return summary


def _refuse_any(problems: list[str], way_out: str) -> None:
    if problems:
        raise Exit("\n".join([*sorted(problems), way_out]))


STEPS = [
    formats,
    lint,
    security,
    types,
    imports,
    cells,
    modules,
    outputs,
    readme,
    site,
    container_files,
    audit,
    run_notebooks,
    tests,
    wheel,
]
if os.name != "nt":  # the Makefile of a project knows .venv/bin, which is .venv/Scripts there
    STEPS.append(projects)


@task(name="all", default=True)
def everything(c: Context) -> None:
    """Run every check, also after a failure, and print a table of the results."""
    rows = [_step(c, step) for step in STEPS]
    width = max(len(name) for name, *_ in rows)
    print("\n\nCheck".ljust(width + 4) + "Result   Seconds")
    for name, outcome, seconds, detail in rows:
        print(f"{name:<{width}}  {outcome:<7}  {seconds:7.1f}  {detail}".rstrip())
    counts = [re.match(r"(\d+) passed, (\d+) failed", detail) for *_, detail in rows]
    passed, failed = (sum(int(count[group]) for count in counts if count) for group in (1, 2))
    broken = [name for name, outcome, *_ in rows if outcome == FAILED]
    print(
        f"\n{len(rows) - len(broken)} of {len(rows)} checks passed"
        + (f"; failed: {', '.join(broken)}" if broken else "")
    )
    print(f"{passed} passed, {failed} failed")
    if broken:
        raise Exit(code=1)


def _step(c: Context, step) -> tuple[str, str, float, str]:
    """Run one check under its headline; give its name, outcome, duration and what there is to say about it."""
    print(f"\n==== {step.name}: {step.__doc__.splitlines()[0]}", flush=True)
    start = time.monotonic()
    try:
        outcome, detail = PASSED, step(c) or ""
    except UnexpectedExit as error:
        outcome, detail = FAILED, f"`{error.result.command}` ended with {error.result.exited}"
    except Exit as error:
        print(error.message, file=sys.stderr)
        outcome, detail = FAILED, str(error.message).splitlines()[0]
    return step.name, outcome, time.monotonic() - start, detail
