"""Data on which fits once went wrong, or where others do."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning

from softreg import SoftmaxRegression

SOLVERS = ["auto", "newton-cg", "newton-cholesky", "lbfgs"]
per_solver = pytest.mark.parametrize("solver", SOLVERS)


def objective(model, X, y, label_smoothing=0.0):
    """Return F in extended precision, for plain targets and a free intercept."""
    X = X.toarray() if scipy.sparse.issparse(X) else X
    scores = X.astype(np.longdouble) @ model.coef_.T.astype(np.longdouble)
    scores += model.intercept_
    scores -= scores.max(axis=1, keepdims=True)
    log = np.log(np.exp(scores).sum(axis=1))
    own = scores[np.arange(len(y)), y]
    target = (1 - label_smoothing) * own + label_smoothing * scores.mean(axis=1)
    penalty = model.weight_decay_ / 2 * (model.coef_.astype(float) ** 2).sum()
    return float((log - target).mean() + penalty)


@pytest.mark.parametrize("C", [1.0, np.inf])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int16, np.float32])
@pytest.mark.parametrize("sparse", [False, True])
def test_wide_narrow_dtypes_do_not_wrap_in_their_gram_matrix(C, dtype, sparse):
    rng = np.random.default_rng(0)
    X = rng.integers(1, 200, (20, 60)).astype(dtype)
    y = np.arange(20) % 3
    model = SoftmaxRegression(C=C, label_smoothing=0.1, tol=1e-6)
    plain = model.fit(X.astype(float), y).objective_
    model.fit(scipy.sparse.csr_array(X) if sparse else X, y)
    assert model.converged_
    np.testing.assert_allclose(model.objective_, plain, rtol=1e-5)


@pytest.mark.parametrize("offset", [1e5, 1e8])
def test_an_offset_does_not_hide_the_row_space(offset):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 200)), np.arange(60) % 3
    model = SoftmaxRegression(C=np.inf, label_smoothing=0.1)
    plain = model.fit(X, y).objective_
    with warnings.catch_warnings():
        # Beside 1e8 the gradient rule without a penalty is below rounding.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X + offset, y)
    np.testing.assert_allclose(model.objective_, plain, rtol=1e-4)


@per_solver
@pytest.mark.parametrize("far", [-1e2, 1e9, 1e20, 1e100])
@pytest.mark.parametrize("weight_decay", [1e-6, 1e-3, 1.0])
def test_a_warm_start_from_far_away_ends_at_the_optimum(solver, far, weight_decay):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 5)), rng.integers(0, 3, 300)
    model = SoftmaxRegression(weight_decay=weight_decay, solver=solver)
    lowest = model.fit(X, y).objective_ - model.optimality_gap_
    model.set_params(warm_start=True)
    model.coef_ *= far
    model.fit(X, y)
    assert model.converged_
    assert objective(model, X, y) - lowest <= 2e-4 * lowest


@per_solver
@pytest.mark.parametrize("margin", [50.0, 100.0, 300.0])
def test_saturated_rows_do_not_stop_newton(solver, margin):
    X = np.random.default_rng(0).normal(size=(200, 2))
    y = (X @ [1.0, -1.0] + np.random.default_rng(1).normal(size=200) > 0).astype(int)
    assert SoftmaxRegression(margin=margin, solver=solver).fit(X, y).converged_


@per_solver
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_column_that_became_constant_loses_its_coefficient(solver, fit_intercept):
    X, y = load_digits(return_X_y=True)
    model = SoftmaxRegression(
        warm_start=True, solver=solver, fit_intercept=fit_intercept, C=0.01
    ).fit(X, y)
    few = slice(0, 300)
    assert model.fit(X[few], y[few]).converged_
    assert not model.coef_[:, X[few].std(axis=0) == 0].any()


@pytest.mark.parametrize(("mean", "spread"), [(1e5, 1.0), (1e5, 0.05), (1e4, 0.01)])
def test_single_columns_far_from_zero_reach_the_double_optimum(mean, spread):
    rng = np.random.default_rng(0)
    X = (mean + spread * rng.normal(size=(20_000, 60))).astype(np.float32)
    y = np.argmax(
        (X - mean)[:, :4] / spread + rng.gumbel(size=(20_000, 4)).astype("f"), axis=1
    )
    double = SoftmaxRegression().fit(X.astype(np.float64), y)
    with warnings.catch_warnings():
        # float32 coefficients of such columns may miss tol; the fit must say so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        single = SoftmaxRegression().fit(X, y)
    reached = single.optimality_gap_ / single.objective_
    assert single.converged_ == (reached <= 1e-4)
    assert single.objective_ - double.objective_ <= single.optimality_gap_
    np.testing.assert_allclose(single.objective_, double.objective_, rtol=5e-3)


@per_solver
@pytest.mark.parametrize("C", [1e6, 1e9, 1e12])
def test_the_objective_of_separable_data_has_its_digits(solver, C):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = 3 * np.eye(3)[y] + 0.1 * rng.normal(size=(120, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SoftmaxRegression(C=C, solver=solver).fit(X, y)
    np.testing.assert_allclose(model.objective_, objective(model, X, y), rtol=1e-7)
    assert model.converged_ == (model.optimality_gap_ <= 1e-4 * model.objective_)


def nearly_separable(n_rows=3000, n_features=64, n_classes=6, seed=0):
    """Return sensor-like data: columns from 1e-2 to 1e6, few rows misplaced."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n_rows)
    X = 2.0 * rng.normal(size=(n_classes, n_features))[y]
    X += rng.normal(size=X.shape) @ rng.normal(size=(n_features, n_features)) / 4
    wrong = rng.random(n_rows) < 0.002
    y[wrong] = rng.integers(0, n_classes, wrong.sum())
    return X * 10.0 ** rng.uniform(-2, 6, n_features), y


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nearly_separable_columns_of_any_unit_converge(dtype):
    X, y = nearly_separable()
    model = SoftmaxRegression().fit(X.astype(dtype), y)
    assert model.converged_
    assert model.n_iter_ <= 100


