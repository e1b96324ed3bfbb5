"""Estimators with losses other than the softmax's: optimum, proof, prediction."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from bank import Data
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning

from softreg import SoftmaxRegression, functional
from softreg._losses import loss_of_order
from softreg.solvers import SOLVERS

ORDERS = {"entmax15": 1.5, "sparsemax": 2.0, 0.5: 0.5, 1.2: 1.2}
SETS = [load_iris, load_wine, load_breast_cancer]
per_loss = pytest.mark.parametrize("loss", ORDERS, ids=str)


def value(model, X, y, alpha):
    """Return F of a fitted model, from functional's loss."""
    scores = model.decision_function(X)
    if scores.ndim == 1:
        scores = np.column_stack([-scores / 2, scores / 2])
    data = functional.fenchel_young_loss(scores / model.temperature, y, alpha=alpha)
    return float(data) + model.weight_decay_ / 2 * (model.coef_**2).sum()


# Steepest descent takes many thousands of steps here.
@per_loss
@pytest.mark.parametrize("solver", sorted(set(SOLVERS) - {"gd"}))
@pytest.mark.parametrize("load", SETS)
def test_every_solver_proves_the_same_optimum(load, solver, loss):
    X, y = load(return_X_y=True)
    model = SoftmaxRegression(loss=loss, solver=solver).fit(X, y)
    assert model.converged_
    np.testing.assert_allclose(
        model.objective_, value(model, X, y, ORDERS[loss]), rtol=1e-9
    )
    tight = SoftmaxRegression(loss=loss, tol=1e-9).fit(X, y)
    assert tight.converged_
    true_gap = model.objective_ - tight.objective_
    assert -1e-8 * tight.objective_ <= true_gap <= model.optimality_gap_
    assert model.optimality_gap_ <= 1e-4 * model.objective_


@per_loss
def test_no_step_in_any_direction_lowers_the_optimum(loss):
    data = Data(n_rows=80, n_classes=3, loss=loss, temperature=1.5)
    model = SoftmaxRegression(
        loss=loss, temperature=1.5, weight_decay=0.01, tol=1e-10
    ).fit(data.X, data.codes)
    best = np.column_stack([model.coef_, model.intercept_])
    least = data.oracle(best, 0.01)
    np.testing.assert_allclose(model.objective_, least, rtol=1e-9)
    for _ in range(20):
        way = data.rng.normal(size=best.shape)
        assert data.oracle(best + 1e-3 * way, 0.01) >= least


def test_order_one_is_the_softmax():
    X, y = load_wine(return_X_y=True)
    named, number = (SoftmaxRegression(loss=v).fit(X, y) for v in ("softmax", 1.0))
    np.testing.assert_array_equal(named.coef_, number.coef_)


@per_loss
@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_are_those_of_functional(loss, n_classes):
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    model = SoftmaxRegression(loss=loss, temperature=2.0).fit(X, y)
    scores = model.decision_function(X)
    if n_classes == 2:
        scores = np.column_stack([-scores / 2, scores / 2])
    expected = functional.entmax(scores / 2, ORDERS[loss])
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), proba.argmax(axis=1))
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(proba))
    assert (proba == 0).any() == (ORDERS[loss] > 1)


@per_loss
@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_have_the_derivatives_of_the_jacobian(loss, n_classes):
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    model = SoftmaxRegression(loss=loss, C=1e-3).fit(X, y)
    X = X[:20]
    way = np.random.default_rng(0).normal(size=X.shape)
    step = 1e-6
    ahead, behind = (model.predict_proba(X + s * way) for s in (step, -step))
    product = np.einsum("nkd,nd->nk", model.proba_jacobian(X), way)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), atol=1e-6)


@per_loss
def test_sparse_dense_and_single_rows_agree(loss):
    X, y = (part[:500] for part in load_digits(return_X_y=True))
    model = SoftmaxRegression(loss=loss, C=0.01, tol=1e-8)
    dense = model.fit(X, y)
    sparse = clone(model).fit(scipy.sparse.csr_array(X), y)
    np.testing.assert_allclose(dense.coef_, sparse.coef_, atol=1e-4)
    single = clone(model).set_params(tol=1e-4).fit(X.astype(np.float32), y)
    assert single.converged_
    assert single.coef_.dtype == np.float32
    assert single.objective_ <= dense.objective_ * (1 + 1e-4)


@pytest.mark.parametrize("loss", ["entmax15", "sparsemax"])
def test_separable_data_have_an_optimum_without_a_penalty(loss):
    y = np.arange(60) % 3
    X = 3 * np.eye(3)[y] + 0.1 * np.random.default_rng(0).normal(size=(60, 3))
    model = SoftmaxRegression(loss=loss, C=np.inf).fit(X, y)
    assert model.converged_
    assert model.objective_ == pytest.approx(0, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict_proba(X)
    with pytest.warns(ConvergenceWarning, match="separated"):
        SoftmaxRegression(loss=0.5, C=np.inf).fit(X, y)


@per_loss
def test_losses_meet_every_other_option(loss):
    X, y = load_iris(return_X_y=True)
    for params in (
        {"label_smoothing": 0.1},
        {"margin": 1.0},
        {"class_weight": "balanced"},
        {"penalize_intercept": True},
        {"fit_intercept": False},
        {"warm_start": True},
    ):
        model = SoftmaxRegression(loss=loss, **params).fit(X, y)
        assert model.converged_, params
    targets = np.random.default_rng(0).dirichlet(np.ones(3), 150)
    assert SoftmaxRegression(loss=loss).fit(X, targets).converged_


@pytest.mark.parametrize("alpha", [1.0, 1.2, 1.5, 2.0])
@pytest.mark.parametrize("most", [0.01, 0.5, 0.99])
def test_the_cost_of_thinning_is_a_bound(alpha, most):
    rng = np.random.default_rng(0)
    loss = loss_of_order(alpha)
    for n_rows, n_classes in ((1, 2), (40, 3), (40, 30)):
        scores = 2 * rng.normal(size=(1, n_classes, n_rows))
        shifted = scores - scores.max(axis=1, keepdims=True)
        potential, proba = loss.potential_and_proba(shifted)
        omega = (shifted * proba).sum(axis=1) - potential
        np.testing.assert_allclose(loss.omega(proba[0].T), omega[0], atol=1e-12)
        share = most * rng.uniform(size=(1, n_classes))
        share[:, ::2] = 0
        left = 1 - np.einsum("bk,bkn->bn", share, proba)
        target = (1 - share)[..., None] * proba / left[:, None]
        losses = potential - (target * shifted).sum(axis=1)
        losses += loss.omega(target[0].T)
        bound = loss.thinning_cost(share, proba.mean(axis=2))
        exact = (left * losses).mean(axis=1)
        assert exact <= bound + 1e-15
        # The same share of all classes costs nothing.
        even = np.full((1, n_classes), most)
        assert abs(loss.thinning_cost(even, proba.mean(axis=2))) < 1e-11


def test_the_cost_of_taking_a_class_away():
    share, proba = np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]])
    # g(1) is 1, and all that is left is three quarters.
    expected = 0.25 - (0.75 * np.log(0.75) + 0.25)
    np.testing.assert_allclose(loss_of_order(1.0).thinning_cost(share, proba), expected)
    for alpha in (0.5, 1.5, 2.0):
        assert np.isinf(loss_of_order(alpha).thinning_cost(share, proba))
