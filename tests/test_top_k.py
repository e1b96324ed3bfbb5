"""The softmax over the k largest scores: smooth relatives, proof at the kinks."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from bank import OPTIONS, Data
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.datasets import load_digits, load_iris, load_wine

from softreg import SoftmaxRegression, functional
from softreg import _top_k as top_k
from softreg._losses import TopK
from softreg._smoothing import WIDTHS

X, Y = load_iris(return_X_y=True)


def shifted(scores):
    """Return scores (rows, K) class-major, 0 at the top."""
    return (scores - scores.max(axis=1, keepdims=True)).T[None]


def exact(scores, k):
    return logsumexp(np.sort(scores, axis=1)[:, -k:], axis=1)


@pytest.mark.parametrize("width", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("k", [2, 3])
def test_the_choice_maximises_what_it_should(k, width):
    """Independent oracle: SciPy's constrained optimiser."""
    rng = np.random.default_rng(0)
    for scores in rng.normal(size=(5, 5)):
        u = shifted(scores[None])
        choice = top_k.choose(u, k, width)
        weight = choice.weight[0, :, 0]

        def negative(w, u=u):
            return (width / 2) * (w @ w) - np.log(w @ np.exp(u[0, :, 0]))

        best = minimize(
            negative, np.full(5, k / 5), bounds=[(0, 1)] * 5, method="SLSQP",
            constraints={"type": "eq", "fun": lambda w: w.sum() - k},
            options={"ftol": 1e-14, "maxiter": 1000},
        )  # fmt: skip
        assert weight.sum() == pytest.approx(k, abs=1e-14)
        assert negative(weight) <= best.fun + 1e-12
        np.testing.assert_allclose(weight, best.x, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 6),
    st.integers(1, 5),
    st.floats(0.01, 100.0),
    st.sampled_from([0.5, *WIDTHS]),
)
def test_smooth_losses_enclose_the_exact_one(seed, k, more, scale, width):
    rng = np.random.default_rng(seed)
    n_classes = k + more
    scores = scale * rng.normal(size=(20, n_classes))
    scores[::3] = np.round(scores[::3])  # ties
    u = shifted(scores)
    loss = TopK(k, width)
    value, proba = loss.potential_and_proba(u)
    least = exact(u[0].T, k)
    rounding = 1e-12 * (1 + width)
    assert (value >= least - rounding).all()
    assert (value <= least + width / 2 * (k - k**2 / n_classes) + rounding).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    above, eps = loss.slack(u)
    np.testing.assert_allclose(above, value - least, atol=1e-12)
    # The gradient is an eps-subgradient: it supports the exact loss everywhere.
    other = scale * rng.normal(size=scores.shape)
    linear = least + (proba[0].T * (other - u[0].T)).sum(axis=1) - eps[0]
    assert (exact(other, k) >= linear - 1e-9 * (1 + scale)).all()


@pytest.mark.parametrize("width", [0.3, 0.05, 0.01])
@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_gradient_and_hessian_of_the_smooth_loss(width, spread):
    rng = np.random.default_rng(1)
    u = shifted(spread * rng.normal(size=(40, 6)))
    loss = TopK(3, width)
    way = rng.normal(size=u.shape)
    step = 1e-6
    ahead, behind = (
        loss.potential_and_proba(shifted((u + s * way)[0].T)) for s in (step, -step)
    )
    rise = ((u + step * way).max(axis=1) - (u - step * way).max(axis=1)) / (2 * step)
    slope = (ahead[0] - behind[0]) / (2 * step) + rise
    _, proba = loss.potential_and_proba(u)
    np.testing.assert_allclose((proba * way).sum(axis=1), slope, atol=1e-7)
    product = loss.hessian_product(u, proba, way.copy())
    numeric = (ahead[1] - behind[1]) / (2 * step)
    # Where the set of free classes changes within the step there is no derivative.
    smooth = np.abs(product - numeric).max(axis=1) < 1e-7 * (1 + 1 / width)
    assert smooth.mean() > 0.95


