"""Arrays of other libraries: the same numbers, answered in the library they came in."""

import math
import pickle

import array_api_strict
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
)
from softreg._arrays import like, place_of, to_numpy
from softreg.display import RegularizationPathDisplay

OTHER_DEVICE = array_api_strict.Device("device1")
METHODS = ("decision_function", "predict", "predict_proba", "predict_log_proba")


def to_strict(values):
    return array_api_strict.asarray(values)


def to_strict_device(values):
    return array_api_strict.asarray(values, device=OTHER_DEVICE)


def to_torch(values):
    return pytest.importorskip("torch").asarray(values)


@pytest.fixture(params=[to_strict, to_strict_device, to_torch])
def to(request):
    request.param(np.zeros(1))
    return request.param


def assert_same(model, other, X, X_other, tolerance=1e-9):
    """Compare two fits: attributes, and what they say of rows."""
    assert_same_answers(model, other, X, X_other, tolerance)
    assert other.optimality_gap_ <= 1e-4 * other.objective_


def assert_same_answers(model, other, X, X_other, tolerance):
    home = place_of(X_other)
    assert place_of(other.coef_) == place_of(other.intercept_) == home
    assert str(other.coef_.dtype).endswith(str(model.coef_.dtype))
    for name in ("coef_", "intercept_", "classes_"):
        expected, got = getattr(model, name), to_numpy(getattr(other, name))
        if expected.dtype.kind in "US":
            np.testing.assert_array_equal(got, expected)
        else:
            scale = np.abs(expected).max() + 1
            np.testing.assert_allclose(got, expected, atol=tolerance * scale)
    assert other.solver_ == model.solver_
    assert other.objective_ == pytest.approx(model.objective_, rel=1e-9)
    for method in METHODS:
        expected, got = getattr(model, method)(X), getattr(other, method)(X_other)
        if expected.dtype.kind in "US":
            np.testing.assert_array_equal(got, expected)
            continue
        assert place_of(got) == home
        assert str(got.dtype).endswith(str(expected.dtype))
        np.testing.assert_allclose(to_numpy(got), expected, atol=1e3 * tolerance)
    assert place_of(other.proba_jacobian(X_other[:3, :])) == home


def soft_targets(n_rows, n_classes):
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), n_rows)


