"""Exported graphs answer as the estimators do, under onnxruntime."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
)

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")
reference = pytest.importorskip("onnx.reference")
checker = pytest.importorskip("onnx.checker")

X, Y = load_wine(return_X_y=True)  # raw columns, from 0.1 to 1700
DIGITS = load_digits(return_X_y=True)
LABELS = {
    "int": Y,
    "str": np.array(["Barolo", "Grignolino", "Barbéra"])[Y],
    "object": np.array(["Barolo", "Grignolino", "Barbéra"], dtype=object)[Y],
    "float": Y + 3.0,
    "uint8": Y.astype(np.uint8),
    "two": Y > 0,
    "two str": np.where(Y > 0, "rest", "Barolo"),
}
LOSSES = ["softmax", "sparsemax", "entmax15", "topk-2", 0.05, 0.5, 1.3, 1.7, 1 + 1e-9]
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(scope="module", autouse=True)
def converters():
    from softreg.onnx import register_converters

    register_converters()
    register_converters()


def answers(model, rows, target_opset=None, **options):
    """Return what a model's graph answers for some rows."""
    options = {"zipmap": False, **options}
    graph = skl2onnx.to_onnx(
        model, rows[:1], options={id(model): options}, target_opset=target_opset
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    if isinstance(rows, np.ndarray):
        return session.run(None, {"X": rows})
    return session.run(None, {name: rows[[name]].to_numpy() for name in rows})


def agrees(model, rows):
    """Check labels and probabilities."""
    labels, proba = answers(model, rows)
    np.testing.assert_array_equal(labels, model.predict(rows))
    np.testing.assert_allclose(proba, model.predict_proba(rows), rtol=1e-5, atol=1e-6)
    return proba


@BOTH
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss(loss, dtype):
    model = SoftmaxRegression(loss=loss, temperature=1.5, weight_decay=0.1).fit(X, Y)
    proba = agrees(model, X.astype(dtype))
    assert proba.dtype == dtype
    if loss in ("sparsemax", "entmax15", "topk-2", 1.3, 1.7):
        zero = model.predict_proba(X.astype(dtype)) == 0
        assert zero.any()
        np.testing.assert_array_equal(proba == 0, zero)


@pytest.mark.parametrize("loss", ["softmax", "sparsemax", "entmax15", 1.3])
def test_two_classes_of_every_loss(loss):
    agrees(SoftmaxRegression(loss=loss, temperature=0.7).fit(X, Y == 1), X)


@BOTH
@pytest.mark.parametrize("kind", LABELS)
def test_labels_and_scores(kind, dtype):
    y, rows = LABELS[kind], X.astype(dtype)
    model = SoftmaxRegression(C=0.1).fit(X, y)
    agrees(model, rows)
    labels, scores = answers(model, rows, raw_scores=True)
    decision = model.decision_function(rows)
    if "two" in kind:
        decision = np.column_stack([-decision, decision])
    np.testing.assert_allclose(scores, decision, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, model.predict(rows))


def test_ties_go_where_predict_sends_them():
    model = SoftmaxRegression().fit(X, Y)
    model.coef_[:], model.intercept_[:] = 0, 0
    assert set(answers(model, X)[0]) == set(model.predict(X)) == {0}
    rows = np.array([[0.3, 0.3, 0.1, 0.3]])
    model = SoftmaxRegression(loss="topk-2").fit(np.eye(4), range(4))
    model.coef_, model.intercept_ = np.eye(4), np.zeros(4)
    proba = answers(model, rows)[1]
    np.testing.assert_allclose(proba, model.predict_proba(rows), atol=1e-15)
    np.testing.assert_allclose(proba, [[0.5, 0.5, 0, 0]], atol=1e-15)


def test_scores_far_apart_neither_overflow_nor_vanish():
    for loss in LOSSES:
        model = SoftmaxRegression(loss=loss, weight_decay=0.1).fit(X, Y)
        model.coef_ *= 1e4
        proba = agrees(model, X)
        np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_a_class_that_is_impossible():
    for loss in ["softmax", "sparsemax", "entmax15", 0.5, 1.3]:
        model = SoftmaxRegression(loss=loss, weight_decay=0.1).fit(X, Y)
        model.intercept_[1] = -np.inf
        expected = model.predict_proba(X)
        assert (expected[:, 1] == 0).all()
        np.testing.assert_allclose(answers(model, X)[1], expected, atol=1e-12)


def test_float64_is_the_cure_for_large_offsets():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    rows = rng.normal(size=(200, 4)) + y[:, None] + 1e6
    model = SoftmaxRegression().fit(rows, y)
    exact = model.decision_function(rows)
    double = answers(model, rows, raw_scores=True)[1]
    np.testing.assert_allclose(double, exact, rtol=1e-5, atol=1e-5)
    single = rows.astype(np.float32)
    scores = answers(model, single, raw_scores=True)[1]
    # The graph adds nothing to what the rows lose by themselves.
    np.testing.assert_allclose(
        scores, model.decision_function(single), rtol=1e-5, atol=1e-5
    )
    assert np.abs(scores - exact).max() > 1e-3


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        SoftmaxRegressionCV(Cs=[0.1, 1], cv=3, temperature=2.0),
        RobustSoftmaxRegression(SoftmaxRegression(loss="sparsemax", temperature=2.0)),
        LargeMarginSoftmaxRegression(mu_min=30, C=1e-3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_linear_estimator(model, two):
    rows = X / X.std(axis=0)
    model.fit(rows, Y == 1 if two else Y)
    agrees(model, rows.astype(np.float32))
    scores = answers(model, rows, raw_scores=True)[1]
    decision = model.decision_function(rows)
    own = scores[:, 1] if two else scores
    np.testing.assert_allclose(own, decision, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "model",
    [
        HierarchicalSoftmax(),
        HierarchicalSoftmax(tree="huffman"),
        HierarchicalSoftmax(
            SoftmaxRegression(loss=1.4, temperature=2.0),
            tree=[[0, 6, 4], 1, [8, [2, 3], 5, 9, 7]],
        ),
        HierarchicalSoftmax(RobustSoftmaxRegression(), arity=10),
    ],
    ids=["cluster", "huffman", "given", "flat"],
)
def test_trees(model):
    rows, y = DIGITS
    model.fit(rows[:600], y[:600])
    agrees(model, rows.astype(np.float32))
    with pytest.raises(NameError, match="raw_scores"):
        answers(model, rows, raw_scores=True)


def test_other_classifiers_at_the_nodes_are_refused():
    model = HierarchicalSoftmax(LogisticRegression(max_iter=5000)).fit(X / 100, Y)
    with pytest.raises(NotImplementedError, match="got LogisticRegression"):
        answers(model, X)


def test_sparse_coefficients():
    model = SoftmaxRegression().fit(X, Y).sparsify()
    agrees(model, X)


@pytest.mark.parametrize("target_opset", [13, 17, 18, 21])
def test_older_opsets(target_opset):
    for loss in ["softmax", "sparsemax", "entmax15", "topk-2", 1.3]:
        model = SoftmaxRegression(loss=loss).fit(X / 100, Y)
        proba = answers(model, X / 100, target_opset=target_opset)[1]
        np.testing.assert_allclose(proba, model.predict_proba(X / 100), atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_another_runtime_agrees(loss):
    model = SoftmaxRegression(loss=loss, weight_decay=0.1).fit(X, Y)
    graph = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    checker.check_model(graph, full_check=True)
    labels, proba = reference.ReferenceEvaluator(graph).run(None, {"X": X})
    np.testing.assert_array_equal(labels, model.predict(X))
    np.testing.assert_allclose(proba, model.predict_proba(X), atol=1e-7)


def test_an_opset_that_is_too_old_is_refused():
    with pytest.raises(ValueError, match="target_opset must be at least 13"):
        answers(SoftmaxRegression().fit(X, Y), X, target_opset=12)


def test_unfitted_models_are_refused():
    with pytest.raises((NotFittedError, RuntimeError)):
        skl2onnx.to_onnx(SoftmaxRegression(), X[:1])


def test_labels_of_other_libraries_are_refused():
    strict = pytest.importorskip("array_api_strict")
    model = SoftmaxRegression().fit(strict.asarray(X), strict.asarray(Y))
    with pytest.raises(TypeError, match="classes_ must be NumPy's"):
        answers(model, X)
    model = SoftmaxRegression().fit(strict.asarray(X), LABELS["str"])
    labels, _ = answers(model, X)
    np.testing.assert_array_equal(labels, model.predict(strict.asarray(X)))


@BOTH
def test_options_of_skl2onnx(dtype):
    rows, names = X.astype(dtype), LABELS["str"]
    model = SoftmaxRegression().fit(X, names)
    proba = model.predict_proba(rows)
    labels, maps = answers(model, rows, zipmap=True)
    assert list(maps[0]) == model.classes_.tolist()
    np.testing.assert_allclose([list(one.values()) for one in maps], proba, atol=1e-6)
    _, *columns = answers(model, rows, zipmap="columns")
    np.testing.assert_allclose(np.transpose(columns), proba, rtol=1e-5, atol=1e-6)
    *_, classes = answers(model, rows, output_class_labels=True)
    np.testing.assert_array_equal(classes, model.classes_)
    codes, _ = answers(model, rows, nocl=True)
    np.testing.assert_array_equal(model.classes_[codes], labels)


@pytest.mark.parametrize("two", [False, True])
def test_integers_and_booleans(two):
    for rows in (X.astype(np.int64), X.mean(axis=0) < X):
        agrees(SoftmaxRegression().fit(rows, Y > 0 if two else Y), rows)


WITHIN = {
    "pipeline": lambda own: make_pipeline(StandardScaler(), own),
    "calibrated": lambda own: CalibratedClassifierCV(own, method="sigmoid", cv=3),
    "stack": lambda own: StackingClassifier(
        [("own", own), ("other", LogisticRegression(max_iter=5000))], own, cv=3
    ),
    "one against the rest": OneVsRestClassifier,
    "bag": lambda own: BaggingClassifier(own, 3, random_state=0),
    "search": lambda own: GridSearchCV(own, {}, cv=3),
}


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("kind", WITHIN)
@pytest.mark.parametrize(
    "own", [SoftmaxRegression(loss="sparsemax"), HierarchicalSoftmax()], ids=str
)
def test_within_other_estimators(own, kind, two):
    rows, y = load_breast_cancer(return_X_y=True) if two else (X, Y)
    rows = (rows / rows.std(axis=0)).astype(np.float32)
    model = WITHIN[kind](own).fit(rows, y)
    labels, proba = answers(model, rows)
    np.testing.assert_array_equal(labels, model.predict(rows))
    np.testing.assert_allclose(proba, model.predict_proba(rows), atol=1e-5)


def test_columns_of_a_frame():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": rng.normal(size=200), "colour": rng.choice(["red", "blue"], 200)}
    )
    y = (frame["size"] > 0) * 1 + (frame["colour"] == "red")
    columns = ColumnTransformer(
        [("scaled", StandardScaler(), ["size"]), ("told", OneHotEncoder(), ["colour"])]
    )
    agrees(make_pipeline(columns, SoftmaxRegression()).fit(frame, y), frame)


def test_without_skl2onnx_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['skl2onnx'] = None\n"
        "import softreg\n"
        "try:\n    import softreg.onnx\n"
        "except ImportError as error:\n    print(error)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "softreg[onnx]"' in out.stdout
