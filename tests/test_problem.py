"""Reductions are exact: the same minimum, with a proof on the original columns."""

import numpy as np
import pytest
import scipy.sparse
from bank import Data

from softreg import SoftmaxRegression
from softreg._problem import row_space_pays, to_row_space


@pytest.fixture
def wide():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 300)) * 10.0 ** rng.uniform(-2, 2, 300)
    return X, np.arange(40) % 3


@pytest.mark.parametrize("intercept", ["free", "penalised", "none"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_wide_data_have_the_same_optimum_in_their_row_space(
    wide, intercept, dtype, monkeypatch
):
    X, y = wide
    options = {
        "fit_intercept": intercept != "none",
        "penalize_intercept": intercept == "penalised",
        "tol": 1e-8,
    }
    reduced = SoftmaxRegression(**options).fit(X.astype(dtype), y)
    monkeypatch.setattr("softreg._solve.row_space_pays", lambda X: False)
    direct = SoftmaxRegression(**options).fit(X.astype(np.float64), y)
    assert reduced.converged_
    gap = reduced.optimality_gap_ + direct.optimality_gap_
    np.testing.assert_allclose(
        reduced.objective_, direct.objective_, atol=gap + 1e-6 * direct.objective_
    )
    np.testing.assert_allclose(
        reduced.predict_proba(X), direct.predict_proba(X), atol=1e-3
    )


def test_lifted_coefficients_give_the_same_scores_and_norm(wide):
    data = Data(n_rows=20, n_features=100, n_classes=3)
    problem = data.problem()
    space = to_row_space(problem)
    rng = np.random.default_rng(0)
    coef = rng.normal(size=(1, 3, space.problem.shape[1]))
    lifted = space.lift(coef)
    scores = space.problem.X @ coef[0, :, :-1].T + coef[0, :, -1]
    np.testing.assert_allclose(
        data.X @ lifted[0, :, :-1].T + lifted[0, :, -1], scores, atol=1e-10
    )
    np.testing.assert_allclose(
        np.linalg.norm(lifted[..., :-1]), np.linalg.norm(coef[..., :-1]), rtol=1e-10
    )


def test_rows_of_deficient_rank_are_reduced_to_their_rank(wide):
    X, _ = wide
    data = Data(n_rows=40, n_features=300, intercept="none")
    data.X = np.concatenate([X[:10]] * 4)
    assert to_row_space(data.problem()).problem.X.shape == (40, 10)


def test_sparse_rows_are_reduced_only_where_that_is_smaller():
    dense = scipy.sparse.random_array((50, 200), density=0.9, rng=0, format="csr")
    thin = scipy.sparse.random_array((50, 200), density=0.01, rng=0, format="csr")
    assert row_space_pays(dense)
    assert not row_space_pays(thin)
    assert not row_space_pays(np.ones((50, 50)))


def test_sparse_wide_data_are_proven_on_their_own_columns():
    X = scipy.sparse.random_array((60, 400), density=0.7, rng=0, format="csr")
    y = np.arange(60) % 4
    sparse = SoftmaxRegression(tol=1e-8).fit(X, y)
    dense = SoftmaxRegression(tol=1e-8).fit(X.toarray(), y)
    assert sparse.converged_
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=1e-3)


def test_intercepts_start_at_the_centred_log_frequencies():
    data = Data(n_classes=3, temperature=2.0)
    start = data.problem().start(1)[0]
    counts = np.bincount(data.codes)
    log = 2.0 * np.log(counts / counts.sum())
    np.testing.assert_allclose(start[:, -1], log - log.mean())
    assert not start[:, :-1].any()
