"""Models: any kind of column, both tasks, the same answer twice, and the effects that are known to be there."""

import itertools
import math
import pickle
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pydantic as pdt
import pytest
import threadpoolctl
from pandera.typing.pandas import Index, Series
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.preprocessing import OneHotEncoder

from model_name.core import errors, models, schemas, scoring
from model_name.io import datasets, simulators

ROWS = 400


class VisitsSchema(schemas.Schema):
    """A table with a column of every kind, most of which may be missing."""

    visit: Index[str] = pa.Field(unique=True, check_name=True)
    age: Series[int] = pa.Field(ge=0)
    children: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    weight: Series[float] = pa.Field(nullable=True)
    smoker: Series[bool]
    insured: Series[pd.BooleanDtype] = pa.Field(nullable=True)
    ward: Series[str] = pa.Field(nullable=True)
    grade: Series[pd.CategoricalDtype] = pa.Field(isin=[1, 2, 3], nullable=True)
    admitted: Series[pa.DateTime] = pa.Field(nullable=True)
    doctor: Series[str] = pa.Field(metadata={"feature": False})


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Boost on one thread: tests run beside each other, and threads that wait for a busy core only burn time."""
    with threadpoolctl.threadpool_limits(1):
        yield


def outputs_schema(dtype: Any) -> type[schemas.Schema]:
    class AnswersSchema(schemas.Schema):
        visit: Index[str] = pa.Field(unique=True, check_name=True)
        prediction: Series[dtype]
        probability: Optional[Series[float]] = pa.Field(  # noqa: UP045 (pandera reads Optional as "may be absent")
            alias="probability_.+", regex=True, ge=0, le=1
        )

    return AnswersSchema


def targets_schema(dtype: Any, **field: Any) -> type[schemas.Schema]:
    class OutcomesSchema(schemas.Schema):
        visit: Index[str] = pa.Field(unique=True, check_name=True)
        outcome: Series[dtype] = pa.Field(**field)

    return OutcomesSchema


def visits(rows: int = ROWS, seed: int = 1) -> pd.DataFrame:
    """Draw raw visits; some of nearly everything is missing."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "visit": [f"v{row}" for row in range(rows)],
            "age": random.integers(0, 90, rows),
            "children": random.integers(0, 4, rows),
            "weight": random.normal(75, 10, rows),
            "smoker": random.random(rows) < 0.3,
            "insured": random.random(rows) < 0.8,
            "ward": random.choice(["east", "west", "north"], rows),
            "grade": random.integers(1, 4, rows),
            "admitted": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(random.integers(0, 20_000, rows), unit="h"),
            "doctor": random.choice(["A", "B"], rows),
        }
    )
    for name in ("children", "weight", "insured", "ward", "grade", "admitted"):
        table[name] = table[name].astype("object").where(random.random(rows) > 0.1, None)
    return table


def need(table: pd.DataFrame) -> pd.Series:
    """Return what the outcomes depend on."""
    return (
        table["age"] / 30
        + table["smoker"]
        + 2 * (table["ward"] == "east")
        + pd.to_numeric(table["grade"]).fillna(2)
    )


LEVELS = {"low": "aside", "middle": "home", "high": "stay"}
OUTCOMES: dict[
    str, tuple[Any, dict[str, Any], Any]
] = {  # what the outcome is called, its type, its values
    "number": (float, {}, lambda level: level * 1.0),
    "negative": (int, {}, lambda level: (level - 5).round()),
    "count": (int, {"ge": 0}, lambda level: level.round()),
    "label": (
        str,
        {},
        lambda level: pd.cut(level, [-9, 3, 4.5, 99], labels=list(LEVELS.values())).astype("str"),
    ),
    "category": (
        pd.CategoricalDtype,
        {"isin": ["home", "stay", "aside"]},
        lambda level: pd.cut(level, [-9, 3, 4.5, 99], labels=list(LEVELS.values())).astype("str"),
    ),
    "code": (
        int,
        {"metadata": {"task": "classification"}},
        lambda level: pd.cut(level, [-9, 3, 4.5, 99], labels=[7, 2, 5]).astype("int64"),
    ),
    "grade": (pd.CategoricalDtype, {"isin": [1, 2]}, lambda level: (level > 4).astype("int64") + 1),
    "truth": (bool, {}, lambda level: level > 4),
}
REGRESSIONS = ["number", "negative", "count"]
KINDS = [
    models.BaselineSklearnModel(n_estimators=15, max_depth=8, n_jobs=1),
    models.GradientBoostingModel(max_iter=30, n_jobs=1),
]
each_model = pytest.mark.parametrize("model", KINDS, ids=lambda model: model.KIND)


