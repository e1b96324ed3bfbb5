"""Rows in batches: any sizes, a resumed state, and clear refusals."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.metrics import log_loss

from softreg import RobustSoftmaxRegression, SoftmaxRegression
from softreg.solvers import MiniBatch

X, Y = load_wine(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(Y))
X, Y = X[ORDER], Y[ORDER]


def streamed(model, X, y, sizes, **kwargs):
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        model.partial_fit(X[rows], y[rows], **kwargs)
        start += size
    return model


@pytest.mark.parametrize("size", [1, 7, 50, 178])
def test_one_pass_over_raw_columns_comes_near_the_fit(size):
    sizes = [size] * (len(Y) // size)
    model = streamed(SoftmaxRegression(), X, Y, sizes, classes=np.unique(Y))
    full = SoftmaxRegression().fit(X, Y)
    assert model.score(X, Y) >= full.score(X, Y) - 0.04
    assert model.solver_ == "minibatch"
    assert model.n_iter_ >= len(sizes)
    seen = size * len(sizes)
    assert model.weight_decay_ == pytest.approx(1 / seen)


def test_more_passes_come_nearer():
    X, y = load_digits(return_X_y=True)
    weight_decay = 0.1
    best = SoftmaxRegression(weight_decay=weight_decay).fit(X, y)
    model, gaps = SoftmaxRegression(weight_decay=weight_decay), []

    def value(model):
        chosen = model.predict_log_proba(X)[np.arange(len(y)), y]
        return -chosen.mean() + weight_decay / 2 * (model.coef_**2).sum()

    for _ in range(20):
        streamed(model, X, y, [200] * 9, classes=np.arange(10))
        gaps.append(value(model) - best.objective_)
    assert gaps[-1] < gaps[4] < gaps[0]
    assert 0 < gaps[-1] < 0.1 * best.objective_


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    sparse=st.booleans(),
    weighted=st.booleans(),
    intercept=st.booleans(),
    single=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_any_batches_are_taken(sizes, sparse, weighted, intercept, single):
    model = SoftmaxRegression(fit_intercept=intercept)
    rng, start = np.random.default_rng(0), 0
    for size in sizes:
        rows = np.arange(start, start + size) % len(Y)
        own = X[rows].astype(np.float32 if single else np.float64)
        own = scipy.sparse.csr_array(own) if sparse else own
        weight = rng.uniform(0.1, 3, size) if weighted else None
        model.partial_fit(own, Y[rows], classes=[0, 1, 2], sample_weight=weight)
        start += size
    assert model.coef_.shape == (3, 13)
    assert model.coef_.dtype == (np.float32 if single else np.float64)
    assert np.isfinite(model.coef_).all()
    np.testing.assert_allclose(model.coef_.sum(axis=0), 0, atol=1e-4)


def test_dense_and_sparse_batches_agree():
    dense, sparse = SoftmaxRegression(), SoftmaxRegression()
    streamed(dense, X, Y, [50] * 3, classes=[0, 1, 2])
    streamed(sparse, scipy.sparse.csr_array(X), Y, [50] * 3, classes=[0, 1, 2])
    np.testing.assert_allclose(dense.coef_, sparse.coef_, rtol=1e-6)


def test_weights_stand_for_rows():
    twice = np.repeat(np.arange(60), 2)
    weighted = SoftmaxRegression().partial_fit(
        X[:60], Y[:60], classes=[0, 1, 2], sample_weight=np.full(60, 2.0)
    )
    repeated = SoftmaxRegression().partial_fit(X[twice], Y[twice], classes=[0, 1, 2])
    assert weighted.weight_decay_ == repeated.weight_decay_
    probas = [model.predict_proba(X) for model in (weighted, repeated)]
    np.testing.assert_allclose(*probas, atol=0.2)
    none = np.concatenate([np.ones(50), np.zeros(10)])
    without = SoftmaxRegression().partial_fit(X[:50], Y[:50], classes=[0, 1, 2])
    zeros = SoftmaxRegression().partial_fit(X[:60], Y[:60], [0, 1, 2], none)
    np.testing.assert_allclose(zeros.coef_, without.coef_, rtol=1e-6)


def test_a_pickled_state_goes_on_with_the_same_bits():
    plain = streamed(SoftmaxRegression(), X, Y, [40, 40], classes=[0, 1, 2])
    resumed = pickle.loads(pickle.dumps(plain))
    for model in (plain, resumed):
        model.partial_fit(X[80:120], Y[80:120])
        model.partial_fit(X[120:], Y[120:])
    np.testing.assert_array_equal(plain.coef_, resumed.coef_)
    np.testing.assert_array_equal(plain.intercept_, resumed.intercept_)


def test_it_goes_on_from_a_fit_and_a_fit_begins_anew():
    model = SoftmaxRegression().fit(X[:150], Y[:150])
    before = model.coef_.copy()
    model.partial_fit(X[150:], Y[150:])
    assert not hasattr(model, "converged_")
    assert not hasattr(model, "history_")
    assert model.weight_decay_ == pytest.approx(1 / len(Y))
    near = np.abs(model.coef_ - before).max() / np.abs(before).max()
    assert 0 < near < 0.5
    again = model.fit(X, Y)
    np.testing.assert_array_equal(again.coef_, SoftmaxRegression().fit(X, Y).coef_)
    assert again.converged_


def test_two_classes_and_labels_of_strings():
    names = np.array(["b", "a"])[(Y == 0).astype(int)]
    model = streamed(SoftmaxRegression(), X, names, [60] * 2, classes=["b", "a"])
    assert model.coef_.shape == (1, 13)
    assert model.classes_.tolist() == ["a", "b"]
    assert model.score(X, names) > 0.9


def test_soft_targets_need_no_classes():
    soft = np.full((len(Y), 3), 0.05)
    soft[np.arange(len(Y)), Y] = 0.9
    model = streamed(SoftmaxRegression(), X, soft, [60] * 2)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.score(X, Y) > 0.9


def test_frames_keep_their_names():
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(13)])
    model = streamed(SoftmaxRegression(), frame, Y, [60] * 2, classes=[0, 1, 2])
    assert model.feature_names_in_[0] == "c0"
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame.rename(columns={"c0": "other"}), Y)


def test_a_column_that_has_not_varied_yet_does_no_harm():
    late = X.copy()
    late[:60, 3] = 5.0
    model = streamed(SoftmaxRegression(), late, Y, [60, 60], classes=[0, 1, 2])
    assert np.isfinite(model.coef_).all()
    assert model.score(late, Y) > 0.9


@pytest.mark.parametrize(
    ("params", "first", "second", "message"),
    [
        ({}, {}, None, "classes must be passed on the first call"),
        ({}, {"classes": [0]}, None, "at least two classes"),
        ({}, {"classes": [0, 1]}, None, r"got \[2\] besides"),
        ({}, {"classes": [0, 1, 2]}, {"classes": [0, 1, 3]}, "calls before"),
        ({"loss": "topk-2"}, {"classes": [0, 1, 2]}, None, "without kinks"),
        ({"C": -1}, {"classes": [0, 1, 2]}, None, "C must be"),
    ],
)
def test_bad_calls_are_refused_and_leave_no_trace(params, first, second, message):
    model = SoftmaxRegression(**params)
    if second is not None:
        model.partial_fit(X, Y, **first)
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, Y, **(second or first))
    assert pickle.dumps(model) == before


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (X[:5, :12], Y[:5], "features"),
        (X[:5], np.array([0, 1, 2, 3, 3]), r"got \[3\] besides"),
        (X[:5], np.array(list("abcde")), "besides"),
        (X[:5], np.full((5, 2), 0.5), "column for each"),
        (np.full((2, 13), np.nan), Y[:2], "NaN"),
        (X[:5], Y[:4], "inconsistent"),
        (X[:5] * 1e160, Y[:5], "squares are finite"),
    ],
)
def test_bad_batches_are_refused_and_leave_no_trace(rows, labels, message):
    model = SoftmaxRegression().partial_fit(X[:50], Y[:50], classes=[0, 1, 2])
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(rows, labels)
    assert pickle.dumps(model) == before


def test_balanced_goes_by_the_classes_so_far():
    rare = np.concatenate([np.flatnonzero(Y != 0), np.flatnonzero(Y == 0)[:6]])
    rare = rare[np.random.default_rng(1).permutation(len(rare))]
    sizes, balanced = [38, 38], SoftmaxRegression(class_weight="balanced")
    streamed(balanced, X[rare], Y[rare], sizes, classes=[0, 1, 2])
    masses = np.bincount(Y[rare[:76]])
    np.testing.assert_array_equal(balanced._online["seen"]["mass"], masses)
    plain = streamed(SoftmaxRegression(), X[rare], Y[rare], sizes, classes=[0, 1, 2])
    assert balanced.predict_proba(X)[:, 0].sum() > plain.predict_proba(X)[:, 0].sum()


def test_class_weights_and_the_batch_size_are_heard():
    plain = SoftmaxRegression().partial_fit(X, Y, classes=[0, 1, 2])
    heavy = SoftmaxRegression(class_weight={0: 10.0})
    heavy.partial_fit(X, Y, classes=[0, 1, 2])
    assert (heavy.predict(X) == 0).sum() >= (plain.predict(X) == 0).sum()
    assert heavy.weight_decay_ < plain.weight_decay_
    small = SoftmaxRegression(solver=MiniBatch(batch_size=10))
    small.partial_fit(X, Y, classes=[0, 1, 2])
    assert small.n_iter_ > plain.n_iter_ == 1


def test_random_state_reproduces_the_order():
    X, y = load_iris(return_X_y=True)
    models = [
        SoftmaxRegression(solver=MiniBatch(batch_size=10), random_state=seed)
        for seed in (0, 0, 1)
    ]
    one, same, other = (m.partial_fit(X, y, classes=[0, 1, 2]).coef_ for m in models)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def gaussian(n_rows):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 6))
    y = (X @ rng.normal(size=(6, 3)) + rng.gumbel(size=(n_rows, 3))).argmax(axis=1)
    return X, y


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("C", [1.0, 100.0, np.inf])
def test_few_rows_after_a_fit_do_it_no_harm(size, C):
    X, y = gaussian(3100)
    model = SoftmaxRegression(C=C).fit(X[:3000], y[:3000])
    before = log_loss(y, model.predict_proba(X))
    for start in range(3000, 3100, size):
        model.partial_fit(X[start : start + size], y[start : start + size])
    assert log_loss(y, model.predict_proba(X)) < before + 0.03


@pytest.mark.parametrize(
    ("size", "C"), [(2, np.inf), (6, 1.0), (6, np.inf), (30, 1.0), (30, np.inf)]
)
def test_small_batches_do_not_diverge(size, C):
    X, y = gaussian(1200)
    model = streamed(
        SoftmaxRegression(C=C), X, y, [size] * (len(y) // size), classes=[0, 1, 2]
    )
    best = log_loss(y, SoftmaxRegression(C=C).fit(X, y).predict_proba(X))
    assert log_loss(y, model.predict_proba(X)) < best + 0.15


def test_columns_of_subnormal_squares_count_as_absent():
    X, y = gaussian(600)
    scaled = X * [1e-158, 1, 1, 1, 1, 1]
    without = SoftmaxRegression().partial_fit(X[:, 1:], y, classes=[0, 1, 2])
    model = SoftmaxRegression().partial_fit(scaled, y, classes=[0, 1, 2])
    np.testing.assert_allclose(model.coef_[:, 1:], without.coef_, rtol=1e-4)
    assert SoftmaxRegression().fit(scaled, y).converged_


def test_soft_targets_keep_the_names_of_the_classes():
    names = np.array(list("abc"))
    model = SoftmaxRegression().fit(X, names[Y])
    model.partial_fit(X[:5], np.eye(3)[Y[:5]])
    assert model.classes_.tolist() == ["a", "b", "c"]
    model.partial_fit(X[:5], names[Y[:5]])


@pytest.mark.parametrize("before", [True, False])
def test_the_intercept_stays_what_it_was(before):
    model = SoftmaxRegression(fit_intercept=before)
    model.partial_fit(X, Y, classes=[0, 1, 2]).set_params(fit_intercept=not before)
    with pytest.raises(ValueError, match="fit_intercept must stay"):
        model.partial_fit(X, Y)


def test_many_classes_make_no_warning():
    rng = np.random.default_rng(0)
    model = SoftmaxRegression()
    for _ in range(3):
        labels = rng.integers(0, 30, 25)
        model.partial_fit(rng.normal(size=(25, 4)), labels, classes=range(30))
    assert len(model.classes_) == 30


def test_a_failed_call_after_sparsify_changes_nothing():
    model = SoftmaxRegression().fit(X, Y).sparsify()
    with pytest.raises(ValueError, match="besides"):
        model.partial_fit(X[:2], [0, 9])
    assert scipy.sparse.issparse(model.coef_)
    model.partial_fit(X[:2], Y[:2])
    assert isinstance(model.coef_, np.ndarray)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (np.eye(3), "1d array"),
        ([0.5, 1.5], "fractions"),
        ([np.nan, 1.0], "classes contains NaN"),
    ],
)
def test_bad_classes_are_called_that(classes, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegression().partial_fit(X, Y, classes=classes)


def test_weights_that_add_up_to_infinity_are_refused():
    model = SoftmaxRegression().partial_fit(X, Y, [0, 1, 2], np.full(178, 5e305))
    with pytest.raises(ValueError, match="finite sum"):
        model.partial_fit(X, Y, sample_weight=np.full(178, 9e305))


def test_a_clone_forgets():
    model = SoftmaxRegression().partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="first call"):
        clone(model).partial_fit(X, Y)


def test_no_warning_in_any_batch():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        streamed(SoftmaxRegression(C=np.inf), X, Y, [1] * 30, classes=[0, 1, 2])


def test_coefficients_whose_rows_are_not_known_are_refused():
    model = RobustSoftmaxRegression().fit(X, Y).estimator_
    with pytest.raises(ValueError, match="must know the rows of an earlier fit"):
        model.partial_fit(X, Y)
    model.fit(X, Y).partial_fit(X, Y)
