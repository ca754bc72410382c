"""Signers: signatures that let missing numbers through, checked with a model that is saved, loaded and asked."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pydantic as pdt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.models import ModelSignature, validate_schema
from pandera.typing.pandas import Index, Series

from model_name.core import errors, schemas
from model_name.utils import signers


class PatientsSchema(schemas.Schema):
    """A table that shares no column with the bikes."""

    patient: Index[str] = pa.Field(check_name=True)
    age: Series[int] = pa.Field(ge=0)
    visits: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    weight: Series[float] = pa.Field(nullable=True)
    smoker: Series[bool] = pa.Field()
    insured: Series[pd.BooleanDtype] = pa.Field(nullable=True)
    ward: Series[pd.CategoricalDtype] = pa.Field(nullable=True)
    grade: Series[pd.CategoricalDtype] = pa.Field(isin=[1, 2, 3], nullable=True)
    note: Series[str] = pa.Field(nullable=True)
    admitted: Series[pa.DateTime] = pa.Field(nullable=True)


class OutcomesSchema(schemas.Schema):
    patient: Index[str] = pa.Field(check_name=True)
    prediction: Series[str] = pa.Field()
    probability: Series[float] = pa.Field(alias="probability_.+", regex=True, ge=0, le=1)


PATIENTS = pd.DataFrame(
    {
        "age": [40, 51, 73],
        "visits": pd.array([1, None, 3], dtype="Int64"),
        "weight": [70.5, np.nan, 81.0],
        "smoker": [True, False, True],
        "insured": pd.array([True, None, False], dtype="boolean"),
        "ward": ["east", None, "west"],
        "grade": [1, None, 3],
        "note": ["fine", None, "007"],
        "admitted": pd.to_datetime(["2024-02-29 08:00", None, "2024-03-01 12:30"]),
    },
    index=pd.Index(["a", "b", "c"], name="patient"),
)
OUTCOMES = pd.DataFrame(
    {
        "prediction": ["home", "stay", "home"],
        "probability_home": [0.9, 0.2, 0.6],
        "probability_stay": [0.1, 0.8, 0.4],
    },
    index=PATIENTS.index,
)
TYPES = {
    "age": "double",
    "visits": "double",
    "weight": "double",
    "smoker": "boolean",
    "insured": "boolean",
    "ward": "string",
    "grade": "double",
    "note": "string",
    "admitted": "datetime",
}


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Hold the signer to its promise not to warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="mlflow")
        warnings.filterwarnings("ignore", message=".*(type hint|input example|IProgress).*")
        yield


@pytest.fixture
def patients(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Make the patients the project's tables, and return the checked one."""
    monkeypatch.setattr(schemas, "InputsSchema", PatientsSchema)
    monkeypatch.setattr(schemas, "OutputsSchema", OutcomesSchema)
    return PatientsSchema.check(PATIENTS)


def types_of(schema: Any) -> dict[str, str]:
    return {column.name: column.type.name for column in schema.inputs}


def test_every_kind_of_column_has_its_type(patients: pd.DataFrame) -> None:
    signature = signers.InferSigner().sign(patients, OUTCOMES)
    assert types_of(signature.inputs) == TYPES
    assert types_of(signature.outputs) == {
        "prediction": "string",
        "probability_home": "double",
        "probability_stay": "double",
    }


def test_what_the_schema_lets_be_missing_is_optional(patients: pd.DataFrame) -> None:
    signature = signers.InferSigner().sign(patients, OUTCOMES)
    assert signature.inputs.required_input_names() == ["age", "smoker"]
    assert signature.outputs.optional_input_names() == []


def test_the_bikes_are_signed_without_a_long() -> None:
    hours = pd.DataFrame(
        {
            "instant": [1, 2], "dteday": ["2011-01-01"] * 2, "season": [1, 1], "yr": [0, 0], "mnth": [1, 1],
            "hr": [0, 1], "holiday": [0, 0], "weekday": [6, 6], "workingday": [0, 0], "weathersit": [1, 2],
            "temp": [0.24, 0.22], "atemp": [0.29, 0.27], "hum": [0.81, 0.8], "windspeed": [0.0, None],
        }
    )  # fmt: skip
    checked = schemas.InputsSchema.check(hours)
    outputs = pd.DataFrame({"prediction": [16.0, 40.0]}, index=checked.index)
    signature = signers.InferSigner().sign(checked, outputs)
    assert set(types_of(signature.inputs).values()) == {"double", "boolean", "datetime"}
    assert types_of(signature.outputs) == {"prediction": "double"}
    assert "windspeed" in signature.inputs.optional_input_names()
    assert "hr" in signature.inputs.required_input_names()
    validate_schema(signers.to_signature_types(checked), signature.inputs)


class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answer with what it was given, and count it."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def] # MLflow reads type hints
        return model_input.assign(columns=model_input.shape[1])


@pytest.fixture
def echo(patients: pd.DataFrame, tmp_path: Path) -> Any:
    """Save and load a real model with the signature of the patients."""
    mlflow.pyfunc.save_model(
        str(tmp_path / "model"),
        python_model=Echo(),
        signature=signers.InferSigner().sign(patients, OUTCOMES),
        input_example=signers.to_signature_types(patients).head(2),
        pip_requirements=[],
    )
    return mlflow.pyfunc.load_model(str(tmp_path / "model"))


