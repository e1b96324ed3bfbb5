"""Value, derivatives and lines against their definitions, however rows are cut."""

import numpy as np
import pytest
import scipy.sparse
from bank import OPTIONS, Data

from softreg import _problem
from softreg._arrays import (
    inner_over_classes,
    product,
    product_with_rows,
    to_numpy,
)
from softreg._blocks import even_cuts
from softreg._objective import Objective
from softreg.solvers._loop import inner

L2 = np.array([0.03, 0.5])


def cut_small(monkeypatch, rows=16):
    monkeypatch.setattr(_problem, "block_rows", lambda *shape: rows)
    monkeypatch.setattr(_problem, "sparse_block_rows", lambda *shape: rows)


@pytest.mark.parametrize("name", OPTIONS)
def test_value_is_its_definition(name, xp):
    data = Data(**OPTIONS[name])
    coef = data.random_coef(n_problems=2)
    point = data.problem(xp).objective(xp.asarray(L2)).evaluate(xp.asarray(coef))
    expected = [data.oracle(c, l2) for c, l2 in zip(coef, L2, strict=True)]
    np.testing.assert_allclose(to_numpy(point.value), expected, rtol=1e-13)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradient_is_the_finite_difference_of_the_value(name):
    data = Data(**OPTIONS[name])
    objective = data.problem().objective(L2)
    coef, way = data.random_coef(n_problems=2), data.random_coef(n_problems=2)
    step = 1e-6
    ahead, behind = (objective.evaluate(coef + s * way).value for s in (step, -step))
    slope = inner(objective.evaluate(coef).gradient, way)
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-7)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
def test_hessian_product_is_the_finite_difference_of_the_gradient(name, keep):
    data = Data(**OPTIONS[name])
    objective = data.problem().objective(L2)
    coef, way = data.random_coef(n_problems=2), data.random_coef(n_problems=2)
    step = 1e-5
    ahead, behind = (objective.evaluate(coef + s * way).gradient for s in (step, -step))
    point = objective.evaluate(coef, keep=keep)
    assert (point.kept is not None) == keep
    product = objective.hessian_product(point, way)
    expected = (ahead - behind) / (2 * step)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(product, expected, atol=1e-7 * scale)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
def test_line_is_the_value_along_the_direction(name, keep, xp):
    data = Data(**OPTIONS[name])
    objective = data.problem(xp).objective(xp.asarray(L2))
    coef = xp.asarray(data.random_coef(n_problems=2))
    way = xp.asarray(data.random_coef(n_problems=2))
    line = objective.line(objective.evaluate(coef, keep=keep), way)
    steps = xp.asarray([0.7, -1.3])
    there = objective.evaluate(coef + steps[:, None, None] * way)
    at = line(steps)
    np.testing.assert_allclose(to_numpy(at.value), to_numpy(there.value), rtol=1e-12)
    slope = to_numpy(inner(there.gradient, way))
    np.testing.assert_allclose(to_numpy(at.slope), slope, rtol=1e-10)


def test_a_kept_line_reads_no_row():
    data = Data()
    objective = data.problem().objective(L2)
    coef = data.random_coef(n_problems=2)
    line = objective.line(objective.evaluate(coef, keep=True), coef)
    before = objective.passes
    line(np.ones(2))
    assert objective.passes == before


@pytest.mark.parametrize("name", OPTIONS)
def test_dense_sparse_and_any_blocking_agree(name, monkeypatch):
    data = Data(**OPTIONS[name])
    coef = data.random_coef(n_problems=2)
    whole = data.problem().objective(L2)
    reference = whole.evaluate(coef, keep=True)
    product = whole.hessian_product(reference, coef)
    cut_small(monkeypatch)
    for X in (None, scipy.sparse.csr_matrix(data.X), scipy.sparse.csr_array(data.X)):
        objective = data.problem(X=X).objective(L2)
        assert len(objective.blocks.blocks) == 4
        point = objective.evaluate(coef, keep=True)
        np.testing.assert_allclose(point.value, reference.value, rtol=1e-13)
        np.testing.assert_allclose(point.gradient, reference.gradient, atol=1e-13)
        np.testing.assert_allclose(point.gap, reference.gap, rtol=1e-10)
        again = objective.hessian_product(point, coef)
        np.testing.assert_allclose(again, product, atol=1e-12)