@pytest.fixture(params=OUTCOMES)
def outcome(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the visits the project's tables, with each kind of outcome in turn."""
    declare(monkeypatch, request.param)
    return str(request.param)


def declare(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    dtype, field, _ = OUTCOMES[outcome]
    limited = {"isin": field["isin"]} if "isin" in field else {}
    monkeypatch.setattr(schemas, "InputsSchema", VisitsSchema)
    monkeypatch.setattr(schemas, "TargetsSchema", targets_schema(dtype, **field))
    answers = outputs_schema(float if outcome in REGRESSIONS else dtype)
    if limited:
        answers = type("LimitedSchema", (answers,), {"prediction": pa.Field(**limited), "__annotations__": {
            "prediction": Series[dtype]}})  # fmt: skip
    monkeypatch.setattr(schemas, "OutputsSchema", answers)


def tables(outcome: str, rows: int = ROWS, seed: int = 1) -> tuple[Any, Any]:
    """Return checked visits and their outcomes."""
    raw = visits(rows, seed)
    raw["outcome"] = OUTCOMES[outcome][2](need(raw))
    return schemas.InputsSchema.check(raw), schemas.TargetsSchema.check(raw)


def fitted(model: models.Model, inputs: Any, targets: Any) -> models.Model:
    return model.model_copy(deep=True).fit(inputs, targets)


@each_model
def test_every_kind_of_target_is_learnt_from_every_kind_of_column(
    model: models.Model, outcome: str
) -> None:
    inputs, targets = tables(outcome)
    outputs = fitted(model, inputs.head(300), targets.head(300)).predict(inputs.tail(100))
    truth = targets["outcome"].tail(100)
    assert outputs.index.equals(truth.index)
    if outcome in REGRESSIONS:
        assert list(outputs) == ["prediction"]
        assert r2_score(truth.astype("float64"), outputs["prediction"]) > 0.6
        assert outcome != "count" or (outputs["prediction"] >= 0).all()
        return
    labels = sorted(truth.astype("str").unique())
    assert sorted(outputs) == sorted(["prediction", *(f"probability_{label}" for label in labels)])
    probabilities = outputs.drop(columns="prediction")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    likeliest = probabilities.idxmax(axis=1).str.removeprefix("probability_")
    assert (likeliest == outputs["prediction"].astype("str")).all()
    assert (outputs["prediction"].astype("str") == truth.astype("str")).mean() > 0.75
    assert type(outputs["prediction"].iloc[0]) is type(truth.iloc[0])


@each_model
@pytest.mark.parametrize("outcome", ["number", "label"])
def test_the_same_seed_gives_the_same_model_bit_by_bit(
    model: models.Model, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, outcome)
    inputs, targets = tables(outcome)
    first, second = fitted(model, inputs, targets), fitted(model, inputs, targets)
    pd.testing.assert_frame_equal(first.predict(inputs), second.predict(inputs), check_exact=True)
    more_threads = fitted(model.model_copy(update={"n_jobs": 2}), inputs, targets)
    pd.testing.assert_frame_equal(
        first.predict(inputs), more_threads.predict(inputs), check_exact=True
    )
    reseeded = fitted(model.model_copy(update={"random_state": 7}), inputs, targets).predict(inputs)
    assert isinstance(model, models.GradientBoostingModel) or not reseeded.equals(
        first.predict(inputs)
    )


@each_model
@pytest.mark.parametrize("outcome", ["number", "label"])
def test_batches_single_rows_and_other_orders_have_the_same_answers(
    model: models.Model, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, outcome)
    inputs, targets = tables(outcome)
    model = fitted(model, inputs, targets)
    once = model.predict(inputs)
    batches = [
        model.predict(inputs.iloc[start : start + 50]) for start in range(0, len(inputs), 50)
    ]
    pd.testing.assert_frame_equal(pd.concat(batches), once, check_exact=True)
    backwards = model.predict(inputs.iloc[::-1])
    pd.testing.assert_frame_equal(backwards.iloc[::-1], once, check_exact=True)
    for row in (0, 5, len(inputs) - 1):
        pd.testing.assert_frame_equal(
            model.predict(inputs.iloc[[row]]), once.iloc[[row]], check_exact=True
        )


@each_model
def test_a_model_that_saw_no_gaps_takes_them_and_new_labels(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    whole = inputs.dropna()
    model = fitted(model, whole, targets.loc[whole.index])
    gaps = [
        name for name in VisitsSchema.features() if VisitsSchema.to_schema().columns[name].nullable
    ]
    raw = visits(20, seed=2).astype("object")
    raw[gaps] = None
    assert np.isfinite(model.predict(schemas.InputsSchema.check(raw))["prediction"]).all()
    strange = schemas.InputsSchema.check(
        visits(20, seed=2).assign(ward="the moon", admitted="2200-01-01")
    )
    assert np.isfinite(model.predict(strange)["prediction"]).all()


@each_model
def test_a_saved_copy_answers_like_the_model(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "label")
    inputs, targets = tables("label")
    model = fitted(model, inputs, targets)
    copy = pickle.loads(pickle.dumps(model))
    assert (type(copy), copy.get_params()) == (type(model), model.get_params())
    pd.testing.assert_frame_equal(copy.predict(inputs), model.predict(inputs), check_exact=True)


@each_model
def test_columns_that_are_no_feature_and_the_order_of_columns_do_not_matter(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    other = fitted(model, inputs.assign(doctor="Z")[list(inputs)[::-1]], targets)
    answers = fitted(model, inputs, targets).predict(inputs)
    pd.testing.assert_frame_equal(
        other.predict(inputs[inputs.columns[::-1]]), answers, check_exact=True
    )
    pd.testing.assert_frame_equal(
        other.predict(inputs[VisitsSchema.features()]), answers, check_exact=True
    )


@each_model
def test_a_thousand_towns_are_not_a_thousand_columns(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    raw = visits(3_000).assign(ward=[f"town {row % 1_000}" for row in range(3_000)])
    raw["outcome"] = need(raw)
    inputs, targets = schemas.InputsSchema.check(raw), schemas.TargetsSchema.check(raw)
    model = fitted(model, inputs, targets)
    encoded = model.get_internal_model()["encode"].transform(inputs)
    assert encoded.shape[1] < 80
    assert np.isfinite(model.predict(inputs)["prediction"]).all()


@each_model
def test_a_table_may_have_columns_of_one_kind_only(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    for kind, values in {
        str: ["a", "b"], float: [0.5, 1.5], bool: [True, False], pa.DateTime: ["2024-01-01", "2025-01-01"]
    }.items():  # fmt: skip
        single = type(
            "SingleSchema",
            (schemas.Schema,),
            {"__annotations__": {"visit": Index[str], "only": Series[kind]}},
        )
        monkeypatch.setattr(schemas, "InputsSchema", single)
        table = pd.DataFrame(
            {
                "visit": [f"v{row}" for row in range(100)],
                "only": values * 50,
                "outcome": [1.0, 2.0] * 50,
            }
        )
        inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
        answers = fitted(model, inputs, targets).predict(inputs)["prediction"]
        assert answers.iloc[0] == pytest.approx(1, abs=0.3)
        assert answers.iloc[1] == pytest.approx(2, abs=0.3)


@each_model
def test_a_table_without_features_is_refused(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NothingSchema(schemas.Schema):
        visit: Index[str]
        doctor: Series[str] = pa.Field(metadata={"feature": False})

    monkeypatch.setattr(schemas, "InputsSchema", NothingSchema)
    with pytest.raises(errors.ModelError, match="InputsSchema declares no feature"):
        fitted(model, pd.DataFrame({"doctor": ["A"]}), pd.DataFrame({"cnt": [1]}))


# ---------------------------------------------------------------------------------------------------- the interface


@each_model
def test_an_unfitted_model_says_so(model: models.Model) -> None:
    for ask in (lambda: model.predict(pd.DataFrame()), model.get_internal_model):
        with pytest.raises(ValueError, match=r"^Model is not fitted yet!$") as caught:
            ask()
        assert isinstance(caught.value, errors.ModelError)


@each_model
def test_parameters_are_read_set_and_cloned(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    model = fitted(model, inputs, targets)
    assert model.get_params() == model.model_dump(exclude={"KIND"})
    copy = clone(model.set_params(max_depth=3, random_state=5))
    assert copy.get_params() == model.get_params()
    assert (copy.max_depth, copy.random_state, copy.KIND) == (3, 5, model.KIND)
    with pytest.raises(ValueError, match="not fitted"):
        copy.predict(inputs)
    assert len(model.predict(inputs)) == ROWS, "the original stays fitted"


@each_model
def test_a_misspelt_parameter_is_refused_with_the_nearest(model: models.Model) -> None:
    with pytest.raises(
        errors.ConfigError,
        match=f"{model.KIND} has no parameter 'max_deph'; did you mean 'max_depth'",
    ):
        model.model_copy().set_params(max_deph=3)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (models.BaselineSklearnModel, {"max_depth": 0}),
        (models.BaselineSklearnModel, {"n_estimators": 0}),
        (models.BaselineSklearnModel, {"n_estimators": "200"}),
        (models.BaselineSklearnModel, {"random_state": -1}),
        (models.BaselineSklearnModel, {"trees": 200}),
        (models.GradientBoostingModel, {"learning_rate": 0.0}),
        (models.GradientBoostingModel, {"max_leaf_nodes": 1}),
        (models.GradientBoostingModel, {"l2_regularization": -1.0}),
    ],
)
def test_parameters_that_mean_nothing_are_refused(
    kind: type[models.Model], fields: dict[str, Any]
) -> None:
    with pytest.raises(pdt.ValidationError):
        kind(**fields)


@each_model
def test_scikit_learn_knows_what_kind_of_estimator_it_is(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (is_regressor(model), is_classifier(model)) == (True, False)
    declare(monkeypatch, "label")
    assert (is_regressor(model), is_classifier(model)) == (False, True)


def test_what_a_model_cannot_do_it_says() -> None:
    class Constant(models.Model):
        KIND: str = "Constant"

        def fit(self, inputs: Any, targets: Any) -> "Constant":
            return self

        def predict(self, inputs: Any) -> Any:
            return schemas.OutputsSchema.check(
                pd.DataFrame({"prediction": 1.0}, index=inputs.index)
            )

    model = Constant()
    for ask in (
        model.explain_model,
        lambda: model.explain_samples(pd.DataFrame()),
        model.get_internal_model,
    ):
        with pytest.raises(NotImplementedError, match="Constant"):
            ask()


@pytest.mark.parametrize("trees", [1, 7, 25])
@pytest.mark.parametrize(
    ("outcome", "kind"), [("number", RandomForestRegressor), ("label", RandomForestClassifier)]
)
def test_a_forest_grown_in_steps_is_the_forest_of_scikit_learn(
    trees: int, outcome: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, outcome)
    inputs, targets = tables(outcome)
    model = models.BaselineSklearnModel(n_estimators=trees, max_depth=6).fit(inputs, targets)
    encoded = model.get_internal_model()["encode"].transform(inputs)
    forest = kind(n_estimators=trees, max_depth=6, random_state=42).fit(
        encoded, targets["outcome"].to_numpy()
    )
    assert len(model.get_internal_model()["estimate"].estimators_) == trees
    assert model.predict(inputs)["prediction"].tolist() == forest.predict(encoded).tolist()


# ------------------------------------------------------------------------------------------------ the known effects


@pytest.fixture(scope="module")
def year() -> tuple[Any, Any, pd.Series]:
    """Simulate hours: their inputs, targets, and the mean that no model can know better."""
    raw = pd.concat(simulators.simulate(24 * 500))
    inputs = schemas.InputsSchema.check(raw)
    targets = schemas.TargetsSchema.check(raw)
    return inputs, targets, simulators.expected_demand(raw).set_axis(inputs.index)


@pytest.fixture(
    scope="module",
    params=[
        models.BaselineSklearnModel(n_estimators=40, max_depth=15),
        models.GradientBoostingModel(max_iter=250, learning_rate=0.1),
    ],
    ids=lambda model: model.KIND,
)
def learnt(request: pytest.FixtureRequest, year: tuple[Any, Any, pd.Series]) -> models.Model:
    """Fit each model on four hours of five, drawn at random, so that no trend has to be extrapolated."""
    inputs, targets, _ = year
    seen = inputs.index % 5 != 0
    return fitted(request.param, inputs[seen], targets[seen])


def test_a_model_comes_close_to_what_can_be_known(
    learnt: models.Model, year: tuple[Any, Any, pd.Series]
) -> None:
    inputs, targets, expected = year
    new = inputs.index % 5 == 0
    ceiling = r2_score(targets["cnt"][new], expected[new])
    answers = learnt.predict(inputs[new])["prediction"]
    assert ceiling - 0.05 < r2_score(targets["cnt"][new], answers) < ceiling + 0.01
    assert r2_score(expected[new], answers) > 0.93


@pytest.mark.parametrize("workingday", [True, False])
def test_a_model_finds_the_shape_of_the_day(
    learnt: models.Model, year: tuple[Any, Any, pd.Series], workingday: bool
) -> None:
    clear = (
        year[0]
        .query("workingday == @workingday and weathersit == 1 and mnth in (5, 6, 9)")
        .head(60)
    )
    hours = [
        float(learnt.predict(clear.assign(hr=hour))["prediction"].mean()) for hour in range(24)
    ]
    effect = simulators.hour_effect(range(24), [workingday] * 24)
    assert np.corrcoef(hours, effect)[0, 1] > 0.97
    assert effect[np.argmax(hours)] > 0.9 * effect.max(), "the busiest hour is one of the busiest"
    assert max(hours[2:5]) < 0.25 * max(hours)


def test_a_model_finds_that_rain_keeps_people_away(
    learnt: models.Model, year: tuple[Any, Any, pd.Series]
) -> None:
    rides = year[0].query("8 <= hr <= 20").head(2_000)
    demand = [
        float(
            learnt.predict(schemas.InputsSchema.check(rides.assign(weathersit=code)))[
                "prediction"
            ].mean()
        )
        for code in (1, 2, 3)
    ]
    factors = simulators.WEATHER_FACTORS[:3]
    np.testing.assert_allclose(np.array(demand) / demand[0], factors / factors[0], atol=0.2)
    assert demand[0] > demand[1] > demand[2]


def test_counts_are_never_predicted_below_zero(year: tuple[Any, Any, pd.Series]) -> None:
    inputs, targets, _ = year
    model = models.GradientBoostingModel(max_iter=50).fit(inputs, targets)
    assert model.get_internal_model()["estimate"].loss == "poisson"
    assert (model.predict(inputs)["prediction"] > 0).all()


@pytest.mark.parametrize(("n_jobs", "threads"), [(1, 1), (2, 2)])
def test_gradient_boosting_keeps_to_its_threads(
    monkeypatch: pytest.MonkeyPatch, n_jobs: int, threads: int
) -> None:
    """The limit holds while the estimator is fitted, and no longer."""
    seen = []

    class Estimator:
        def fit(self, encoded: object, labels: object) -> None:
            seen.append(openmp())

    def openmp() -> int:
        return max(
            pool["num_threads"]
            for pool in threadpoolctl.threadpool_info()
            if pool["user_api"] == "openmp"
        )

    import sklearn.ensemble  # noqa: F401 (loads the OpenMP library that is limited)

    with threadpoolctl.threadpool_limits(2, user_api="openmp"):
        models.GradientBoostingModel(n_jobs=n_jobs).fit_estimator(
            Estimator(), np.zeros((1, 1)), np.zeros(1)
        )
        assert (seen, openmp()) == ([threads], 2)


# ------------------------------------------------------------------------------------------------- explanations
def by_definition(model: models.Model, sample: Any, background: Any) -> Any:
    """Return Shapley values from their definition: features x outputs, on the scale that trees add up on."""
    encode, estimator = (model.get_internal_model()[step] for step in ("encode", "estimate"))
    features = list(sample)
    groups = list(itertools.product([False, True], repeat=len(features)))
    mixtures = []
    for group in groups:
        known = [feature for feature, there in zip(features, group, strict=True) if there]
        mixtures.append(
            background.assign(**{feature: sample[feature].iloc[0] for feature in known})
        )
    mixed = pd.concat([mixture.astype(sample.dtypes) for mixture in mixtures])
    answers = (
        on_scale(estimator, encode.transform(mixed))
        .reshape(len(groups), len(background), -1)
        .mean(axis=1)
    )
    worth = dict(zip(groups, answers, strict=True))
    values = np.zeros((len(features), answers.shape[1]))
    for group in groups:
        size = sum(group)
        for place in range(len(features)):
            if not group[place]:
                weight = (
                    math.factorial(size)
                    * math.factorial(len(features) - size - 1)
                    / math.factorial(len(features))
                )
                joined = tuple(there or at == place for at, there in enumerate(group))
                values[place] += weight * (worth[joined] - worth[group])
    return values


def on_scale(estimator: Any, encoded: Any) -> Any:
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(encoded))
    if hasattr(estimator, "predict_proba"):
        probabilities = estimator.predict_proba(encoded)
        return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    predicted = estimator.predict(encoded)
    return np.log(predicted) if getattr(estimator, "loss", "") == "poisson" else predicted


@each_model
def test_explanations_are_the_values_that_the_definition_gives(
    model: models.Model, outcome: str
) -> None:
    inputs, targets = tables(outcome)
    model = fitted(model, inputs, targets)
    pipeline = model.get_internal_model()
    features = inputs[schemas.InputsSchema.features()]
    background = features.iloc[[3, 70, 151]]
    pipeline.background_ = pipeline["encode"].transform(background)
    gaps = features.isna().any(axis=1)
    for sample in (features[gaps].iloc[[0]], features[~gaps].iloc[[0]]):
        found = model.explain(sample)
        assert found.features == tuple(features)
        np.testing.assert_allclose(
            found.values[0], by_definition(model, sample, background), rtol=0, atol=1e-10
        )
        np.testing.assert_allclose(
            found.base,
            on_scale(pipeline["estimate"], pipeline.background_).reshape(3, -1).mean(axis=0),
        )


@each_model
def test_every_sample_adds_up_on_the_scale_that_is_named(model: models.Model, outcome: str) -> None:
    inputs, targets = tables(outcome)
    model = fitted(model, inputs.head(300), targets.head(300))
    found, outputs = model.explain(inputs.tail(100)), model.predict(inputs.tail(100))
    sums = found.values.sum(axis=1) + found.base
    assert found.residuals.max() < 1e-9
    if outcome in REGRESSIONS:
        assert found.labels == ()
        log = outcome == "count" and isinstance(model, models.GradientBoostingModel)
        assert found.scale == ("the logarithm of the prediction" if log else "the prediction")
        np.testing.assert_allclose(
            np.exp(sums[:, 0]) if log else sums[:, 0], outputs["prediction"], rtol=1e-9, atol=1e-12
        )
        return
    chances = outputs[[f"probability_{label}" for label in found.labels]].to_numpy()
    if isinstance(model, models.BaselineSklearnModel):
        assert found.scale == "the probability of the label"
        np.testing.assert_allclose(sums, chances, atol=1e-12)
    elif len(found.labels) == 1:
        assert found.scale == "the log-odds of the label"
        np.testing.assert_allclose(1 / (1 + np.exp(-sums)), chances, atol=1e-12)
    else:
        assert found.scale == "the raw score of the label"
        shares = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares, chances, atol=1e-12)


@each_model
def test_explanations_are_tables_with_the_index_of_the_samples(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "truth")
    inputs, targets = tables("truth")
    model = fitted(model, inputs, targets)
    values = model.explain_samples(inputs.tail(7))
    assert values.index.equals(inputs.index[-7:])
    assert list(values) == schemas.InputsSchema.features()
    importances = model.explain_model()
    assert sorted(importances["feature"]) == sorted(schemas.InputsSchema.features())
    assert importances["importance"].is_monotonic_decreasing
    assert set(importances["feature"].head(3)) == {"ward", "grade", "age"}, (
        "which move the outcome most"
    )
    declare(monkeypatch, "label")
    inputs, targets = tables("label")
    of_labels = fitted(model, inputs, targets).explain_samples(inputs.tail(7))
    labels = sorted(LEVELS.values())
    assert sorted(of_labels) == sorted(
        f"{name}_{label}" for name in schemas.InputsSchema.features() for label in labels
    )


@each_model
def test_what_never_changed_or_was_never_seen_is_explained_too(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    constant = inputs.assign(weight=70.0)
    model = fitted(model, constant, targets)
    elsewhere = constant.tail(4).assign(ward="south", weight=[None, 70.0, 1e9, -1e9], insured=pd.NA)
    values = model.explain_samples(
        schemas.InputsSchema.check(elsewhere.reset_index().assign(doctor="A"))
    )
    assert (values["weight"] == 0).all()
    assert values.notna().all(axis=None)
    assert (values["ward"] < 0).all()  # not the east, which is what costs


@each_model
def test_explanations_do_not_depend_on_threads_or_company(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    model = fitted(model, inputs, targets)
    once = model.explain_samples(inputs)
    model.n_jobs = 2
    pd.testing.assert_frame_equal(model.explain_samples(inputs), once, check_exact=True)
    np.testing.assert_allclose(
        model.explain_samples(inputs.iloc[[5]]), once.iloc[[5]], rtol=0, atol=1e-12
    )


def test_explaining_nothing_or_without_a_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    model = models.GradientBoostingModel(max_iter=3, n_jobs=1)
    for explain in (lambda: model.explain(inputs), model.explain_model):
        with pytest.raises(errors.ModelError, match="not fitted yet"):
            explain()
    model.fit(inputs, targets)
    with pytest.raises(errors.DataError, match="no sample to explain: the inputs have 0 rows"):
        model.explain_samples(inputs.head(0))
    del model.get_internal_model().background_
    with pytest.raises(
        errors.ModelError,
        match="without rows to compare with, which explanations need: fit it again",
    ):
        model.explain_samples(inputs)


@each_model
def test_a_bare_pipeline_becomes_the_model_that_it_was(
    model: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "number")
    inputs, targets = tables("number")
    model = fitted(model, inputs, targets)
    again = models.of_pipeline(pickle.loads(pickle.dumps(model.get_internal_model())))
    assert type(again) is type(model)
    assert again.get_params() | {"n_jobs": 1} == model.get_params()
    pd.testing.assert_frame_equal(
        again.explain_samples(inputs), model.explain_samples(inputs), check_exact=True
    )
    with pytest.raises(
        errors.ModelError, match="a LinearRegression from elsewhere does not explain itself"
    ):
        models.of_pipeline(LinearRegression())


# ------------------------------------------------------------------------------------------------------- for streams
@pytest.mark.parametrize(
    "kind", [models.GradientBoostingModel(max_iter=60), models.BaselineSklearnModel(n_estimators=5)]
)
def test_the_quickest_way_gives_the_same_answers_to_the_last_bit(kind: models.SklearnModel) -> None:
    table = datasets.SimulatedReader(rows=2_000, missing=0.1).read()
    inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
    model = kind.fit(inputs, targets)
    quick = model.predictor()
    assert quick != model.predict, "there is a quicker one"
    for rows in (inputs, inputs.iloc[:1], inputs.assign(weathersit=None, temp=np.nan)):
        assert quick(rows).equals(model.predict(rows))


def test_what_answers_otherwise_is_not_used(
    monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    table = datasets.SimulatedReader(rows=500).read()
    inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
    model = models.GradientBoostingModel(max_iter=5).fit(inputs, targets)
    zeros = lambda self, rows, n_jobs: np.zeros((1, len(rows)))  # noqa: E731
    monkeypatch.setattr(scoring._Sums, "__call__", zeros)
    assert model.predictor() == model.predict
    assert "its answers differ" in warned[0]


def test_a_model_with_a_way_of_its_own_to_predict_keeps_it() -> None:
    class Clipped(models.GradientBoostingModel):
        def predict(self, inputs: schemas.Inputs) -> schemas.Outputs:
            return super().predict(inputs).clip(upper=10.0)

    table = datasets.SimulatedReader(rows=300).read()
    inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
    model = Clipped(max_iter=5).fit(inputs, targets)
    assert model.predictor()(inputs)["prediction"].max() == 10.0


# ---------------------------------------------------------------------------------------------------------- encoding
@pytest.mark.parametrize("most", [0, 10_000])
def test_labels_that_are_encoded_once_are_encoded_as_by_scikit_learn(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = datasets.SimulatedReader(rows=400, missing=0.2).read()
    inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
    encode = (
        models.GradientBoostingModel(max_iter=2).fit(inputs, targets).get_internal_model()["encode"]
    )
    missing = inputs.assign(weathersit=inputs["weathersit"].where(inputs["weathersit"] == "none"))
    as_strings = inputs.astype(dict.fromkeys(inputs.select_dtypes("category"), "str"))
    monkeypatch.setattr(models, "_MOST_REMEMBERED", most)
    few = [inputs.iloc[row : row + 3] for row in range(0, 60, 3)]
    for rows in (*few, inputs, inputs.iloc[:1], inputs.iloc[::-1], missing, as_strings):
        expected = encode.transform(rows)
        assert np.array_equal(models._encode(encode, rows), expected, equal_nan=True)
        assert np.array_equal(models._encode(encode, rows), expected, equal_nan=True)


def test_other_encoders_encode_by_themselves() -> None:
    table = datasets.SimulatedReader(rows=100).read()
    inputs = schemas.InputsSchema.check(table)
    encode = models.encoder(OneHotEncoder(sparse_output=False)).fit(inputs)
    assert np.array_equal(models._encode(encode, inputs), encode.transform(inputs))
    with pytest.raises(ValueError, match="temp"):
        models._encode(encode, inputs.drop(columns="temp"))
