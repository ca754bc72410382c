"""Metrics: what scikit-learn computes by hand, for both tasks and any kind of label; bad ones are refused at once."""

import warnings
from typing import Any, Optional

import mlflow
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pydantic as pdt
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from pandera.typing.pandas import Index, Series

from model_name.core import errors, metrics, models, schemas

ROWS = 60


def outputs_schema(dtype: Any) -> type[schemas.Schema]:
    class AnswersSchema(schemas.Schema):
        key: Index[int]
        prediction: Series[dtype]
        probability: Optional[Series[float]] = pa.Field(  # noqa: UP045 (pandera reads Optional as "may be absent")
            alias="probability_.+", regex=True, ge=0, le=1
        )

    return AnswersSchema


def targets_schema(dtype: Any, **field: Any) -> type[schemas.Schema]:
    class AnswerSchema(schemas.Schema):
        key: Index[int]
        answer: Series[dtype] = pa.Field(**field)

    return AnswerSchema


CODES = {"metadata": {"task": "classification"}}
LABELS: dict[str, tuple[list[Any], Any, dict[str, Any]]] = {
    "two texts": (["no", "yes"], str, {}),
    "three texts": (["aside", "home", "stay"], str, {}),
    "truths": ([False, True], bool, {}),
    "two codes": ([3, 7], int, CODES),
    "three codes": ([3, 7, 10], int, CODES),  # 10 comes before 3 as a text
    "three categories": (["aside", "home", "stay"], pd.CategoricalDtype, {}),
}


@pytest.fixture(params=LABELS)
def labelled(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any, list[Any]]:
    """Return targets, outputs and labels in order, for each kind of label."""
    labels, dtype, field = LABELS[request.param]
    monkeypatch.setattr(schemas, "TargetsSchema", targets_schema(dtype, **field))
    monkeypatch.setattr(schemas, "OutputsSchema", outputs_schema(dtype))
    return *classified(labels), labels


def classified(labels: list[Any]) -> tuple[Any, Any]:
    random = np.random.default_rng(3)
    truth = random.integers(0, len(labels), ROWS)
    probabilities = random.dirichlet(np.ones(len(labels)), ROWS) + 0.5 * np.eye(len(labels))[truth]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    index = pd.RangeIndex(ROWS, name="key")
    targets = pd.DataFrame({"answer": [labels[code] for code in truth]}, index=index)
    columns = {"prediction": [labels[code] for code in probabilities.argmax(axis=1)]}
    columns |= {
        f"probability_{label}": probabilities[:, place] for place, label in enumerate(labels)
    }
    return schemas.TargetsSchema.check(targets), schemas.OutputsSchema.check(
        pd.DataFrame(columns, index=index)
    )


def metric(name: str, **params: Any) -> metrics.SklearnMetric:
    return metrics.SklearnMetric(name=name, greater_is_better=True, params=params)


def regressed(truth: Any, answers: Any) -> tuple[Any, Any]:
    index = pd.RangeIndex(len(truth), name="instant")
    return pd.DataFrame({"cnt": truth}, index=index), pd.DataFrame(
        {"prediction": answers}, index=index
    )


# ------------------------------------------------------------------------------------------------------- regression

REGRESSION = [
    "d2_absolute_error_score",
    "d2_pinball_score",
    "d2_tweedie_score",
    "explained_variance_score",
    "max_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_gamma_deviance",
    "mean_pinball_loss",
    "mean_poisson_deviance",
    "mean_squared_error",
    "mean_squared_log_error",
    "mean_tweedie_deviance",
    "median_absolute_error",
    "r2_score",
    "root_mean_squared_error",
    "root_mean_squared_log_error",
]


@pytest.mark.parametrize("name", REGRESSION)
def test_a_regression_metric_is_what_scikit_learn_computes(name: str) -> None:
    random = np.random.default_rng(1)
    truth = random.poisson(50, ROWS) + 1
    answers = truth * random.gamma(20, 1 / 20, ROWS)
    value = metric(name).value(*regressed(truth, answers))
    assert value == pytest.approx(getattr(sklearn.metrics, name)(truth, answers), rel=1e-12)
    assert isinstance(value, float)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=2),
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "int64", "float32", "Int64"]),
)
def test_small_unsigned_targets_do_not_wrap_around(
    pairs: list[tuple[int, int]], dtype: str
) -> None:
    truth, answers = [list(side) for side in zip(*pairs, strict=True)]
    tables = regressed(pd.array(truth, dtype=dtype), np.array(answers, dtype="uint8"))
    differences = [abs(one - other) for one, other in pairs]
    assert metric("max_error").value(*tables) == max(differences)
    assert metric("mean_absolute_error").value(*tables) == pytest.approx(np.mean(differences))
    assert metric("mean_squared_error").value(*tables) == pytest.approx(
        np.mean(np.square(differences))
    )


