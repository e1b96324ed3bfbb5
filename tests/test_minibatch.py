"""Minibatches: every row once an epoch, the same optimum in any order and size."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from bank import Data
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning

from softreg import SoftmaxRegression, SoftmaxRegressionCV
from softreg.solvers import GradientDescent, MiniBatch
from softreg.solvers._minibatch import Tilted


def objective_of(n_rows=300):
    data = Data(n_rows=n_rows)
    return data.problem().objective(np.array([1e-2]))


@given(n_rows=st.integers(1, 400), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_an_epoch_visits_every_row_once(n_rows, seed):
    objective = objective_of()
    coef = np.random.default_rng(0).standard_normal((1, 4, 6))
    whole = objective.evaluate(coef)
    value, gradient, shares = 0.0, 0.0, 0.0
    for batch in objective.minibatches((seed,), n_rows):
        point, share = batch.evaluate(coef), batch.blocks.share
        value, gradient = value + share * point.value, gradient + share * point.gradient
        shares += share
    assert shares == pytest.approx(1)
    np.testing.assert_allclose(value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(gradient, whole.gradient, atol=1e-12)


def test_the_order_follows_the_seed():
    objective = objective_of()
    coef = np.random.default_rng(0).standard_normal((1, 4, 6))
    first, again, other = (
        [batch.evaluate(coef).value[0] for batch in objective.minibatches(seed, 50)]
        for seed in ((0, 0), (0, 0), (0, 1))
    )
    assert first == again
    assert sorted(first) != sorted(other)


def test_an_epoch_counts_as_one_read_a_product():
    objective, coef = objective_of(), np.zeros((1, 4, 6))
    objective.evaluate(coef)
    before = objective.passes
    for batch in objective.minibatches((0,), 30):
        batch.evaluate(coef)
    assert objective.passes - before == pytest.approx(1)


def test_the_tilted_objective_is_that_plus_a_linear_one():
    objective, rng = objective_of(), np.random.default_rng(0)
    coef, way, tilt = rng.standard_normal((3, 1, 4, 6))
    tilted = Tilted(objective, tilt)
    point = tilted.evaluate(coef)
    line = tilted.line(point, way)
    step = np.array([0.3])
    there = tilted.evaluate(coef + 0.3 * way)
    np.testing.assert_allclose(line(step).value, there.value)
    np.testing.assert_allclose(line(step).slope, np.sum(there.gradient * way))
    change = (tilted.evaluate(coef + 1e-6 * way).value - point.value) / 1e-6
    np.testing.assert_allclose(change, np.sum(point.gradient * way), rtol=1e-4)


@pytest.mark.parametrize("batch_size", [3, 64, 10_000, None])
def test_any_batch_size_ends_at_the_proven_optimum(batch_size):
    X, y = load_wine(return_X_y=True)
    best = SoftmaxRegression(C=0.1, tol=1e-10).fit(X, y)
    solver = MiniBatch(batch_size=batch_size)
    model = SoftmaxRegression(C=0.1, solver=solver, tol=1e-6).fit(X, y)
    assert model.solver_ == "minibatch"
    assert model.optimality_gap_ <= 1e-6 * model.objective_
    assert model.objective_ - best.objective_ <= model.optimality_gap_
    assert (np.diff(model.history_["objective"]) <= 1e-12).all()


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
def test_raw_columns_need_no_tuning(unit):
    X, y = load_digits(return_X_y=True)
    scale = unit ** np.linspace(-1, 1, X.shape[1])
    model = SoftmaxRegression(solver="minibatch", C=1e-2, max_iter=60).fit(X * scale, y)
    assert model.converged_


@pytest.mark.parametrize("solver", ["gd", "minibatch", MiniBatch(100)])
@pytest.mark.parametrize(("unit", "C"), [(1e7, 1e2)])
def test_one_column_in_another_unit_is_proven_too(solver, unit, C):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 6))
    y = (X @ rng.normal(size=(6, 3)) + rng.gumbel(size=(600, 3))).argmax(axis=1)
    X[:, 2] *= unit
    model = SoftmaxRegression(C=C, solver=solver).fit(X, y)
    assert model.converged_


def test_rows_sorted_by_class_are_shuffled():
    X, y = load_digits(return_X_y=True)
    order = np.argsort(y, kind="stable")
    model = SoftmaxRegression(C=0.01, solver=MiniBatch(batch_size=200), max_iter=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[order], y[order])
    best = SoftmaxRegression(C=0.01, tol=1e-8).fit(X, y)
    assert model.objective_ < 1.03 * best.objective_


def test_random_state_reproduces_the_path():
    X, y = make_classification(1000, 20, n_informative=8, n_classes=4, random_state=0)
    fits = [
        SoftmaxRegression(solver=MiniBatch(100), random_state=seed, C=0.1).fit(X, y)
        for seed in (0, 0, 1)
    ]
    values = [fit.history_["objective"] for fit in fits]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)
    assert values[0][1] != values[2][1]
    assert fits[2].objective_ == pytest.approx(fits[0].objective_, rel=1e-4)


def test_threads_do_not_change_the_bits():
    X, y = make_classification(5000, 30, n_informative=8, n_classes=4, random_state=0)
    one, two = (
        SoftmaxRegression(solver="minibatch", n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(one.coef_, two.coef_)


@pytest.mark.parametrize("solver", ["minibatch", "gd"])
def test_sparse_and_weighted_rows(solver):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((500, 40), density=0.1, rng=rng, format="csr")
    y = rng.integers(0, 3, 500)
    weight = rng.integers(0, 3, 500).astype(float)
    twice = np.repeat(np.arange(500), weight.astype(int))
    model = SoftmaxRegression(solver=solver, tol=1e-8)
    sparse = model.fit(X, y, sample_weight=weight)
    coef = sparse.coef_
    dense = model.fit(X.toarray()[twice], y[twice])
    np.testing.assert_allclose(coef, dense.coef_, atol=2e-3)


def test_cross_validation_by_minibatches():
    X, y = load_wine(return_X_y=True)
    own, other = (
        SoftmaxRegressionCV(Cs=[0.01, 1.0], solver=solver, tol=1e-6).fit(X, y)
        for solver in ("minibatch", "auto")
    )
    np.testing.assert_allclose(own.scores_, other.scores_)
    np.testing.assert_allclose(own.coef_, other.coef_, atol=1e-2)


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("batch_size", 1.5), ("steps", 0), ("seed", -1), ("seed", 0.5)],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must be"):
        replace(MiniBatch(), **{option: value})


def test_gradient_descent_falls_at_every_step_and_arrives():
    X, y = load_wine(return_X_y=True)
    model = SoftmaxRegression(solver=GradientDescent(), C=1e-3, tol=1e-8).fit(X, y)
    assert model.solver_ == "gd"
    assert model.converged_
    assert (np.diff(model.history_["objective"]) <= 1e-12).all()


@pytest.mark.slow
def test_fashion_mnist_in_five_epochs(shared):
    X, y = shared.load("fashion_mnist")[:2]
    X = (X / 255).astype(np.float32)
    best = SoftmaxRegression(tol=1e-6).fit(X, y).objective_
    model = SoftmaxRegression(solver="minibatch", random_state=0, max_iter=100)
    model.fit(X, y)
    history = model.history_
    assert history["objective"][5] <= 1.01 * best
    assert model.optimality_gap_ <= 1e-4 * model.objective_
