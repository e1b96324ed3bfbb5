"""Each solver on each problem: the minimum, whatever the batch, library and dtype."""

from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import scipy.optimize
from bank import OPTIONS, Data

from softreg import SoftmaxRegression
from softreg._arrays import to_numpy
from softreg._design import DenseDesign
from softreg.solvers import LBFGS, NewtonCG, NewtonCholesky
from softreg.solvers._line_search import search
from softreg.solvers._loop import Stop
from softreg.solvers._protocols import Line

SOLVERS = {
    "lbfgs": LBFGS(),
    "two-loop": LBFGS(on_host=False),
    "newton-cg": NewtonCG(),
    "newton-cholesky": NewtonCholesky(),
}
per_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def minimise(solver, problem, l2, tol=1e-10, max_iter=1000, watch=()):
    xp = problem.weight.__array_namespace__()
    objective = problem.objective(xp.asarray(l2))
    stop = Stop(tol, max_iter, np.ones((len(l2), 2)))
    start = problem.start(len(l2))
    return solver.minimize(objective, start, stop=stop, watch=watch)


@cache
def plain_minimum(name):
    """Return the least value that SciPy finds of the objective by its definition."""
    data = Data(**OPTIONS[name])
    shape = data.problem().shape
    # From nearby: its gradients are differences of values.
    near = minimise(NewtonCG(), data.problem(), [0.02], tol=1e-3).coef
    plain = scipy.optimize.minimize(
        lambda flat: data.oracle(flat.reshape(shape), 0.02),
        near.ravel(),
        method="BFGS",
        options={"gtol": 1e-6},
    )
    return plain.fun


@per_solver
@pytest.mark.parametrize("name", OPTIONS)
def test_minimum_is_that_of_a_plain_optimiser(solver, name):
    result = minimise(solver, Data(**OPTIONS[name]).problem(), [0.02])
    assert result.converged.all()
    least = plain_minimum(name)
    assert result.value[0] <= least + result.gap[0]
    np.testing.assert_allclose(result.value[0], least, rtol=1e-8)


@per_solver
def test_strict_namespace_gives_the_same_numbers(solver):
    import array_api_strict

    data = Data(**OPTIONS["all hard"])
    plain = minimise(solver, data.problem(), [0.02])
    strict = minimise(solver, data.problem(array_api_strict), [0.02])
    assert strict.converged.all()
    np.testing.assert_allclose(to_numpy(strict.coef), plain.coef, atol=1e-6)
    np.testing.assert_allclose(strict.value, plain.value, rtol=1e-12)


@per_solver
def test_a_batch_equals_its_singles(solver):
    data = Data(n_rows=200)
    l2 = np.array([1.0, 1e-2, 1e-4])
    batch = minimise(solver, data.problem(), l2)
    assert batch.converged.all()
    for i in range(3):
        single = minimise(solver, data.problem(), l2[i : i + 1])
        np.testing.assert_allclose(batch.value[i], single.value[0], rtol=1e-9)
        distance = np.sqrt(2 * (batch.gap[i] + 1e-16) / l2[i])
        distance += np.sqrt(2 * (single.gap[0] + 1e-16) / l2[i])
        assert np.linalg.norm((batch.coef[i] - single.coef[0])[:, :-1]) <= distance
    assert len({len(history) for history in batch.history}) > 1


@per_solver
def test_coarse_products_still_end_at_the_double_optimum(solver):
    data = Data(n_rows=300, offset=1e3)
    data.X = data.X.astype(np.float32)
    exact = minimise(NewtonCholesky(), data.problem(), [1e-5], tol=1e-12)
    coarse = minimise(solver, data.problem(dtype=np.float32), [1e-5], tol=1e-6)
    assert coarse.converged.all()
    assert coarse.value[0] - exact.value[0] <= coarse.gap[0] <= 1e-6 * coarse.value[0]
    precisions = [row.precision for row in coarse.history[0]]
    assert precisions == sorted(precisions)
    assert set(precisions) == {"float32", "float64"}


@per_solver
@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_gap_holds_wherever_a_solver_stops(solver, max_iter):
    data = Data(n_classes=3)
    lowest = minimise(NewtonCholesky(), data.problem(), [1e-3], tol=1e-13).value[0]
    result = minimise(solver, data.problem(), [1e-3], tol=1e-12, max_iter=max_iter)
    assert result.n_iter[0] == max_iter
    assert result.reason == ["max_iter"]
    assert not result.converged[0]
    for row in result.history[0]:
        assert row.objective - lowest <= row.optimality_gap + 1e-14