def test_the_sign_makes_higher_better() -> None:
    tables = regressed([1, 2, 3], [1.0, 2.0, 5.0])
    error = metrics.SklearnMetric(name="max_error", greater_is_better=False)
    assert (error.value(*tables), error.score(*tables)) == (2.0, -2.0)
    assert metric("max_error").score(*tables) == 2.0
    default = metrics.SklearnMetric()
    assert (default.name, default.score(*tables)) == ("mean_squared_error", pytest.approx(-4 / 3))


def test_params_reach_the_function() -> None:
    tables = regressed([1, 2, 3], [0.0, 2.0, 5.0])
    assert metric("mean_pinball_loss", alpha=0.9).value(*tables) == pytest.approx(
        (0.9 * 1 + 0.1 * 2) / 3
    )


def test_a_scorer_scores_what_a_model_predicts() -> None:
    class Constant(models.Model):
        KIND: str = "Constant"

        def fit(self, inputs: Any, targets: Any) -> "Constant":
            return self

        def predict(self, inputs: Any) -> Any:
            return pd.DataFrame({"prediction": 2.0}, index=inputs.index)

    targets, _ = regressed([1, 2, 6], [0, 0, 0])
    error = metrics.SklearnMetric(name="mean_absolute_error", greater_is_better=False)
    assert error.scorer(Constant(), targets[[]], targets) == pytest.approx(-5 / 3)


def test_metrics_that_do_not_suit_a_regression_are_refused_before_it_all_at_once() -> None:
    targets, _ = regressed([0, 1, 2, 6], [0, 0, 0, 0])
    suitable = [
        metrics.SklearnMetric(name=name)
        for name in ("mean_poisson_deviance", "mean_squared_log_error")
    ]
    metrics.try_out(suitable, targets)
    with pytest.raises(
        errors.ModelError, match=r"(?s)'roc_auc_score'.*'f1_score'.*makes this a regression"
    ):
        metrics.try_out(
            [*suitable, *(metrics.SklearnMetric(name=n) for n in ("roc_auc_score", "f1_score"))],
            targets,
        )


# --------------------------------------------------------------------------------------------------- classification

LABEL_METRICS: dict[
    str, dict[str, Any]
] = {  # what scikit-learn has to be told when there are more than two labels
    "accuracy_score": {},
    "balanced_accuracy_score": {},
    "cohen_kappa_score": {},
    "f1_score": {"average": "macro"},
    "hamming_loss": {},
    "jaccard_score": {"average": "macro"},
    "matthews_corrcoef": {},
    "precision_score": {"average": "macro"},
    "recall_score": {"average": "macro"},
    "zero_one_loss": {},
}
PROBABILITY_METRICS: dict[str, dict[str, Any]] = {
    "average_precision_score": {"average": "macro"},
    "brier_score_loss": {},
    "d2_brier_score": {},
    "d2_log_loss_score": {},
    "log_loss": {},
    "roc_auc_score": {"average": "macro", "multi_class": "ovr"},
    "top_k_accuracy_score": {},
}


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_a_metric_of_labels_is_what_scikit_learn_computes(
    name: str, labelled: tuple[Any, Any, list[Any]]
) -> None:
    targets, outputs, labels = labelled
    codes = [
        [labels.index(label) for label in side]
        for side in (targets["answer"], outputs["prediction"])
    ]
    arguments = LABEL_METRICS[name] if len(labels) > 2 else {}
    expected = getattr(sklearn.metrics, name)(*codes, **arguments)
    assert metric(name).value(targets, outputs) == pytest.approx(expected, rel=1e-12)


