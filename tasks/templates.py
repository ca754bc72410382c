"""Tables for `inv checks.projects`: a regression with dates, and a classification with texts, truths and gaps."""

from pathlib import Path

import numpy as np
import pandas as pd


def tables(folder: Path) -> dict[str, str]:
    """Write the tables; give what `model_name new` is told about each, by the name of the project."""
    sales().to_csv(folder / "sales.csv", sep=";", decimal=",", index=False, encoding="utf-8-sig")
    patients().to_csv(folder / "patients.csv", index=False)
    return {
        "shop_sales": f"--data {folder}/sales.csv --target Umsatz",
        "visits": f"--data {folder}/patients.csv --target returns --index patient_id",
    }


def sales(rows: int = 1_200) -> pd.DataFrame:
    """Draw daily sales: a byte-order mark, semicolons, decimal commas, German dates, a leak."""
    random = np.random.default_rng(11)
    days = pd.date_range("2021-01-01", periods=rows)
    warmth = 10 + 10 * np.sin(np.arange(rows) / 58) + random.normal(0, 2, rows)
    table = pd.DataFrame({"Tag": days.strftime("%d.%m.%Y"), "Wärme (°C)": warmth.round(1)})
    table["Filiale"] = random.choice(["Nord", "Süd"], rows)
    table["Besucher"] = random.integers(50, 400, rows)
    rule = 4 * table["Besucher"] + 6 * warmth + 300 * (table["Filiale"] == "Süd") + 250 * (days.day_of_week == 5)
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
    chance = 1 / (1 + np.exp(-(table["age (years)"] - 55) / 7 - 2 * table["2nd visit"] + (table["class"] == "first")))
    table["returns"] = np.where(random.random(rows) < chance, "returns", "stays away")
    for name in ("class", "weight"):
        table[name] = table[name].where(random.random(rows) > 0.1)
    return table
