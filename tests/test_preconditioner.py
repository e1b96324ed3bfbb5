"""Preconditioners against the explicit Hessian."""

import numpy as np
import pytest
import scipy.sparse
from bank import OPTIONS, Data

from softreg import _preconditioner as preconditioner
from softreg._arrays import to_numpy
from softreg._curvature import spanned_columns
from softreg._factors import factorise
from softreg._geometry import leading_axes
from softreg._preconditioner import Standardisation

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


@pytest.fixture(params=["full", "axes", "shared"])
def curved(request, monkeypatch):
    """An objective of each structure, at a point."""
    side = {"full": 1000, "axes": 20, "shared": 0}[request.param]
    monkeypatch.setattr("softreg._curvature.MAX_SIDE", side)
    monkeypatch.setattr("softreg._curvature.LARGEST_SIDE", side)
    monkeypatch.setattr("softreg._curvature.MIN_AXES", 1)
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: 400)
    data = Data(n_rows=3000, weighted=True)
    objective = data.problem().objective(L2)
    spanned = {"full": 6, "axes": 5, "shared": 0}[request.param]
    assert objective._common.spanned(1) == spanned
    coef = data.random_coef()
    coef -= coef.mean(axis=1, keepdims=True)
    return objective, objective.evaluate(coef, keep=True)


@pytest.mark.parametrize("thoroughness", [1, 1000])
def test_sampled_preconditioners_are_symmetric_and_positive(curved, thoroughness):
    objective, point = curved
    solve = objective.curvature_preconditioner(point, thoroughness).solve
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (point.gradient, point.coef))
    np.testing.assert_allclose(np.vdot(a, solve(b)), np.vdot(b, solve(a)), rtol=1e-8)
    assert np.vdot(a, solve(a)) > 0
    np.testing.assert_allclose(solve(a).sum(axis=1), 0, atol=1e-8 * abs(solve(a)).max())