@pytest.mark.filterwarnings("ignore:'k' .2. greater")
@pytest.mark.parametrize("name", PROBABILITY_METRICS)
def test_a_metric_of_probabilities_is_what_scikit_learn_computes(
    name: str, labelled: tuple[Any, Any, list[Any]]
) -> None:
    targets, outputs, labels = labelled
    truth = [labels.index(label) for label in targets["answer"]]
    probabilities = outputs[[f"probability_{label}" for label in labels]].to_numpy()
    many = len(labels) > 2
    expected = getattr(sklearn.metrics, name)(
        truth,
        probabilities if many else probabilities[:, 1],
        **(PROBABILITY_METRICS[name] if many else {}),
    )
    assert metric(name).value(targets, outputs) == pytest.approx(expected, rel=1e-9)
    backwards = outputs[outputs.columns[::-1]]
    assert metric(name).value(targets, backwards) == metric(name).value(targets, outputs)


@pytest.mark.filterwarnings("ignore:Note that pos_label")
def test_params_win_over_what_is_chosen(labelled: tuple[Any, Any, list[Any]]) -> None:
    targets, outputs, labels = labelled
    codes = [
        [labels.index(label) for label in side]
        for side in (targets["answer"], outputs["prediction"])
    ]
    expected = sklearn.metrics.f1_score(*codes, average="weighted")
    assert metric("f1_score", average="weighted").value(targets, outputs) == pytest.approx(expected)
    assert metric("fbeta_score", beta=2.0, average="micro").value(
        targets, outputs
    ) == pytest.approx(sklearn.metrics.fbeta_score(*codes, beta=2, average="micro"))


def test_a_label_that_never_occurs_is_no_error(labelled: tuple[Any, Any, list[Any]]) -> None:
    targets, outputs, labels = labelled
    only = (targets["answer"].astype("str") == str(labels[0])).to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # scikit-learn remarks that a label is not there
        for name in ("f1_score", "log_loss", "accuracy_score", "precision_score"):
            assert np.isfinite(metric(name).value(targets[only], outputs[only]))
    if len(labels) == 2:
        assert metric("recall_score").value(targets[only], outputs[only]) == 0, (
            "the positive label is the last one"
        )


def test_probabilities_that_are_not_there_are_asked_for(
    labelled: tuple[Any, Any, list[Any]],
) -> None:
    targets, outputs, _ = labelled
    with pytest.raises(
        errors.ModelError,
        match=r"'log_loss' cannot be .*: it needs the columns probability_<label>",
    ):
        metric("log_loss").value(targets, outputs[["prediction"]])
    assert 0 < metric("accuracy_score").value(targets, outputs[["prediction"]]) < 1


# ----------------------------------------------------------------------------------------------------------- names


def test_what_is_taken_for_a_metric_at_a_glance_is_one() -> None:
    functions = metrics._metric_functions()
    glance = {name for name in sklearn.metrics.__all__ if metrics._is_surely_a_metric(name)}
    assert set(functions) - glance == {"fbeta_score"}
    assert glance <= set(functions)
    assert not any(
        map(
            metrics._is_surely_a_metric,
            ["", "score", "r2_scor", "sklearn_score", "_score", "r2_score "],
        )
    )


def test_every_metric_that_is_accepted_is_usable_for_some_task() -> None:
    of_ranks = {"coverage_error", "label_ranking_average_precision_score", "label_ranking_loss"}
    of_ranks |= {
        "ndcg_score",
        "dcg_score",
    }  # of several right answers a row, which no table here has
    usable = {*REGRESSION, *LABEL_METRICS, *PROBABILITY_METRICS, "fbeta_score", "hinge_loss"}
    assert set(metrics._metric_functions()) - of_ranks == usable


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r2_scor", "no metric 'r2_scor'; did you mean 'r2_score'"),
        ("R2_score", "no metric 'R2_score'; did you mean 'r2_score'"),
        ("mean_squared_eror", "no metric 'mean_squared_eror'; did you mean 'mean_squared_error'"),
        ("confusion_matrix", "no metric 'confusion_matrix'"),
        ("classification_report", "no metric 'classification_report'"),
        ("roc_curve", "no metric 'roc_curve'"),
        ("class_likelihood_ratios", "no metric 'class_likelihood_ratios'"),
        ("silhouette_score", "no metric 'silhouette_score'"),
        ("adjusted_rand_score", "no metric 'adjusted_rand_score'"),
        ("make_scorer", "no metric 'make_scorer'"),
        ("auc", "no metric 'auc'"),
        ("", "no metric ''"),
        ("fbeta_score", "fbeta_score needs beta: give it as params, e.g. {beta: 2.0}"),
    ],
)
def test_a_name_that_is_no_metric_is_refused_when_it_is_configured(name: str, message: str) -> None:
    with pytest.raises(pdt.ValidationError) as caught:
        metric(name)
    assert message in str(caught.value)


