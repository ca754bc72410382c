"""What all benchmarks share: processes that are timed, rounds that are interleaved, medians, a table and a file."""

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MEBI = 1024.0**2


@dataclass(frozen=True)
class Sample:
    """One execution of a case."""

    seconds: float
    cpu: float = 0.0  # seconds of processor time, of all processes of the case
    peak_mib: float | None = None  # largest resident memory of any one process of the case


@dataclass(frozen=True)
class Case:
    """Something to measure, and what it is compared with."""

    name: str
    run: Callable[[], Sample]
    reference: str | None = None  # name of another case of the same benchmark
    amount: float | None = None  # how much is done in one execution ...
    unit: str = ""  # ... and of what: gives a rate


@dataclass
class Measured:
    """The samples of a case and what follows from them."""

    name: str
    reference: str | None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peaks_mib: list[float] = field(default_factory=list)
    median: float = 0.0
    ratio: float | None = (
        None  # median over the rounds of this case / reference, both of the same round
    )
    rate: float | None = None
    unit: str = ""


def environment() -> dict[str, str]:
    """Return this process's environment without what would lead a run elsewhere or slow its start."""
    unwanted = ("MLFLOW_", "PYTHONDONTWRITEBYTECODE", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def run_process(
    command: Sequence[str],
    folder: Path,
    extra: Mapping[str, str] | None = None,
    timed_inside: bool = False,
) -> Sample:
    """Run a command to its end and time it.

    Args:
        command: program and arguments.
        folder: working directory.
        extra: more environment variables.
        timed_inside: take the seconds that the command prints last, of the clock and of the processor.

    Returns:
        Seconds and peak memory. For a process with children, memory is that of the largest one.
    """
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=environment() | dict(extra or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)  # tells the memory, which Popen.wait does not
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode != 0:
        raise SystemExit(
            f"{' '.join(command)}\nended with exit code {process.returncode}:\n{said[-3000:]}"
        )
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    if timed_inside:
        seconds, cpu = map(float, said.split()[-2:])
    return Sample(seconds, cpu, peak)


def run_python(code: str, *arguments: str, folder: Path, timed_inside: bool = False) -> Sample:
    """Run Python code in a process of its own; see `run_process`."""
    return run_process([sys.executable, "-c", code, *arguments], folder, timed_inside=timed_inside)


def run_command(*arguments: str, folder: Path) -> Sample:
    """Run `model_name` of the environment that runs this benchmark; see `run_process`."""
    return run_process([str(Path(sys.executable).with_name("model_name")), *arguments], folder)


def run_here(work: Callable[[], Any]) -> Sample:
    """Time a call in this process."""
    start, cpu = (
        time.perf_counter(),
        sum(os.times()[:4]),
    )  # of this process and of the children that it waited for
    work()
    return Sample(time.perf_counter() - start, sum(os.times()[:4]) - cpu)


def measure(cases: Sequence[Case], rounds: int) -> list[Measured]:
    """Run all cases once a round; every second round goes backwards, so that a slow spell hits neighbours alike.

    Returns:
        One entry a case, with medians over the rounds.
    """
    found = {case.name: Measured(case.name, case.reference, unit=case.unit) for case in cases}
    for number in range(rounds):
        for case in cases if number % 2 == 0 else cases[::-1]:
            sample = case.run()
            found[case.name].seconds.append(sample.seconds)
            found[case.name].cpu.append(sample.cpu)
            if sample.peak_mib is not None:
                found[case.name].peaks_mib.append(sample.peak_mib)
            print(
                f"round {number + 1}/{rounds}  {case.name:<44} {sample.seconds:>8.2f} s",
                file=sys.stderr,
                flush=True,
            )
    conclude(found)
    for case in cases:
        if case.amount is not None:
            found[case.name].rate = case.amount / found[case.name].median
    return list(found.values())


def conclude(found: Mapping[str, Measured]) -> None:
    """Work out medians and ratios."""
    for measured in found.values():
        measured.median = statistics.median(measured.seconds)
        if measured.reference is not None:
            pairs = zip(measured.seconds, found[measured.reference].seconds, strict=True)
            measured.ratio = statistics.median(mine / theirs for mine, theirs in pairs)


def table(results: Sequence[Measured]) -> str:
    """Lay the results out for a person."""
    width = max(len(result.name) for result in results)
    lines = [
        f"{'':<{width}}  {'median':>9}  {'least':>7}  {'most':>7}  {'cpu':>7}  {'peak':>9}  compared with, and rate"
    ]
    for result in results:
        peak = f"{statistics.median(result.peaks_mib):>5,.0f} MiB" if result.peaks_mib else ""
        notes = [f"{result.ratio:.2f} x {result.reference}"] if result.ratio is not None else []
        notes += [f"{result.rate:,.3g} {result.unit}/s"] if result.rate is not None else []
        least, most = min(result.seconds), max(result.seconds)
        cpu = statistics.median(result.cpu)
        figures = f"{result.median:>7.3f} s  {least:>7.3f}  {most:>7.3f}  {cpu:>7.3f}  {peak:>9}"
        lines.append(f"{result.name:<{width}}  {figures}  {', '.join(notes)}".rstrip())
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on, and how busy it was."""
    names = ("model_name", "mlflow", "numpy", "pandas", "papermill", "scikit-learn")
    versions = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "versions": versions,
    }


def arguments(description: str | None, rounds: int, **numbers: int) -> argparse.Namespace:
    """Read the command line that all benchmarks share, and whole numbers that one of them has besides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--table",
        type=Path,
        help="CSV or Parquet table; else $BIKE_SHARING_CSV, else the simulator",
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="how often each case is run (%(default)s)"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="groups whose name contains this"
    )
    parser.add_argument("--json", type=Path, help="file to write the results to")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="%(default)s")
    given = parser.parse_args()
    if given.table is None and os.environ.get("BIKE_SHARING_CSV"):
        given.table = Path(os.environ["BIKE_SHARING_CSV"])
    if given.table is not None:
        given.table = given.table.resolve(strict=True)
    return given


def report(
    given: argparse.Namespace,
    groups: Mapping[str, Callable[[], Sequence[Case] | Mapping[str, Measured]]],
) -> None:
    """Measure the groups that were asked for, print a table of each, and write the file.

    A group makes its cases; or it returns what it has measured itself, where one execution measures several cases.
    """
    chosen = {name: make for name, make in groups.items() if given.only in name}
    if not chosen:
        raise SystemExit(f"--only {given.only}: there are the groups {', '.join(groups)}")
    before, results = machine(), {}
    for name, make in chosen.items():
        made = make()
        measured = made if isinstance(made, Mapping) else None
        results[name] = list(measured.values()) if measured else measure(made, given.rounds)
        print(f"\n{name}\n{table(results[name])}", flush=True)
    print(
        f"\n{given.rounds} rounds; load average {before['load'][0]:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    if given.json is not None:
        document = {
            "machine": before,
            "load_after": os.getloadavg(),
            "rounds": given.rounds,
            "data": given.table.name if given.table else "simulator",
            "results": {
                name: [asdict(result) for result in measured] for name, measured in results.items()
            },
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