@per_solver
def test_history_starts_at_the_start_and_never_rises(solver):
    data = Data(n_rows=300)
    seen = []
    result = minimise(
        solver, data.problem(), [1e-3], watch=[lambda row, coef: seen.append(row)]
    )
    history = result.history[0]
    assert seen == history
    assert history[0].iteration == 0
    assert history[-1].iteration == result.n_iter[0]
    values = np.array([row.objective for row in history])
    assert (np.diff(values) <= 1e-14).all()
    assert (np.diff([row.optimality_gap for row in history]) <= 1e-14).all()
    assert (np.diff([row.passes for row in history]) > 0).all()


@per_solver
def test_an_unreachable_tolerance_ends_as_stalled(solver):
    result = minimise(solver, Data().problem(), [1e-3], tol=0.0)
    assert result.reason == ["stalled"]
    assert result.n_iter[0] < 500
    assert result.gap[0] < 1e-9 * result.value[0]


def test_newton_keeps_few_iterations_on_columns_of_any_scale():
    data = Data(n_rows=400)
    data.X = data.X * 10.0 ** np.array([-6, -3, 0, 3, 6])
    for solver in (NewtonCG(), NewtonCholesky()):
        result = minimise(solver, data.problem(), [1e-3], tol=1e-8)
        assert result.converged.all()
        assert result.n_iter[0] <= 20


@pytest.mark.parametrize(
    ("solver", "option", "value"),
    [
        (NewtonCG, "cg_tol", 0.0),
        (NewtonCG, "max_cg", 0),
        (NewtonCG, "patience", 0),
        (LBFGS, "memory", 0),
        (LBFGS, "max_line_search", 0),
        (LBFGS, "on_host", 1),
        (NewtonCG, "tensor_float", 1),
    ],
)
def test_options_out_of_range_are_refused(solver, option, value):
    with pytest.raises(ValueError, match=f"{option} must be.*got {value}"):
        solver(**{option: value})


def line_of(function, slope):
    def line(steps):
        values, slopes = function(steps), slope(steps)
        return Line(values, slopes)

    return line


@pytest.mark.parametrize("best", [1e-6, 1e-3, 0.3, 1.0, 5.0, 1e4])
def test_search_brackets_the_minimum_of_a_parabola(best):
    line = line_of(lambda t: (t - best) ** 2, lambda t: 2 * (t - best))
    start = line(np.zeros(1))
    step = search(line, start.value, start.slope)
    assert abs(2 * (step.length[0] - best)) <= 0.5 * abs(start.slope[0])


def test_search_survives_values_that_are_not_finite():
    def value(t):
        return np.where(t < 0.01, (t - 0.004) ** 2, np.inf)

    line = line_of(value, lambda t: np.where(t < 0.01, 2 * (t - 0.004), np.nan))
    step = search(line, np.array([0.004**2]), np.array([-0.008]))
    assert 0 < step.length[0] < 0.01


def test_search_refuses_to_climb():
    line = line_of(lambda t: t, lambda t: np.ones_like(t))
    assert search(line, np.zeros(1), np.ones(1)).length[0] == 0


def test_rough_hessian_products_leave_the_optimum_exact(monkeypatch):
    # TensorFloat-32 has 10 bits: what a GPU's tensor cores would do to the factors.
    entered = []

    @contextmanager
    def rough(reference):
        entered.append(True)
        with monkeypatch.context() as patch:
            forward = DenseDesign.forward
            patch.setattr(DenseDesign, "forward", lambda *a: ten_bits(forward(*a)))
            yield

    def ten_bits(values):
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent)

    monkeypatch.setattr(
        "softreg.solvers._conjugate_gradient.tensor_float_products", rough
    )
    data = Data(n_rows=500, n_classes=6)
    exact = minimise(NewtonCG(), data.problem(), [1e-4], tol=1e-9)
    assert not entered
    result = minimise(NewtonCG(tensor_float=True), data.problem(), [1e-4], tol=1e-9)
    assert len(entered) >= result.n_iter[0]
    assert result.converged.all()
    np.testing.assert_allclose(result.value, exact.value, rtol=1e-9)
    np.testing.assert_allclose(result.coef, exact.coef, atol=1e-3)


def test_tensor_cores_are_on_a_gpu():
    X, y = Data().X, Data().codes
    with pytest.raises(
        ValueError, match=r"needs data on a GPU, got numpy\. Use device="
    ):
        SoftmaxRegression(solver=NewtonCG(tensor_float=True)).fit(X, y)
