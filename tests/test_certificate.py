"""The bound is a bound: at any point, for every option, and tight at the end."""

from dataclasses import replace

import numpy as np
import pytest
from bank import OPTIONS, Data
from hypothesis import given, settings
from hypothesis import strategies as st

from softreg._certificate import bound_of_squares
from softreg._losses import Loss, Softmax
from softreg.solvers import NewtonCG, NewtonCholesky
from softreg.solvers._loop import Stop

ROUNDING = 1e-13


def minimum(data, l2):
    """Return the minimiser and the minimum, to rounding."""
    problem = data.problem()
    result = NewtonCholesky().minimize(
        problem.objective(np.array([l2])),
        problem.start(1),
        stop=Stop(1e-14, 200, np.ones((1, 2))),
    )
    return result.coef, float(result.value[0])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_gap_bounds_the_distance_at_any_point(name, l2):
    data = Data(**OPTIONS[name])
    best, lowest = minimum(data, l2)
    objective = data.problem().objective(np.array([l2]))
    for scale in (1.0, 1e-1, 1e-2, 1e-3, 1e-5):
        for _ in range(5):
            point = objective.evaluate(best + data.random_coef(scale))
            assert point.gap[0] >= point.value[0] - lowest - ROUNDING
            far = objective.evaluate(data.random_coef(scale))
            assert far.gap[0] >= far.value[0] - lowest - ROUNDING


@pytest.mark.parametrize("name", OPTIONS)
def test_gap_closes_at_the_optimum(name):
    data = Data(**OPTIONS[name])
    best, lowest = minimum(data, 1e-2)
    objective = data.problem().objective(np.array([1e-2]))
    point = objective.evaluate(best)
    if data.intercept == "free":
        point = objective.balance(point)
    assert 0 <= point.gap[0] <= 1e-9 * lowest


@settings(deadline=None, derandomize=True, max_examples=120)
@given(
    seed=st.integers(0, 2**16),
    n_classes=st.integers(2, 6),
    exponent=st.floats(-5, 1),
    distance=st.floats(-6, 1),
    smoothing=st.sampled_from([0.0, 0.3]),
    offset=st.sampled_from([0.0, 1e3]),
    loss=st.sampled_from(["softmax", "softmax", "entmax15", "sparsemax", 1.2, 0.5]),
    cost=st.booleans(),
)
def test_gap_bounds_the_distance_on_free_inputs(
    seed, n_classes, exponent, distance, smoothing, offset, loss, cost
):
    options = {"smoothing": smoothing, "offset": offset, "loss": loss, "cost": cost}
    data = Data(seed=seed, n_rows=30, n_classes=n_classes, **options)
    l2 = 10.0**exponent
    best, lowest = minimum(data, l2)
    objective = data.problem().objective(np.array([l2]))
    point = objective.evaluate(best + data.random_coef(10.0**distance))
    slack = ROUNDING * max(1.0, float(point.value[0]))
    assert point.gap[0] >= point.value[0] - lowest - slack


def test_closed_oracle_with_a_wrong_intercept_and_zero_gradient():
    # G is exactly 0, yet F is 0.343 above its minimum.
    data = Data(n_classes=2)
    data.X = np.array([[1.0], [-1], [1], [-1], [1], [-1]])
    data.codes = np.array([0, 0, 1, 1, 1, 1])
    data.weight = np.ones(6)
    # Every row has p = (P, 1 - P) of the target (1/3, 2/3): e P goes to the second.
    proba = 1 / (1 + np.exp(-1))
    share = 1 - 1 / 3 / proba
    moved = -share * proba * np.log(1 - proba)
    proven = moved + proba * thinning(share) - thinning(share * proba)
    for l2 in (1e-3, 1.0, 1e3):
        objective = data.problem().objective(np.array([l2]))
        point = objective.evaluate(np.array([[[0.0, -1.0]]]))
        assert abs(point.gradient[0, 0, 0]) < 1e-16
        np.testing.assert_allclose(point.gap, proven, rtol=1e-7)
        _, lowest = minimum(data, l2)
        np.testing.assert_allclose(point.value[0] - lowest, 0.34341419, rtol=1e-7)


def thinning(share):
    return (1 - share) * np.log1p(-share) + share


class Evenly(Softmax):
    """The softmax without a bound of what it costs to thin classes."""

    def thinning_cost(self, share, proba):
        return Loss.thinning_cost(self, share, proba)


def test_with_many_classes_what_is_too_much_is_taken_where_it_is():
    data = Data(n_rows=1000, n_classes=100)
    objective = data.problem().objective(np.array([1e-2]))
    coef = data.problem().start(1)
    stop = Stop(1e-10, 100, np.ones((1, 2)))
    best = NewtonCG().minimize(objective, coef, stop=stop)
    even = replace(objective, loss=Evenly())
    for scale in (1e-3, 1e-2, 1e-1):
        coef = best.coef.copy()
        coef[..., 7:10, -1] += scale
        point = objective.evaluate(coef)
        assert point.value[0] - best.value[0] <= point.gap[0]
        assert even.evaluate(coef).gap[0] >= 3 * point.gap[0]


def test_balanced_intercepts_give_the_plain_bound():
    data = Data()
    objective = data.problem().objective(np.array([1e-2]))
    point = objective.evaluate(data.random_coef())
    for _ in range(12):
        point = objective.balance(point)
    penalised = point.gradient[..., :-1]
    plain = bound_of_squares((penalised**2).sum(axis=(1, 2)), objective.l2)
    np.testing.assert_allclose(point.gap, plain, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_balancing_never_raises_the_value(name):
    data = Data(**OPTIONS[name])
    if data.intercept != "free":
        pytest.skip("only a free intercept is balanced")
    objective = data.problem().objective(np.array([1e-2]))
    for scale in (0.1, 3.0, 30.0):
        point = objective.evaluate(data.random_coef(scale))
        assert objective.balance(point).value[0] <= point.value[0] * (1 + 1e-15)


def test_no_penalty_has_no_bound():
    data = Data()
    objective = data.problem().objective(np.array([0.0, 1.0]))
    gap = objective.evaluate(data.random_coef(n_problems=2)).gap
    assert np.isinf(gap[0])
    assert np.isfinite(gap[1])
