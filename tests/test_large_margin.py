"""The angular margin: its formulas, its start and end, and where it gives up."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning

from softreg import LargeMarginSoftmaxRegression, SoftmaxRegression
from softreg._angular import AngularObjective, angular
from softreg._data import ingest
from softreg._large_margin import _schedule, _unfolded

X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 7])
def test_psi_is_the_cosine_of_the_wider_angle_made_monotone(m):
    angle = np.linspace(1e-3, np.pi - 1e-3, 500)
    psi, slope = angular(np.cos(angle), m)
    k = np.minimum(np.floor(m * angle / np.pi), m - 1)
    np.testing.assert_allclose(psi, (-1) ** k * np.cos(m * angle) - 2 * k, atol=1e-12)
    assert (np.diff(psi) < 0).all()
    assert (psi <= np.cos(angle) + 1e-12).all()
    step = 1e-7
    cosine = np.cos(angle)
    inside = np.abs(m * angle / np.pi - np.round(m * angle / np.pi)) > 1e-3
    numeric = (angular(cosine + step, m)[0] - angular(cosine - step, m)[0]) / step / 2
    np.testing.assert_allclose(slope[inside], numeric[inside], rtol=1e-4)


def objective(rows, codes, m, mu, weight=None, fit_intercept=True):
    estimator = SoftmaxRegression(fit_intercept=fit_intercept)
    problem = _unfolded(ingest(estimator, rows, codes, weight).problem)
    return AngularObjective.of(problem.objective(np.array([0.1])), m, mu)


def oracle(rows, codes, coef, bias, m, mu, weight):
    """Compute the mean loss in plain NumPy, row by row of the paper's formula."""
    scores = rows @ coef.T + bias
    total = 0.0
    for x, y, z, w in zip(rows, codes, scores, weight, strict=True):
        norm = np.linalg.norm(coef[y]) * np.linalg.norm(x)
        angle = np.arccos(np.clip(coef[y] @ x / norm, -1, 1))
        k = min(int(m * angle / np.pi), m - 1)
        psi = (-1) ** k * np.cos(m * angle) - 2 * k
        z[y] = (mu * (coef[y] @ x) + norm * psi) / (1 + mu) + bias[y]
        total += w * (np.logaddexp.reduce(z) - z[y])
    return total / weight.sum()


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_value_and_gradient(m, n_classes, form):
    rng = np.random.default_rng(m)
    chosen = np.flatnonzero(n_classes > Y)[::4]
    rows, codes = X[chosen], Y[chosen]
    weight = rng.uniform(0.5, 2, len(codes))
    target = objective(form(rows), codes, m, 3.0, weight)
    theta = rng.normal(scale=0.5, size=(1, n_classes, 5))
    point = target.evaluate(theta)
    coef, bias = theta[0, :, :4], theta[0, :, 4]
    expected = oracle(rows, codes, coef, bias, m, 3.0, weight)
    assert point.value[0] == pytest.approx(expected + 0.05 * (coef**2).sum(), rel=1e-12)
    assert np.isinf(point.gap).all()
    step = 1e-6
    for index in np.ndindex(theta.shape):
        along = np.zeros_like(theta)
        along[index] = step
        up, down = target.evaluate(theta + along), target.evaluate(theta - along)
        slope = (up.value - down.value)[0] / (2 * step)
        assert point.gradient[index] == pytest.approx(slope, abs=1e-7)


def test_values_and_slopes_along_a_line():
    """Scores of an angle bend with the length of the coefficients."""
    rng = np.random.default_rng(0)
    theta, way = rng.normal(size=(2, 1, 3, 5))
    target = objective(X, Y, 3, 1.0)
    line = target.line(target.evaluate(theta), way)
    for step in (0.0, 0.5, 2.0):
        value = target.evaluate(theta + step * way).value[0]
        ahead = target.evaluate(theta + (step + 1e-6) * way).value[0]
        there = line(np.array([step]))
        assert there.value[0] == value
        assert there.slope[0] == pytest.approx((ahead - value) / 1e-6, rel=1e-3)