def test_sums_have_the_same_bits_for_any_number_of_threads(monkeypatch):
    data = Data(n_rows=5000)
    coef = data.random_coef()
    cut_small(monkeypatch, 100)

    def evaluate(n_threads):
        problem = data.problem(n_threads=n_threads)
        with problem.engine:
            return problem.objective(L2[:1]).evaluate(coef)

    one = evaluate(1)
    for n_threads in (2, 3, 5):
        other = evaluate(n_threads)
        np.testing.assert_array_equal(one.value, other.value)
        np.testing.assert_array_equal(one.gradient, other.gradient)


@pytest.mark.parametrize("n_rows", [1, 100, 101, 4095, 4096, 12345])
def test_blocks_are_even_and_cover_the_rows(n_rows):
    cuts = even_cuts(n_rows, 100_000 if n_rows > 1000 else 7)
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
    assert cuts[-1][1] == n_rows
    sizes = [stop - start for start, stop in cuts]
    assert max(sizes) == sizes[0]
    assert len(cuts) == 1 or min(sizes) > 0
    assert (len(cuts) > 1) == (n_rows >= 4096 or n_rows in (100, 101))


def test_special_products_agree_with_plain_ones(xp):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 3, 40)), rng.normal(size=(2, 3, 40))
    inner = inner_over_classes(xp.asarray(left), xp.asarray(right))
    np.testing.assert_allclose(to_numpy(inner), (left * right).sum(axis=1), rtol=1e-13)
    for kind in (np.float32, np.float64):
        a, b = (xp.asarray(m[0].astype(kind)) for m in (left, right))
        expected = to_numpy(a) @ to_numpy(b).T
        np.testing.assert_allclose(to_numpy(product(a, b.T)), expected, rtol=1e-5)


@pytest.mark.parametrize("n_columns", [3, 47, 48, 100])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_scores_are_the_same_from_either_side(xp, kind, n_columns):
    rng = np.random.default_rng(0)
    left, X = rng.normal(size=(4, n_columns)), rng.normal(size=(30, n_columns))
    scores = product_with_rows(
        xp.asarray(left.astype(kind)), xp.asarray(X.astype(kind))
    )
    assert to_numpy(scores).flags.c_contiguous
    assert to_numpy(scores).dtype == kind
    np.testing.assert_allclose(to_numpy(scores), left @ X.T, atol=1e-4)


def test_scores_too_large_to_keep_are_recomputed(monkeypatch):
    data = Data()
    monkeypatch.setattr("softreg._blocks.KEPT_BYTES", 100)
    objective = data.problem().objective(L2)
    assert objective.evaluate(data.random_coef(n_problems=2), keep=True).kept is None


def test_extreme_scores_give_a_finite_value_and_gradient():
    data = Data()
    for scale in (1e3, 1e5, 1e8):
        point = data.problem().objective(L2[:1]).evaluate(data.random_coef(scale))
        assert np.isfinite(point.value).all()
        assert np.isfinite(point.gradient).all()


def test_single_products_agree_with_double_ones_to_their_rounding():
    data = Data(n_rows=500)
    coef = data.random_coef()
    coarse = data.problem(dtype=np.float32).objective(L2[:1])
    fine = coarse.in_double()
    assert isinstance(fine, Objective)
    assert fine.in_double() is None
    rough, exact = coarse.evaluate(coef), fine.evaluate(coef)
    np.testing.assert_allclose(rough.value, exact.value, rtol=1e-6)
    np.testing.assert_allclose(rough.gradient, exact.gradient, atol=1e-6)
    assert rough.gradient.dtype == np.float64


def test_separation_is_seen():
    data = Data(n_classes=3, n_rows=30)
    data.X = 10 * np.eye(3)[data.codes]
    objective = data.problem().objective(np.zeros(1))
    coef = np.concatenate([np.eye(3), np.zeros((3, 1))], axis=1)[None]
    assert objective.separated(coef)[0]
    assert not objective.separated(-coef)[0]


def test_easy_rows_keep_their_digits(xp):
    # Scores 1 apart times 50: each loss is about exp(-50), which 1 + x would lose.
    data = Data(n_classes=3, n_rows=30)
    data.X = np.eye(3)[data.codes]
    coef = 50.0 * np.concatenate([np.eye(3), np.zeros((3, 1))], axis=1)[None]
    objective = data.problem(xp).objective(xp.asarray(np.zeros(1)))
    point = objective.evaluate(xp.asarray(coef))
    expected = np.log1p(2 * np.exp(-50.0))
    np.testing.assert_allclose(to_numpy(point.value), expected, rtol=1e-12)
    share = np.mean(data.codes == 0)
    slope = to_numpy(point.gradient)[0, 0, 0]
    np.testing.assert_allclose(slope, -2 * np.exp(-50.0) * share, rtol=1e-12)
