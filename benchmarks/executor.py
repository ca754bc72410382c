"""What running a job as a notebook costs, one after another and many at once."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import Case

VERBS = ("train", "evaluate", "promote", "infer")
COMMAND = str(Path(sys.executable).with_name("model_name"))
TABLE = "data.table={{KIND: SimulatedReader, rows: {}}}"
LIGHT = ["-s", TABLE.format(3000), "-s", "job.model.max_iter=5", "-s", "job.splitter.test_size=480"]


def steps(folder: Path, *options: str) -> dict[str, float]:
    """Run all four jobs in one command and return the seconds that its table gives for each."""
    data = ["-s", TABLE.format(15_340)]
    lenient = ["-s", "evaluate.thresholds={}", "-s", "evaluate.beat_naive=false"]
    done = subprocess.run(
        [COMMAND, "run", *VERBS, *data, *lenient, *options],
        check=False,
        cwd=folder,
        env=measuring.environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(
            f"ended with exit code {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return {
        verb: float(seconds)
        for verb, seconds in re.findall(r"^(\w+) +([\d.]+) s ", done.stdout, re.MULTILINE)
    }


def overhead(rounds: int) -> dict[str, measuring.Measured]:
    """Compare each job as a notebook with the same job in process; every second round the other way round."""
    plain = {verb: measuring.Measured(f"{verb}, in process", None) for verb in VERBS}
    notebook = {verb: measuring.Measured(f"{verb}, notebook", plain[verb].name) for verb in VERBS}
    ways = [(plain, ["--in-process"]), (notebook, [])]
    for number in range(rounds):
        for found, options in ways if number % 2 == 0 else ways[::-1]:
            with tempfile.TemporaryDirectory(prefix="executor-") as folder:
                took = steps(Path(folder), *options)
            for verb, seconds in took.items():
                found[verb].seconds.append(seconds)
                found[verb].cpu.append(0.0)  # of one job among four, unknown
            print(f"round {number + 1}/{rounds}  {options or 'notebooks'}  {took}", file=sys.stderr)
    measured = {one.name: one for one in [*plain.values(), *notebook.values()]}
    measuring.conclude(measured)
    return measured


def at_once(folder: Path, count: int) -> measuring.Sample:
    """Start so many commands at the same moment on a store that nobody has made; all have to succeed."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    start, cpu = time.perf_counter(), sum(os.times()[:4])
    commands = []
    for number in range(count):
        log = (folder / f"{number}.log").open("w")
        call = [COMMAND, "run", "train", *LIGHT, "--notebooks", f"outputs/{number}"]
        commands.append(
            subprocess.Popen(
                call, cwd=folder, env=measuring.environment(), stdout=log, stderr=subprocess.STDOUT
            )
        )
    failed = [number for number, command in enumerate(commands) if command.wait() != 0]
    seconds = time.perf_counter() - start
    if failed:
        said = (folder / f"{failed[0]}.log").read_text()
        raise SystemExit(
            f"{len(failed)} of {count} commands failed, such as number {failed[0]}:\n{said[-3000:]}"
        )
    return measuring.Sample(seconds, sum(os.times()[:4]) - cpu)


def main() -> None:
    """Measure what the command line asks for."""
    given = measuring.arguments(__doc__, rounds=3)
    with tempfile.TemporaryDirectory(prefix="executor-") as folder:
        one, many = "1 command on a new store", "16 commands at once on a new store"
        many_at_once = [
            Case(one, partial(at_once, Path(folder), 1)),
            Case(many, partial(at_once, Path(folder), 16), one, amount=16, unit="commands"),
        ]
        groups: dict[str, Callable[[], Any]] = {
            "overhead": lambda: overhead(given.rounds),
            "parallel": lambda: many_at_once,
        }
        measuring.report(given, groups)


if __name__ == "__main__":
    main()