def test_products_are_symmetric_and_positive():
    rng = np.random.default_rng(2)
    u = shifted(rng.normal(size=(30, 5)))
    loss = TopK(2, 0.05)
    _, proba = loss.potential_and_proba(u)
    left, right = rng.normal(size=(2, *u.shape))
    one = (left * loss.hessian_product(u, proba, right.copy())).sum(axis=1)
    other = (right * loss.hessian_product(u, proba, left.copy())).sum(axis=1)
    np.testing.assert_allclose(one, other, atol=1e-12)
    own = (left * loss.hessian_product(u, proba, left.copy())).sum(axis=1)
    assert (own >= -1e-14).all()
    constant = loss.hessian_product(u, proba, np.ones_like(u))
    np.testing.assert_allclose(constant, 0, atol=1e-12)


def test_an_easy_row_keeps_its_digits():
    u = shifted(np.array([[60.0, 0.0, -1.0, -2.0]]))
    value, _ = TopK(2).potential_and_proba(u)
    assert value[0, 0] == pytest.approx(np.exp(-60), rel=1e-12)
    choice = top_k.choose(u, 2, 1e-3)
    assert 0 < choice.rest[0, 0] < 3 * np.exp(-60)


def objective(model, X, y, k, weight=None):
    scores = model.decision_function(X) / model.temperature
    losses = exact(scores, k) - scores[np.arange(len(y)), y]
    data = np.average(losses, weights=weight)
    return data + model.weight_decay_ / 2 * (model.coef_**2).sum()


@pytest.mark.parametrize("solver", ["newton-cg", "lbfgs"])
@pytest.mark.parametrize("load", [load_iris, load_wine])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.03, "temperature": 2.0}])
def test_the_optimum_is_proven_on_its_kinks(load, solver, options):
    A, b = load(return_X_y=True)
    model = SoftmaxRegression(loss="topk-2", solver=solver, **options).fit(A, b)
    assert model.converged_
    assert model.solver_ == solver
    assert model.optimality_gap_ <= 1e-4 * model.objective_
    assert model.objective_ == pytest.approx(objective(model, A, b, 2), rel=1e-9)
    assert model.history_["objective"][-1] == model.objective_
    assert (np.diff(model.history_["seconds"]) >= 0).all()
    tight = SoftmaxRegression(loss="topk-2", tol=1e-6, **options).fit(A, b)
    true_gap = model.objective_ - tight.objective_
    assert -tight.optimality_gap_ <= true_gap <= model.optimality_gap_


def test_no_step_lowers_the_optimum_by_more_than_the_gap():
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[:300] / 16, labels[:300]
    model = SoftmaxRegression(loss="topk-3", weight_decay=0.01).fit(digits, labels)
    ties = np.sort(model.decision_function(digits), axis=1)
    assert (ties[:, -3] - ties[:, -4] < 1e-3).mean() > 0.02  # it sits on kinks
    rng = np.random.default_rng(0)
    coef, bias = model.coef_.copy(), model.intercept_.copy()
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(10):
            model.coef_ = coef + size * rng.normal(size=coef.shape)
            model.intercept_ = bias + size * rng.normal(size=bias.shape)
            moved = objective(model, digits, labels, 3)
            assert moved >= model.objective_ - model.optimality_gap_


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"margin": 0.5},
        {"margin": np.array([[0, 1, 2], [0.5, 0, 1], [1, 1, 0]])},
        {"class_weight": {0: 3.0}},
        {"penalize_intercept": True},
        {"fit_intercept": False},
    ],
    ids=str,
)
def test_it_goes_with_every_option(options):
    weight = np.random.default_rng(0).uniform(0, 2, len(Y))
    loose, tight = (
        SoftmaxRegression(loss="topk-2", tol=tol, **options).fit(X, Y, weight)
        for tol in (1e-3, 1e-5)
    )
    assert loose.converged_
    true_gap = loose.objective_ - tight.objective_
    assert -tight.optimality_gap_ <= true_gap <= loose.optimality_gap_


def test_all_classes_are_the_softmax_and_two_have_no_other():
    plain, all_three = (
        SoftmaxRegression(loss=loss).fit(X, Y) for loss in ("softmax", "topk-3")
    )
    np.testing.assert_array_equal(plain.coef_, all_three.coef_)
    two = SoftmaxRegression(loss="topk-2").fit(X[:100], Y[:100])
    same = SoftmaxRegression().fit(X[:100], Y[:100])
    np.testing.assert_array_equal(two.coef_, same.coef_)
    np.testing.assert_array_equal(two.predict_proba(X), same.predict_proba(X))


