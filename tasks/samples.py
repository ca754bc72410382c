"""The projects of `inv checks.projects`: a regression with dates, a classification with texts, truths and gaps."""

import os
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

import numpy as np
import pandas as pd
from invoke import Exit


def tables(folder: Path) -> dict[str, list[str]]:
    """Write the tables; give what `model_name new` is told about each, by the name of the project."""
    sales().to_csv(folder / "sales.csv", sep=";", decimal=",", index=False, encoding="utf-8-sig")
    patients().to_csv(folder / "patients.csv", index=False)
    return {
        "shop_sales": ["--data", str(folder / "sales.csv"), "--target", "Umsatz"],
        "visits": [
            "--data",
            str(folder / "patients.csv"),
            "--target",
            "returns",
            "--index",
            "patient_id",
        ],
    }


def try_all(folder: Path) -> list[str]:
    """Make the projects and hold each to its own checks, side by side; give a sentence about each.

    Raises:
        Exit: a project cannot be made, a check of it fails, or it promotes no model. What it said is printed before.
    """
    options = tables(folder)
    with futures.ThreadPoolExecutor(len(options)) as pool:
        tried = [pool.submit(_try, name, given, folder) for name, given in options.items()]
        outcomes = [future.result() for future in tried]
    broken = [said for said, passed in outcomes if not passed]
    if broken:
        raise Exit("; ".join(broken))
    return [said for said, _ in outcomes]


def _try(name: str, options: list[str], folder: Path) -> tuple[str, bool]:
    """Make a project, then do what its owner would: run it, and run its checks."""
    project, log = folder / name, folder / f"{name}.log"
    new = [sys.executable, "-m", "model_name", "new", name, *options, "--into", str(project)]
    spent = []
    for what, command in {
        "new": new,
        "make run": ["make", "run"],
        "make test": ["make", "test"],
    }.items():
        start = time.monotonic()
        with log.open("ab") as file:
            place = folder if what == "new" else project
            done = subprocess.run(
                command, cwd=place, env=_environment(), stdout=file, stderr=file, check=False
            )
        if done.returncode:
            print(f"\n{log.read_text(encoding='utf-8', errors='replace')}", flush=True)
            return f"{what} of {name} ended with {done.returncode}", False
        spent.append(f"{what} {time.monotonic() - start:.0f} s")
    said = f"{name}: {', '.join(spent)}"
    print(said, flush=True)
    return said, True


def _environment() -> dict[str, str]:
    """Give this environment without what it says about this project: a new one needs nothing of the old one."""
    private = (
        "MAKE",
        "MFLAGS",
        "MLFLOW_",
        "MODEL_NAME_",
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "COV",
        "GIT_",
    )
    # two projects on as many cores: OpenMP's threads would wait for one another
    return {key: value for key, value in os.environ.items() if not key.startswith(private)} | {
        "OMP_NUM_THREADS": "1"
    }


def sales(rows: int = 1_200) -> pd.DataFrame:
    """Draw daily sales: a byte-order mark, semicolons, decimal commas, German dates, a leak."""
    random = np.random.default_rng(11)
    days = pd.date_range("2021-01-01", periods=rows)
    warmth = 10 + 10 * np.sin(np.arange(rows) / 58) + random.normal(0, 2, rows)
    table = pd.DataFrame({"Tag": days.strftime("%d.%m.%Y"), "Wärme (°C)": warmth.round(1)})
    table["Filiale"] = random.choice(["Nord", "Süd"], rows)
    table["Besucher"] = random.integers(50, 400, rows)
    rule = (
        4 * table["Besucher"]
        + 6 * warmth
        + 300 * (table["Filiale"] == "Süd")
        + 250 * (days.day_of_week == 5)
    )
    table["Umsatz"] = (rule + random.normal(0, 40, rows)).round(2)
    return table.assign(**{"Umsatz brutto": (table["Umsatz"] * 1.19).round(2)})


def patients(rows: int = 1_500) -> pd.DataFrame:
    """Draw patients: texts, truths, missing values, names that Python does not take."""
    random = np.random.default_rng(12)
    table = pd.DataFrame({"patient_id": [f"P{row:06d}" for row in random.permutation(rows)]})
    table["age (years)"] = random.integers(18, 95, rows)
    table["class"] = random.choice(["first", "second"], rows)
    table["2nd visit"] = random.choice([True, False], rows)
    table["insured"] = random.choice(["yes", "no"], rows)
    table["weight"] = random.normal(75, 12, rows).round(1)
    chance = 1 / (
        1
        + np.exp(
            -(table["age (years)"] - 55) / 7 - 2 * table["2nd visit"] + (table["class"] == "first")
        )
    )
    table["returns"] = np.where(random.random(rows) < chance, "returns", "stays away")
    for name in ("class", "weight"):
        table[name] = table[name].where(random.random(rows) > 0.1)
    return table