def test_a_parameter_that_the_function_does_not_have_is_refused() -> None:
    with pytest.raises(
        pdt.ValidationError,
        match=r"sklearn.metrics.r2_score has no argument 'squared', 'x'; it has y_",
    ):
        metric("r2_score", squared=False, x=1)


@pytest.mark.parametrize(
    "fields", [{"name": 3}, {"greater_is_better": "yes"}, {"kind": "x"}, {"params": [1]}]
)
def test_fields_are_strict(fields: dict[str, Any]) -> None:
    with pytest.raises(pdt.ValidationError):
        metrics.SklearnMetric(**fields)


@pytest.mark.parametrize(
    ("name", "truth", "answers"),
    [
        ("mean_squared_log_error", [1, 2], [-3.0, 1.0]),
        ("mean_gamma_deviance", [0, 2], [1.0, 1.0]),
        ("roc_auc_score", [1, 2, 3], [1.0, 2.0, 3.0]),
        ("f1_score", [1, 2, 3], [1.5, 2.0, 3.0]),
        ("r2_score", [1, 2], [np.nan, 1.0]),
        ("ndcg_score", [1, 2], [1.0, 2.0]),
    ],
)
def test_what_cannot_be_computed_is_a_model_error_in_one_line(
    name: str, truth: Any, answers: Any
) -> None:
    with pytest.raises(
        errors.ModelError, match=f"^the metric {name!r} cannot be computed here: "
    ) as caught:
        metric(name).value(*regressed(truth, answers))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError | TypeError)


def test_metrics_that_do_not_suit_a_classification_are_refused_before_it(
    labelled: tuple[Any, Any, list[Any]],
) -> None:
    targets, _, labels = labelled
    metrics.try_out(metrics.default_metrics(), targets)
    if isinstance(labels[0], str):
        with pytest.raises(errors.ModelError, match="'mean_squared_error' cannot be computed here"):
            metrics.try_out([metrics.SklearnMetric()], targets)


def test_a_regression_metric_of_texts_is_a_model_error(
    labelled: tuple[Any, Any, list[Any]],
) -> None:
    targets, outputs, labels = labelled
    if isinstance(labels[0], str):
        with pytest.raises(errors.ModelError, match="'r2_score' cannot be computed here"):
            metric("r2_score").value(targets, outputs)


# ------------------------------------------------------------------------------------------- thresholds and defaults


@given(threshold=st.floats(-1e6, 1e6), value=st.floats(-1e6, 1e6), greater=st.booleans())
def test_a_threshold_is_missed_by_the_distance_to_it(
    threshold: float, value: float, greater: bool
) -> None:
    missed = metrics.Threshold(threshold=threshold, greater_is_better=greater).missed_by(value)
    good = value >= threshold if greater else value <= threshold
    assert missed == (0 if good else abs(value - threshold))


@pytest.mark.parametrize("greater", [True, False])
def test_what_is_not_a_number_misses_every_threshold(greater: bool) -> None:
    limit = metrics.Threshold(threshold=0.5, greater_is_better=greater)
    assert limit.missed_by(float("nan")) == float("inf")
    assert limit.missed_by(0.5) == 0, "reaching it exactly is enough"
    assert limit.missed_by(float("-inf") if greater else float("inf")) == float("inf")


def test_a_threshold_has_to_say_which_side_is_good() -> None:
    with pytest.raises(pdt.ValidationError, match="greater_is_better"):
        metrics.Threshold(threshold=0.5)  # type: ignore[call-arg]


def test_defaults_can_be_computed_for_each_task(labelled: tuple[Any, Any, list[Any]]) -> None:
    targets, outputs, _ = labelled
    values = {each.name: each.value(targets, outputs) for each in metrics.default_metrics()}
    assert list(values) == ["balanced_accuracy_score", "f1_score", "log_loss"]
    assert all(0 < value < 2 for value in values.values())
    assert metrics.default_thresholds() == {}


