"""The simulator: the same rows however they are made, a calendar like the real one, effects that can be found."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from model_name.core import errors, schemas
from model_name.io import simulators

HOURS_OF_A_CITY = 24 * 36_524


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two years."""
    return pd.concat(simulators.simulate(rows=17_544, seed=7))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 3_000),
    chunk=st.integers(1, 4_000),
    more=st.integers(0, 800),
    missing=st.sampled_from([0.0, 0.3]),
)
def test_rows_do_not_depend_on_how_many_are_made_nor_in_which_chunks(
    rows: int, chunk: int, more: int, missing: float
) -> None:
    chunks = list(simulators.simulate(rows, chunk=max(chunk, 50), missing=missing))
    assert all(len(part) <= max(chunk, 50) for part in chunks)
    whole = pd.concat(simulators.simulate(rows + more, missing=missing))
    pd.testing.assert_frame_equal(pd.concat(chunks), whole.head(rows))


@settings(max_examples=15, deadline=None)
@given(offset=st.integers(0, 2_000))
def test_a_later_start_shows_the_same_world(offset: int) -> None:
    whole = pd.concat(simulators.simulate(offset + 30))
    start = simulators.FIRST_DAY + pd.Timedelta(hours=offset)
    later = pd.concat(simulators.simulate(30, start=start))
    pd.testing.assert_frame_equal(later, whole.tail(30).reset_index(drop=True))


def test_another_seed_is_another_world_with_the_same_calendar(table: pd.DataFrame) -> None:
    other = pd.concat(simulators.simulate(rows=17_544, seed=8))
    calendar = [
        "instant",
        "dteday",
        "season",
        "yr",
        "mnth",
        "hr",
        "holiday",
        "weekday",
        "workingday",
    ]
    pd.testing.assert_frame_equal(other[calendar], table[calendar])
    assert abs(np.corrcoef(other["windspeed"], table["windspeed"])[0, 1]) < 0.2
    assert (other["cnt"] != table["cnt"]).mean() > 0.9


def test_the_calendar_is_that_of_the_real_table(bike_table: str, table: pd.DataFrame) -> None:
    real = pd.read_csv(bike_table)
    calendar = ["season", "yr", "mnth", "hr", "holiday", "weekday", "workingday"]
    keys = [real["dteday"], real["hr"].rename("hour")]
    expected = real.set_index(keys)[calendar]
    simulated = table.set_index(
        [table["dteday"].dt.strftime("%Y-%m-%d"), table["hr"].rename("hour")]
    )[calendar]
    differing = (simulated.loc[expected.index] != expected).any(axis=1)
    assert list(real.columns) == list(simulators.COLUMNS)
    assert expected[differing.to_numpy()].index.get_level_values(0).unique().tolist() == []


def test_demand_is_of_the_size_of_the_real_one(bike_table: str, table: pd.DataFrame) -> None:
    real = pd.read_csv(bike_table)
    assert table["cnt"].mean() == pytest.approx(real["cnt"].mean(), rel=0.15)
    assert table["temp"].mean() == pytest.approx(real["temp"].mean(), abs=0.05)
    for column, lag in (("temp", 0.95), ("hum", 0.8), ("windspeed", 0.7)):
        assert table[column].autocorr(1) > lag


def test_the_schema_takes_it(table: pd.DataFrame) -> None:
    inputs = schemas.InputsSchema.check(table)
    targets = schemas.TargetsSchema.check(table)
    assert len(inputs) == 17_544
    assert inputs.index.equals(targets.index)
    assert (table["casual"] + table["registered"]).equals(table["cnt"])


def test_the_noise_has_the_documented_mean_and_spread(table: pd.DataFrame) -> None:
    expected = simulators.expected_demand(table)
    assert table["cnt"].sum() == pytest.approx(expected.sum(), rel=0.01)
    spread = (table["cnt"] - expected) ** 2
    assert spread.mean() == pytest.approx(
        (expected + expected**2 / simulators.DISPERSION).mean(), rel=0.1
    )


def test_the_effects_can_be_found_by_a_model(table: pd.DataFrame) -> None:
    """A Poisson model of the right form recovers the growth and the weather factors that were put in."""
    from sklearn.linear_model import PoissonRegressor

    rest = simulators.expected_demand(table) / simulators.weather_effect(table["weathersit"])
    weather = pd.get_dummies(table["weathersit"])[[2, 3]].astype(float)
    known = table["weathersit"] < 4
    model = PoissonRegressor(alpha=0, max_iter=500).fit(
        weather[known], table["cnt"][known] / rest[known], sample_weight=rest[known]
    )
    assert np.exp(model.coef_) == pytest.approx(simulators.WEATHER_FACTORS[1:3], rel=0.05)


def test_effects_are_functions_of_raw_and_of_checked_rows(table: pd.DataFrame) -> None:
    raw = simulators.expected_demand(table.head(200))
    checked = simulators.expected_demand(schemas.InputsSchema.check(table.head(200)))
    assert checked.to_numpy() == pytest.approx(raw.to_numpy())
    assert np.isnan(simulators.weather_effect([np.nan])).all()
    assert simulators.season_effect([1, 4]).tolist() == [0.85, 1.15]
    assert simulators.trend_effect([0, 1, 2]).tolist() == pytest.approx([1.0, 1.3, 1.6])


def test_missing_values_leave_everything_else_as_it_is(table: pd.DataFrame) -> None:
    gappy = pd.concat(simulators.simulate(rows=17_544, seed=7, missing=0.1))
    weather = ["weathersit", "temp", "atemp", "hum", "windspeed"]
    assert gappy[weather].isna().mean().to_numpy() == pytest.approx(np.full(5, 0.1), abs=0.02)
    pd.testing.assert_frame_equal(gappy.drop(columns=weather), table.drop(columns=weather))
    pd.testing.assert_series_equal(gappy["hum"].dropna(), table["hum"][gappy["hum"].notna()])


def test_after_a_hundred_years_comes_the_next_city() -> None:
    last, first = pd.concat(simulators.simulate(2, start="2110-12-31 23:00")).to_dict("records")
    assert (last["instant"], first["instant"]) == (HOURS_OF_A_CITY, HOURS_OF_A_CITY + 1)
    assert (str(last["dteday"].date()), str(first["dteday"].date())) == ("2110-12-31", "2011-01-01")
    assert (last["yr"], first["yr"]) == (99, 0)


@pytest.mark.parametrize(
    "arguments", [{"rows": 0}, {"chunk": 0}, {"seed": -1}, {"missing": 1.0}, {"missing": -0.1}]
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(
        errors.DataError, match="must be 1 or more, seed 0 or more, missing from 0 to below 1"
    ):
        next(simulators.simulate(**({"rows": 10} | arguments)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("2010-12-31", "must be a full hour from 2011-01-01 to 2110-12-31"),
        ("2111-01-01", "must be a full hour"),
        ("2011-01-01 00:30", "must be a full hour"),
        ("2011-01-01T00:00Z", "without a time zone"),
        ("yesteryear", "is not a date"),
    ],
)
def test_a_start_outside_the_simulation_is_refused(start: str, reason: str) -> None:
    with pytest.raises(errors.DataError, match=reason):
        simulators.first_row(start)
