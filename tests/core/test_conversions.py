"""Conversions: large whole numbers digit by digit, dates of any year, local times, labels; a value at a time."""

import datetime
import decimal
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from pandera.typing.pandas import Index, Series

from model_name.core import columns, conversions, errors, models, schemas
from model_name.io import registries, services
from model_name.utils import signers

PATIENT = settings(deadline=None, max_examples=50)
BIG = [2**53, 2**53 + 1, 2**62 + 3, -(2**53) - 1]


def refusal(schema: type[columns.Schema], data: pd.DataFrame) -> str:
    with pytest.raises(errors.DataError) as caught:
        schema.check(data)
    return str(caught.value).splitlines()[-1]


# -------------------------------------------------------------------------------------------------- large whole numbers
class Ids(columns.Schema):
    key: Index[int]
    category: Series[pd.CategoricalDtype] = pa.Field(isin=BIG)
    whole: Series[int] = pa.Field(isin=BIG)
    gaps: Series[pd.Int64Dtype] = pa.Field(isin=BIG, nullable=True)
    text: Series[str]
    open: Series[pd.CategoricalDtype]


FORMS: dict[str, Any] = {
    "int64": lambda values: pd.Series(values, dtype="int64"),
    "Int64": lambda values: pd.Series(values, dtype="Int64"),
    "object": lambda values: pd.Series(values, dtype="object"),
    "texts": lambda values: pd.Series([str(value) for value in values]),
    "texts with a fraction": lambda values: pd.Series([f" {value}.0 " for value in values]),
    "decimals": lambda values: pd.Series(
        [decimal.Decimal(value) for value in values], dtype="object"
    ),
    "Arrow": lambda values: pd.Series(values, dtype="int64[pyarrow]"),
    "categories": lambda values: pd.Series(pd.Categorical(values)),
    "numpy objects": lambda values: pd.Series(
        [np.int64(value) for value in values], dtype="object"
    ),
}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "texts with a fraction"])
def test_large_whole_numbers_are_exact_in_every_column(form: str) -> None:
    values = FORMS[form](BIG)
    checked = Ids.check(
        pd.DataFrame(dict.fromkeys(("key", "category", "whole", "gaps", "text", "open"), values))
    )
    for name in ("category", "whole", "gaps"):
        assert checked[name].tolist() == BIG, name
    for name in ("text", "open"):
        assert checked[name].tolist() == [str(value) for value in BIG], name
    assert checked.index.tolist() == BIG


@pytest.mark.parametrize("form", list(FORMS))
def test_a_neighbour_of_a_large_category_is_refused(form: str) -> None:
    class One(columns.Schema):
        value: Series[pd.CategoricalDtype] = pa.Field(isin=[2**53, 2**60])

    assert One.check(pd.DataFrame({"value": FORMS[form]([2**53])}))["value"].tolist() == [2**53]
    assert "is not one of 9007199254740992, 1152921504606846976" in refusal(
        One, pd.DataFrame({"value": FORMS[form]([2**53 + 1])})
    )


def test_unsigned_numbers_are_exact_or_refused() -> None:
    values = pd.Series([2**53 + 1, 2**63 - 1], dtype="uint64")
    assert conversions.to_integer(values)[0].tolist() == [2**53 + 1, 2**63 - 1]
    assert conversions.to_text(pd.Series([2**64 - 1], dtype="uint64"))[0].tolist() == [
        str(2**64 - 1)
    ]
    assert conversions.to_integer(pd.Series([2**63], dtype="uint64"))[1].tolist() == [True]


def test_categories_that_floats_cannot_tell_apart_are_a_mistake_of_the_declaration() -> None:
    class Mixed(columns.Schema):
        value: Series[pd.CategoricalDtype] = pa.Field(isin=[0.5, 2**53, 2**53 + 1])

    with pytest.raises(errors.ConfigError, match="fractions and whole numbers above"):
        Mixed.check(pd.DataFrame({"value": ["0.5"]}))


@pytest.mark.parametrize(
    "allowed", [[1, 2], [1.0, 2.0], [1, 2.0], list(np.array([1, 2])), ["1", "2"], ["1", 2]]
)
def test_categories_may_be_written_as_any_number(allowed: list[Any]) -> None:
    class Grades(columns.Schema):
        value: Series[pd.CategoricalDtype] = pa.Field(isin=allowed, nullable=True)

    for values in (
        [1, 2],
        [1.0, 2.0],
        ["1", "2"],
        pd.array([1, 2], dtype="Int64"),
        pd.Series([1, 2], dtype="object"),
    ):
        checked = Grades.check(pd.DataFrame({"value": values}))["value"]
        assert [str(value).removesuffix(".0") for value in checked] == ["1", "2"]


