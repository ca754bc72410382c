"""How long a new project takes: `model_name new` on tables of 10,000 to 1,000,000 rows, beside reading them."""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import measuring
from benchmarks.measuring import Case

SIZES = (10_000, 100_000, 1_000_000)
READ = "import sys, pandas; pandas.read_csv(sys.argv[1])"
PROFILE = (
    "import sys, pathlib; from model_name.scaffold import profiles; "
    "profiles.profile(pathlib.Path(sys.argv[1]), 'amount')"
)


def orders(rows: int) -> pd.DataFrame:
    """Draw orders: numbers with gaps, texts with few and with many values, truths, a time, a name of the row."""
    random = np.random.default_rng(5)
    table = pd.DataFrame({"order_id": random.permutation(rows) + 1_000_000})
    table["placed"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(rows), "min")
    table["country"] = random.choice(["AT", "CH", "DE", "FR", "IT"], rows)
    table["street"] = "Street " + pd.Series(random.integers(0, rows // 2, rows).astype(str))
    table["returned"] = random.choice([True, False], rows)
    for number in range(8):
        values = random.normal(size=rows).round(4)
        table[f"measure {number}"] = np.where(random.random(rows) < 0.05, np.nan, values)
    rule = 3 * table["measure 0"].fillna(0) + 2 * (table["country"] == "CH")
    return table.assign(amount=(rule + random.normal(size=rows)).round(3))


class Projects:
    """The tables, and a place for what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, rows: int) -> Path:
        """Write a table once; give its path."""
        path = self.folder / f"orders-{rows}.csv"
        if not path.exists():
            orders(rows).to_csv(path, index=False)
        return path

    def cases(self, rows: int) -> list[Case]:
        """Read a table, profile it, and make a project of it: each in a process of its own."""
        path, read = str(self.table(rows)), f"pandas.read_csv, {rows:,} rows"
        run = functools.partial(measuring.run_python, folder=self.folder)
        return [
            Case(read, lambda: run(READ, path), amount=rows, unit="rows"),
            Case(f"profile, {rows:,} rows", lambda: run(PROFILE, path), read, rows, "rows"),
            Case(f"new, {rows:,} rows", lambda: self._new(path), read, rows, "rows"),
        ]

    def _new(self, path: str) -> measuring.Sample:
        shutil.rmtree(self.folder / "orders", ignore_errors=True)
        return measuring.run_command(
            "new", "orders", "--data", path, "--target", "amount", folder=self.folder
        )


def main() -> None:
    """Measure what the command line asks for."""
    given = measuring.arguments(__doc__, rounds=3)
    with tempfile.TemporaryDirectory() as folder:
        bench = Projects(Path(folder))
        groups: dict[str, Callable[[], list[Case]]] = {
            f"{rows} rows": functools.partial(bench.cases, rows) for rows in SIZES
        }
        measuring.report(given, groups)


if __name__ == "__main__":
    main()