def test_probabilities_are_the_exact_top_k():
    model = SoftmaxRegression(loss="topk-2", temperature=1.5).fit(X, Y)
    expected = functional.topk_softmax(model.decision_function(X) / 1.5, 2)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-12)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(
            model.predict_log_proba(X), np.log(expected), rtol=1e-9
        )
    step, way = 1e-6, np.random.default_rng(0).normal(size=X.shape)
    ahead, behind = (model.predict_proba(X + s * way) for s in (step, -step))
    product = np.einsum("nkd,nd->nk", model.proba_jacobian(X), way)
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), atol=1e-6)


@pytest.mark.slow
def test_sparse_soft_and_single_precision():
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[:150] / 16, labels[:150]
    model = SoftmaxRegression(loss="topk-2", weight_decay=0.03)
    dense = model.fit(digits, labels).objective_
    sparse = model.fit(scipy.sparse.csr_array(digits), labels).objective_
    soft = model.fit(digits, np.eye(10)[labels]).objective_
    assert sparse == pytest.approx(dense, rel=1e-4)
    assert soft == pytest.approx(dense, rel=1e-4)
    single = model.fit(digits.astype(np.float32), labels)
    assert single.converged_
    assert single.objective_ == pytest.approx(dense, rel=1e-4)


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(40, 100)), np.arange(40) % 4
    model = SoftmaxRegression(loss="topk-2").fit(rows, codes)
    assert model.converged_
    assert model.objective_ == pytest.approx(objective(model, rows, codes, 2), rel=1e-9)


def test_without_a_penalty_the_slopes_decide():
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(200, 3)), rng.integers(0, 4, 200)
    model = SoftmaxRegression(loss="topk-3", C=np.inf).fit(rows, codes)
    assert model.converged_
    near = SoftmaxRegression(loss="topk-3", C=1e6).fit(rows, codes)
    assert model.objective_ <= near.objective_ + 1e-4


def test_few_iterations_warn():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = SoftmaxRegression(loss="topk-2", max_iter=3).fit(X, Y)
    assert len(caught) == 1
    assert model.n_iter_ <= 3


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("topk-1", "k from 2 to the 3 classes, got 'topk-1'"),
        ("topk-4", "k from 2 to the 3 classes, got 'topk-4'"),
        ("topk", "loss must be one of"),
        ("topk-2.5", "loss must be one of"),
        ("topk--2", "loss must be one of"),
    ],
)
def test_bad_numbers_of_classes_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegression(loss=loss).fit(X, Y)


def test_the_exact_newton_method_is_refused():
    with pytest.raises(ValueError, match="needs a loss without kinks"):
        SoftmaxRegression(loss="topk-2", solver="newton-cholesky").fit(X, Y)


def test_a_column_of_small_spread_far_from_zero():
    rng = np.random.default_rng(2)
    rows, codes = 4 + 2e-4 * rng.normal(size=(60, 1)), rng.integers(0, 6, 60)
    model = SoftmaxRegression(loss="topk-3").fit(rows, codes)
    assert model.converged_


SMOOTH_OPTIONS = {
    name: options for name, options in OPTIONS.items() if "loss" not in options
}


@pytest.mark.parametrize("options", SMOOTH_OPTIONS.values(), ids=SMOOTH_OPTIONS.keys())
@pytest.mark.parametrize("blocks", [7, 1000])
def test_derivatives_of_the_smooth_objective(options, blocks, monkeypatch):
    """Two classes have no other choice than both, and are the softmax."""
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: blocks)
    data = Data(**options)
    objective = data.problem().objective(np.array([0.1]))
    if data.n_classes > 2:
        objective = replace(objective, loss=TopK(2, 0.5))
    coef, way = data.random_coef(), data.random_coef()
    point = objective.evaluate(coef, keep=True)
    step = 1e-5
    ahead, behind = (objective.evaluate(coef + s * way) for s in (step, -step))
    slope = (ahead.value - behind.value)[0] / (2 * step)
    assert (point.gradient * way).sum() == pytest.approx(slope, abs=1e-7)
    product = objective.hessian_product(point, way)
    numeric = (ahead.gradient - behind.gradient) / (2 * step)
    np.testing.assert_allclose(product, numeric, atol=1e-7)
    recomputed = objective.hessian_product(point._replace(kept=None), way)
    np.testing.assert_allclose(product, recomputed, atol=1e-12)
    # The bound of the smooth objective is a bound.
    lower = objective.evaluate(coef + 0.3 * way)
    assert point.value[0] - point.gap[0] <= lower.value[0]