def test_blocks_do_not_matter(monkeypatch):
    theta = np.random.default_rng(0).normal(size=(1, 3, 5))
    whole = objective(X, Y, 2, 1.0).evaluate(theta)
    monkeypatch.setattr("softreg._problem.block_rows", lambda *shape: 7)
    pieces = objective(X, Y, 2, 1.0).evaluate(theta)
    np.testing.assert_allclose(whole.gradient, pieces.gradient, rtol=1e-12)


def test_rows_and_classes_of_no_length_have_no_margin():
    rows = X.copy()
    rows[:3] = 0
    point = objective(rows, Y, 3, 0.0).evaluate(np.zeros((1, 3, 5)))
    assert point.value[0] == pytest.approx(np.log(3))
    plain = _unfolded(ingest(SoftmaxRegression(), rows, Y, None).problem)
    same = plain.objective(np.array([0.1])).evaluate(np.zeros((1, 3, 5)))
    np.testing.assert_allclose(point.gradient, same.gradient, atol=1e-12)


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
@pytest.mark.parametrize(
    "options", [{}, {"penalize_intercept": True}, {"fit_intercept": False}], ids=str
)
def test_m_of_one_is_the_softmax_fit(load, options):
    rows, codes = load(return_X_y=True)
    plain = SoftmaxRegression(**options).fit(rows, codes)
    model = LargeMarginSoftmaxRegression(m=1, **options).fit(rows, codes)
    np.testing.assert_allclose(
        model.predict_proba(rows), plain.predict_proba(rows), atol=1e-12
    )
    np.testing.assert_allclose(
        model.decision_function(rows), plain.decision_function(rows), rtol=1e-9
    )
    assert model.coef_.shape == (len(set(codes)), rows.shape[1])
    assert model.optimality_gap_ == plain.optimality_gap_
    assert model.objective_ == plain.objective_


@pytest.mark.parametrize(
    "options", [{}, {"penalize_intercept": True}, {"fit_intercept": False}], ids=str
)
def test_a_negligible_margin_is_nearly_the_softmax_fit_of_two_classes(options):
    """The penalty of two rows is that of the one row of the softmax fit."""
    rows, codes = X[Y > 0], Y[Y > 0]
    plain = SoftmaxRegression(tol=1e-10, **options).fit(rows, codes)
    model = LargeMarginSoftmaxRegression(mu_min=1e7, tol=1e-7, **options)
    model.fit(rows, codes)
    np.testing.assert_allclose(
        model.predict_proba(rows), plain.predict_proba(rows), atol=1e-4
    )
    assert model.objective_ == pytest.approx(plain.objective_, rel=1e-5)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_fit_is_stationary_and_widens_the_angles(m):
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[::4] / 16, labels[::4]
    plain = SoftmaxRegression(C=10).fit(digits, labels)
    model = LargeMarginSoftmaxRegression(m, C=10, tol=1e-5).fit(digits, labels)
    assert model.converged_
    assert np.isinf(model.optimality_gap_)
    theta = np.column_stack([model.coef_, model.intercept_])[None]
    target = objective(digits, labels, m, 10.0)
    target = AngularObjective(**{**vars(target), "l2": np.array([model.weight_decay_])})
    point = target.evaluate(theta)
    zero = target.evaluate(np.zeros_like(theta))
    assert np.abs(point.gradient).max() <= 1.01e-5 * np.abs(zero.gradient).max()
    assert point.value[0] == pytest.approx(model.objective_, rel=1e-12)
    assert model.intercept_.sum() == pytest.approx(0, abs=1e-12)

    def cosine(fitted):
        own = fitted.coef_[labels]
        norms = np.linalg.norm(own, axis=1) * np.linalg.norm(digits, axis=1)
        return ((own * digits).sum(axis=1) / norms).mean()

    assert cosine(model) > cosine(plain)


