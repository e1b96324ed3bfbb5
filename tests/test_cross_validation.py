"""SoftmaxRegressionCV and softmax_path against separate fits and scikit-learn."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import accuracy_score, get_scorer, log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softreg import SoftmaxRegression, SoftmaxRegressionCV, softmax_path
from softreg._search import chosen_index

CS = [0.01, 1.0, 100.0]
COST = np.array([[0, 1, 2], [1, 0, 0.5], [0.2, 1, 0]])
SOFT = np.random.default_rng(5).dirichlet(np.ones(3), size=178)
# name: parameters, and which data
OPTIONS = {
    "plain": ({}, "wine"),
    "two classes": ({}, "cancer"),
    "sparse": ({}, "sparse"),
    "float32": ({}, "float32"),
    "wide": ({}, "wide"),
    "entmax15": ({"loss": "entmax15"}, "wine"),
    "sparsemax": ({"loss": "sparsemax", "tol": 1e-6}, "iris"),
    "heavy tails": ({"loss": 0.5}, "iris"),
    "balanced": ({"class_weight": "balanced"}, "wine"),
    "class weights": ({"class_weight": {0: 3.0, 1: 0.5}}, "wine"),
    "smoothing": ({"label_smoothing": 0.1, "temperature": 2.0}, "wine"),
    "margin": ({"margin": COST}, "wine"),
    "no intercept": ({"fit_intercept": False}, "iris"),
    "penalised intercept": ({"penalize_intercept": True}, "iris"),
    "soft targets": ({}, "soft"),
    "lbfgs": ({"solver": "lbfgs"}, "iris"),
    "newton-cg": ({"solver": "newton-cg"}, "wine"),
    "newton-cholesky": ({"solver": "newton-cholesky"}, "wine"),
}


def data_of(name):
    if name == "cancer":
        return load_breast_cancer(return_X_y=True)
    if name == "iris":
        return load_iris(return_X_y=True)
    X, y = load_wine(return_X_y=True)
    if name == "sparse":
        X = StandardScaler().fit_transform(X)
        return scipy.sparse.csr_array(np.where(X > 0.3, X, 0)), y
    if name == "float32":
        return X.astype(np.float32), y
    if name == "wide":
        rng = np.random.default_rng(0)
        return StandardScaler().fit_transform(X)[:40] @ rng.normal(size=(13, 90)), y[
            np.linspace(0, 177, 40).astype(int)
        ]
    return X, SOFT if name == "soft" else y


def splits_of(X, y):
    splitter = KFold(3, shuffle=True, random_state=0)
    return list(splitter.split(X, y))


def assert_same_optimum(coef, single, gap, decay):
    """Both lie within the radius that their proven gaps allow (strong convexity)."""
    distance = np.linalg.norm(coef[:, :-1] - single.coef_)
    radius = np.sqrt(2 / decay) * (gap**0.5 + single.optimality_gap_**0.5)
    assert distance <= radius + 1e-12


@pytest.mark.parametrize("name", OPTIONS)
def test_each_fit_of_the_search_is_the_separate_fit(name):
    params, data = OPTIONS[name]
    X, y = data_of(data)
    splits = splits_of(X, y)
    weight = np.random.default_rng(1).exponential(size=X.shape[0])
    weight[::9] = 0
    scoring = "neg_log_loss" if data == "soft" else None
    model = SoftmaxRegressionCV(CS, cv=splits, scoring=scoring, **params)
    model.fit(X, y, weight)
    assert model.scores_.shape == model.n_iter_.shape == (3, 3)
    for fold, (train, _) in enumerate(splits):
        for index, C in enumerate(CS):
            single = SoftmaxRegression(C, **params)
            single.fit(X[train], y[train], weight[train])
            gap = model.optimality_gaps_[fold, index]
            value = model.objectives_[fold, index]
            # float32 coefficients end where their rounding does.
            assert gap <= model.tol * value
            assert abs(value - single.objective_) <= max(gap, single.optimality_gap_)
            assert_same_optimum(
                model.coefs_paths_[fold, index], single, gap, single.weight_decay_
            )
    final = SoftmaxRegression(model.C_, **params).fit(X, y, weight)
    assert model.converged_
    assert model.weight_decay_ == pytest.approx(final.weight_decay_)
    assert model.objective_ <= final.objective_ + model.optimality_gap_
    own = np.column_stack([model.coef_, model.intercept_])
    assert_same_optimum(own, final, model.optimality_gap_, final.weight_decay_)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.booleans())
def test_any_folds_any_weights(seed, n_classes, repeats):
    rng = np.random.default_rng(seed)
    n = 60
    X = rng.normal(size=(n, 3)) * rng.choice([0.01, 1, 100], 3)
    y = rng.integers(0, n_classes, n)
    y[:n_classes] = np.arange(n_classes)
    weight = rng.exponential(size=n)
    rows = np.arange(n)
    splits = []
    for _ in range(2):
        train = rng.choice(rows, 40, replace=repeats)
        train = np.concatenate([train, rows[:n_classes]])
        splits.append((train, rng.choice(rows, 15, replace=repeats)))
    model = SoftmaxRegressionCV([0.1, 10], cv=splits, tol=1e-9).fit(X, y, weight)
    for fold, (train, test) in enumerate(splits):
        for index, C in enumerate(model.Cs_):
            single = SoftmaxRegression(C, tol=1e-9)
            single.fit(X[train], y[train], weight[train])
            assert_same_optimum(
                model.coefs_paths_[fold, index], single,
                model.optimality_gaps_[fold, index], single.weight_decay_,
            )  # fmt: skip
            score = single.score(X[test], y[test], weight[test])
            assert model.scores_[fold, index] == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize(
    "scoring",
    [None, "accuracy", "neg_log_loss", "balanced_accuracy", "roc_auc_ovr", "f1_macro"],
)
@pytest.mark.parametrize("data", ["wine", "cancer", "float32", "sparse"])
def test_scores_are_those_of_cross_val_score(scoring, data):
    if data == "cancer" and scoring == "roc_auc_ovr":
        scoring = "roc_auc"
    X, y = data_of(data)
    model = SoftmaxRegressionCV(CS, scoring=scoring, tol=1e-10).fit(X, y)
    for index, C in enumerate(CS):
        single = SoftmaxRegression(C, tol=1e-10)
        expected = cross_val_score(single, X, y, scoring=scoring)
        close = {"atol": 1e-5 if data == "float32" else 1e-6}
        np.testing.assert_allclose(model.scores_[:, index], expected, **close)


@pytest.mark.parametrize("loss", ["entmax15", "sparsemax", 0.5])
@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss"])
def test_scores_of_other_losses_with_margin_and_temperature(loss, scoring):
    X, y = load_iris(return_X_y=True)
    params = {"loss": loss, "margin": 0.3, "temperature": 0.7, "label_smoothing": 0.05}
    model = SoftmaxRegressionCV([1.0], scoring=scoring, tol=1e-9, **params).fit(X, y)
    single = SoftmaxRegression(1.0, tol=1e-9, **params)
    expected = cross_val_score(single, X, y, scoring=scoring)
    np.testing.assert_allclose(model.scores_[:, 0], expected, rtol=1e-4)


def test_held_out_scores_are_not_read_again(monkeypatch):
    X, y = load_wine(return_X_y=True)

    def refuse(*args):
        raise AssertionError("prediction was asked for")

    expected = SoftmaxRegressionCV(CS).fit(X, y).scores_
    monkeypatch.setattr("softreg._prediction.apply_rows", refuse)
    np.testing.assert_array_equal(SoftmaxRegressionCV(CS).fit(X, y).scores_, expected)
    SoftmaxRegressionCV(CS, scoring="neg_log_loss").fit(X, y)
    with pytest.raises(ValueError, match="prediction was asked for"):
        SoftmaxRegressionCV(CS, scoring="f1_macro").fit(X, y)


def test_ties_are_scored_as_predict_decides_them():
    # Rows of zeros have equal scores without an intercept: the first class.
    X = np.concatenate(
        [np.zeros((12, 2)), np.random.default_rng(0).normal(size=(12, 2))]
    )
    y = np.tile([2, 0, 1], 8)
    model = SoftmaxRegressionCV(CS, fit_intercept=False, cv=3, tol=1e-10).fit(X, y)
    for index, C in enumerate(CS):
        single = SoftmaxRegression(C, fit_intercept=False, tol=1e-10)
        expected = cross_val_score(single, X, y, cv=3)
        np.testing.assert_allclose(model.scores_[:, index], expected)


GROUPS = np.arange(178) // 10
SPLITTERS = {
    "none": None,
    "integer": 3,
    "shuffled": KFold(4, shuffle=True, random_state=1),
    "random": StratifiedShuffleSplit(3, test_size=0.3, random_state=0),
    "repeated": RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    "groups": GroupKFold(3),
    "predefined": PredefinedSplit(np.arange(178) % 4 - 1),
}


@pytest.mark.parametrize("name", SPLITTERS)
def test_any_splitter_gives_the_scores_of_grid_search(name):
    X, y = load_wine(return_X_y=True)
    # Rows come by class: shuffled, groups have all of them.
    order = np.random.default_rng(0).permutation(178)
    X, y, cv = X[order], y[order], SPLITTERS[name]
    params = {"groups": GROUPS} if name == "groups" else {}
    model = SoftmaxRegressionCV(CS, cv=cv, tol=1e-8).fit(X, y, **params)
    grid = GridSearchCV(SoftmaxRegression(tol=1e-8), {"C": CS}, cv=cv)
    grid.fit(X, y, **params)
    n_folds = len(model.scores_)
    for fold in range(n_folds):
        expected = grid.cv_results_[f"split{fold}_test_score"]
        np.testing.assert_allclose(model.scores_[fold], expected)
    assert grid.best_params_["C"] == model.C_
    np.testing.assert_allclose(model.coef_, grid.best_estimator_.coef_, rtol=1e-3)


def test_masks_and_rows_drawn_twice_are_splits():
    X, y = load_iris(return_X_y=True)
    mask = np.arange(150) % 3 > 0
    rows = np.random.default_rng(0).integers(0, 150, 150)
    splits = [(mask, ~mask), (rows, np.arange(150))]
    model = SoftmaxRegressionCV([1.0], cv=splits, tol=1e-9).fit(X, y)
    for fold, (train, test) in enumerate(splits):
        single = SoftmaxRegression(tol=1e-9).fit(X[train], y[train])
        np.testing.assert_allclose(
            model.coefs_paths_[fold, 0, :, :-1], single.coef_, atol=1e-4
        )
        assert model.scores_[fold, 0] == pytest.approx(single.score(X[test], y[test]))


# -- classes that a fold lacks -------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"fit_intercept": False},
        pytest.param({"loss": "sparsemax"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("n_classes", [3, 5])
def test_a_class_that_a_fold_lacks_keeps_its_column(n_classes, params):
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    lacks = y == 1
    splits = [*splits_of(X, y)[:1], (np.flatnonzero(~lacks), np.arange(0, len(y), 2))]
    model = SoftmaxRegressionCV(CS, cv=splits, scoring="neg_log_loss", **params)
    model.fit(X, y)
    test = splits[1][1]
    for index, C in enumerate(CS):
        single = SoftmaxRegression(C, **params).fit(X[~lacks], y[~lacks])
        coef = model.coefs_paths_[1, index]
        assert np.isneginf(coef[1, -1])
        assert not coef[1, :-1].any()
        kept = np.delete(coef, 1, axis=0)
        own = np.column_stack([single.coef_, single.intercept_])
        if len(own) == 1:
            own = np.concatenate([-own / 2, own / 2])
        size = abs(own).max()
        np.testing.assert_allclose(kept, own, atol=0.03 * size)
        proba = np.insert(single.predict_proba(X[test]), 1, 0, axis=1)
        expected = -log_loss(y[test], proba, labels=np.arange(n_classes))
        assert model.scores_[1, index] == pytest.approx(expected, rel=1e-2)
    by_hits = clone(model).set_params(scoring=None).fit(X, y)
    accuracy = single.score(X[test], y[test])
    assert by_hits.scores_[1, -1] == pytest.approx(accuracy, abs=3 / len(test))
    # Scorers that predict see the class at probability 0.
    asked = clone(model).set_params(scoring=make_scorer(accuracy_score)).fit(X, y)
    np.testing.assert_allclose(asked.scores_, by_hits.scores_)


def test_folds_without_a_class_leave_its_mean_to_the_others():
    X, y = load_iris(return_X_y=True)
    splits = [*splits_of(X, y), (np.flatnonzero(y != 2), np.arange(150))]
    model = SoftmaxRegressionCV([1.0], cv=splits, refit=False).fit(X, y)
    coefs = model.coefs_paths_[:, 0]
    expected = coefs[:3, 2].mean(axis=0) - coefs[:, 1].mean(axis=0)
    own = model.coef_[2] - model.coef_[1]
    np.testing.assert_allclose(own, expected[:-1], atol=1e-12)
    assert model.predict_proba(X)[:, 2].max() > 0.5


def test_soft_targets_may_lack_a_class_in_a_fold():
    rng = np.random.default_rng(0)
    X, rows = rng.normal(size=(60, 3)), rng.dirichlet(np.ones(3), 60)
    rows[:40, 2] = 0
    rows /= rows.sum(axis=1, keepdims=True)
    splits = [(np.arange(40), np.arange(30, 60)), (np.arange(20, 60), np.arange(20))]
    model = SoftmaxRegressionCV(CS, cv=splits, scoring="neg_log_loss", tol=1e-9)
    model.fit(X, rows)
    single = SoftmaxRegression(CS[1], tol=1e-9).fit(X[:40], rows[:40, :2])
    proba = np.insert(single.predict_proba(X[30:]), 2, 0, axis=1)
    tiny = np.finfo(float).eps
    expected = (rows[30:] * np.log(np.clip(proba, tiny, 1 - tiny))).sum(axis=1).mean()
    assert model.scores_[0, 1] == pytest.approx(expected)


def test_no_fold_may_lack_a_class_that_is_averaged():
    splits = [(np.flatnonzero(Y_IRIS != 0), np.arange(150))]
    with pytest.raises(ValueError, match=r"every class .* got none with \[0\]"):
        SoftmaxRegressionCV(CS, cv=splits, refit=False).fit(X_IRIS, Y_IRIS)
    assert SoftmaxRegressionCV(CS, cv=splits).fit(X_IRIS, Y_IRIS).score(X_IRIS, Y_IRIS)


@pytest.mark.parametrize("soft", [False, True])
def test_top_k_is_scored_by_its_own_probabilities(soft):
    X = X_IRIS
    rng = np.random.default_rng(0)
    y = rng.dirichlet(np.ones(3), 150) if soft else Y_IRIS
    splits = [(np.arange(0, 150, 2), np.arange(1, 100, 2))]
    model = SoftmaxRegressionCV([0.1], cv=splits, scoring="neg_log_loss", loss="topk-2")
    model.fit(X, y)
    single = SoftmaxRegression(0.1, loss="topk-2").fit(X[::2], y[::2])
    tiny = np.finfo(float).eps
    proba = np.clip(single.predict_proba(X[1:100:2]), tiny, 1 - tiny)
    rows = y[1:100:2] if soft else np.eye(3)[y[1:100:2]]
    expected = (rows * np.log(proba)).sum(axis=1).mean()
    assert model.scores_[0, 0] == pytest.approx(expected, rel=0.02)


def test_rows_of_a_class_that_weighs_nothing_count_as_wrong():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegressionCV([1.0], class_weight={2: 0.0}, tol=1e-9).fit(X, y)
    single = SoftmaxRegression(class_weight={2: 0.0}, tol=1e-9)
    np.testing.assert_allclose(model.scores_[:, 0], cross_val_score(single, X, y))
    assert model.classes_.tolist() == [0, 1]


# -- the choice ------------------------------------------------------------------------


def test_the_strongest_of_equal_penalties_is_chosen():
    values = np.array([10.0, 0.1, 1.0])
    scores = np.array([[0.8, 0.7, 0.8], [0.6, 0.7, 0.6 + 1e-16]])
    assert chosen_index(values, scores, "best") == 1
    assert chosen_index(values, scores - [0, 0.1, 0], "best") == 2


def test_one_standard_error_is_that_of_the_best():
    values = np.array([0.01, 0.1, 1.0, 10.0])
    scores = np.array(
        [[0.5, 0.75, 0.85, 0.8], [0.5, 0.7, 0.75, 0.7], [0.5, 0.8, 0.8, 0.7]]
    )
    error = scores[:, 2].std(ddof=1) / 3**0.5
    assert error == pytest.approx(0.0288675)
    assert chosen_index(values, scores, "best") == 2
    assert chosen_index(values, scores, "1se") == 2
    scores[:, 1] += 0.03
    assert chosen_index(values, scores, "1se") == 1
    # Losses are negative, and so are their means.
    assert chosen_index(values, scores - 3, "1se") == 1


def test_the_1se_rule_penalises_more_than_the_best():
    X, y = load_wine(return_X_y=True)
    best = SoftmaxRegressionCV(20).fit(X, y)
    sparing = SoftmaxRegressionCV(20, selection="1se").fit(X, y)
    np.testing.assert_array_equal(best.scores_, sparing.scores_)
    assert sparing.C_ < best.C_
    mean = best.scores_.mean(axis=0)
    error = best.scores_[:, mean.argmax()].std(ddof=1) / 5**0.5
    assert mean[sparing.Cs_ == sparing.C_] >= mean.max() - error


def test_without_refit_the_folds_are_averaged():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegressionCV(CS, refit=False).fit(X, y)
    chosen = CS.index(model.C_)
    mean = model.coefs_paths_[:, chosen].mean(axis=0)
    np.testing.assert_allclose(model.coef_, mean[:, :-1], atol=1e-12)
    np.testing.assert_allclose(model.intercept_, mean[:, -1], atol=1e-12)
    optimum = SoftmaxRegression(model.C_, tol=1e-10).fit(X, y)
    assert model.converged_
    assert optimum.objective_ < model.objective_
    assert model.objective_ - model.optimality_gap_ <= optimum.objective_
    assert len(model.history_["passes"]) == 1


def test_values_keep_their_order_and_an_integer_is_a_grid():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegressionCV([100.0, 0.01, 1.0], cv=3).fit(X, y)
    same = SoftmaxRegressionCV(CS, cv=3).fit(X, y)
    np.testing.assert_array_equal(model.scores_, same.scores_[:, [2, 0, 1]])
    np.testing.assert_array_equal(model.coefs_paths_, same.coefs_paths_[:, [2, 0, 1]])
    assert model.C_ == same.C_
    grid = SoftmaxRegressionCV(4, cv=2).fit(X, y)
    np.testing.assert_allclose(grid.Cs_, np.logspace(-4, 4, 4))


def test_choice_is_that_of_scikit_learn():
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    Cs = np.logspace(-3, 3, 7)
    ours = SoftmaxRegressionCV(Cs, scoring="neg_log_loss").fit(X, y)
    theirs = LogisticRegressionCV(
        Cs=Cs, scoring="neg_log_loss", tol=1e-8, max_iter=10_000,
        use_legacy_attributes=False, l1_ratios=(0.0,),
    ).fit(X, y)  # fmt: skip
    assert pytest.approx(theirs.C_) == ours.C_
    scores = theirs.scores_.reshape(5, 7)
    np.testing.assert_allclose(ours.scores_, scores, atol=1e-3)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-2)


# -- weights, groups and metadata ------------------------------------------------------


def test_weights_count_in_the_scores_too():
    X, y = load_iris(return_X_y=True)
    weight = np.random.default_rng(0).exponential(size=150)
    SoftmaxRegressionCV([1.0], scoring="f1_macro").fit(X, y, 2.0)
    for scoring in (None, "neg_log_loss", "balanced_accuracy"):
        model = SoftmaxRegressionCV([1.0], scoring=scoring, tol=1e-9).fit(X, y, weight)
        scorer = get_scorer(scoring or "accuracy")
        for fold, (train, test) in enumerate(StratifiedKFold(5).split(X, y)):
            single = SoftmaxRegression(tol=1e-9).fit(X[train], y[train], weight[train])
            expected = scorer(single, X[test], y[test], sample_weight=weight[test])
            assert model.scores_[fold, 0] == pytest.approx(expected, rel=1e-4)


def test_metadata_goes_where_it_was_requested():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    X, y = X[order], y[order]
    weight, groups = (
        np.random.default_rng(0).exponential(size=150),
        np.arange(150) // 10,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        results = []
        for weighted in (True, False):
            scorer = get_scorer("neg_log_loss")
            scorer = scorer.set_score_request(sample_weight=weighted)
            model = SoftmaxRegressionCV(CS, cv=GroupKFold(3), scoring=scorer)
            model.set_fit_request(sample_weight=True)
            results.append(model.fit(X, y, sample_weight=weight, groups=groups))
        score = results[0].score(X, y, sample_weight=weight)
    same = SoftmaxRegressionCV(CS, cv=GroupKFold(3), scoring="neg_log_loss")
    same.fit(X, y, weight, groups=groups)
    np.testing.assert_allclose(results[0].scores_, same.scores_)
    np.testing.assert_allclose(results[0].coef_, results[1].coef_, atol=1e-2)
    assert abs(results[0].scores_ - results[1].scores_).max() > 1e-3
    assert score == pytest.approx(same.score(X, y, weight))


def test_score_uses_the_scoring():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegressionCV(CS, scoring="neg_log_loss", cv=3).fit(X, y)
    assert model.score(X, y) == pytest.approx(-log_loss(y, model.predict_proba(X)))
    model.set_params(scoring=None)
    assert model.score(X, y) == accuracy_score(y, model.predict(X))


# -- kinds of input --------------------------------------------------------------------


def test_a_scorer_sees_the_fit_it_scores():
    def scorer(estimator, X, y):
        assert estimator.n_iter_ >= 0
        assert estimator.optimality_gap_ <= 1e-4 * estimator.objective_
        return estimator.C

    model = SoftmaxRegressionCV(CS, scoring=scorer, cv=2).fit(X_IRIS, Y_IRIS)
    np.testing.assert_array_equal(model.scores_, [CS, CS])


def test_score_takes_soft_targets_by_their_cross_entropy():
    X, _ = data_of("soft")
    weight = np.random.default_rng(0).exponential(size=178)
    model = SoftmaxRegressionCV([1.0], scoring="neg_log_loss").fit(X, SOFT)
    expected = np.average(
        (SOFT * model.predict_log_proba(X)).sum(axis=1), weights=weight
    )
    assert model.score(X, SOFT, weight) == pytest.approx(expected)


def test_frames_and_labels_of_strings():
    X, y = load_iris(return_X_y=True, as_frame=True)
    labels = pd.Series(np.array(["setosa", "versicolor", "virginica"])[y])
    seen = []

    def scorer(estimator, rows, truth):
        seen.append((type(rows), estimator.feature_names_in_.tolist()))
        return estimator.score(rows, truth)

    model = SoftmaxRegressionCV(CS, scoring=scorer, cv=3).fit(X, labels)
    plain = SoftmaxRegressionCV(CS, cv=3).fit(X, labels)
    np.testing.assert_allclose(model.scores_, plain.scores_)
    assert set(map(type, seen)) == {tuple}
    assert seen[0] == (pd.DataFrame, X.columns.tolist())
    assert plain.feature_names_in_.tolist() == X.columns.tolist()
    assert set(plain.predict(X)) == {"setosa", "versicolor", "virginica"}
    other = SoftmaxRegressionCV(CS, scoring="f1_macro", cv=3)
    other.fit(pl.from_pandas(X), labels.to_list())
    assert other.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_any_sparse_format_and_lists():
    X, y = load_iris(return_X_y=True)
    dense = SoftmaxRegressionCV(CS, scoring="f1_macro", cv=3).fit(
        X.tolist(), y.tolist()
    )
    sparse = clone(dense).fit(scipy.sparse.coo_array(X), y)
    np.testing.assert_allclose(dense.scores_, sparse.scores_)


def test_the_same_bits_for_any_number_of_threads():
    X, y = load_digits(return_X_y=True)
    models = [SoftmaxRegressionCV(CS, cv=3, n_jobs=n).fit(X, y) for n in (1, 2)]
    for name in ("coef_", "coefs_paths_", "scores_"):
        np.testing.assert_array_equal(*(getattr(m, name) for m in models))


@pytest.mark.slow
def test_a_search_reads_x_less_often_than_its_fits(monkeypatch):
    X, y = load_digits(return_X_y=True)
    passes = []
    from softreg._blocks import Engine

    class Counting(Engine):
        def __init__(self, *args):
            super().__init__(*args)
            passes.append(self)

    monkeypatch.setattr("softreg._data.Engine", Counting)
    SoftmaxRegressionCV(5).fit(X, y)
    together = sum(engine.passes for engine in passes)
    alone = sum(
        SoftmaxRegression(C).fit(X[train], y[train]).history_["passes"][-1]
        for train, _ in StratifiedKFold(5).split(X, y)
        for C in np.logspace(-4, 4, 5)
    )
    assert together < alone / 4


def test_a_warm_start_resumes_the_paths():
    X, y = load_digits(return_X_y=True)
    model = SoftmaxRegressionCV(CS, cv=3, warm_start=True).fit(X, y)
    cold, coef = model.n_iter_.sum(), model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_.sum() < cold / 3
    np.testing.assert_allclose(model.coef_, coef, atol=1e-2 * abs(coef).max())
    model.set_params(cv=4).fit(X, y)
    assert model.scores_.shape == (4, 3)


# -- searches around it ----------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_over_other_parameters(n_jobs):
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), SoftmaxRegression())
    grid = {
        "softmaxregression__C": [0.1, 10],
        "softmaxregression__label_smoothing": [0, 0.1],
        "softmaxregression__loss": ["softmax", "sparsemax"],
    }
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=n_jobs).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    inner = make_pipeline(StandardScaler(), SoftmaxRegressionCV(CS, cv=3))
    nested = GridSearchCV(
        inner, {"softmaxregressioncv__label_smoothing": [0, 0.1]}, cv=3, n_jobs=n_jobs
    ).fit(X, y)
    assert nested.best_score_ > 0.9


def test_verbose_prints_a_line_for_each_value(capsys):
    X, y = load_iris(return_X_y=True)
    SoftmaxRegressionCV(CS, verbose=1, cv=3).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["0.01", "1", "100"]
    assert all(line.startswith("iteration") for line in lines[3:])
    SoftmaxRegressionCV(CS, cv=3).fit(X, y)
    assert capsys.readouterr().out == ""


# -- what goes wrong -------------------------------------------------------------------


def test_one_warning_says_how_many_fits_stopped():
    X, y = load_wine(return_X_y=True)
    model = SoftmaxRegressionCV(CS, cv=3, max_iter=2, solver="newton-cg")
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(X, y)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert caught[0].filename == __file__
    assert "of 10 fits stopped before tol. The worst, at C=" in text
    assert "(max_iter)" in text
    assert not model.converged_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftmaxRegressionCV(CS, cv=3).fit(X, y)


def fails_at_weak_penalty(estimator, X, y):
    if np.linalg.norm(estimator.coef_) > 1.5:
        raise RuntimeError("no such thing")
    return 1.0


X_IRIS, Y_IRIS = load_iris(return_X_y=True)
ONE_CLASS = [(np.arange(50, 150), np.arange(50)), (np.arange(50), np.arange(50, 150))]
BAD = {
    "no C": ({"Cs": []}, ValueError, r"Cs must be an integer or a list of one or more"),
    "numbers as text": ({"Cs": ["1", "2"]}, TypeError, "Cs must be an integer or a l"),
    "flags": ({"Cs": [True, 2]}, TypeError, "Cs must be an integer or a list"),
    "no grid": ({"Cs": 0}, ValueError, "Cs must be from 1 to 10000, got 0"),
    "an endless grid": ({"Cs": 10**12}, ValueError, "Cs must be from 1 to 10000"),
    "zero": ({"Cs": [1, 0.0]}, ValueError, r"Cs must be finite .* got \[0.0\]"),
    "negative": ({"Cs": [-1]}, ValueError, r"got \[-1.0\]"),
    "infinite": ({"Cs": [1, np.inf]}, ValueError, r"finite and above 0, got \[inf\]"),
    "nan": ({"Cs": [np.nan]}, ValueError, r"got \[nan\]"),
    "text": ({"Cs": "many"}, TypeError, "Cs must be an integer or a list"),
    "bool": ({"Cs": True}, ValueError, "Cs must be an integer or a list"),
    "matrix": ({"Cs": [[1.0]]}, ValueError, "Cs must be an integer or a list"),
    "one class": ({"cv": ONE_CLASS}, ValueError,
                  "Fold 1 of cv must have at least two classes .* one class only: 0"),
    "no splits": ({"cv": []}, ValueError, "at least one split, got none"),
    "no rows": ({"cv": [([0, 60, 120], [])]}, ValueError, "Fold 0 .* hold out rows"),
    "no training rows": ({"cv": [([], [1])]}, ValueError, "Fold 0 .* positive weight"),
    "rows beyond": ({"cv": [([0, 60, 900], [1])]}, ValueError, "Fold 0 .* below 150"),
    "not pairs": ({"cv": [[1, 2, 3]]}, ValueError, "must be None, an integer of 2 or"),
    "scorer": ({"scoring": fails_at_weak_penalty}, ValueError,
               "scoring failed on fold 0 at C=1: no such thing"),
    "nan score": ({"scoring": lambda *args: np.nan}, ValueError,
                  "finite numbers, got nan on fold 0 at C=0.01"),
    "lacking": ({"scoring": "roc_auc"}, ValueError, "failed on fold 0 at C=0.01"),
    "unknown score": ({"scoring": "beauty"}, ValueError, "beauty"),
    "metric": ({"scoring": accuracy_score}, ValueError, "metric function"),
    "many scores": ({"scoring": ["accuracy"]}, TypeError, "scoring must be None"),
    "selection": ({"selection": "worst"}, ValueError, "selection must be one of"),
    "1se of one": ({"selection": "1se", "cv": [(np.arange(0, 150, 2), [1, 3])]},
                   ValueError, "at least two folds"),
    "underflow": ({"Cs": [5e-324]}, ValueError, "underflow, got C=4.94066e-324"),
    "columns": ({"cv": [(np.eye(9, dtype=int), [1])]}, ValueError, "Fold 0 .* shapes"),
    "a number": ({"cv": [(np.arange(100), 5)]}, ValueError, "Fold 0 .* shapes"),
    "one fold": ({"cv": 1}, ValueError, "(?s)k-fold.*cv must be None, an integer"),
    "refit": ({"refit": 1}, ValueError, "refit must be True or False"),
    "loss": ({"loss": "hinge"}, ValueError, "loss must be one of"),
    "top-k": ({"loss": "topk-3", "cv": [(np.arange(100), [1, 3])]}, ValueError,
              "Fold 0 of cv: loss must be 'topk-<k>' with k from 2 to the 2 classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_leaves_no_trace(name):
    params, error, message = BAD[name]
    model = SoftmaxRegressionCV(CS, cv=3).fit(X_IRIS, Y_IRIS)
    before = dict(model.__dict__)
    model.set_params(**params)
    with pytest.raises(error, match=message):
        model.fit(X_IRIS, Y_IRIS)
    model.set_params(**SoftmaxRegressionCV(CS, cv=3).get_params())
    assert model.__dict__ == before


def test_a_scorer_without_weights_is_named_as_the_cause():
    def plain(estimator, X, y):
        return estimator.score(X, y)

    with pytest.raises(ValueError, match=r"(?s)on fold 0 .*takes sample_weight where"):
        SoftmaxRegressionCV([1.0], scoring=plain).fit(X_IRIS, Y_IRIS, np.ones(150))


def test_weights_and_metadata_that_do_not_fit_are_refused():
    weight = np.ones(150)
    weight[:50] = 0
    with pytest.raises(ValueError, match="Fold 0 of cv must hold out rows of positive"):
        SoftmaxRegressionCV(cv=[(np.arange(50, 150), np.arange(50))]).fit(
            X_IRIS, Y_IRIS, weight
        )
    with pytest.raises(TypeError, match=r"got \['colour'\]. Enable"):
        SoftmaxRegressionCV().fit(X_IRIS, Y_IRIS, colour="red")
    with pytest.raises(ValueError, match="scoring must be 'neg_log_loss' with soft"):
        SoftmaxRegressionCV().fit(data_of("soft")[0], SOFT)
    with pytest.raises(ValueError, match="groups"):
        SoftmaxRegressionCV(cv=GroupKFold(3)).fit(X_IRIS, Y_IRIS)


# -- the path --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", ["wine", "cancer", "sparse", "wide", "float32", "soft"]
)
def test_each_point_of_the_path_is_the_separate_fit(data):
    X, y = data_of(data)
    Cs = [10.0, 0.01, 1.0]
    path = softmax_path(X, y, Cs=Cs)
    np.testing.assert_array_equal(path.Cs, Cs)
    for index, C in enumerate(Cs):
        single = SoftmaxRegression(C).fit(X, y)
        assert path.coefs[index].shape == single.coef_.shape
        assert path.coefs.dtype == single.coef_.dtype
        gap = path.optimality_gaps[index]
        assert gap <= 1e-4 * path.objectives[index]
        own = np.column_stack([path.coefs[index], path.intercepts[index]])
        assert_same_optimum(own, single, gap, single.weight_decay_)


def test_the_path_takes_weights_and_parameters():
    X, y = load_iris(return_X_y=True)
    weight = np.random.default_rng(0).exponential(size=150)
    params = {"loss": "entmax15", "class_weight": "balanced", "tol": 1e-8}
    path = softmax_path(X, y, Cs=3, sample_weight=weight, **params)
    assert path.coefs.shape == (3, 3, 4)
    single = SoftmaxRegression(1.0, **params).fit(X, y, weight)
    np.testing.assert_allclose(path.coefs[1], single.coef_, atol=1e-4)
    np.testing.assert_allclose(path.intercepts[1], single.intercept_, atol=1e-4)
    assert (path.n_iter >= 1).all()


def test_bad_input_to_the_path():
    X, y = X_IRIS, Y_IRIS
    for name in ("C", "weight_decay", "warm_start", "gamma"):
        with pytest.raises(TypeError, match=f"got \\['{name}'\\]. Pass the values"):
            softmax_path(X, y, **{name: 1})
    with pytest.raises(ValueError, match="Cs must be finite"):
        softmax_path(X, y, Cs=[-1])
    with pytest.warns(
        ConvergenceWarning, match=r"2 of 2 fits stopped .* at C=10: newton"
    ):
        softmax_path(X, y, Cs=[1, 10], max_iter=1)


def test_equal_values_of_the_grid_have_equal_fits():
    X, y = load_wine(return_X_y=True)
    path = softmax_path(X, y, Cs=[1.0, 1.0, 1.0, 5.0], tol=1e-9)
    np.testing.assert_allclose(path.coefs[0], path.coefs[2], atol=1e-4)
    assert np.isfinite(path.coefs).all()


@pytest.mark.slow
def test_a_path_starts_where_the_last_solutions_lead_to():
    X, y = load_digits(return_X_y=True)
    Cs = np.logspace(0, 4, 9)
    alone = [softmax_path(X, y, Cs=[C]).n_iter[0] for C in Cs]
    assert softmax_path(X, y, Cs=Cs).n_iter.sum() < sum(alone) / 2


@pytest.mark.parametrize("n_folds", [1, 7])
def test_folds_may_outnumber_what_a_batch_holds(n_folds, monkeypatch):
    X, y = load_iris(return_X_y=True)
    whole = SoftmaxRegressionCV(CS, cv=10, tol=1e-8).fit(X, y)
    per_fold = max(8 * 12 * 3 * 5, 16 * 150)
    monkeypatch.setattr("softreg._folds.BATCH_BYTES", n_folds * per_fold)
    model = SoftmaxRegressionCV(CS, cv=10, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.scores_, whole.scores_)
    np.testing.assert_allclose(model.coefs_paths_, whole.coefs_paths_, atol=1e-3)


def test_leave_one_out():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegressionCV([1.0], cv=LeaveOneOut()).fit(X, y)
    assert model.scores_.shape == (150, 1)
    assert set(np.unique(model.scores_)) == {0.0, 1.0}
    assert model.scores_.mean() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_paths_do_not_depend_on_what_came_before(seed):
    rng = np.random.default_rng(seed)
    X, y = load_wine(return_X_y=True)
    Cs = 10.0 ** rng.uniform(-4, 4, 4)
    path = softmax_path(X, y, Cs=Cs, tol=1e-9)
    for C, coef in zip(Cs, path.coefs, strict=True):
        alone = softmax_path(X, y, Cs=[C], tol=1e-9).coefs[0]
        np.testing.assert_allclose(coef, alone, atol=1e-3 * abs(alone).max())


# -- what a new user met ---------------------------------------------------------------


def test_messages_name_the_search():
    with pytest.raises(
        ValueError, match=r"SoftmaxRegressionCV does not accept missing"
    ):
        SoftmaxRegressionCV().fit(np.full((9, 2), np.nan), np.arange(9) % 3)
    with pytest.raises(ValueError, match=r"SoftmaxRegressionCV requires y"):
        SoftmaxRegressionCV().fit(X_IRIS, None)


def test_the_positive_class_is_asked_for_by_name():
    names = np.where(Y_IRIS == 1, "p", "n")
    with pytest.raises(ValueError, match=r"make_scorer\(..., pos_label=...\)"):
        SoftmaxRegressionCV([1.0], scoring="f1").fit(X_IRIS, names)


def test_rows_that_weigh_nothing_are_not_scored():
    weight = (Y_IRIS != 2) * 1.0
    model = SoftmaxRegressionCV([1.0], cv=3, scoring="f1_macro")
    assert (model.fit(X_IRIS, Y_IRIS, weight).scores_ > 0.99).all()


def test_weights_of_the_score_are_the_scorers_to_ask_for():
    weight = np.random.default_rng(0).exponential(size=150)
    with sklearn.config_context(enable_metadata_routing=True):
        accuracy = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        model = SoftmaxRegressionCV([0.1, 1.0], scoring=accuracy)
        search = GridSearchCV(
            model.set_fit_request(sample_weight=True), {"tol": [1e-3]}, cv=3
        )
        assert search.fit(X_IRIS, Y_IRIS, sample_weight=weight).best_score_ > 0.9
        for scoring in (None, "accuracy"):
            fitted = SoftmaxRegressionCV([1.0], scoring=scoring).fit(X_IRIS, Y_IRIS)
            with pytest.raises(UnsetMetadataPassedError):
                fitted.score(X_IRIS, Y_IRIS, sample_weight=weight)
