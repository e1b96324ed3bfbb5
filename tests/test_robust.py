"""Label noise: tangents that never rise, and what they find."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from softreg import RobustSoftmaxRegression, SoftmaxRegression
from softreg._robust import Generalized, Symmetric
from softreg.functional import gce_loss, sce_loss

X, Y = load_iris(return_X_y=True)
NOISY = Y.copy()
NOISY[::7] = (NOISY[::7] + 1) % 3


def flipped(y, share, rng):
    noisy = y.copy()
    wrong = rng.random(len(y)) < share
    noisy[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    return noisy, wrong


@pytest.mark.parametrize(
    ("transform", "loss"),
    [
        (Generalized(0.7), gce_loss),
        (Generalized(1.0), gce_loss),
        (Symmetric(), sce_loss),
    ],
)  # fmt: skip
def test_transforms_are_the_published_losses_of_the_cross_entropy(transform, loss):
    rng = np.random.default_rng(0)
    scores, codes = rng.normal(scale=3, size=(50, 4)), rng.integers(0, 4, 50)
    options = {"q": transform.q} if isinstance(transform, Generalized) else {}
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    losses = -np.log(proba[np.arange(50), codes])
    expected = loss(scores, codes, reduction="none", **options)
    np.testing.assert_allclose(transform.value(losses), expected, rtol=1e-10)
    step = 1e-6
    slope = (transform.value(losses + step) - transform.value(losses - step)) / step / 2
    np.testing.assert_allclose(transform.slope(losses), slope, atol=1e-8)


@pytest.mark.parametrize("loss", ["gce", "sce"])
@pytest.mark.parametrize(
    "inner",
    [
        {"C": 1.0},
        {"weight_decay": 0.01, "class_weight": "balanced"},
        {"C": 1.0, "label_smoothing": 0.1, "margin": 0.5, "temperature": 2.0},
        {"C": 1.0, "loss": "entmax15", "solver": "lbfgs"},
        {"C": 1.0, "penalize_intercept": True},
    ],
)
def test_the_objective_is_the_robust_mean_and_never_rises(loss, inner):
    weight = np.random.default_rng(0).uniform(0.2, 3, len(Y))
    model = RobustSoftmaxRegression(SoftmaxRegression(**inner), loss=loss, tol=1e-7)
    model.set_params(max_rounds=100).fit(X, NOISY, weight)
    history = model.objective_history_
    assert (np.diff(history) <= 0).all()
    assert history[-1] < history[0]
    assert model.objective_ == history[-1]
    assert len(history) == model.n_iter_ + 1
    assert model.converged_
    # The plain fit is where it starts.
    plain = SoftmaxRegression(**inner).fit(X, NOISY, weight)
    first = RobustSoftmaxRegression(SoftmaxRegression(**inner), loss=loss, tol=1e9)
    first.fit(X, NOISY, weight)
    if inner == {"C": 1.0}:
        proba = plain.predict_proba(X)[np.arange(len(Y)), NOISY]
        value = {"gce": (1 - proba**0.7) / 0.7, "sce": 4 * (1 - proba) - np.log(proba)}
        expected = np.average(value[loss], weights=weight)
        expected += (plain.coef_**2).sum() / (2 * weight.sum())
        assert first.objective_history_[0] == pytest.approx(expected, rel=1e-9)


def test_the_end_is_a_stationary_point_of_the_robust_objective():
    model = RobustSoftmaxRegression(SoftmaxRegression(tol=1e-10), tol=1e-13)
    model.set_params(max_rounds=1000).fit(X, NOISY)
    theta = np.concatenate([model.coef_.ravel(), model.intercept_])

    def objective(theta):
        coef, bias = theta[:12].reshape(3, 4), theta[12:]
        data = gce_loss(X @ coef.T + bias, NOISY, q=0.7)
        return data + (coef**2).sum() / (2 * len(Y))

    assert objective(theta) == pytest.approx(model.objective_, rel=1e-12)
    step = 1e-5
    slopes = [
        (objective(theta + step * e) - objective(theta - step * e)) / (2 * step)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(slopes, 0, atol=1e-5)


def test_the_last_fit_is_the_optimum_at_the_last_weights():
    model = RobustSoftmaxRegression(SoftmaxRegression(tol=1e-8)).fit(X, NOISY)
    weight = model.row_weights_
    assert weight.shape == (len(Y),)
    assert (weight > 0).all()
    assert (weight <= 1).all()
    # C belongs to the sum: the same C at the last weights, on the scale of the slopes.
    same = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    same.fit(X, NOISY, sample_weight=weight)
    np.testing.assert_allclose(same.coef_, model.coef_, atol=1e-3)
    assert model.estimator_.optimality_gap_ <= 1e-8 * model.estimator_.objective_


def test_wrong_labels_lose_their_weight():
    digits, labels = load_digits(return_X_y=True)
    noisy, wrong = flipped(labels, 0.3, np.random.default_rng(0))
    model = RobustSoftmaxRegression().fit(digits / 16, noisy)
    assert np.median(model.row_weights_[wrong]) < 0.1
    assert np.median(model.row_weights_[~wrong]) > 0.6


def test_it_beats_the_plain_fit_on_digits_with_many_wrong_labels():
    digits, labels = load_digits(return_X_y=True)
    gains = []
    for seed in range(5):
        A, B, a, b = train_test_split(digits / 16, labels, random_state=seed)
        noisy, _ = flipped(a, 0.4, np.random.default_rng(seed))
        plain = SoftmaxRegression().fit(A, noisy).score(B, b)
        gains.append(RobustSoftmaxRegression().fit(A, noisy).score(B, b) - plain)
    assert np.median(gains) >= 0.015


def test_two_classes_strings_sparse_and_single_precision():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    names = np.array(["no", "yes"])[(NOISY > 0).astype(int)]
    dense = RobustSoftmaxRegression(SoftmaxRegression(tol=1e-8)).fit(X, names)
    sparse = RobustSoftmaxRegression(SoftmaxRegression(tol=1e-8))
    sparse.fit(scipy_sparse.csr_array(X), names)
    np.testing.assert_allclose(dense.coef_, sparse.coef_, rtol=1e-4)
    assert dense.coef_.shape == (1, 4)
    assert set(dense.predict(X)) <= {"no", "yes"}
    single = RobustSoftmaxRegression().fit(X.astype(np.float32), names)
    assert single.coef_.dtype == np.float32
    assert (np.diff(single.objective_history_) <= 0).all()


def test_too_few_rounds_warn_once():
    with pytest.warns(ConvergenceWarning, match="after 1 rounds.*Increase max_rounds"):
        model = RobustSoftmaxRegression(max_rounds=1, tol=0).fit(X, NOISY)
    assert not model.converged_


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"loss": "mae"}, ValueError, "loss must be 'gce' or 'sce', got 'mae'"),
        ({"q": 0.0}, ValueError, r"q must be a number in \(0, 1\], got 0.0"),
        ({"max_rounds": 0}, ValueError, "max_rounds must be an integer"),
        ({"tol": -1}, ValueError, "tol must be a number"),
        ({"estimator": LogisticRegression()}, TypeError, "must be a SoftmaxRegression"),
    ],
)
def test_bad_parameters_are_refused_and_nothing_is_lost(parameters, error, message):
    model = RobustSoftmaxRegression().fit(X, NOISY)
    before = model.coef_
    with pytest.raises(error, match=message):
        model.set_params(**parameters).fit(X, NOISY)
    assert model.coef_ is before


def test_rows_of_enormous_loss_keep_some_weight():
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(30, 2)), np.arange(30) % 3
    cost = np.zeros((3, 3))
    cost[0, 1:] = 800
    for margin, q in ((2000.0, 1.0), (cost, 0.95)):
        model = RobustSoftmaxRegression(SoftmaxRegression(margin=margin), q=q)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, codes)
        assert (np.diff(model.objective_history_) <= 0).all()
        assert np.isfinite(model.coef_).all()


def test_a_last_fit_that_did_not_converge_is_told():
    inner = SoftmaxRegression(max_iter=1, tol=1e-12)
    with pytest.warns(ConvergenceWarning):
        model = RobustSoftmaxRegression(inner, tol=1e9).fit(X, NOISY)
    assert not model.converged_