# --------------------------------------------------------------------------------------------------------------- labels
@PATIENT
@given(values=st.lists(st.integers(-(2**40), 2**40).map(float) | st.floats(-1e6, 1e6), min_size=1))
def test_what_becomes_of_a_number_as_a_label_does_not_depend_on_the_others(
    values: list[float],
) -> None:
    for form in ("float64", "object"):
        together = conversions.to_text(pd.Series(values, dtype=form))[0].tolist()
        alone = [conversions.to_text(pd.Series([value], dtype=form))[0].iloc[0] for value in values]
        assert together == alone
        assert [float(label) for label in together] == values


def shops(labels: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[models.Model, pd.DataFrame]:
    """Fit a model that learns a value for each label."""

    class Inputs(columns.Schema):
        label: Series[str]

    class Targets(columns.Schema):
        y: Series[float]

    class Outputs(columns.Schema):
        prediction: Series[float]

    for name, schema in (
        ("InputsSchema", Inputs),
        ("TargetsSchema", Targets),
        ("OutputsSchema", Outputs),
    ):
        monkeypatch.setattr(schemas, name, schema)
    table = pd.DataFrame(
        {"label": labels * 40, "y": [float(number) for number in range(len(labels))] * 40}
    )
    model = models.BaselineSklearnModel(n_estimators=5, n_jobs=1)
    model.fit(Inputs.check(table), Targets.check(table))
    return model, Inputs.check(table.head(len(labels)))


@pytest.mark.parametrize(
    "labels", [["v1", "v1.0", "v2"], ["1", "1.0", "1.0.3"], ["01", "1", "01.0"], ["1.0", "x", "1"]]
)
def test_labels_that_are_no_numbers_stay_apart(
    labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = shops(labels, monkeypatch)
    assert len(set(model.predict(inputs)["prediction"].round(6))) == 3
    alone = [model.predict(inputs.iloc[[row]])["prediction"].iloc[0] for row in range(3)]
    assert alone == model.predict(inputs)["prediction"].tolist(), (
        "a row alone is answered as it is among others"
    )


def test_numbers_that_are_equal_are_one_label_where_all_labels_are_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, _ = shops(["1", "2", "3"], monkeypatch)
    answers = [
        model.predict(schemas.InputsSchema.check(pd.DataFrame({"label": labels})))[
            "prediction"
        ].tolist()
        for labels in (["1", "2", "3"], ["1.0", "2.0", "3.0"], [1.0, 2.0, 3.0])
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) == 3


@pytest.mark.parametrize("value", ["YES", "yes ", " Yes"])
def test_a_category_that_differs_in_blanks_or_case_is_refused_with_the_declared_one(
    value: str,
) -> None:
    class Answers(columns.Schema):
        answer: Series[pd.CategoricalDtype] = pa.Field(isin=["yes", "no"])

    assert refusal(Answers, pd.DataFrame({"answer": ["no", value]})) == (
        f"- answer: {value!r} is not one of 'yes', 'no'; did you mean 'yes'?: row 2 (index 1)"
    )


# ----------------------------------------------------------------------------------------------- infinity and durations
@pytest.mark.parametrize("value", [np.inf, -np.inf, "inf", "-Infinity"])
def test_infinity_is_refused_as_a_number(value: Any) -> None:
    class Prices(columns.Schema):
        price: Series[float] = pa.Field(nullable=True)

    assert f"- price: {value!r} is not a finite number" in refusal(
        Prices, pd.DataFrame({"price": [value, None]})
    )


@pytest.mark.parametrize(
    "value", [pd.Timedelta(hours=3), datetime.timedelta(hours=-3), np.timedelta64(3, "h")]
)
def test_a_duration_is_called_one(value: Any) -> None:
    class Rides(columns.Schema):
        ride: Series[float] = pa.Field(nullable=True)

    message = refusal(Rides, pd.DataFrame({"ride": pd.Series([value, None], dtype="object")}))
    assert "it is a duration: give it as a number of one unit, such as hours" in message


# --------------------------------------------------------------------------------------------------------------- dates
class Contracts(columns.Schema):
    until: Series[pa.DateTime] = pa.Field(nullable=True)


MOMENTS = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59))