WINE = load_wine(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIGITS = tuple(part[:500] for part in load_digits(return_X_y=True))
CASES = {
    "wine": (*WINE, {}),
    "two classes": (*CANCER, {}),
    "newton-cg": (*WINE, {"solver": "newton-cg"}),
    "lbfgs": (*WINE, {"solver": "lbfgs"}),
    "many classes": (DIGITS[0][:200], np.arange(200) % 23, {"max_iter": 60}),
    "raw digits": (*DIGITS, {"C": 1e-2}),
    "wide": (WINE[0][:9, :] @ np.random.default_rng(0).normal(size=(13, 40)),
             WINE[1][:9] + np.arange(9) % 3, {}),
    "soft": (WINE[0], soft_targets(178, 4), {"temperature": 2.0}),
    "smoothed": (*WINE, {"label_smoothing": 0.1, "margin": 0.5}),
    "cost": (*WINE, {"margin": 1.0 - np.eye(3)}),
    "balanced": (*WINE, {"class_weight": "balanced"}),
    "no intercept": (*WINE, {"fit_intercept": False}),
    "penalised intercept": (*WINE, {"penalize_intercept": True}),
    "entmax15": (*WINE, {"loss": "entmax15"}),
    "sparsemax": (*WINE, {"loss": "sparsemax", "C": 1e-2}),
    "an order": (*WINE, {"loss": 1.2}),
    "top-k": (WINE[0] / WINE[0].std(axis=0), WINE[1], {"loss": "topk-2", "C": 0.1}),
    "bytes": (DIGITS[0].astype(np.uint8), DIGITS[1], {"C": 1e-3}),
    "flags": (DIGITS[0] > 7, DIGITS[1], {"C": 1e-2}),
    "integers": (DIGITS[0].astype(np.int64), DIGITS[1], {"C": 1e-3}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_fit_is_that_of_numpy(case, to):
    X, y, params = CASES[case]
    model = SoftmaxRegression(**params).fit(X, y)
    X_other = to(X)
    other = clone(model).fit(X_other, to(y))
    assert_same(model, other, X, X_other, tolerance=1e-6)


def test_float32_is_proven_like_any(to):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 40)).astype(np.float32)
    y = (X[:, :5] + rng.gumbel(size=(30_000, 5))).argmax(axis=1)
    model = SoftmaxRegression(tol=1e-6).fit(X, y)
    other = SoftmaxRegression(tol=1e-6).fit(to(X), to(y))
    assert other.history_["precision"][0] == "float32"
    assert other.optimality_gap_ <= 1e-6 * other.objective_
    np.testing.assert_allclose(to_numpy(other.coef_), model.coef_, atol=1e-4)


def test_weights_and_warm_starts(to):
    X, y = WINE
    weight = np.random.default_rng(0).exponential(size=178)
    weight[y == 2] *= np.arange(178)[y == 2] % 2
    model = SoftmaxRegression(tol=1e-9).fit(X, y, weight)
    other = SoftmaxRegression(tol=1e-9, warm_start=True).fit(to(X), to(y), to(weight))
    assert_same(model, other, X, to(X), tolerance=1e-5)
    assert other.fit(to(X), to(y), to(weight)).n_iter_ <= 1
    assert other.score(to(X), to(y), to(weight)) == model.score(X, y, weight)


def test_labels_of_any_kind(to):
    X, y = WINE
    names = np.array(["red", "rose", "white"])[y]
    other = SoftmaxRegression().fit(to(X), names)
    assert isinstance(other.classes_, np.ndarray)
    np.testing.assert_array_equal(
        other.predict(to(X)), SoftmaxRegression().fit(X, names).predict(X)
    )
    assert other.score(to(X), names) > 0.95
    flags = SoftmaxRegression().fit(to(X), y == 1)
    assert str(flags.predict(to(X)).dtype).endswith("bool")


def test_labels_and_weights_follow_the_rows(to):
    X, y = WINE
    model = SoftmaxRegression().fit(X, y)
    for other in (
        SoftmaxRegression().fit(to(X), y, np.ones(178)),
        SoftmaxRegression().fit(to(X), y.tolist(), to(np.ones(178))),
    ):
        assert_same(model, other, X, to(X))
    numpy_X = SoftmaxRegression().fit(X, to(y), to(np.ones(178)))
    assert isinstance(numpy_X.coef_, np.ndarray)
    assert isinstance(numpy_X.predict(X), np.ndarray)
    assert numpy_X.score(X, to(y)) == model.score(X, y)


def test_rows_of_another_place_are_refused(to):
    X, y = WINE
    here, there = SoftmaxRegression().fit(X, y), SoftmaxRegression().fit(to(X), y)
    for model, rows in ((here, to(X)), (there, X), (there, X.tolist())):
        for method in (*METHODS, "proba_jacobian"):
            with pytest.raises(ValueError, match=rf"\.{method}\(\) must use the same"):
                getattr(model, method)(rows)
    with pytest.raises(ValueError, match=r"device1'\), got array_api_strict on .*CPU"):
        SoftmaxRegression().fit(to_strict_device(X), y).predict(to_strict(X))


BAD = {
    "nan": (np.where(np.arange(13) == 3, np.nan, WINE[0]), "Input X contains NaN"),
    "inf": (np.where(np.arange(13) == 3, np.inf, WINE[0]), "X contains infinity"),
    "vector": (WINE[0][:, 0], "Expected 2D array, got 1D"),
    "no rows": (WINE[0][:0], r"Found array with 0 sample\(s\) \(shape=\(0, 13\)\)"),
    "no columns": (WINE[0][:, :0], r"Found array with 0 feature\(s\)"),
    "complex": (WINE[0].astype(complex), "Complex data not supported"),
    "rows": (WINE[0][:9], "inconsistent numbers of samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_refused(name, to):
    X, message = BAD[name]
    model = SoftmaxRegression()
    with pytest.raises(ValueError, match=message):
        model.fit(to(X), WINE[1])
    assert not hasattr(model, "coef_")


def test_other_columns_than_the_fits_are_refused(to):
    model = SoftmaxRegression().fit(to(WINE[0]), WINE[1])
    with pytest.raises(ValueError, match=r"has 5 features, but .* expecting 13"):
        model.predict(to(WINE[0][:, :5]))


def test_a_fitted_model_travels(to):
    X, y = WINE
    model = SoftmaxRegression().fit(to(X), to(y))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        to_numpy(again.predict(to(X))), to_numpy(model.predict(to(X)))
    )


def test_the_path_lives_where_its_rows_live(to):
    X, y = CANCER
    path = softmax_path(X, y, Cs=3)
    other = softmax_path(to(X), to(y), Cs=3)
    for name in ("coefs", "intercepts"):
        assert place_of(getattr(other, name)) == place_of(to(X))
        np.testing.assert_allclose(
            to_numpy(getattr(other, name)), getattr(path, name), atol=1e-6
        )
    np.testing.assert_allclose(other.objectives, path.objectives)


def test_grid_search_takes_tensors():
    torch = pytest.importorskip("torch")
    X, y = (torch.asarray(values) for values in WINE)
    search = GridSearchCV(SoftmaxRegression(), {"C": [1e-3, 1.0]}, cv=3).fit(X, y)
    assert isinstance(search.best_estimator_.coef_, torch.Tensor)
    assert search.best_score_ > 0.9


def test_gradients_of_tensors_are_not_recorded():
    torch = pytest.importorskip("torch")
    X = torch.tensor(WINE[0], requires_grad=True)
    model = SoftmaxRegression().fit(X, WINE[1])
    assert not model.coef_.requires_grad
    assert not model.predict_proba(X).requires_grad


def test_half_precision_is_read_as_single():
    torch = pytest.importorskip("torch")
    X, y = load_digits(return_X_y=True)
    model = SoftmaxRegression(1e-2).fit(X.astype(np.float32), y)
    for dtype in (torch.float16, torch.bfloat16):
        other = SoftmaxRegression(1e-2).fit(torch.asarray(X).to(dtype), y)
        assert other.coef_.dtype == torch.float32
        np.testing.assert_allclose(other.coef_.numpy(), model.coef_, atol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"scoring": "neg_log_loss", "selection": "1se", "warm_start": True},
        {"scoring": "f1_macro", "refit": False, "class_weight": "balanced"},
        pytest.param(
            {"scoring": "neg_log_loss", "loss": "topk-2", "tol": 1e-3},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_a_search_lives_where_its_rows_live(params, to):
    X, y = WINE
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    weight = np.linspace(0.5, 1.5, len(y))
    here = SoftmaxRegressionCV([0.01, 1.0], cv=3, **params).fit(X, y, weight)
    there = clone(here).fit(to(X), to(y), to(weight))
    assert there.C_ == here.C_
    np.testing.assert_allclose(to_numpy(there.scores_), here.scores_, rtol=1e-3)
    for name in ("coef_", "intercept_", "classes_"):
        assert place_of(getattr(there, name)) == place_of(to(X))
    np.testing.assert_allclose(to_numpy(there.coef_), here.coef_, atol=1e-2)
    proba = there.predict_proba(to(X))
    assert place_of(proba) == place_of(to(X))
    np.testing.assert_allclose(to_numpy(proba), here.predict_proba(X), atol=1e-2)
    for name in ("objectives_", "coefs_paths_"):
        expected, got = getattr(here, name), to_numpy(getattr(there, name))
        np.testing.assert_allclose(got, expected, atol=1e-2, rtol=1e-3)
    assert "fits of the folds proven" in there._repr_html_()
    display = RegularizationPathDisplay.from_estimator(there)
    np.testing.assert_allclose(display.scores, here.scores_, rtol=1e-3)
    plt.close(display.figure_)
    assert there.score(to(X), to(y), to(weight)) == pytest.approx(
        here.score(X, y, weight), rel=1e-3
    )
    if here.warm_start:
        again = there.fit(to(X), to(y), to(weight))
        assert to_numpy(again.n_iter_).max() <= 1
    if place_of(there.coef_) != place_of(X):
        with pytest.raises(ValueError, match="must use the same namespace"):
            there.predict(X)
        with pytest.raises(ValueError, match="must use the same namespace"):
            there.score(X, y)


def test_rounds_live_where_their_rows_live(to):
    X, y = WINE
    here = RobustSoftmaxRegression(SoftmaxRegression(1e-2)).fit(X, y)
    there = clone(here).fit(to(X), to(y))
    assert place_of(there.coef_) == place_of(to(X))
    np.testing.assert_allclose(
        to_numpy(there.row_weights_), here.row_weights_, atol=1e-2
    )
    proba = to_numpy(there.predict_proba(to(X)))
    np.testing.assert_allclose(proba, here.predict_proba(X), atol=1e-3)
    np.testing.assert_array_equal(to_numpy(there.predict(to(X))), here.predict(X))
    np.testing.assert_allclose(there.objective_, here.objective_, rtol=1e-4)


def noise():
    """Return rows whose angles say nothing, so that a class shrinks to a kink."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 1)), rng.integers(0, 2, 30)


def scaled(X, y):
    return (X - X.mean(axis=0)) / X.std(axis=0), y


IRIS = scaled(*load_iris(return_X_y=True))
MARGINS = {
    "iris": (*IRIS, {"C": 0.1}),
    "two classes": (*scaled(*CANCER), {"C": 1e-2}),
    "three times": (*IRIS, {"m": 3, "mu_min": 30.0, "C": 0.1}),
    "single": (DIGITS[0].astype(np.float32) / 16, DIGITS[1], {"C": 0.1}),
    "bytes": (DIGITS[0][:200].astype(np.uint8), DIGITS[1][:200], {"C": 1e-3}),
    "names": (IRIS[0], np.array(["a", "b", "c"])[IRIS[1]], {"C": 0.1}),
    "no intercept": (*IRIS, {"C": 0.1, "fit_intercept": False}),
    "penalised intercept": (*IRIS, {"C": 0.1, "penalize_intercept": True}),
    "balanced": (IRIS[0][20:], IRIS[1][20:], {"C": 0.1, "class_weight": "balanced"}),
    "no margin": (*IRIS, {"m": 1}),
    "kink": (*noise(), {"m": 3}),
}  # fmt: skip


@pytest.mark.parametrize("case", MARGINS)
@pytest.mark.filterwarnings("ignore:The margin has shrunk")
def test_angles_are_widened_where_rows_live(case, to, monkeypatch):
    X, y, params = MARGINS[case]
    weight = np.linspace(0.5, 1.5, len(y))
    model = LargeMarginSoftmaxRegression(tol=1e-6, **params).fit(X, y, weight)
    if to is not to_strict:  # by the L-BFGS whose vectors never leave a GPU
        monkeypatch.setattr("softreg.solvers._lbfgs.is_on_gpu", lambda array: True)
    X_other, y_other = to(X), y if case == "names" else to(y)
    other = clone(model).fit(X_other, y_other, to(weight))
    assert_same_answers(model, other, X, X_other, tolerance=1e-4)
    assert other.converged_
    assert other.score(X_other, y_other) == model.score(X, y)


@pytest.mark.filterwarnings("ignore:The margin has shrunk")
def test_only_numbers_of_a_margin_visit_the_host(to, monkeypatch):
    sizes = []

    def counted(array):
        sizes.append(math.prod(array.shape))
        return to_numpy(array)

    monkeypatch.setattr("softreg.solvers._lbfgs.is_on_gpu", lambda array: True)
    for module in ("_large_margin", "_objective", "_solve", "solvers._loop"):
        monkeypatch.setattr(f"softreg.{module}.to_numpy", counted)
    for module in ("_newton_cg", "_lbfgs"):
        monkeypatch.setattr(f"softreg.solvers.{module}.to_numpy", counted)
    X, y = noise()
    model = LargeMarginSoftmaxRegression(m=3).fit(to(X), to(y))
    assert (to_numpy(model.coef_) == 0).all(axis=1).any()
    assert sizes
    assert max(sizes) <= 2


class Ending:
    """Ends a fit after some iterations, and looks at the estimators it is shown."""

    def __init__(self, after):
        self.after, self.places = after, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.places.append(place_of(fitted_estimator.coef_))
        return context.parent is not None and len(self.places) > self.after


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_a_margin_that_a_callback_ends_stays_where_its_rows_live(
    on_device, to, monkeypatch
):
    monkeypatch.setattr("softreg.solvers._lbfgs.is_on_gpu", lambda array: on_device)
    X, y = IRIS
    ending = Ending(after=12)
    other = LargeMarginSoftmaxRegression().set_callbacks(ending).fit(to(X), y)
    assert len(ending.places) >= 13
    assert {*ending.places, place_of(other.coef_)} == {place_of(to(X))}
    assert not other.converged_
    assert np.isfinite(other.objective_)


TREES = {
    "clusters": (DIGITS[0][:200], DIGITS[1][:200], {}),
    "huffman": (DIGITS[0][:200], DIGITS[1][:200], {"tree": "huffman"}),
    "given": (*WINE, {"tree": [[0, 2], 1]}),
    "two classes": (*CANCER, {}),
    "wide": (DIGITS[0][:120], np.arange(120) % 24, {"tree": "balanced", "arity": 12}),
    "names": (WINE[0], np.array(["a", "b", "c"])[WINE[1]], {}),
    "bytes": (DIGITS[0][:200].astype(np.uint8), DIGITS[1][:200], {}),
    "sparsemax": (*WINE, {"estimator": SoftmaxRegression(1e-2, loss="sparsemax")}),
    "balanced": (*WINE, {"estimator": SoftmaxRegression(class_weight="balanced")}),
    "rounds": (*WINE, {"estimator": RobustSoftmaxRegression()}),
    "a tree": (*WINE, {"estimator": HierarchicalSoftmax()}),
    "another's": (*scaled(*WINE), {"estimator": LogisticRegression()}),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_trees_grow_where_their_rows_live(case, to):
    X, y, params = TREES[case]
    weight = np.linspace(0.5, 1.5, len(y))
    model = HierarchicalSoftmax(**{"estimator": SoftmaxRegression(1e-2)} | params)
    model.fit(X, y, weight)
    X_other, y_other = to(X), y if case == "names" else to(y)
    other = clone(model).fit(X_other, y_other, to(weight))
    assert other.tree_ == model.tree_
    home = place_of(X_other)
    labels, proba = other.predict_best(X_other, 2)
    answers = {
        "classes_": (model.classes_, other.classes_),
        "labels": (model.predict_best(X, 2)[0], labels),
        "best": (model.predict_best(X, 2)[1], proba),
        "top_k": (model.predict(X, top_k=2), other.predict(X_other, top_k=2)),
    }
    for name in METHODS[1:]:
        answers[name] = getattr(model, name)(X), getattr(other, name)(X_other)
    for name, (expected, got) in answers.items():
        if expected.dtype.kind == "U":
            np.testing.assert_array_equal(got, expected)
            continue
        assert place_of(got) == home, name
        assert str(got.dtype).endswith(str(expected.dtype))
        np.testing.assert_allclose(to_numpy(got), expected, atol=1e-4, err_msg=name)
    assert other.score(X_other, y_other) == model.score(X, y)
    for node in other.node_estimators_:
        lives = case not in ("a tree", "another's")
        assert place_of(getattr(node, "coef_", None)) == (home if lives else "numpy")


def test_answers_of_a_tree_never_visit_the_host(to, monkeypatch):
    X, y = to(WINE[0]), to(WINE[1])
    model = HierarchicalSoftmax(SoftmaxRegression(1e-2), tree="huffman").fit(X, y)
    visits = []

    def noted(array):
        visits.append(place_of(array))
        return to_numpy(array)

    for module in ("_arrays", "_scores", "_labels", "_hierarchical"):
        monkeypatch.setattr(f"softreg.{module}.to_numpy", noted)
    model.predict_proba(X)
    model.predict_best(X)
    assert visits  # the numbers of rows and classes go the other way
    assert set(visits) == {"numpy"}


def test_a_tree_travels(to):
    X, y = WINE
    model = HierarchicalSoftmax().fit(to(X), to(y))
    again = pickle.loads(pickle.dumps(model))
    assert again.tree_ == model.tree_
    proba = again.predict_proba(to(X))
    assert place_of(proba) == place_of(to(X))
    np.testing.assert_array_equal(to_numpy(proba), to_numpy(model.predict_proba(to(X))))


@pytest.mark.parametrize(
    "model",
    [
        HierarchicalSoftmax(),
        HierarchicalSoftmax(GaussianNB()),
        LargeMarginSoftmaxRegression(C=1e-2, m=1),
    ],
    ids=lambda model: type(getattr(model, "estimator", model)).__name__,
)
def test_every_estimator_refuses_rows_of_another_place(model, to):
    X, y = WINE
    here, there = clone(model).fit(X, y), clone(model).fit(to(X), y)
    for fitted, rows in ((here, to(X)), (there, X), (there, X.tolist())):
        for method in METHODS[1:]:
            with pytest.raises(ValueError, match=rf"\.{method}\(\) must use the same"):
                getattr(fitted, method)(rows)
        with pytest.raises(ValueError, match=r"\.predict\(\) must use the same"):
            fitted.score(rows, y)
    if hasattr(here, "predict_best"):
        with pytest.raises(ValueError, match=r"predict_best\(\) must use the same"):
            there.predict_best(X)
    with pytest.raises(ValueError, match=r"device1'\), got array_api_strict on .*CPU"):
        clone(model).fit(to_strict_device(X), y).predict_proba(to_strict(X))


@pytest.mark.parametrize(
    "model",
    [
        HierarchicalSoftmax(),
        HierarchicalSoftmax(LogisticRegression()),
        LargeMarginSoftmaxRegression(C=0.1, mu_min=30.0),
    ],
    ids=lambda model: type(getattr(model, "estimator", model)).__name__,
)
def test_dispatch_changes_nothing(model, to, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = IRIS
    plain = clone(model).fit(to(X), to(y))
    with config_context(array_api_dispatch=True):
        other = clone(model).fit(to(X), to(y))
        proba = other.predict_proba(to(X))
        assert other.score(to(X), to(y)) == plain.score(to(X), to(y))
    assert place_of(proba) == place_of(to(X))
    np.testing.assert_array_equal(to_numpy(proba), to_numpy(plain.predict_proba(to(X))))


@pytest.mark.parametrize(
    "labels",
    [
        WINE[1].astype(np.uint16),
        WINE[1].astype(np.uint64),
        WINE[1].astype(">i4"),
        WINE[1].astype(np.longdouble),
        WINE[1].astype(np.float16),
        WINE[1].astype(np.uint64) + np.uint64(2**63),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_labels_of_any_dtype_can_be_predicted(labels, to):
    X = WINE[0]
    expected = SoftmaxRegression().fit(X, labels).predict(X)
    model = SoftmaxRegression().fit(to(X), labels)
    np.testing.assert_array_equal(to_numpy(model.predict(to(X))), expected)
    assert model.score(to(X), labels) > 0.9


def test_options_may_have_any_strides(to):
    X, Q = WINE[0], soft_targets(178, 3)
    margin = (1.0 - np.eye(3))[::-1, ::-1]
    Q.setflags(write=False)
    model = SoftmaxRegression(margin=margin).fit(X, Q[::-1, ::-1])
    other = SoftmaxRegression(margin=margin).fit(to(X), Q[::-1, ::-1])
    assert_same(model, other, X, to(X))
    other = SoftmaxRegression(margin=to(np.ascontiguousarray(margin))).fit(to(X), Q)
    assert other.converged_


def test_a_fit_elsewhere_stays_dense(to):
    model = SoftmaxRegression().fit(to(WINE[0]), WINE[1])
    with pytest.raises(ValueError, match="sparsify needs coef_ of NumPy, got one of"):
        model.sparsify()
    assert place_of(model.densify().coef_) == place_of(to(WINE[0]))


def test_tensors_without_entries_are_refused():
    torch = pytest.importorskip("torch")
    X = torch.asarray(WINE[0])
    for rows in (X.to_sparse(), X.to("meta")):
        with pytest.raises(ValueError, match=r"must be a dense tensor with values"):
            SoftmaxRegression().fit(rows, WINE[1])


def test_weights_of_half_precision():
    torch = pytest.importorskip("torch")
    weight = torch.ones(178, dtype=torch.bfloat16)
    model = SoftmaxRegression().fit(torch.asarray(WINE[0]), WINE[1], weight)
    other = SoftmaxRegression().fit(WINE[0], WINE[1], weight)
    np.testing.assert_allclose(model.coef_.numpy(), other.coef_, atol=1e-6)


def test_arrays_move_between_libraries(to):
    values = np.arange(6.0).reshape(2, 3)
    other = like(values, to(np.zeros(1)))
    assert place_of(other) == place_of(to(np.zeros(1)))
    assert like(other, other) is other
    np.testing.assert_array_equal(like(other, values), values)