def softmax_like(n_classes=4, n_columns=6):
    """Return a Hessian (K P, K P) with a penalty, the mean of its blocks, and that."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, n_columns))
    proba = rng.dirichlet(np.ones(n_classes), size=50)
    hessian = sum(
        np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x))
        for p, x in zip(proba, X, strict=True)
    )
    sizes = 1 - (proba**2).sum(axis=1)
    penalty = rng.uniform(0.1, 1, size=(1, n_columns))
    return hessian, X.T @ (sizes[:, None] * X) / (n_classes - 1), penalty


@pytest.mark.parametrize("count", [1, 3, 6])
def test_two_levels_correct_the_block_along_their_axes(count):
    rng = np.random.default_rng(1)
    hessian, block, penalty = softmax_like()
    axes = np.linalg.qr(rng.normal(size=(6, count)))[0]
    Q, everyone = np.kron(np.eye(4), axes), np.kron(np.eye(4), np.diag(penalty[0]))
    M = np.kron(np.eye(4), block) + everyone
    standard = Standardisation(np.zeros(6), np.ones(6), has_intercept=False)
    solver = preconditioner.two_level(
        preconditioner.shared([block], penalty, standard),
        [block], (Q.T @ hessian @ Q)[None], penalty, axes,
    )  # fmt: skip
    vector = rng.normal(size=(1, 4, 6))
    vector -= vector.mean(axis=1, keepdims=True)
    inverse = np.linalg.inv
    expected = (
        inverse(M)
        - Q @ inverse(Q.T @ M @ Q) @ Q.T
        + Q @ inverse(Q.T @ (hessian + everyone) @ Q) @ Q.T
    ) @ vector.ravel()
    np.testing.assert_allclose(solver.solve(vector).ravel(), expected, atol=1e-10)
    if count == 6:
        product = (hessian + everyone) @ expected
        np.testing.assert_allclose(product, vector.ravel(), atol=1e-10)


def test_two_levels_serve_each_problem_of_a_batch(monkeypatch):
    monkeypatch.setattr("softreg._curvature.MAX_SIDE", 20)
    monkeypatch.setattr("softreg._curvature.LARGEST_SIDE", 20)
    monkeypatch.setattr("softreg._curvature.MIN_AXES", 1)
    data = Data(n_rows=300)
    objective = data.problem().objective(np.array([0.05, 2.0]))
    point = objective.evaluate(data.random_coef(n_problems=2))
    both = objective.curvature_preconditioner(point, 1)
    assert isinstance(both, preconditioner.TwoLevel)
    solved = both.solve(point.gradient)
    for b in range(2):
        alone = both.take([b]).solve(point.gradient[[b]])
        np.testing.assert_allclose(alone, solved[[b]], rtol=1e-12)


@pytest.mark.parametrize("side", [0, 20, 1000])
def test_like_problems_share_one_preconditioner(side, monkeypatch):
    monkeypatch.setattr("softreg._curvature.MAX_SIDE", side)
    monkeypatch.setattr("softreg._curvature.MIN_AXES", 1)
    data = Data(n_rows=300)
    coef = np.repeat(data.random_coef(), 2, axis=0)
    own, both = (
        data.problem().objective(np.array(l2)) for l2 in ([0.05], [0.04, 0.06])
    )
    gradient = np.concatenate([own.evaluate(coef[:1]).gradient] * 2)
    for of in ("shared_preconditioner", "curvature_preconditioner"):
        args = ([own.evaluate(coef[:1]), 1], [both.evaluate(coef), 1])
        alone, common = (
            getattr(o, of)(*(a if of.startswith("curv") else []))
            for o, a in zip((own, both), args, strict=True)
        )
        solved = common.solve(gradient)
        np.testing.assert_allclose(solved[:1], alone.solve(gradient[:1]), rtol=1e-10)
        left = common.take([1]).solve(gradient[:1])
        np.testing.assert_allclose(left, solved[1:], rtol=1e-12)


def test_rows_that_a_problem_leaves_out_do_not_shape_the_common_hessian():
    # Half of the rows count in each problem; where a row is left out its curvature
    # under that problem's coefficients is of no account.
    data = Data(n_rows=40)
    half = np.arange(40) % 2 == 0
    data.weight = np.stack([half, ~half])
    problem = data.problem()
    first = data.random_coef()
    both = np.concatenate([first, -30 * first])
    objective = problem.objective(np.array([1e-9, 1e-9]))
    (common,) = objective._common._hessians(objective._operand(both), None, 1, None)
    own = objective._curvature(objective.l2)
    hessians = own._hessians(objective._operand(both), None, 1, None)
    np.testing.assert_allclose(common, hessians.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", [n for n in OPTIONS if not n.startswith("two")])
def test_curvature_kernels_are_parts_of_the_hessian(name, sparse):
    data = Data(**OPTIONS[name])
    X = scipy.sparse.csr_array(data.X) if sparse else None
    objective = data.problem(X=X).objective(np.zeros(1))
    curvature, coef = objective._common, data.random_coef()
    _, k, P = coef.shape
    unit = np.eye(P).reshape(P, 1, P)
    push = objective.geometry.standard.push(unit)[:, 0, :].T
    push = np.kron(np.eye(k), push)
    expected = push.T @ explicit_hessian(objective, coef) @ push
    operand = objective._operand(coef)
    axes = np.linalg.qr(data.rng.normal(size=(P, 3)))[0]
    blocks = expected.reshape(k, P, k, P)
    for kept in (None, objective.evaluate(coef, keep=True).kept):
        whole = curvature._hessians(operand, kept, 1, None)
        np.testing.assert_allclose(whole[0], expected, atol=1e-12)
        along = curvature._hessians(operand, kept, 1, axes)[0].reshape(k, 3, k, 3)
        part = np.einsum("kplq,pr,qs->krls", blocks, axes, axes)
        np.testing.assert_allclose(along, part, atol=1e-12)
        mean = curvature._blocks(operand, kept, 1)[0]
        total = np.einsum("kpkq->pq", blocks) / (k - 1)
        np.testing.assert_allclose(mean, total, atol=1e-12)


def test_the_hessian_spans_what_rows_and_time_pay_for():
    assert spanned_columns(1000, 1, 5000) == 0  # one row of coefficients is one block
    assert spanned_columns(1000, 10, 100) == 100  # all of it fits
    assert spanned_columns(60_000, 10, 785) == 100
    counts = [spanned_columns(n, 10, 785) for n in (1000, 4000, 16_000, 64_000)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert spanned_columns(10_000, 900, 900) == 0
    # A batch pays for more, and so does a fit that goes on.
    assert spanned_columns(2000, 10, 785, 5) > spanned_columns(2000, 10, 785)
    grown = [spanned_columns(8000, 10, 257, 1, 4**power) for power in range(5)]
    assert grown == sorted(grown)
    assert grown[0] < 100
    assert grown[-1] == 257
    assert not [count for count in grown if 100 < count < 257]
    assert max(spanned_columns(8000, 10, 400, 5, 4**p) for p in range(9)) == 100


def test_leading_axes_carry_nearly_all_that_any_could():
    rng = np.random.default_rng(0)
    basis, squares = (
        np.linalg.qr(rng.normal(size=(30, 30)))[0],
        np.geomspace(1, 1e-9, 30),
    )
    gram = basis * squares @ basis.T
    axes = leading_axes(gram, 5)
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-12)
    assert np.trace(axes.T @ gram @ axes) > 0.999 * squares[:5].sum()


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
