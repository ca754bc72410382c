"""All benchmarks, one table, and what changed since an earlier result: `make bench`."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

GROUPS = ("lifecycle", "executor", "scale", "explaining", "tuning", "projects", "streaming")
FOLDER = Path("outputs/benchmarks")
SMALLEST = 0.05  # changes below this share are not worth a name, however quiet the machine was


class Figure(NamedTuple):
    """What is known of a case: its ratio to the reference of the same round, and how far rounds disagreed."""

    median: float
    ratio: float | None
    noise: float
    reference: str


def figures(document: dict[str, Any]) -> dict[str, Figure]:
    """Read the results of a file, by benchmark, group and case.

    Noise is half the distance between the smallest and the largest ratio of the rounds, as a share of the ratio.
    """
    found = {}
    for name, groups in document["results"].items():
        for group, cases in groups.items():
            seconds = {case["name"]: case["seconds"] for case in cases}
            for case in cases:
                reference = seconds.get(case["reference"] or "", [])
                ratios = [a / b for a, b in zip(case["seconds"], reference, strict=False)]
                ratio = statistics.median(ratios) if ratios else None
                noise = (max(ratios) - min(ratios)) / 2 / ratio if ratio else 0.0
                key = f"{name}: {group}: {case['name']}"
                found[key] = Figure(case["median"], ratio, noise, case["reference"] or "")
    return found


def rows(now: dict[str, Figure], before: dict[str, Figure]) -> Iterator[str]:
    """Yield a table: seconds, limit, ratio before and after, and the change where it is beyond the noise of both."""
    width = max(len(name) for name in now)
    yield f"{'':<{width}}  {'seconds':>8}  {'before':>7}  {'after':>7}  change   limit: what 1.00 is"
    for name, figure in now.items():
        if figure.ratio is None:
            yield f"{name:<{width}}  {figure.median:>8.3f}"
            continue
        earlier = before.get(name)
        old = earlier.ratio if earlier is not None else None
        line = f"{name:<{width}}  {figure.median:>8.3f}  {'-' if old is None else f'{old:.2f}':>7}"
        line += f"  {figure.ratio:>7.2f}  {change(figure, earlier):<7}  {figure.reference}"
        yield line.rstrip()


def change(now: Figure, before: Figure | None) -> str:
    """Name a change of the ratio that is larger than the rounds of both results disagree; else nothing."""
    if before is None or before.ratio is None or now.ratio is None:
        return ""
    share = now.ratio / before.ratio - 1
    return f"{share:+.0%}" if abs(share) > max(now.noise + before.noise, SMALLEST) else ""


def commit() -> str:
    """Return the short name of the commit, with a mark where files were changed since."""
    command = ["git", "describe", "--always", "--dirty=-changed", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(names: list[str], rounds: int | None) -> dict[str, Any]:
    """Run benchmarks one after another, each in a process of its own, and join their files."""
    joined: dict[str, Any] = {"commit": commit(), "results": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file = Path(folder, f"{name}.json")
            command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
            subprocess.run(command + (["--rounds", str(rounds)] if rounds else []), check=True)
            document = json.loads(file.read_text(encoding="utf-8"))
            joined["results"][name] = document.pop("results")
            joined.setdefault("runs", {})[name] = document
    return joined


def latest(but: Path) -> Path | None:
    """Return the newest earlier result; None if there is none."""
    files = [path for path in FOLDER.glob("*.json") if path != but]
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def main() -> None:
    """Measure, write `outputs/benchmarks/COMMIT.json`, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=GROUPS, default=GROUPS, help="benchmarks")
    parser.add_argument("--rounds", type=int, help="how often each case runs; by default its own")
    parser.add_argument("--against", type=Path, help="earlier result; by default the newest other")
    given = parser.parse_args()
    document = run(list(given.only), given.rounds)
    file = FOLDER / f"{document['commit']}.json"
    before = given.against or latest(file)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    earlier = json.loads(before.read_text(encoding="utf-8")) if before else {"results": {}}
    print("\n".join(rows(figures(document), figures(earlier))))
    print(f"\nwritten to {file}; compared with {before or 'nothing: there is no earlier result'}")


if __name__ == "__main__":
    main()
