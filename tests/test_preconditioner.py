"""Preconditioners against the explicit Hessian."""

import numpy as np
import pytest
import scipy.sparse
from bank import OPTIONS, Data

from softreg._arrays import factorise, to_numpy

L2 = np.array([0.05])


def explicit_hessian(objective, coef):
    point = objective.evaluate(coef)
    size = coef.size
    columns = [
        objective.hessian_product(point, e.reshape(coef.shape)).ravel()
        for e in np.eye(size)
    ]
    return np.stack(columns)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_full_preconditioner_inverts_the_hessian(name, sparse):
    data = Data(**OPTIONS[name])
    X = scipy.sparse.csr_matrix(data.X) if sparse else None
    objective = data.problem(X=X).objective(L2)
    coef = data.random_coef()
    coef -= coef.mean(axis=1, keepdims=True) if coef.shape[1] > 1 else 0
    point = objective.evaluate(coef, keep=True)
    newton = objective.hessian_preconditioner(point).solve(point.gradient)
    hessian = explicit_hessian(objective, coef)
    np.testing.assert_allclose(
        hessian @ newton.ravel(), point.gradient.ravel(), atol=1e-10
    )


@pytest.mark.parametrize("name", ["plain", "two classes", "no intercept", "all hard"])
def test_shared_preconditioner_is_the_hessian_at_zero(name):
    # With balanced classes and W = 0 the Hessian is (I - 11'/K) / K (x) Gram.
    data = Data(**OPTIONS[name] | {"n_rows": 80, "cost": False, "weighted": False})
    data.codes = np.arange(80) % data.n_classes
    data.smoothing = 0.0
    objective = data.problem().objective(L2)
    zero = np.zeros((1, *data.problem().shape))
    gradient = objective.evaluate(zero).gradient
    direction = objective.shared_preconditioner().solve(gradient)
    product = objective.hessian_product(objective.evaluate(zero), direction)
    np.testing.assert_allclose(product, gradient, atol=1e-12)


def test_whitening_is_a_square_root():
    data = Data()
    objective = data.problem().objective(L2)
    shared = objective.shared_preconditioner()
    vector, other = data.random_coef(), data.random_coef()
    np.testing.assert_allclose(
        shared.solve(vector), shared.unwhiten(shared.whiten(vector))
    )
    np.testing.assert_allclose(
        np.vdot(shared.whiten(vector), other), np.vdot(vector, shared.unwhiten(other))
    )


@pytest.fixture(params=["pairs", "class"])
def large(request, monkeypatch):
    """An objective whose Hessian counts as too large for one matrix."""
    monkeypatch.setattr("softreg._objective.MAX_FULL_HESSIAN", 0)
    if request.param == "class":
        monkeypatch.setattr("softreg._objective.SMALL_BYTES", 0)
        monkeypatch.setattr("softreg._problem.itemsize", lambda X: 0)
    data = Data(n_rows=3000, weighted=True)
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: 400)
    objective = data.problem().objective(L2)
    assert objective.structure == request.param
    coef = data.random_coef()
    coef -= coef.mean(axis=1, keepdims=True)
    return objective, objective.evaluate(coef, keep=True)


@pytest.mark.parametrize("step", [1, 3])
def test_large_preconditioners_are_symmetric_positive_and_sum_to_zero(large, step):
    objective, point = large
    solve = objective.curvature_preconditioner(point, step).solve
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (point.gradient, point.coef))
    np.testing.assert_allclose(np.vdot(a, solve(b)), np.vdot(b, solve(a)), rtol=1e-3)
    assert np.vdot(a, solve(a)) > 0
    np.testing.assert_allclose(solve(a).sum(axis=1), 0, atol=1e-5 * abs(solve(a)).max())


def test_pairs_of_classes_make_up_the_whole_hessian(monkeypatch):
    monkeypatch.setattr("softreg._objective.MAX_FULL_HESSIAN", 0)
    monkeypatch.setattr("softreg._objective.GROUP_BYTES", 4 * 2 * 36)
    for options in ({}, {"intercept": "none"}, {"temperature": 2.0, "weighted": True}):
        data = Data(n_rows=300, **options)
        objective = data.problem().objective(np.array([0.05, 2.0]))
        coef = data.random_coef(n_problems=2)
        coef -= coef.mean(axis=1, keepdims=True)
        point = objective.evaluate(coef)
        pairs = objective.curvature_preconditioner(point, 1)
        whole = objective.hessian_preconditioner(point)
        expected = whole.solve(point.gradient)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            pairs.solve(point.gradient), expected, atol=1e-3 * scale
        )
        assert pairs.take([1]).solve(point.gradient[1:]).shape == coef[1:].shape


def test_a_sample_of_rows_stands_for_all_of_them():
    data = Data(n_rows=4000)
    for X in (None, scipy.sparse.csr_array(data.X)):
        blocks = data.problem(X=X).objective(L2).blocks
        sample = blocks.sampled(7)
        weights = np.concatenate([b.weight[0] for b in sample.blocks])
        np.testing.assert_allclose(weights.sum(), 1, rtol=0.01)
        rows = [b.design.loaded().X for b in sample.blocks]
        assert sum(r.shape[0] for r in rows) == len(weights)


def test_columns_that_do_not_vary_are_left_alone():
    data = Data()
    data.X = np.column_stack([data.X, np.full(len(data.X), 3.7)])
    objective = data.problem().objective(L2)
    direction = objective.shared_preconditioner().solve(data.random_coef())
    assert not direction[..., data.X.shape[1] - 1].any()


def test_many_columns_have_a_diagonal(monkeypatch):
    monkeypatch.setattr("softreg._problem.MAX_GRAM_COLUMNS", 3)
    data = Data()
    for X in (None, scipy.sparse.csr_array(data.X)):
        objective = data.problem(X=X).objective(L2)
        centred = data.X - data.X.mean(axis=0)
        expected = np.append((centred**2).mean(axis=0), 1)
        np.testing.assert_allclose(objective.geometry.gram, expected)
        gradient = objective.evaluate(data.random_coef()).gradient
        assert np.vdot(gradient, objective.shared_preconditioner().solve(gradient)) > 0


def test_singular_matrices_are_lifted_until_they_factorise(xp):
    vector = np.arange(1.0, 5)
    factor = factorise(xp.asarray(np.outer(vector, vector)))
    inverse = to_numpy(factor.solve(xp.asarray(np.eye(4))))
    assert np.isfinite(inverse).all()
    matrix = np.diag([1e-12, 1.0, 1e12]) + 0.0
    solved = to_numpy(factorise(xp.asarray(matrix)).solve(xp.asarray(np.ones((3, 1)))))
    np.testing.assert_allclose(solved[:, 0], [1e12, 1, 1e-12], rtol=1e-12)
