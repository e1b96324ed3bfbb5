"""scikit-learn's own tests of `LogisticRegression`, asked of `SoftmaxRegression`.

The first part is adapted from sklearn/linear_model/tests/test_logistic.py of
scikit-learn 1.9, copyright the scikit-learn developers, BSD-3-Clause. The rest compares
with `LogisticRegression`, statsmodels and published values, and uses the tools of
scikit-learn.
"""

import itertools
import json
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import scipy.special
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_low_rank_matrix,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils import compute_class_weight, shuffle

from softreg import SoftmaxRegression

SOLVERS = ["lbfgs", "newton-cg", "newton-cholesky"]
CSR = [scipy.sparse.csr_matrix, scipy.sparse.csr_array]
SPARSE = [
    *CSR,
    scipy.sparse.csc_array,
    scipy.sparse.coo_array,
    scipy.sparse.lil_array,
    scipy.sparse.dok_array,
]
X = [[-1, 0], [0, 1], [1, 1]]
Y1 = [0, 1, 1]
Y2 = [2, 1, 0]
IRIS = load_iris()
IRIS_BINARY = (IRIS.target == 1).astype(int)  # not separable

per_solver = pytest.mark.parametrize("solver", SOLVERS)
per_intercept = pytest.mark.parametrize("fit_intercept", [True, False])
per_n_classes = pytest.mark.parametrize("n_classes", [2, 3])
per_seed = pytest.mark.parametrize("seed", [0, 1, 2])
per_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def quiet_fit(estimator, *args, **kwargs):
    """Fit without a ConvergenceWarning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


def overlapping(n_classes, seed=0, n_samples=200, n_features=6):
    """Return data whose classes overlap, and weights between 0.1 and 3."""
    X, y = make_classification(
        n_samples=n_samples,
        n_features=n_features,
        n_informative=4,
        n_redundant=0,
        n_classes=n_classes,
        class_sep=0.5,
        random_state=seed,
    )
    weight = np.random.default_rng(seed).uniform(0.1, 3.0, size=n_samples)
    return X, y, weight


def parameters(model):
    return np.column_stack([model.coef_, model.intercept_])


def assert_same_parameters(model, other, rtol=1e-6):
    """Compare relative to the largest coefficient."""
    expected = parameters(other)
    assert_allclose(
        parameters(model), expected, rtol=0, atol=rtol * np.abs(expected).max()
    )


# -- adapted from scikit-learn --------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, list, *SPARSE])
@pytest.mark.parametrize("params", [{}, {"C": 100}, {"fit_intercept": False}])
def test_two_classes_are_predicted(container, params):
    check_predictions(SoftmaxRegression(**params), container(X), Y1)


@pytest.mark.parametrize("container", [np.asarray, list, *SPARSE])
def test_three_classes_are_predicted(container):
    check_predictions(SoftmaxRegression(C=10), container(X), Y2)


def check_predictions(clf, X, y):
    n_classes = len(np.unique(y))
    predicted = clf.fit(X, y).predict(X)
    assert_array_equal(clf.classes_, np.unique(y))
    assert_array_equal(predicted, y)
    proba = clf.predict_proba(X)
    assert proba.shape == (len(y), n_classes)
    assert_allclose(proba.sum(axis=1), 1)
    assert_array_equal(proba.argmax(axis=1), y)


GLMNET_X = np.array([[-4, -3, -2, -1, 0, 1, 2, 3, 4], [0, 0, 1, 0, 1, 1, 1, 0, 0]]).T


@per_solver
@pytest.mark.parametrize("penalty", [{"C": 1 / 9}, {"weight_decay": 1.0}])
def test_coefficients_are_those_of_glmnet(solver, penalty):
    """R: glmnet(x=x, y=y, alpha=0, lambda=1, standardize=F, thresh=1e-12)."""
    model = SoftmaxRegression(**penalty, tol=1e-14, solver=solver)
    model.fit(GLMNET_X, [0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert_allclose(model.intercept_, 0.89230405539, rtol=1e-5)
    assert_allclose(model.coef_, [[0.44464569182, 0.01457563448]], rtol=1e-5)

    model.fit(GLMNET_X, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert_allclose(
        model.intercept_, [-0.12004759652, 2.251747383e-01, -0.1051271418], rtol=1e-5
    )
    assert_allclose(
        model.coef_,
        [
            [-0.38023389305, -0.01226499932],
            [-8.164030176e-05, 4.734548012e-02],
            [0.3803155334, -0.0350804808],
        ],
        rtol=1e-5,
        atol=1e-8,
    )


@pytest.mark.parametrize("n_features", [12, 3])
def test_other_column_count_is_an_error(n_features):
    model = SoftmaxRegression().fit(np.eye(4, 10), [0, 1, 1, 0])
    for method in ("predict", "predict_proba", "decision_function", "proba_jacobian"):
        with pytest.raises(ValueError, match=f"X has {n_features} features, but"):
            getattr(model, method)(np.ones((3, n_features)))


def test_other_length_of_y_is_an_error():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SoftmaxRegression().fit(X, Y1[:-1])


def test_parameters_can_be_written():
    model = SoftmaxRegression().fit(X, Y1)
    model.coef_[:] = 0
    model.intercept_[:] = 0
    assert_array_equal(model.decision_function(X), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_array])
def test_nan_and_infinity_are_errors(bad, container):
    broken = np.array(X, dtype=float)
    broken[0, 1] = bad
    match = "Input X contains NaN" if np.isnan(bad) else "Input X contains infinity"
    with pytest.raises(ValueError, match=match):
        SoftmaxRegression().fit(container(broken), Y1)
    model = SoftmaxRegression().fit(X, Y1)
    with pytest.raises(ValueError, match=match):
        model.predict(container(broken))


@pytest.mark.parametrize("container", [scipy.sparse.coo_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("binary", [True, False])
def test_sparsified_coefficients_predict_the_same(container, binary):
    X = scale(IRIS.data)
    target = IRIS_BINARY if binary else IRIS.target_names[IRIS.target]
    model = SoftmaxRegression().fit(X, target)
    methods = (
        "decision_function", "predict", "predict_proba", "predict_log_proba",
        "proba_jacobian",
    )  # fmt: skip
    expected = {name: getattr(model, name)(X) for name in methods}

    assert model.sparsify() is model
    assert scipy.sparse.issparse(model.coef_)
    for name, data in itertools.product(methods, (X, container(X))):
        found = getattr(model, name)(data)
        if expected[name].dtype.kind == "f":
            assert_allclose(found, expected[name], atol=1e-12)
        else:
            assert_array_equal(found, expected[name])

    assert model.densify() is model
    assert isinstance(model.coef_, np.ndarray)
    assert_allclose(
        model.decision_function(container(X)), expected["decision_function"], atol=1e-12
    )


def test_sparsified_model_can_be_fitted_again():
    model = SoftmaxRegression(warm_start=True).fit(X, Y2).sparsify()
    assert isinstance(model.fit(X, Y2).coef_, np.ndarray)


def test_labels_may_be_strings():
    X, y, _ = overlapping(3, n_samples=100)
    names = np.array(["bar", "baz", "foo"])
    numbers = SoftmaxRegression().fit(X, y - 1)
    strings = SoftmaxRegression().fit(X, names[y])
    assert_array_equal(numbers.coef_, strings.coef_)
    assert strings.classes_.tolist() == ["bar", "baz", "foo"]
    assert_array_equal(strings.predict(X), names[numbers.predict(X) + 1])
    assert_array_equal(numbers.predict_proba(X), strings.predict_proba(X))

    weight = {"bar": 1, "baz": 2, "foo": 0}
    weighted = SoftmaxRegression(class_weight=weight).fit(X, names[y])
    assert set(weighted.predict(X)) == {"bar", "baz"}


@per_solver
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@per_intercept
def test_permuting_the_labels_permutes_the_rows(solver, n_classes, fit_intercept):
    X, y, _ = overlapping(n_classes)
    params = {"solver": solver, "tol": 1e-12, "fit_intercept": fit_intercept}
    order = np.roll(np.arange(n_classes), 1)
    first = SoftmaxRegression(**params).fit(X, y)
    second = SoftmaxRegression(**params).fit(X, order[y])
    expected = (
        -parameters(first) if n_classes == 2 else parameters(first)[np.argsort(order)]
    )
    assert_allclose(parameters(second), expected, atol=1e-6 * np.abs(expected).max())


@per_seed
@per_intercept
@per_n_classes
def test_solvers_agree(seed, fit_intercept, n_classes):
    X, y, _ = overlapping(n_classes, seed)
    params = {"C": 0.1, "fit_intercept": fit_intercept, "tol": 1e-12}
    models = [SoftmaxRegression(solver=s, **params).fit(X, y) for s in SOLVERS]
    for left, right in itertools.combinations(models, r=2):
        assert_same_parameters(left, right)


@per_intercept
def test_solvers_agree_with_as_many_columns_as_rows(fit_intercept):
    X, y = make_classification(
        n_samples=20, n_features=20, n_informative=10, n_classes=3, random_state=0
    )
    params = {"fit_intercept": fit_intercept, "tol": 1e-12}
    models = [SoftmaxRegression(solver=s, **params).fit(X, y) for s in SOLVERS]
    for left, right in itertools.combinations(models, r=2):
        assert_same_parameters(left, right)


@per_seed
@per_intercept
def test_solvers_agree_without_penalty(seed, fit_intercept):
    rng = np.random.default_rng(seed)
    n_samples, n_features, n_classes = 100, 4, 3
    X = make_low_rank_matrix(
        n_samples=n_samples,
        n_features=n_features,
        effective_rank=n_features,
        tail_strength=0.1,
        random_state=seed,
    )
    coef = rng.uniform(1, 3, size=(n_classes, n_features))
    intercept = rng.uniform(-1, 1, size=n_classes) * fit_intercept
    proba = scipy.special.softmax(X @ coef.T + intercept, axis=1)
    y = np.array([rng.choice(n_classes, p=row) for row in proba])
    params = {"C": np.inf, "fit_intercept": fit_intercept, "tol": 1e-7}
    models = [SoftmaxRegression(solver=s, **params).fit(X, y) for s in SOLVERS]
    for model in models:
        assert_allclose(model.coef_.sum(axis=0), 0, atol=1e-10)
    for left, right in itertools.combinations(models, r=2):
        assert_same_parameters(left, right, rtol=1e-5)


@per_solver
@per_n_classes
@pytest.mark.parametrize("whole", [True, False])
def test_weight_decay_of_zero_is_no_penalty(solver, n_classes, whole):
    X, y, weight = overlapping(n_classes)
    weight = None if whole else weight
    infinite = SoftmaxRegression(C=np.inf, solver=solver).fit(X, y, weight)
    none = SoftmaxRegression(weight_decay=0.0, solver=solver).fit(X, y, weight)
    assert infinite.weight_decay_ == 0
    assert_array_equal(infinite.coef_, none.coef_)


@per_solver
@per_n_classes
@pytest.mark.parametrize("container", SPARSE)
def test_sparse_equals_dense(solver, n_classes, container):
    X, y, _ = overlapping(n_classes)
    X[X < 0.0] = 0.0
    model = SoftmaxRegression(solver=solver, tol=1e-12)
    dense = clone(model).fit(X, y)
    sparse = clone(model).fit(container(X), y)
    assert_same_parameters(sparse, dense)
    assert_allclose(sparse.predict_proba(container(X)), dense.predict_proba(X))


@per_solver
@per_seed
@per_n_classes
@per_intercept
def test_weights_are_repetitions(solver, seed, n_classes, fit_intercept):
    X, y, _ = overlapping(n_classes, seed)
    weight = np.random.default_rng(seed).integers(0, 5, size=len(y))
    model = SoftmaxRegression(solver=solver, fit_intercept=fit_intercept, tol=1e-12)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    repeated = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert_same_parameters(weighted, repeated)
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-12)


@per_solver
def test_rows_of_weight_zero_do_not_exist(solver):
    X = np.repeat([[1.0, 3.0], [2.0, 1.0], [3.0, 3.0], [4.0, 1.0]], 4, axis=0)
    y = np.repeat([1, 2, 1, 2], 4)
    X2, y2, weight = shuffle(
        np.vstack([X, X]),
        np.hstack([y, 3 - y]),
        np.repeat([1.0, 0.0], len(y)),
        random_state=0,
    )
    model = SoftmaxRegression(solver=solver, tol=1e-12)
    without = clone(model).fit(X, y)
    with_zeros = clone(model).fit(X2, y2, sample_weight=weight)
    for method in ("predict_proba", "decision_function"):
        assert_allclose(
            getattr(without, method)(X), getattr(with_zeros, method)(X), rtol=1e-6
        )


@per_solver
@per_n_classes
def test_class_weight_is_a_sample_weight(solver, n_classes):
    X, y, weight = overlapping(n_classes)
    class_weight = {0: 1, 1: 2} if n_classes == 2 else {0: 1, 1: 2, 2: 0.5}
    model = SoftmaxRegression(solver=solver, tol=1e-12)
    by_class = clone(model).set_params(class_weight=class_weight)
    by_row = clone(model).fit(X, y, sample_weight=weight * np.array([1, 2, 0.5])[y])
    assert_same_parameters(by_class.fit(X, y, sample_weight=weight), by_row)


@per_solver
@pytest.mark.parametrize("container", [np.asarray, *CSR])
@pytest.mark.parametrize("n_classes", [3, 2])
def test_balanced_class_weight_is_its_dict(solver, container, n_classes):
    """Iris without nine in ten of class 0."""
    rows = slice(45, 150 if n_classes == 3 else 100)
    X, y = container(scale(IRIS.data)[rows]), IRIS.target[rows]
    classes = np.unique(y)
    values = compute_class_weight("balanced", classes=classes, y=y)
    model = SoftmaxRegression(solver=solver, tol=1e-12)
    balanced = clone(model).set_params(class_weight="balanced").fit(X, y)
    by_dict = clone(model).set_params(
        class_weight=dict(zip(classes.tolist(), values, strict=True))
    )
    assert_same_parameters(balanced, by_dict.fit(X, y))
    assert_same_parameters(balanced, clone(model).fit(X, y, sample_weight=values[y]))


@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 10.0, 2: 1.0}, "balanced", None])
def test_input_is_not_modified(class_weight):
    X, y = IRIS.data.copy(), IRIS.target.copy()
    weight = np.ones(len(X))
    weight[: len(X) // 2] = 2
    for array in (X, y, weight):
        array.flags.writeable = False
    model = SoftmaxRegression(class_weight=class_weight).fit(X, y, sample_weight=weight)
    model.predict(X)
    assert_array_equal(X, IRIS.data)
    assert_array_equal(weight, np.repeat([2.0, 1.0], 75))


def test_scores_of_zero_are_the_first_class():
    X, y, _ = overlapping(2)
    model = SoftmaxRegression(fit_intercept=False).fit(X, y)
    assert_array_equal(model.predict(np.zeros((5, 6))), 0)


@per_n_classes
def test_intercept_is_zero_without_one(n_classes):
    X, y, _ = overlapping(n_classes)
    model = SoftmaxRegression(fit_intercept=False).fit(X, y)
    assert_array_equal(model.intercept_, np.zeros(1 if n_classes == 2 else n_classes))


@per_seed
def test_multinomial_beats_one_vs_rest_in_log_loss(seed):
    X, y = make_classification(
        n_samples=10, n_classes=3, n_informative=10, random_state=seed
    )
    multinomial = SoftmaxRegression().fit(X, y)
    ovr = OneVsRestClassifier(SoftmaxRegression()).fit(X, y)
    loss = log_loss(y, multinomial.predict_proba(X))
    assert loss < log_loss(y, ovr.predict_proba(X))
    sigmoids = scipy.special.expit(multinomial.decision_function(X))
    sigmoids /= sigmoids.sum(axis=1, keepdims=True)
    assert loss < log_loss(y, sigmoids)


@per_solver
@pytest.mark.parametrize("max_iter", [1, 2, 3])
@pytest.mark.parametrize("y", [IRIS_BINARY, IRIS.target], ids=["binary", "multiclass"])
def test_stopping_early_warns_once(solver, max_iter, y):
    model = SoftmaxRegression(max_iter=max_iter, tol=1e-12, solver=solver)
    with pytest.warns(ConvergenceWarning) as record:
        model.fit(IRIS.data, y)
    assert len(record) == 1
    assert str(record[0].message).startswith(
        f"{solver} stopped after {max_iter} iterations"
    )
    assert "Increase max_iter" in str(record[0].message)
    assert record[0].filename == __file__
    assert model.n_iter_ == max_iter
    assert not model.converged_
    assert model.optimality_gap_ > 1e-12 * model.objective_


def test_warning_without_penalty_tells_how_far_the_gradient_is_from_tol():
    X, y, _ = overlapping(3)
    model = SoftmaxRegression(C=np.inf, max_iter=1, solver="lbfgs", tol=1e-2)
    with pytest.warns(ConvergenceWarning, match=r"gradient.* > tol = ") as record:
        model.fit(X / 1000, y)
    reached, tol = re.search(
        r"(\S+) > tol = (\S+e-\d+)", str(record[0].message)
    ).groups()
    assert float(reached) > float(tol)


@pytest.mark.parametrize("max_iter", [0, -1])
def test_no_iterations_is_an_error(max_iter):
    with pytest.raises(ValueError, match="max_iter must be an integer of at least 1"):
        SoftmaxRegression(max_iter=max_iter).fit(X, Y1)


@per_solver
def test_start_at_the_optimum_takes_no_iteration(solver):
    model = SoftmaxRegression(solver=solver, warm_start=True).fit(
        IRIS.data, IRIS.target
    )
    coef = model.coef_
    assert model.fit(IRIS.data, IRIS.target).n_iter_ == 0
    assert_allclose(model.coef_, coef, rtol=1e-12)


@per_solver
@pytest.mark.parametrize("y", [IRIS_BINARY, IRIS.target], ids=["binary", "multiclass"])
def test_n_iter_is_an_int_that_matches_history(solver, y):
    model = SoftmaxRegression(solver=solver).fit(IRIS.data, y)
    assert type(model.n_iter_) is int
    assert 1 <= model.n_iter_ <= model.max_iter
    assert len(model.history_["objective"]) == model.n_iter_ + 1


@per_solver
@per_intercept
@pytest.mark.parametrize("warm_start", [True, False])
def test_one_more_iteration_moves_little_only_from_a_warm_start(
    solver, warm_start, fit_intercept
):
    model = SoftmaxRegression(
        warm_start=warm_start, solver=solver, fit_intercept=fit_intercept
    )
    coef = model.fit(IRIS.data, IRIS.target).coef_
    quiet_fit(model.set_params(max_iter=1), IRIS.data, IRIS.target)
    assert (np.abs(coef - model.coef_).sum() < 0.5) == warm_start


@per_intercept
@pytest.mark.parametrize("C", [1, np.inf])
def test_two_newton_steps_are_twice_one(fit_intercept, C):
    params = {"solver": "newton-cholesky", "fit_intercept": fit_intercept, "C": C}
    at_once = SoftmaxRegression(max_iter=2, **params)
    quiet_fit(at_once, IRIS.data, IRIS.target)
    in_turn = SoftmaxRegression(max_iter=1, warm_start=True, **params)
    quiet_fit(in_turn, IRIS.data, IRIS.target)
    quiet_fit(in_turn, IRIS.data, IRIS.target)
    assert_same_parameters(in_turn, at_once)


@per_solver
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([0, 1, 2], [1, 2, 3]),
        ([0, 1, 2], [0, 2]),
        ([0, 1], [0, 1, 2]),
        ([0, 1], [2, 3]),
    ],
)
def test_warm_start_with_other_classes_reaches_the_same_optimum(solver, before, after):
    X, y, _ = overlapping(4, n_samples=300)
    old, new = np.isin(y, before), np.isin(y, after)
    model = SoftmaxRegression(solver=solver, tol=1e-12)
    cold = clone(model).fit(X[new], y[new])
    warm = clone(model).set_params(warm_start=True).fit(X[old], y[old])
    assert_same_parameters(warm.fit(X[new], y[new]), cold)


@per_solver
@per_intercept
@pytest.mark.parametrize("container", [np.asarray, *CSR])
@per_dtype
def test_single_and_double_precision_are_kept(solver, fit_intercept, container, dtype):
    data = container(np.array(X, dtype=dtype))
    model = SoftmaxRegression(solver=solver, fit_intercept=fit_intercept, tol=1e-6)
    model.fit(data, np.array(Y1, dtype=dtype))
    assert model.coef_.dtype == model.intercept_.dtype == dtype
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        assert getattr(model, method)(data).dtype == dtype
    assert model.proba_jacobian(data).dtype == dtype
    double = clone(model).fit(np.array(X, dtype=float), Y1)
    assert_allclose(parameters(model), parameters(double), atol=5e-3)


@per_seed
def test_warm_start_converges(seed):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(size=(100, 2)) + 1, rng.normal(size=(100, 2))])
    y = np.repeat([1, -1], 100)
    cold = SoftmaxRegression(tol=1e-10).fit(X, y)
    warm = SoftmaxRegression(tol=1e-10, warm_start=True)
    for _ in range(5):
        warm.fit(X, y)
    assert_same_parameters(warm, cold)


@per_solver
@per_intercept
def test_coefficients_sum_to_zero_over_the_classes(solver, fit_intercept):
    model = SoftmaxRegression(C=150, solver=solver, fit_intercept=fit_intercept)
    model.fit(scale(IRIS.data), IRIS.target_names[IRIS.target])
    assert_allclose(model.coef_.sum(axis=0), 0, atol=1e-12)
    assert model.intercept_.sum() == pytest.approx(0, abs=1e-12)


@per_solver
@pytest.mark.parametrize("container", CSR)
def test_sparse_indices_may_have_64_bits(solver, container):
    rng = np.random.default_rng(42)
    X = container(scipy.sparse.random(20, 10, density=0.3, random_state=42))
    y = rng.integers(2, size=20)
    expected = SoftmaxRegression(solver=solver).fit(X, y)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    model = SoftmaxRegression(solver=solver).fit(X, y)
    assert_allclose(model.coef_, expected.coef_)
    assert_array_equal(model.predict(X), expected.predict(X))
    assert X.indices.dtype == X.indptr.dtype == np.int64


@per_solver
def test_one_column_is_enough(solver):
    X = np.array([[0.5, 0.65, 1.1, 1.25, 0.8, 0.54, 0.95, 0.7]]).T
    y = np.array([1, 1, 0, 0, 1, 1, 0, 1])
    model = SoftmaxRegression(solver=solver).fit(X, y)
    assert model.coef_[0, 0] < 0
    assert model.converged_


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky"])
def test_a_wide_matrix_and_a_tiny_penalty_converge(solver):
    X, y = make_classification(n_samples=10, n_features=20, random_state=42)
    model = SoftmaxRegression(solver=solver, C=1e6).fit(X, y)
    assert model.converged_
    assert model.score(X, y) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("C", 0), ("C", -1.0), ("C", np.nan), ("C", "1"), ("C", None), ("C", True),
        ("weight_decay", -1e-4), ("weight_decay", np.nan), ("weight_decay", np.inf),
        ("weight_decay", "l2"),
        ("loss", "hinge"), ("loss", None),
        ("temperature", 0), ("temperature", -1), ("temperature", np.inf),
        ("label_smoothing", -0.1), ("label_smoothing", 1.0), ("label_smoothing", None),
        ("margin", -1), ("margin", np.nan), ("margin", "wide"), ("margin", np.ones(3)),
        ("margin", np.ones((2, 2))), ("margin", [[0, -1], [1, 0]]),
        ("fit_intercept", "yes"), ("fit_intercept", 1), ("penalize_intercept", None),
        ("class_weight", "unbalanced"), ("class_weight", [1, 2]),
        ("class_weight", {0: -1}), ("class_weight", {0: np.nan}),
        ("solver", "liblinear"), ("solver", None), ("solver", SoftmaxRegression),
        ("tol", -1e-4), ("tol", np.nan), ("tol", np.inf), ("tol", "test"),
        ("max_iter", -1), ("max_iter", 0), ("max_iter", 1.5), ("max_iter", "test"),
        ("warm_start", "no"),
        ("device", "gpu"), ("device", 0), ("device", "cuda:x"),
        ("n_jobs", 0), ("n_jobs", 1.5), ("n_jobs", "all"),
        ("verbose", -1), ("verbose", "loud"), ("verbose", 0.5),
    ],
)  # fmt: skip
def test_bad_parameter_is_an_error_that_names_it(name, value):
    model = SoftmaxRegression(**{name: value})
    with pytest.raises((ValueError, TypeError), match=f"{name}.* got"):
        model.fit(X, Y1)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_random_state_is_checked():
    with pytest.raises(ValueError, match="cannot be used to seed"):
        SoftmaxRegression(random_state="seed").fit(X, Y1)


def test_failed_fit_leaves_the_model_as_it_was():
    model = SoftmaxRegression().fit(X, Y1)
    before = pickle.dumps(vars(model))
    with pytest.raises(ValueError, match="one class"):
        model.fit(np.ones((3, 5)), [1, 1, 1])
    assert pickle.dumps(vars(model)) == before


def test_class_weight_of_a_label_that_y_lacks_is_of_no_account():
    """A fold of a cross-validation may lack a class that the dict weighs."""
    X, y, _ = overlapping(2)
    class_weight = {0: 1.0, 1: 2.0, 2: 3.0}
    expected = LogisticRegression(class_weight=class_weight, tol=1e-10).fit(X, y)
    model = SoftmaxRegression(class_weight=class_weight, tol=1e-12).fit(X, y)
    assert_same_parameters(model, expected, rtol=1e-4)


# -- against LogisticRegression -------------------------------------------------------


def logistic(X, y, sample_weight=None, **params):
    """Return `LogisticRegression` at its tightest."""
    model = LogisticRegression(
        solver="newton-cholesky", tol=1e-13, max_iter=1000, **params
    )
    return quiet_fit(model, X, y, sample_weight=sample_weight)


@per_solver
@per_intercept
@per_n_classes
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_optimum_is_that_of_logistic_regression(
    solver, fit_intercept, n_classes, weighted, C
):
    X, y, weight = overlapping(n_classes)
    weight = weight if weighted else None
    params = {"C": C, "fit_intercept": fit_intercept}
    model = SoftmaxRegression(solver=solver, tol=1e-13, **params).fit(X, y, weight)
    assert_same_parameters(model, logistic(X, y, weight, **params))


@per_solver
@per_intercept
@per_n_classes
@pytest.mark.parametrize("class_weight", [{0: 0.5, 1: 3.0}, "balanced"])
def test_weighted_sparse_optimum_is_that_of_logistic_regression(
    solver, fit_intercept, n_classes, class_weight
):
    X, y, weight = overlapping(n_classes)
    X[X < 0] = 0
    X = scipy.sparse.csr_array(X)
    params = {"class_weight": class_weight, "fit_intercept": fit_intercept}
    model = SoftmaxRegression(solver=solver, tol=1e-13, **params).fit(X, y, weight)
    assert_same_parameters(model, logistic(X, y, weight, **params))


@per_solver
@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer], ids=lambda load: load.__name__
)
def test_optimum_on_scaled_data_is_that_of_logistic_regression(solver, load):
    X, y = load(return_X_y=True)
    X = scale(X)
    model = SoftmaxRegression(solver=solver, tol=1e-13).fit(X, y)
    expected = logistic(X, y)
    assert_same_parameters(model, expected)
    assert_allclose(
        model.predict_log_proba(X), expected.predict_log_proba(X), rtol=1e-4, atol=1e-8
    )


@per_n_classes
def test_methods_have_the_shapes_of_logistic_regression(n_classes):
    X, y, _ = overlapping(n_classes)
    ours, theirs = SoftmaxRegression().fit(X, y), LogisticRegression().fit(X, y)
    for method in (
        "decision_function",
        "predict_proba",
        "predict_log_proba",
        "predict",
    ):
        left, right = getattr(ours, method)(X), getattr(theirs, method)(X)
        assert left.shape == right.shape
        assert left.dtype == right.dtype
    for attribute in ("coef_", "intercept_", "classes_"):
        left, right = getattr(ours, attribute), getattr(theirs, attribute)
        assert left.shape == right.shape
        assert left.dtype == right.dtype
    assert isinstance(ours.score(X, y), float)


@per_n_classes
def test_decision_function_is_linear(n_classes):
    X, y, _ = overlapping(n_classes)
    model = SoftmaxRegression(temperature=2.0).fit(X, y)
    scores = X @ model.coef_.T + model.intercept_
    assert_allclose(
        model.decision_function(X), scores[:, 0] if n_classes == 2 else scores
    )
    labels = scores[:, 0] > 0 if n_classes == 2 else scores.argmax(axis=1)
    assert_array_equal(model.predict(X), model.classes_[labels.astype(int)])


# -- against published values and statsmodels ------------------------------------------


def relative_to(model, base):
    """Return intercept and coefficients (K - 1, d + 1) relative to a base class."""
    table = np.column_stack([model.intercept_, model.coef_])
    return np.delete(table - table[base], base, axis=0)


@per_solver
@pytest.mark.parametrize("name", ["hsbdemo", "anes96"])
def test_maximum_likelihood_is_the_published_one(shared, solver, name):
    X, y = shared.load(name)
    with open(f"{shared.HERE}/reference_values.json", encoding="utf-8") as file:
        reference = json.load(file)[name]
    base = reference["base"].split(" (")[0]
    classes = shared.classes(name).tolist()
    base = classes.index(base)
    assert np.delete(classes, base).tolist() == reference["rows"]
    assert shared.feature_names(name) == reference["columns"]
    model = SoftmaxRegression(C=np.inf, tol=1e-8, solver=solver).fit(X, y)
    found = relative_to(model, base)
    assert_allclose(found, reference["published"]["coef"], rtol=0, atol=1e-4)
    assert_allclose(found, reference["newton"]["coef"], rtol=0, atol=1e-6)
    log_likelihood = -len(y) * model.objective_
    assert log_likelihood == pytest.approx(
        reference["newton"]["log_likelihood"], abs=1e-7
    )
    assert model.optimality_gap_ == np.inf


@per_solver
@per_n_classes
@per_intercept
def test_maximum_likelihood_is_that_of_statsmodels(solver, n_classes, fit_intercept):
    X, y, _ = overlapping(n_classes, n_samples=400)
    design = sm.add_constant(X) if fit_intercept else X
    expected = sm.MNLogit(y, design).fit(method="newton", disp=False, tol=1e-12)
    model = SoftmaxRegression(
        C=np.inf, solver=solver, tol=1e-8, fit_intercept=fit_intercept
    ).fit(X, y)
    if n_classes == 2:
        found = np.column_stack([model.intercept_, model.coef_])
    else:
        found = relative_to(model, 0)
    if not fit_intercept:
        found = found[:, 1:]
    assert_allclose(found, np.asarray(expected.params).T, rtol=1e-6, atol=1e-7)
    assert -len(y) * model.objective_ == pytest.approx(expected.llf, rel=1e-10)


@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky"])
@pytest.mark.parametrize("name", ["hsbdemo", "anes96"])
def test_gradient_falls_as_far_as_in_logistic_regression(shared, solver, name):
    """LogisticRegression(solver="newton-cg") reaches 1e-12 of the gradient at zero."""
    X, y = shared.load(name)
    model = SoftmaxRegression(C=np.inf, tol=1e-10, solver=solver).fit(X, y)
    assert model.converged_


# -- real data, raw --------------------------------------------------------------------


def mean_loss(model, X, y):
    """Return F in float64, from the definition."""
    coef, intercept = model.coef_.astype(float), model.intercept_.astype(float)
    scores = X.astype(float) @ coef.T + intercept
    if len(coef) == 1:
        scores = np.column_stack([-scores / 2, scores / 2])
    loss = scipy.special.logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    return loss.mean() + model.weight_decay_ / 2 * (coef**2).sum()


def check_raw(X, y, dtype):
    model = SoftmaxRegression().fit(X.astype(dtype), y)
    assert model.converged_
    assert model.coef_.dtype == dtype
    assert model.optimality_gap_ <= 1e-4 * model.objective_
    value = mean_loss(model, X, y)
    assert model.objective_ == pytest.approx(value, rel=1e-5)
    best = SoftmaxRegression(tol=1e-8).fit(X.astype(float), y)
    assert value - mean_loss(best, X, y) <= 1e-4 * value


@per_dtype
@pytest.mark.parametrize(
    "load",
    [load_iris, load_wine, load_breast_cancer, load_digits],
    ids=lambda load: load.__name__,
)
def test_raw_data_converges_with_default_settings(load, dtype):
    X, y = load(return_X_y=True)
    check_raw(X, y, dtype)


@per_solver
@per_dtype
@per_n_classes
@pytest.mark.parametrize(
    "unit",
    [1e-6, 1e-3, 1e3, 1e6, 10.0 ** np.arange(-3, 3), 10.0 ** np.arange(6, 0, -1)],
)
def test_columns_may_be_in_any_unit(solver, dtype, n_classes, unit):
    X, y, _ = overlapping(n_classes)
    model = SoftmaxRegression(solver=solver).fit((X * unit).astype(dtype), y)
    assert model.converged_
    assert model.optimality_gap_ <= 1e-4 * model.objective_


@per_dtype
@pytest.mark.parametrize(
    "name",
    ["covtype20k", "letter", pytest.param("shuttle", marks=pytest.mark.slow)],
)
def test_shared_data_converges_with_default_settings(shared, name, dtype):
    check_raw(*shared.load(name), dtype)


@pytest.mark.slow
def test_fashion_mnist_in_the_form_of_the_ufldl_notes(shared):
    (X, y), (X_test, y_test) = (
        shared.load("fashion_mnist", split=split) for split in ("train", "test")
    )
    X, X_test = (part.reshape(len(part), -1) / np.float32(255) for part in (X, X_test))
    model = SoftmaxRegression(weight_decay=1e-4, fit_intercept=False).fit(X, y)
    assert model.converged_
    assert 0.83 <= model.score(X_test, y_test) <= 0.86


# -- within scikit-learn --------------------------------------------------------------


def test_pipeline_scales_and_scores():
    pipe = make_pipeline(StandardScaler(), SoftmaxRegression(tol=1e-8))
    scores = cross_val_score(pipe, IRIS.data, IRIS.target, cv=5)
    assert scores.mean() > 0.93
    direct = SoftmaxRegression(tol=1e-8).fit(scale(IRIS.data), IRIS.target)
    pipe.fit(IRIS.data, IRIS.target)
    assert_allclose(pipe[-1].coef_, direct.coef_)


def test_grid_search_refits_the_best_candidate():
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), SoftmaxRegression()),
        {
            "softmaxregression__C": [1e-6, 1.0],
            "softmaxregression__solver": ["lbfgs", "newton-cg"],
        },
        scoring="neg_log_loss",
        cv=3,
    ).fit(IRIS.data, IRIS.target)
    assert grid.best_params_["softmaxregression__C"] == 1.0
    assert grid.best_estimator_[-1].C == 1.0
    assert grid.predict_proba(IRIS.data).shape == (150, 3)


def test_grid_search_is_the_same_in_workers():
    grids = [
        GridSearchCV(SoftmaxRegression(), {"C": [0.1, 1.0]}, cv=3, n_jobs=n_jobs)
        for n_jobs in (None, 2)
    ]
    for grid in grids:
        grid.fit(IRIS.data, IRIS.target)
    alone, together = (grid.best_estimator_ for grid in grids)
    assert_array_equal(alone.coef_, together.coef_)


@per_n_classes
def test_sample_weight_is_routed_through_a_pipeline(n_classes):
    X, y, weight = overlapping(n_classes)
    direct = SoftmaxRegression().fit(X, y, sample_weight=weight)
    with config_context(enable_metadata_routing=True):
        model = SoftmaxRegression().set_fit_request(sample_weight=True)
        pipe = make_pipeline("passthrough", model).fit(X, y, sample_weight=weight)
    assert_array_equal(pipe[-1].coef_, direct.coef_)


def test_sample_weight_is_routed_through_a_grid_search():
    X, y, weight = overlapping(3)
    with config_context(enable_metadata_routing=True):
        model = (
            SoftmaxRegression()
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        grid = GridSearchCV(model, {"C": [0.1]}, cv=3).fit(X, y, sample_weight=weight)
        plain = GridSearchCV(model, {"C": [0.1]}, cv=3).fit(X, y)
        direct = SoftmaxRegression(C=0.1).fit(X, y, sample_weight=weight)
        assert_array_equal(grid.best_estimator_.coef_, direct.coef_)
        assert grid.best_score_ != plain.best_score_
        weighted_score = direct.score(X, y, sample_weight=weight)
        assert grid.score(X, y, sample_weight=weight) == weighted_score


def test_sample_weight_that_is_not_requested_is_an_error():
    X, y, weight = overlapping(2)
    with config_context(enable_metadata_routing=True):
        grid = GridSearchCV(SoftmaxRegression(), {"C": [1.0]}, cv=3)
        with pytest.raises(ValueError, match="are passed but are not explicitly set"):
            grid.fit(X, y, sample_weight=weight)


@pytest.mark.parametrize(
    "frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"]
)
def test_column_names_are_remembered_and_compared(frame):
    names = [f"x{i}" for i in range(4)]
    data = frame(dict(zip(names, IRIS.data.T, strict=True)))
    model = SoftmaxRegression().fit(data, IRIS.target)
    assert model.feature_names_in_.tolist() == names
    plain = SoftmaxRegression().fit(IRIS.data, IRIS.target)
    assert_allclose(model.coef_, plain.coef_)
    assert_array_equal(model.predict(data), plain.predict(IRIS.data))

    shuffled = data[names[::-1]]
    for method in ("predict", "predict_proba", "decision_function", "proba_jacobian"):
        with pytest.raises(ValueError, match="feature names should match"):
            getattr(model, method)(shuffled)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(IRIS.data)

    assert not hasattr(model.fit(IRIS.data, IRIS.target), "feature_names_in_")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_a_transformer_bring_their_names(library):
    pipe = make_pipeline(StandardScaler(), SoftmaxRegression())
    pipe.set_output(transform=library)
    data = pd.DataFrame(IRIS.data, columns=IRIS.feature_names)
    pipe.fit(data, IRIS.target)
    assert pipe[-1].feature_names_in_.tolist() == IRIS.feature_names
    assert isinstance(pipe.predict_proba(data), np.ndarray)


@per_n_classes
def test_labels_may_be_a_pandas_or_polars_series(n_classes):
    X, y, weight = overlapping(n_classes)
    expected = SoftmaxRegression().fit(X, y, weight)
    for series in (pd.Series, pl.Series):
        model = SoftmaxRegression().fit(X, series(y), series(weight))
        assert_array_equal(model.coef_, expected.coef_)
    categories = pd.Series(y).map({0: "a", 1: "b", 2: "c"}).astype("category")
    model = SoftmaxRegression().fit(X, categories, weight)
    assert model.classes_.tolist() == list("abc")[:n_classes]
    assert_array_equal(model.coef_, expected.coef_)


def test_pickle_round_trip_predicts_the_same():
    model = SoftmaxRegression(solver="lbfgs", C=2.0).fit(IRIS.data, IRIS.target)
    again = pickle.loads(pickle.dumps(model))
    assert again.get_params() == model.get_params()
    assert set(vars(again)) == set(vars(model))
    assert_array_equal(again.predict_proba(IRIS.data), model.predict_proba(IRIS.data))
    for column, values in model.history_.items():
        assert_array_equal(again.history_[column], values)


def test_clone_keeps_parameters_and_no_more():
    params = {"C": 2.0, "class_weight": {0: 2.0}, "tol": 1e-6, "warm_start": True}
    model = SoftmaxRegression(**params).fit(IRIS.data, IRIS.target)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "coef_")
    assert_array_equal(copy.fit(IRIS.data, IRIS.target).coef_, model.coef_)


def test_repr_shows_what_was_set():
    assert repr(SoftmaxRegression(C=2.0)) == "SoftmaxRegression(C=2.0)"


@pytest.mark.parametrize("fitted", [True, False])
def test_html_has_no_link_to_pages_that_are_not_published(fitted):
    model = SoftmaxRegression()
    if fitted:
        model.fit(X, Y1)
    assert 'href="http' not in model._repr_html_()


# -- probabilities ---------------------------------------------------------------------


@per_dtype
@pytest.mark.parametrize("n_classes", [2, 3, 26])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_probabilities_sum_to_one(dtype, n_classes, size):
    model, X = with_scores(n_classes, dtype, size)
    proba = model.predict_proba(X)
    assert proba.shape == (len(X), n_classes)
    assert (proba >= 0).all()
    sums = proba.sum(axis=1, dtype=np.float64)
    assert_allclose(sums, 1, rtol=0, atol=4 * np.finfo(dtype).eps)


@per_dtype
@pytest.mark.parametrize("n_classes", [2, 3, 26])
@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_the_log_softmax(dtype, n_classes, size, temperature):
    model, X = with_scores(n_classes, dtype, size)
    model.temperature = temperature
    log_proba = model.predict_log_proba(X)
    assert log_proba.dtype == dtype
    assert np.isfinite(log_proba).all()
    scores = model.decision_function(X).astype(np.float64) / temperature
    if n_classes == 2:
        scores = np.column_stack([-scores / 2, scores / 2])
    expected = scipy.special.log_softmax(scores, axis=1)
    eps = np.finfo(dtype).eps
    assert_allclose(log_proba, expected, rtol=4 * eps, atol=4 * eps)
    assert_allclose(model.predict_proba(X), np.exp(expected), rtol=0, atol=16 * eps)


def with_scores(n_classes, dtype, size):
    """Return a model whose largest score on X is size."""
    rng = np.random.default_rng(n_classes)
    X = rng.normal(size=(200, 5)).astype(dtype)
    model = SoftmaxRegression().fit(X, np.arange(200) % n_classes)
    model.coef_ *= dtype(size / np.abs(model.decision_function(X)).max())
    return model, X


@per_n_classes
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_array])
def test_jacobian_is_the_limit_of_differences(n_classes, temperature, container):
    X, y, _ = overlapping(n_classes)
    model = SoftmaxRegression(temperature=temperature).fit(X, y)
    jacobian = model.proba_jacobian(container(X))
    assert jacobian.shape == (len(X), n_classes, X.shape[1])
    step = 1e-6 * np.eye(X.shape[1])
    for j in range(X.shape[1]):
        above, below = (
            model.predict_proba(X + step[j]),
            model.predict_proba(X - step[j]),
        )
        assert_allclose(jacobian[:, :, j], (above - below) / 2e-6, atol=1e-8)
    assert_allclose(jacobian.sum(axis=1), 0, atol=1e-15)
    assert np.abs(jacobian).max() > 1e-2