@PATIENT
@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=6),
    form=st.sampled_from(["text", "object", "us"]),
)
def test_dates_of_every_year_keep_their_value(moments: list[datetime.datetime], form: str) -> None:
    values: Any = pd.Series(moments, dtype="object")
    values = {
        "text": values.map(lambda moment: moment.isoformat()),
        "object": values,
        "us": values.astype("M8[us]"),
    }[form]
    table = pd.DataFrame({"until": values})
    checked = Contracts.check(table)
    assert [value.to_pydatetime(warn=False) for value in checked["until"]] == moments
    alone = [Contracts.check(table.iloc[[row]])["until"].iloc[0] for row in range(len(table))]
    assert alone == checked["until"].tolist(), "a value alone is read as it is among others"
    pd.testing.assert_frame_equal(Contracts.check(checked), checked)


def test_a_far_date_beside_fractions_of_a_microsecond() -> None:
    texts = pd.DataFrame({"until": ["2024-01-01T00:00:00.123456789", "9999-12-31", None]})
    for table in (texts, texts[::-1]):
        assert Contracts.check(table)["until"].dt.year.max() == 9999


def test_a_range_of_far_dates_is_checked() -> None:
    class Future(columns.Schema):
        until: Series[pa.DateTime] = pa.Field(ge=pd.Timestamp("2000-01-01"), unique=True)

    assert Future.check(pd.DataFrame({"until": ["9999-12-31"]}))["until"].dt.year.tolist() == [9999]
    table = pd.DataFrame({"until": ["9999-12-31", "1700-01-01", "9999-12-31"]})
    assert "below the least allowed value" in refusal(Future, table)
    assert columns.offending(Future, table)["row"].tolist() == [1, 2]


def contracts(monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, pd.DataFrame]:
    class Targets(columns.Schema):
        y: Series[float]

    class Outputs(columns.Schema):
        prediction: Series[float]

    for name, schema in (
        ("InputsSchema", Contracts),
        ("TargetsSchema", Targets),
        ("OutputsSchema", Outputs),
    ):
        monkeypatch.setattr(schemas, name, schema)
    days = pd.Series(pd.date_range("2020-01-01", periods=200).strftime("%Y-%m-%d"))
    days[::4] = "9999-12-31"
    table = pd.DataFrame({"until": days, "y": np.where(days == "9999-12-31", 100.0, 1.0)})
    return Contracts.check(table), Targets.check(table)


def test_an_open_end_is_learnt_saved_and_answered(
    monkeypatch: pytest.MonkeyPatch, store: services.MlflowService
) -> None:
    """9999-12-31 is a value like any other, on the whole way through MLflow."""
    inputs, targets = contracts(monkeypatch)
    model = models.GradientBoostingModel(max_iter=30, min_samples_leaf=5, n_jobs=1).fit(
        inputs, targets
    )
    expected = model.predict(inputs)["prediction"].tolist()
    assert expected[:4] == pytest.approx([100, 1, 1, 1], abs=25)
    store.start()
    with store.run_context(store.RunConfig(name="Training")):
        signature = signers.InferSigner().sign(inputs, model.predict(inputs))
        saved = registries.CustomSaver().save(model, signature, inputs.head(3))
    adapter = registries.CustomLoader().load(saved.model_uri)
    assert adapter.predict(inputs)["prediction"].tolist() == expected
    assert adapter.predict(inputs[1:4])["prediction"].tolist() == expected[1:4]
    assert adapter.predictor()(inputs)["prediction"].tolist() == expected


# ---------------------------------------------------------------------------------------------------------- local time
@pytest.fixture
def warned() -> Iterator[list[str]]:
    conversions._warn_as_written.cache_clear()
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


class Loads(columns.Schema):
    at: Series[pa.DateTime] = pa.Field(nullable=True, metadata={"zone": "Europe/Berlin"})