def test_defaults_of_a_regression() -> None:
    values = {
        each.name: each.value(*regressed([1, 2, 3], [1, 2, 6]))
        for each in metrics.default_metrics()
    }
    assert values == pytest.approx(
        {"r2_score": -3.5, "root_mean_squared_error": 3**0.5, "mean_absolute_error": 1.0}
    )
    assert metrics.default_thresholds()["r2_score"].greater_is_better


# ---------------------------------------------------------------------------------------------------------- MLflow


@pytest.mark.filterwarnings("ignore")  # of MLflow, about itself
def test_mlflow_takes_metrics_and_thresholds() -> None:
    targets, outputs = regressed(np.array([1, 2, 250], dtype="uint8"), [2.0, 2.0, 0.0])
    names = ["max_error", "r2_score"]
    evaluated = mlflow.models.evaluate(
        data=pd.DataFrame({"truth": targets["cnt"], "answers": outputs["prediction"]}),
        targets="truth",
        predictions="answers",
        extra_metrics=[metric(name).to_mlflow() for name in names],
    )
    assert evaluated.metrics == pytest.approx(
        {name: metric(name).value(targets, outputs) for name in names}
    )
    assert evaluated.metrics["max_error"] == 250
    reached, missed = [
        metrics.Threshold(threshold=limit, greater_is_better=False).to_mlflow()
        for limit in (250, 249)
    ]
    mlflow.validate_evaluation_results(
        validation_thresholds={"max_error": reached},
        candidate_result=evaluated,
        baseline_result=None,
    )
    with pytest.raises(
        mlflow.exceptions.MlflowException, match="max_error value threshold check failed"
    ):
        mlflow.validate_evaluation_results(
            validation_thresholds={"max_error": missed},
            candidate_result=evaluated,
            baseline_result=None,
        )


def test_mlflow_knows_the_name_and_the_good_side_of_a_metric() -> None:
    for greater in (True, False):
        converted = metrics.SklearnMetric(name="max_error", greater_is_better=greater).to_mlflow()
        assert isinstance(converted, mlflow.metrics.EvaluationMetric)
        assert (converted.name, converted.greater_is_better) == ("max_error", greater)


# ------------------------------------------------------------------------------------------------ too good to be true
def scored(
    monkeypatch: pytest.MonkeyPatch, truth: Any, answers: Any, chances: Any = None
) -> pd.DataFrame:
    """Make a target of numbers, or of labels with the chances of the second, the one to predict; return both."""
    kind = float if chances is None else int
    meta = {} if chances is None else {"metadata": {"task": "classification"}}
    target = {"__annotations__": {"row": Index[int], "y": Series[kind]}, "y": pa.Field(**meta)}
    monkeypatch.setattr(schemas, "TargetsSchema", type("TargetsSchema", (schemas.Schema,), target))
    table = pd.DataFrame({"y": truth, "prediction": answers}).rename_axis("row")
    return (
        table
        if chances is None
        else table.assign(probability_0=1 - np.asarray(chances), probability_1=chances)
    )


SPREAD = np.random.default_rng(1).lognormal(sigma=2, size=400)
NOISE = np.random.default_rng(2).normal(size=400)


@pytest.mark.parametrize(
    ("truth", "answers", "measure"),
    [
        (SPREAD, SPREAD, "r2_score"),
        (SPREAD, SPREAD + 0.02 * SPREAD.std() * NOISE, "r2_score"),
        (
            SPREAD,
            np.minimum(SPREAD, 60),
            "r2 of the ranks",
        ),  # trees never answer more than they have seen
        (SPREAD, SPREAD + 0.05 * SPREAD.std() * NOISE, None),
        (NOISE, NOISE[::-1], None),
        (NOISE, np.zeros(400), None),
        (np.ones(400), np.ones(400), None),  # says nothing: nothing can be told apart
        (np.round(SPREAD), np.round(SPREAD) + 0.3 * SPREAD.std() * NOISE, None),
    ],
)
def test_numbers_that_are_nearly_perfect(
    monkeypatch: pytest.MonkeyPatch, truth: Any, answers: Any, measure: str | None
) -> None:
    found = metrics.nearly_perfect(scored(monkeypatch, truth, answers))
    assert (found and found[0]) == measure


def labels(rows: int, positives: int, missed: int = 0, false: int = 0) -> tuple[Any, Any]:
    """Return labels, and answers with so many positives missed, and so many false alarms."""
    truth = np.arange(rows) < positives
    answers = truth.copy()
    answers[:missed], answers[rows - false :] = False, True
    return truth.astype(int), answers.astype(int)