def test_mu_falls_to_its_floor():
    assert list(_schedule(200.0)) == [200.0]
    np.testing.assert_allclose(list(_schedule(10.0)), [100, 100 / 10**0.5, 10])
    assert list(_schedule(0.0))[-1] == 0.0
    assert min(list(_schedule(0.0))[:-1]) > 0.1


def test_giving_up_is_told():
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(60, 2)), rng.integers(0, 2, 60)
    model = LargeMarginSoftmaxRegression(m=4, mu_min=0.0, C=100, fit_intercept=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match="classes do not lie apart in angle"):
            model.fit(rows, codes)


def test_a_class_that_shrinks_to_nothing_ends_at_a_kink():
    """Far from the origin the angles say nothing."""
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(100, 1, (100, 2)), rng.integers(0, 2, 100)
    rows[codes == 1, 0] += 1
    model = LargeMarginSoftmaxRegression().fit(rows, codes)
    assert model.converged_
    assert np.linalg.norm(model.coef_, axis=1).min() == 0
    theta = np.column_stack([model.coef_, model.intercept_])[None]
    target = objective(rows, codes, 2, 10.0)
    decay = 2 * model.weight_decay_
    target = AngularObjective(**{**vars(target), "l2": np.array([decay])})
    lowest = target.evaluate(theta).value[0]
    for size in (1e-8, 1e-5, 1e-2):
        for _ in range(20):
            moved = theta + size * rng.normal(size=theta.shape) / [100, 100, 1]
            assert target.evaluate(moved).value[0] >= lowest - 1e-12


def test_weights_repeat_rows_and_classes_may_be_weighed():
    weight = np.random.default_rng(0).integers(0, 3, len(Y))
    weighed = LargeMarginSoftmaxRegression(C=0.1, tol=1e-7).fit(X, Y, weight)
    repeated = LargeMarginSoftmaxRegression(C=0.1, tol=1e-7)
    repeated.fit(np.repeat(X, weight, axis=0), np.repeat(Y, weight))
    np.testing.assert_allclose(weighed.coef_, repeated.coef_, atol=1e-4)
    by_class = LargeMarginSoftmaxRegression(C=0.1, class_weight={0: 2.0}, tol=1e-7)
    by_row = LargeMarginSoftmaxRegression(C=0.1, tol=1e-7)
    by_row.fit(X, Y, np.where(Y == 0, 2.0, 1.0))
    np.testing.assert_allclose(by_class.fit(X, Y).coef_, by_row.coef_, atol=1e-6)


def test_too_few_iterations_warn():
    with pytest.warns(ConvergenceWarning, match="Increase max_iter or tol"):
        LargeMarginSoftmaxRegression(max_iter=2).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"m": 0}, "m must be an integer of at least 1, got 0"),
        ({"mu_min": -1.0}, "mu_min must be a number"),
        ({"C": 0.0}, "C must be a number"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        LargeMarginSoftmaxRegression(**parameters).fit(X, Y)


def test_soft_targets_are_refused():
    with pytest.raises(ValueError, match="y must be labels"):
        LargeMarginSoftmaxRegression().fit(X, np.full((150, 3), 1 / 3))


@pytest.mark.parametrize(
    ("seed", "n_rows", "n_classes", "mu_min"),
    [(0, 30, 2, 0.3), (1, 60, 3, 10.0), (0, 30, 2, 10.0)],
)
def test_noise_ends_at_a_minimum_though_classes_shrink(seed, n_rows, n_classes, mu_min):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, n_classes - 1))
    codes = rng.integers(0, n_classes, n_rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = LargeMarginSoftmaxRegression(3, mu_min=mu_min).fit(rows, codes)
    assert model.converged_
    decay = model.weight_decay_ * (2 if n_classes == 2 else 1)
    target = objective(rows, codes, 3, mu_min)
    target = AngularObjective(**{**vars(target), "l2": np.array([decay])})
    theta = np.column_stack([model.coef_, model.intercept_])[None]
    least = target.evaluate(theta).value[0]
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(100):
            way = rng.normal(size=theta.shape)
            moved = target.evaluate(theta + size * way / np.linalg.norm(way))
            assert moved.value[0] >= least - 1e-7