class Unzoned(columns.Schema):
    at: Series[pa.DateTime] = pa.Field(nullable=True)


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@PATIENT
@given(
    moments=st.lists(
        st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2100, 1, 1)),
        min_size=1,
        max_size=6,
    ),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    form=st.sampled_from(["text", "object", "dtype"]),
)
def test_with_a_declared_zone_every_time_becomes_its_local_time(
    moments: list[datetime.datetime], zone: str, form: str
) -> None:
    aware = [
        moment.replace(tzinfo=datetime.UTC).astimezone(zoneinfo.ZoneInfo(zone))
        for moment in moments
    ]
    local = [moment.astimezone(BERLIN).replace(tzinfo=None) for moment in aware]
    forms: dict[str, Any] = {
        "text": [moment.isoformat() for moment in aware],
        "object": pd.Series(aware, dtype="object"),
        "dtype": pd.DatetimeIndex([m.replace(tzinfo=None) for m in moments], tz="UTC").tz_convert(
            zone
        ),
    }
    assert Loads.check(pd.DataFrame({"at": forms[form]}))["at"].tolist() == local


@pytest.mark.parametrize(
    "written", ["2024-07-01T08:00+02:00", "2024-07-01 08:00:00 +0200", "20240701T0800+02"]
)
def test_without_a_zone_a_time_is_taken_as_it_is_written_and_said_once(
    written: str, warned: list[str]
) -> None:
    for _ in range(3):
        table = pd.DataFrame(
            {
                "at": [
                    written,
                    "2024-07-01T08:00",
                    "2024-01-01T08:00-05:00",
                    "2024-01-01T08:00Z",
                    None,
                ]
            }
        )
        assert Unzoned.check(table)["at"].dt.hour.tolist()[:4] == [8, 8, 8, 8]
    [line] = warned
    assert line.startswith(
        "at: its times say their offset from UTC, and the schema declares no zone"
    )


def test_a_column_with_a_time_zone_keeps_its_local_time(warned: list[str]) -> None:
    local = pd.date_range("2024-10-26", "2024-10-28", freq="h", tz="Europe/Berlin")
    assert (
        Unzoned.check(pd.DataFrame({"at": local}))["at"].tolist()
        == local.tz_localize(None).tolist()
    )
    assert len(warned) == 1


def test_times_without_an_offset_are_local_time_and_nothing_to_say(warned: list[str]) -> None:
    texts = ["2024-07-01", "2024-07-01T08:00", "20240701", "2024-07", "2024-12-31T23:59:59.5"]
    assert Loads.check(pd.DataFrame({"at": texts})).equals(
        Unzoned.check(pd.DataFrame({"at": texts}))
    )
    assert warned == []


def test_a_zone_that_does_not_exist() -> None:
    class Wrong(columns.Schema):
        at: Series[pa.DateTime] = pa.Field(metadata={"zone": "Europe/Berlim"})

    with pytest.raises(
        errors.ConfigError,
        match="zone 'Europe/Berlim', which is unknown; did you mean 'Europe/Berlin'?",
    ):
        Wrong.check(pd.DataFrame({"at": ["2024-07-01T08:00Z"]}))


@pytest.mark.parametrize(
    "text",
    ["2024-07-01T08:00+25:00x", "T08:00Z", "08:00+02:00", "\ud83d", "2024-07-01T08:00+99:99"],
)
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    for schema in (Loads, Unzoned):
        values = pd.Series([text, "2024-07-01T08:00Z"], dtype="object")
        assert "is not a date in ISO 8601" in refusal(schema, pd.DataFrame({"at": values}))


@pytest.mark.parametrize(
    "dates",
    [
        ["1699-12-31", "1700-01-01"],
        ["2199-12-31T23:59:59.999999999", "2200-01-01"],
        ["0001-01-01", "2024-02-29"],
        ["now", "2024-02-29"],
    ],
)
def test_dates_at_the_ends_of_the_short_way_are_read_as_before(dates: list[str]) -> None:
    values = pd.Series(dates, dtype="str")
    read, faults = conversions.to_date(values)
    for value, date, fault in zip(dates, read, faults, strict=True):
        assert fault == (value == "now")
        assert pd.isna(date) if fault else date == pd.Timestamp(value)


def test_dates_are_read_by_position_where_index_labels_repeat() -> None:
    far = ["2024-01-01T10:00:00.123456789", "0001-01-01", "2024-02-29"]
    mixed = ["2024-01-01T12:00:00+02:00", "2024-01-01T12:00:00", None]
    for dates in (far, mixed):
        with_labels, faults = conversions.to_date(pd.Series(dates, index=[7, 7, 7], dtype="str"))
        expected, _ = conversions.to_date(pd.Series(dates, dtype="str"))
        assert with_labels.tolist() == expected.tolist()
        assert not faults.any()