def test_a_saved_model_keeps_its_signature_and_takes_missing_values(
    echo: Any, patients: pd.DataFrame
) -> None:
    assert types_of(echo.metadata.signature.inputs) == TYPES
    answers = echo.predict(signers.to_signature_types(patients))
    assert answers.index.tolist() == ["a", "b", "c"]
    assert answers["columns"].tolist() == [9, 9, 9]
    assert answers["visits"].isna().tolist() == [False, True, False]
    assert answers["insured"].tolist() == [True, None, False]
    assert answers["note"].iloc[2] == "007"
    assert PatientsSchema.check(answers).drop(columns="note").equals(patients.drop(columns="note"))


def test_a_saved_model_takes_whole_numbers_and_rows_of_other_types(
    echo: Any, patients: pd.DataFrame
) -> None:
    whole = patients.assign(weight=[70, 80, 90], age=pd.array([40, 51, None], dtype="Int64"))
    assert echo.predict(signers.to_signature_types(whole))["weight"].tolist() == [70.0, 80.0, 90.0]
    small = signers.to_signature_types(patients).astype({"age": "int32", "grade": "float32"})
    assert echo.predict(small)["age"].tolist() == [40.0, 51.0, 73.0], (
        "what MLflow converts safely by itself"
    )
    nothing = PatientsSchema.check(
        PATIENTS.assign(weight=None, note=None, ward=None, grade=None, insured=None)
    )
    assert echo.predict(signers.to_signature_types(nothing))["weight"].isna().all()


def test_a_saved_model_takes_json_and_lets_optional_columns_be_absent(echo: Any) -> None:
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    schema = echo.metadata.get_input_schema()
    rows = infer_and_parse_data(
        {"dataframe_records": [{"age": 40, "smoker": True, "weight": None}]}, schema
    )
    answers = echo.predict(rows)
    assert answers["columns"].tolist() == [3]
    assert answers["age"].dtype == "float64"
    with pytest.raises(mlflow.MlflowException, match="missing inputs.*smoker"):
        echo.predict(rows.drop(columns="smoker"))


def test_the_stored_example_can_be_scored(echo: Any, tmp_path: Path) -> None:
    example = echo.input_example
    assert example is not None
    assert echo.predict(example)["visits"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        (pd.Series(["a", "b"]), "string"),
        (pd.Series([True, False]), "boolean"),
        (pd.Series(pd.Categorical(["a", "b"])), "string"),
        (pd.Series(pd.Categorical([True, False])), "boolean"),
        (pd.Series([1, 0]), "double"),
        (pd.Series([1, 0], dtype="uint8"), "double"),
        (pd.Series(["a", None], dtype="object"), "string"),
        (pd.Series([True, None], dtype="object"), "boolean"),
        (pd.Series([None, None], dtype="object"), "string"),
        (pd.Series([1, None, 2.5], dtype="object"), "double"),
        (pd.Series(pd.to_datetime(["2024-03-31 01:30+01:00"])), "datetime"),
    ],
)
def test_outputs_of_any_kind_are_signed(outputs: pd.Series, kind: str) -> None:
    frame = outputs.to_frame("prediction")
    signature = signers.InferSigner().sign(frame, frame)
    assert types_of(signature.outputs) == {"prediction": kind}
    assert ModelSignature.from_dict(signature.to_dict()) == signature
    validate_schema(signers.to_signature_types(frame), signature.outputs)


def test_dates_with_a_time_zone_become_utc() -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(["2024-03-31 01:30+01:00", None])})
    converted = signers.to_signature_types(frame)["at"]
    assert converted.tolist() == [pd.Timestamp("2024-03-31 00:30"), pd.NaT]
    assert converted.dtype == "datetime64[ns]"
    categories = signers.to_signature_types(frame.astype("category"))["at"]
    pd.testing.assert_series_equal(categories, converted)


@pytest.mark.parametrize("value", [1 + 2j, [1, 2], {"a": 1}, pd.Timedelta("1h"), b"bytes"])
def test_other_values_have_no_type_in_a_signature(value: object) -> None:
    frame = pd.DataFrame({"odd": [value, value]})
    with pytest.raises(
        errors.DataError,
        match="column 'odd' holds .* allowed are numbers, booleans, dates and texts",
    ):
        signers.InferSigner().sign(frame, frame)


def test_a_table_without_columns_is_not_signed() -> None:
    with pytest.raises(errors.DataError, match="the outputs have no columns"):
        signers.InferSigner().sign(PATIENTS, OUTCOMES[[]])


def test_the_table_that_is_converted_stays_as_it_was(patients: pd.DataFrame) -> None:
    before = patients.copy(deep=True)
    once = signers.to_signature_types(patients)
    pd.testing.assert_frame_equal(patients, before)
    pd.testing.assert_frame_equal(signers.to_signature_types(once), once)


@given(values=st.lists(st.none() | st.integers(-(2**53), 2**53), min_size=1))
def test_whole_numbers_survive_as_doubles(values: list[int | None]) -> None:
    frame = pd.DataFrame({"number": pd.array(values, dtype="Int64")})
    for form in (frame, frame.astype("category")):
        converted = signers.to_signature_types(form)["number"]
        assert [None if np.isnan(number) else int(number) for number in converted] == values


def test_an_empty_table_can_be_converted(patients: pd.DataFrame) -> None:
    assert list(signers.to_signature_types(patients.iloc[:0]).columns) == list(patients.columns)


def test_it_is_configured_by_its_kind() -> None:
    assert signers.InferSigner.model_validate({"KIND": "InferSigner"}) == signers.InferSigner()
    with pytest.raises(pdt.ValidationError):
        signers.InferSigner.model_validate({"KIND": "InferSigner", "strict": True})
