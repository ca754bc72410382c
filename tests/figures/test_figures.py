"""Figures: every kind of table gives a picture that says what it shows, the same one each time, and a small one."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from matplotlib.figure import Figure
from pandera.typing.pandas import Series

from model_name.core import errors, schemas
from model_name.figures import canvas, monitoring, scores, searches

LABELS: dict[str, list[Any]] = {
    "texts": ["rain", "sun", "mist"],
    "booleans": [True, False],
    "mixed": [1, "one", None, 2.5],
    "dates": [pd.Timestamp("2024-02-29"), pd.Timestamp("2024-03-01")],
}
SCORED: list[Callable[[pd.DataFrame], Figure]] = [
    scores.predicted_and_actual,
    scores.residuals,
    scores.timeline,
    scores.confusion,
]


def numbers(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    actual = random.gamma(2, 100, size=rows)
    return pd.DataFrame({"rides": actual, "prediction": actual * random.normal(1, 0.1, size=rows)})


def labels(kind: str, rows: int = 60) -> pd.DataFrame:
    of = LABELS[kind]
    return pd.DataFrame(
        {
            "target": pd.Series([of[row % len(of)] for row in range(rows)], dtype="object"),
            "prediction": pd.Series([of[row % 7 % len(of)] for row in range(rows)], dtype="object"),
        }
    )


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def words(figure: Figure) -> str:
    return " | ".join(
        text.get_text().replace("\n", " ")
        for text in figure.findobj(mpl.text.Text)
        if text.get_text()
    )


@pytest.mark.parametrize("draw", SCORED[:3])
@pytest.mark.parametrize("rows", [1, 2, 300, 20_000])
def test_numbers_are_drawn_whatever_their_number(
    draw: Callable[[pd.DataFrame], Figure], rows: int
) -> None:
    figure = draw(numbers(rows))
    assert f"{rows:,} row" in words(figure)
    assert len(png(figure)) < 60_000
    assert figure.get_figwidth() == canvas.WIDTH, "figures stand side by side"
    assert png(draw(numbers(rows))) == png(figure) == png(figure), (
        "the same table gives the same picture"
    )


@pytest.mark.parametrize("draw", SCORED[:2])
def test_many_rows_are_represented_by_some_and_that_is_said(
    draw: Callable[[pd.DataFrame], Figure],
) -> None:
    assert "5,000 rows drawn at random from 5,001" in words(draw(numbers(5_001)))
    assert "drawn at random" not in words(draw(numbers(5_000)))


@pytest.mark.parametrize("draw", [scores.predicted_and_actual, scores.timeline, scores.confusion])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type_are_drawn(draw: Callable[[pd.DataFrame], Figure], kind: str) -> None:
    for scored in (labels(kind), labels(kind).head(1)):
        assert "row" in words(draw(scored))
        assert len(png(draw(scored))) < 60_000


def test_category_columns_are_drawn_as_their_values() -> None:
    scored = labels("texts").astype("category")
    assert png(scores.confusion(scored)) == png(scores.confusion(labels("texts")))
    assert len(png(scores.timeline(scored))) > 1_000
    assert len(png(scores.distribution(scored["prediction"]))) > 1_000


@pytest.mark.parametrize("draw", SCORED)
@pytest.mark.parametrize("rows", [0, 5])
def test_without_a_complete_row_the_figure_says_so(
    draw: Callable[[pd.DataFrame], Figure], rows: int
) -> None:
    figure = draw(numbers(rows).assign(prediction=np.nan))
    assert words(figure) == "Nothing to show: no row has a target and a prediction."
    assert len(png(figure)) > 1_000


@pytest.mark.parametrize("draw", SCORED)
def test_rows_with_missing_values_are_counted(draw: Callable[[pd.DataFrame], Figure]) -> None:
    scored = numbers(50).round(-2)
    scored.loc[[3, 4], "rides"] = np.nan
    scored.loc[5, "prediction"] = np.inf
    said = words(draw(scored))
    assert "47 rows" in said
    assert "3 rows without both values left out" in said


def test_titles_tell_what_is_seen() -> None:
    scored = pd.DataFrame({"rides": [10.0, 20.0, 30.0], "prediction": [11.0, 22.0, 33.0]})
    assert "3 rows: half of them within 2 of the actual value" in words(
        scores.predicted_and_actual(scored)
    )
    assert "2 too high on average" in words(scores.residuals(scored))
    assert "2 too low on average" in words(
        scores.residuals(scored.assign(prediction=scored["rides"] - 2))
    )
    assert "the last 2 of 3 rows" in words(scores.timeline(scored, rows=2))
    three = pd.DataFrame({"target": ["a", "a", "b", "b"], "prediction": ["a", "a", "b", "a"]})
    assert "75 % are right" in words(scores.confusion(three))
    assert "half between 15 and 25" in words(scores.distribution(scored["rides"]))
    assert "most often a (75 %)" in words(scores.distribution(three["prediction"]))


def test_the_matrix_holds_shares_of_each_actual_label() -> None:
    scored = pd.DataFrame(
        {"target": [10, 10, 10, 10, 2, 2], "prediction": [10, 10, 10, 2, 2, 2]},
        index=[7, 7, 7, 8, 8, 8],
    )
    [axes] = scores.confusion(scored).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2", "10"], "2 comes before 10"
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1.0, 0.0], [0.25, 0.75]]


def test_rare_labels_are_put_together() -> None:
    kinds = [f"kind {number:02}" for number in range(40) for _ in range(40 - number)]
    figure = scores.confusion(pd.DataFrame({"target": kinds, "prediction": kinds[::-1]}))
    assert len(figure.axes[0].get_yticklabels()) == canvas.MOST_LABELS
    assert "25 rarer labels are put together as (other)" in words(figure)
    assert "16 most frequent of 40 labels" in words(scores.distribution(pd.Series(kinds)))


def test_dates_name_the_places_of_a_timeline() -> None:
    hours = pd.date_range("2024-02-28 22:00", periods=100, freq="h")
    days = pd.DatetimeIndex(hours.normalize())
    scored = numbers(100)
    by_column = scores.timeline(scored.assign(day=days)).axes[0]
    by_index = scores.timeline(scored.set_index(pd.DatetimeIndex(hours, name="hour"))).axes[0]
    for axes, name in ((by_column, "day"), (by_index, "hour")):
        shown = [text.get_text() for text in axes.get_xticklabels()]
        assert shown == ["2024-02-29", "2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]
        assert axes.get_xticks().tolist() == [2, 26, 50, 74, 98], "where a day begins"
        assert axes.get_xlabel() == name
    by_row = scores.timeline(scored).axes[0]
    assert by_row.get_xlabel() == "row"
    assert by_row.get_xticklabels()[0].get_text() == "0"


def test_the_target_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class TargetsSchema(schemas.Schema):
        price: Series[float] = pa.Field(description="Price in euros.")

    monkeypatch.setattr(schemas, "TargetsSchema", TargetsSchema)
    scored = numbers(10).rename(columns={"rides": "price"}).assign(other=1.0)
    assert "actual price: price in euros" in words(scores.predicted_and_actual(scored))
    renamed = scored.rename(columns={"price": "target"})
    assert "actual price: price in euros" in words(scores.predicted_and_actual(renamed))
    with pytest.raises(errors.DataError, match="one target .*'target', 'price' or the only other"):
        scores.predicted_and_actual(scored.rename(columns={"price": "cost"}))


def test_labels_written_as_numbers_are_labels_where_the_schema_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TargetsSchema(schemas.Schema):
        grade: Series[int] = pa.Field(metadata={"task": "classification"})

    monkeypatch.setattr(schemas, "TargetsSchema", TargetsSchema)
    scored = pd.DataFrame({"grade": [1, 2, 2], "prediction": [1, 2, 1]})
    assert "67 % are right" in words(scores.predicted_and_actual(scored))


@pytest.mark.parametrize("draw", SCORED)
def test_a_table_without_predictions_is_refused(draw: Callable[[pd.DataFrame], Figure]) -> None:
    with pytest.raises(errors.DataError, match="a scored table has a 'prediction'"):
        draw(pd.DataFrame({"rides": [1.0]}))
    with pytest.raises(errors.DataError, match="no columns"):
        draw(pd.DataFrame())


def test_errors_of_labels_cannot_be_drawn() -> None:
    with pytest.raises(
        errors.DataError, match="holds labels, this figure needs numbers; use confusion"
    ):
        scores.residuals(labels("texts"))


METRICS = pd.DataFrame(
    {
        "metric": ["r2", "mae"],
        "model": [0.8, 50.0],
        "naive": [0.5, None],
        "low": [0.7, None],
        "high": [0.9, None],
    }
)


def test_a_metric_is_drawn_beside_the_baseline() -> None:
    figure = scores.intervals(METRICS)
    assert "r2: 0.8 against 0.5" in words(figure)
    assert "mae: 50" in words(figure)
    assert len(figure.axes) == 2
    assert "no value against 0.5" in words(scores.intervals(METRICS.assign(model=None).head(1)))
    assert "there are no metrics" in words(scores.intervals(METRICS.head(0)))
    assert len(png(scores.intervals(METRICS.astype({"naive": "object"})))) < 60_000


SLICES = pd.DataFrame(
    {
        "slice": ["season"] * 2 + ["town"] * 50,
        "value": [1, None, *(f"town {number}" for number in range(50))],
        "rows": [600, 3, *range(1, 51)],
        "mae": [4.0, None, *np.linspace(-3, 9, 50)],
        "rmse": 1.0,
    }
)


def test_slices_are_drawn_by_column() -> None:
    figure = scores.slices(SLICES, overall=4.5)
    assert "mae by slice: from -3 (town = town 0) to 9 (town = town 49)" in words(figure)
    assert "all rows: 4.5" in words(figure)
    assert "the 40 largest of 50 slices" in words(figure)
    assert "missing (3 rows)" in words(figure)
    assert len(figure.axes[1].get_xticklabels()) == 40
    assert len(png(figure)) < 60_000
    assert "rmse by slice" in words(scores.slices(SLICES, metric="rmse"))
    assert "mae by slice: 4 (season = 1)" in words(scores.slices(SLICES.head(1)))
    assert "no slice has a mae" in words(scores.slices(SLICES.assign(mae=None)))
    assert "no slice has a mae" in words(scores.slices(SLICES.head(0)))


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (scores.intervals, METRICS.drop(columns="low")),
        (scores.slices, SLICES.drop(columns="rows")),
        (scores.slices, SLICES[["slice", "value", "rows"]]),
        (monitoring.history, pd.DataFrame({"r2": [0.5]})),
        (monitoring.history, pd.DataFrame({"version": [1]})),
    ],
)
def test_a_missing_column_is_named(
    draw: Callable[[pd.DataFrame], Figure], table: pd.DataFrame
) -> None:
    with pytest.raises(
        errors.DataError, match=r"the figure needs the column\(s\) (low|rows|<a metric>|version)"
    ):
        draw(table)


@pytest.mark.parametrize(
    "values", [[], [None], [1.0], [5, 5, 5], [1.5, None, np.inf], ["a", None], [True, False]]
)
def test_any_values_have_a_distribution(values: list[Any]) -> None:
    figure = scores.distribution(pd.Series(values))
    known = [value for value in values if value is not None and value != np.inf]
    assert (f"{len(known)} row" if known else "there are no values") in words(figure)
    assert len(png(figure)) < 60_000


def probabilities(names: list[Any], rows: int = 500) -> pd.DataFrame:
    random = np.random.default_rng(2)
    shares = random.dirichlet(np.ones(len(names)), size=rows)
    drawn = [names[random.choice(len(names), p=share)] for share in shares]
    scored = pd.DataFrame(
        {"target": drawn, "prediction": [names[place] for place in shares.argmax(axis=1)]}
    )
    scored[[f"probability_{name}" for name in names]] = shares
    return scored


@pytest.mark.parametrize(
    ("names", "lines"), [([True, False], 1), (["a", "b", "c"], 3), (list(range(9)), 6)]
)
def test_calibration_follows_the_diagonal_of_honest_probabilities(
    names: list[Any], lines: int
) -> None:
    figure = scores.calibration(probabilities(names))
    drawn = figure.axes[0].get_lines()[1:]
    assert len(drawn) == lines
    for line in drawn:
        assert np.abs(np.subtract(line.get_ydata(), line.get_xdata())).mean() < 0.1
    assert ("6 most frequent of 9 labels" in words(figure)) == (lines == 6)
    assert len(png(figure)) < 60_000


def test_calibration_without_probabilities_is_refused_and_without_rows_says_so() -> None:
    with pytest.raises(errors.DataError, match="calibration needs columns probability_<label>"):
        scores.calibration(labels("texts"))
    assert "Nothing to show" in words(scores.calibration(probabilities(["a", "b"]).head(0)))
    missing = probabilities(["a", "b", "c"]).assign(probability_a=np.nan)
    assert len(scores.calibration(missing).axes[0].get_lines()) == 3
    assert len(scores.calibration(probabilities(["a", "b"]).head(1)).axes[0].get_lines()) == 2


def test_the_history_of_a_metric() -> None:
    versions = pd.DataFrame(
        {"version": ["1", "2", "3"], "r2": [0.5, 0.8, None], "mae": [3.0, 2.0, 1.0]}
    )
    assert "r2 over 2 versions: from 0.5 in version 1 to 0.8 in version 2" in words(
        monitoring.history(versions)
    )
    assert "mae over 3 versions" in words(monitoring.history(versions, metric="mae"))
    assert "r2 over 1 version: 0.5 in version 1" in words(monitoring.history(versions.head(1)))
    assert "no version has a r2" in words(monitoring.history(versions.tail(1)))
    assert (
        len(
            monitoring.history(pd.DataFrame({"version": range(99), "r2": 0.5}))
            .axes[0]
            .get_xticklabels()
        )
        == 15
    )


def test_nothing_is_left_behind() -> None:
    before = dict(mpl.rcParams)
    scores.residuals(numbers(30))
    with pytest.raises(errors.DataError):
        scores.residuals(labels("texts"))
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_the_given_table_stays_as_it_was() -> None:
    scored = numbers(6_000)
    before = scored.copy(deep=True)
    for draw in SCORED[:3]:
        draw(scored)
    pd.testing.assert_frame_equal(scored, before)


# -------------------------------------------------------------------------------------------- a search for parameters
def trials_of(values: list[float | None]) -> pd.DataFrame:
    states = ["pruned" if value is None else "complete" for value in values]
    settings = [0.1 * (place + 1) for place in range(len(values))]
    deep = pd.Series([None, 7, "none", 31] * len(values), dtype=object).head(len(values))
    return pd.DataFrame(
        {
            "trial": range(len(values)),
            "state": states,
            "error": values,
            "rate": settings,
            "leaves": deep,
        }
    ).astype({"error": "float64"})


SEARCHES = {
    "none": [],
    "one": [3.0],
    "all alike": [3.0, 3.0, 3.0],
    "without a value": [None, None],
    "many": [5.0, 4.0, None, 3.0, 1000.0, 3.5, 2.5, None, 2.6, 2.7],
}


@pytest.mark.parametrize("values", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("logarithmic", [[], ["rate"]])
def test_every_search_can_be_drawn(values: list[float | None], logarithmic: list[str]) -> None:
    trials = trials_of(values)
    drawn = [
        searches.search_history(trials, "error", greater_is_better=False),
        searches.search_slices(trials, "error", ["rate", "leaves"], False, logarithmic),
        searches.parallel_coordinates(trials, "error", ["rate", "leaves"], False, logarithmic),
    ]
    known = [value for value in values if value is not None]
    for figure in drawn:
        if known:
            assert f"{min(known):.3g}" in figure.get_suptitle()
        else:
            assert "Nothing to show" in figure.texts[0].get_text()


def test_the_history_follows_the_best_in_either_direction() -> None:
    trials = trials_of([5.0, 4.0, None, 6.0])
    for better, best in ((False, [5.0, 4.0, 4.0, 4.0]), (True, [5.0, 5.0, 6.0, 6.0])):
        [axes] = searches.search_history(trials, "error", greater_is_better=better).axes
        line = next(line for line in axes.lines if line.get_label() == "best so far")
        assert list(line.get_ydata()) == best


def test_trials_that_were_given_up_are_counted_once() -> None:
    figure = searches.search_slices(trials_of(SEARCHES["many"]), "error", ["rate", "leaves"], False)
    assert "2 given up between two folds" in figure.get_supxlabel()
    assert "1 much worse trial outside" in figure.get_supxlabel()


def test_importances_that_nobody_knows_are_a_sentence() -> None:
    empty = pd.DataFrame({"parameter": [], "importance": []})
    assert "Nothing to show" in searches.parameter_importances(empty, "error").texts[0].get_text()
    shares = pd.DataFrame({"parameter": ["a", "b"], "importance": [0.25, 0.75]})
    assert "b most (75%)" in searches.parameter_importances(shares, "error").get_suptitle()