@pytest.mark.parametrize("seed", range(3))
def test_exact_newton_needs_few_iterations_where_classes_nearly_separate(seed):
    X, y = nearly_separable(1500, 24, 4, seed)
    model = SoftmaxRegression(solver="newton-cholesky").fit(X, y)
    assert model.converged_
    assert model.n_iter_ < 25


@per_solver
def test_no_solver_loops_on_noise(solver):
    rng = np.random.default_rng(0)
    X, y = 1e6 + 1e-3 * rng.normal(size=(150, 4)), np.arange(150) % 3
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = SoftmaxRegression(
            C=1e9, penalize_intercept=True, solver=solver, tol=1e-12
        ).fit(X, y)
    assert model.n_iter_ < 300
    assert [w.category for w in caught] == [ConvergenceWarning]


@pytest.mark.parametrize(
    ("weights", "params", "words"),
    [
        (None, {"class_weight": {0: 1e-200, 1: 1e200}}, "orders of magnitude"),
        (1e-320, {"C": 1e-300}, "underflow"),
    ],
)
def test_scales_that_no_float_holds_are_refused(weights, params, words):
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    with pytest.raises(ValueError, match=words):
        SoftmaxRegression(**params).fit(X, y, weights)


def test_columns_whose_squares_overflow_are_refused():
    for X in (np.arange(6.0)[:, None], np.arange(12.0).reshape(2, 6)):
        y = np.arange(len(X)) % 2
        with pytest.raises(ValueError, match="overflow"):
            SoftmaxRegression().fit(X * 1e200, y)


def test_history_goes_on_where_a_wide_fit_returns_to_its_columns():
    X, y = np.random.default_rng(0).normal(size=(50, 3000)), np.arange(50) % 4
    history = SoftmaxRegression().fit(X, y).history_
    assert (np.diff(history["seconds"]) >= 0).all()
    assert (np.diff(history["passes"]) > 0).all()


def test_soft_targets_are_not_scored_by_accuracy():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 3)), rng.dirichlet(np.ones(3), 50)
    model = SoftmaxRegression().fit(X, Y)
    with pytest.raises(ValueError, match="argmax"):
        model.score(X, Y)
    assert 0 < model.score(X, Y.argmax(axis=1)) <= 1


@pytest.mark.parametrize("value", [1.0, 0.1, 1e6])
def test_a_constant_column_of_many_rows_is_idle(value):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(5000, 3)), np.full(5000, value)])
    y = (X[:, :3] + rng.gumbel(size=(5000, 3))).argmax(axis=1)
    model = SoftmaxRegression(C=np.inf).fit(X, y)
    assert model.converged_
    np.testing.assert_array_equal(model.coef_[:, 3], 0)


def test_a_bound_that_overflows_proves_nothing():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning):
        model = SoftmaxRegression(weight_decay=1e-322).fit(X * 1e-6, y)
    assert not model.converged_


def test_top_k_bears_a_row_far_from_all_others():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.arange(60) % 3
    X[:, :3] += 2 * np.eye(3)[y]
    X[0] *= 100
    model = SoftmaxRegression(C=100, loss="topk-2").fit(X, y)
    assert model.converged_
    # e^u of its lowest score is 0 beside that of its largest.
    assert np.ptp(model.decision_function(X[:1])) > 750
    assert model.objective_ == pytest.approx(0.0889547, rel=1e-4)