@pytest.mark.parametrize(
    ("rows", "positives", "missed", "false", "suspected"),
    [
        (400, 200, 0, 0, True),
        (2_000, 10, 0, 0, True),  # 0.5 % of the rows
        (2_000, 10, 10, 0, False),  # the majority alone is 99.5 % accurate
        (2_000, 10, 1, 0, False),
        (2_000, 1_000, 2, 2, True),
        (2_000, 1_000, 20, 20, False),
        (50, 50, 0, 0, False),  # one label only
    ],
)
def test_labels_that_are_nearly_perfect_whatever_the_base_rate(
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    positives: int,
    missed: int,
    false: int,
    suspected: bool,
) -> None:
    truth, answers = labels(rows, positives, missed, false)
    found = metrics.nearly_perfect(scored(monkeypatch, truth, answers, answers.astype(float)))
    assert (found is not None) == suspected


def test_labels_that_are_told_apart_beside_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, _ = labels(400, 8)
    found = metrics.nearly_perfect(
        scored(monkeypatch, truth, np.zeros(400, int), 0.1 + 0.2 * truth)
    )
    assert found == ("2 * AUC - 1", 1.0)


@pytest.mark.parametrize("copies", [1, 2])
def test_the_feature_that_carries_the_score_is_named(
    monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    names = ["age", *["paid_back", "closed"][:copies], "self"]
    annotations = {"row": Index[int]} | dict.fromkeys(names, Series[float])
    monkeypatch.setattr(
        schemas,
        "InputsSchema",
        type("InputsSchema", (schemas.Schema,), {"__annotations__": annotations}),
    )
    inputs: Any = pd.DataFrame(dict.fromkeys(names, NOISE[::-1])).rename_axis("row")
    inputs[names[1 : 1 + copies]] = np.tile(NOISE[:, None], copies)
    table = scored(monkeypatch, NOISE, NOISE)

    def predict(given: Any) -> Any:
        return given[names[1 : 1 + copies]].mean(axis=1).to_frame("prediction")  # as a forest would

    said = metrics.too_good(predict, inputs, table[["y"]], table)
    assert said.startswith("nearly perfect: r2_score is 1 on 400 rows (1 is perfect); ")
    assert [f"'{name}'" in said for name in ("paid_back", "closed")] == [True, copies == 2]
    assert (
        copies == 2
        or "it is carried by 'paid_back' (1 while all others are shuffled): what is not known"
        in said
    )
    assert metrics.too_good(predict, inputs, table[["y"]], table.assign(prediction=0.0)) == ""


def test_a_rule_of_several_features_is_not_blamed_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"part{number}" for number in range(5)]
    annotations = {"row": Index[int]} | dict.fromkeys(names, Series[float])
    monkeypatch.setattr(
        schemas,
        "InputsSchema",
        type("InputsSchema", (schemas.Schema,), {"__annotations__": annotations}),
    )
    inputs: Any = pd.DataFrame(
        np.random.default_rng(3).normal(size=(300, 5)), columns=names
    ).rename_axis("row")
    total = inputs.sum(axis=1)
    table = scored(monkeypatch, total, total)
    said = metrics.too_good(
        lambda given: given.sum(axis=1).to_frame("prediction"), inputs, table[["y"]], table
    )
    assert "; no feature carries it alone, the most 'part" in said


def test_labels_that_the_model_has_never_seen_have_no_probability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Targets(schemas.Schema):
        kind: Series[str] = pa.Field(isin=["a", "b", "late"])

    monkeypatch.setattr(schemas, "TargetsSchema", Targets)
    targets = pd.DataFrame({"kind": ["a", "b", "late", "late"]})
    outputs = pd.DataFrame({"prediction": ["a", "b", "b", "b"], "probability_a": [1.0, 0, 0, 0]})
    outputs["probability_b"] = [0.0, 1, 1, 1]
    values = {each.name: each.value(targets, outputs) for each in metrics.default_metrics()}
    assert values["balanced_accuracy_score"] == pytest.approx(2 / 3)
    assert values["f1_score"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert 10 < values["log_loss"] < 40, (
        "a certain answer that is wrong costs a lot, and not infinitely much"
    )
