"""Callbacks see every iteration, may end the fit, and checkpoints survive a crash."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import DOCS, code_of
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits, load_wine, make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
)
from softreg._fitted import FITTED
from softreg.callbacks import Checkpoint
from softreg.solvers import SOLVERS

X, Y = load_wine(return_X_y=True)


class Counter:
    """Counts iterations; ends the fit, or crashes it, after so many."""

    def __init__(self, stop_after=np.inf, crash_after=np.inf):
        self.stop_after, self.crash_after = stop_after, crash_after
        self.values, self.closed = [], False

    def setup(self, estimator, context):
        self.values = []

    def teardown(self, estimator, context):
        self.closed = True

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
        if context.parent is None:
            return False
        self.values.append(fitted_estimator.objective_)
        assert fitted_estimator.predict_proba(X).shape == (len(X), len(np.unique(y)))
        if len(self.values) > self.crash_after:
            raise RuntimeError("the machine is gone")
        return len(self.values) > self.stop_after


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_iteration_is_seen(solver):
    counter = Counter()
    model = SoftmaxRegression(C=1e-3, solver=solver).set_callbacks(counter).fit(X, Y)
    np.testing.assert_array_equal(counter.values, model.history_["objective"])
    assert counter.closed
    plain = SoftmaxRegression(C=1e-3, solver=solver).fit(X, Y)
    np.testing.assert_array_equal(plain.coef_, model.coef_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_callback_ends_the_fit_without_a_warning(solver):
    model = SoftmaxRegression(solver=solver).set_callbacks(Counter(stop_after=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y)
    assert model.n_iter_ == 2
    assert not model.converged_
    assert model.solver_ == solver
    assert len(model.history_["objective"]) == 3
    best = SoftmaxRegression(tol=1e-10).fit(X, Y).objective_
    assert 0 < model.objective_ - best <= model.optimality_gap_


@pytest.mark.parametrize("loss", ["topk-2", "sparsemax"])
def test_a_callback_ends_the_fit_of_a_loss_with_kinks(loss):
    model = SoftmaxRegression(loss=loss).set_callbacks(Counter(stop_after=2)).fit(X, Y)
    assert not model.converged_
    assert np.isfinite(model.objective_)
    best = SoftmaxRegression(loss=loss).fit(X, Y).objective_
    assert best <= model.objective_ <= np.log(3)


class Tasks:
    """Notes every task by name, with a fitted estimator; stops at some of them."""

    def __init__(self, stop_at="nowhere", after=0):
        self.stop_at, self.after = stop_at, after

    def setup(self, estimator, context):
        self.names, self.begun, self.fitted = [], 0, []

    def teardown(self, estimator, context):
        self.closed = True

    def on_fit_task_begin(self, estimator, context):
        self.begun += 1

    def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
        self.names.append(context.task_name)
        if fitted_estimator is not None:
            proba = fitted_estimator.predict_proba(X)
            np.testing.assert_allclose(proba.sum(axis=1), 1)
            self.fitted.append(fitted_estimator)
        seen = sum(name == self.stop_at for name in self.names)
        return context.task_name == self.stop_at and seen > self.after


MODELS = [
    SoftmaxRegression(),
    SoftmaxRegressionCV(Cs=[1e-3, 0.1, 10], cv=3),
    RobustSoftmaxRegression(),
    LargeMarginSoftmaxRegression(mu_min=30.0, tol=1e-3),
    HierarchicalSoftmax(tree=[[0, 1], 2]),
]
Z = (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_every_estimator_tells_its_callbacks(model):
    tasks = Tasks()
    watched = clone(model).set_callbacks(tasks).fit(Z, Y)
    assert tasks.begun == len(tasks.names)
    assert tasks.names[-1] == "fit"
    assert tasks.closed
    assert "_callback_fit_ctx" not in vars(watched)
    plain = clone(model).fit(Z, Y)
    np.testing.assert_array_equal(watched.predict_proba(Z), plain.predict_proba(Z))
    last = tasks.fitted[-1].predict_proba(Z)
    np.testing.assert_array_equal(last, plain.predict_proba(Z))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_what_fits_leave_is_known_and_all_of_it_replaced(model):
    frames = pytest.importorskip("pandas")
    names = [f"c{j}" for j in range(Z.shape[1])]
    model = clone(model).set_callbacks(tasks := Tasks())
    model.note_ = "a user's own"
    model.fit(frames.DataFrame(Z, columns=names), Y)
    given = {*model.get_params(deep=False), "_skl_callbacks", "note_"}
    assert set(vars(model)) - given <= FITTED
    assert "feature_names_in_" in vars(model)
    model.fit(Z, Y)
    assert "feature_names_in_" not in vars(model)
    assert model.note_ == tasks.fitted[-1].note_ == "a user's own"


def test_a_search_tells_of_each_value_and_of_the_refit():
    tasks = Tasks()
    model = clone(MODELS[1]).set_callbacks(tasks).fit(Z, Y)
    searched = [name for name in tasks.names if name.startswith("C=")]
    assert searched == ["C=0.001", "C=0.1", "C=10"]
    assert tasks.names[3] == "folds"
    assert tasks.names[-2:] == ["refit", "fit"]
    assert tasks.names.count("iteration") == len(model.history_["objective"])
    first = tasks.fitted[0]
    assert first.C_ == 1e-3
    np.testing.assert_array_equal(first.scores_[:, 0], model.scores_[:, 0])
    assert np.isnan(first.scores_[:, 1:]).all()
    mean = model.coefs_paths_[:, 0].mean(axis=0)
    np.testing.assert_allclose(first.coef_, mean[:, :-1], atol=1e-12)


def test_a_search_that_is_stopped_leaves_out_weaker_penalties():
    tasks = Tasks(stop_at="C=0.1")
    model = clone(MODELS[1]).set_callbacks(tasks).fit(Z, Y)
    whole = clone(MODELS[1]).fit(Z, Y)
    np.testing.assert_array_equal(model.scores_[:, :2], whole.scores_[:, :2])
    assert np.isnan(model.scores_[:, 2]).all()
    assert np.isnan(model.coefs_paths_[:, 2]).all()
    best = int(np.argmax(model.scores_[:, :2].mean(axis=0)))
    assert model.Cs_[best] == model.C_
    assert model.converged_
    for selection in ("1se", "best"):
        tasks = Tasks(stop_at="C=0.001")
        model = SoftmaxRegressionCV(
            Cs=[10, 1e-3], cv=3, selection=selection, refit=False
        )
        assert model.set_callbacks(tasks).fit(Z, Y).C_ == 1e-3
        assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize(
    ("model", "level"),
    [
        (SoftmaxRegressionCV(Cs=[1e-3, 10], cv=3, tol=1e-8), "iteration"),
        (RobustSoftmaxRegression(tol=1e-8), "round"),
        (LargeMarginSoftmaxRegression(mu_min=30.0), "iteration"),
        (LargeMarginSoftmaxRegression(m=1), "iteration"),
    ],
)
def test_a_callback_ends_a_level_without_a_warning(model, level):
    tasks = Tasks(stop_at=level, after=2)
    stopped = clone(model).set_callbacks(tasks).fit(Z, Y)
    assert tasks.names.count(level) == 3
    assert not stopped.converged_
    assert np.isfinite(stopped.objective_)
    assert stopped.score(Z, Y) > 0.9
    assert "not converged" in stopped._repr_html_()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_large_margin_may_be_ended_while_it_anneals(n_classes):
    rows, y = Z[n_classes > Y], Y[n_classes > Y]
    model = LargeMarginSoftmaxRegression(mu_min=10.0)
    whole = Tasks()
    clone(model).set_callbacks(whole).fit(rows, y)
    after = whole.names.count("iteration") - 3
    tasks = Tasks(stop_at="iteration", after=after)
    stopped = clone(model).set_callbacks(tasks).fit(rows, y)
    assert stopped.coef_.shape == (n_classes, rows.shape[1])
    assert not stopped.converged_
    assert stopped.optimality_gap_ == np.inf
    assert stopped.history_["objective"][-1] == pytest.approx(stopped.objective_)
    last = tasks.fitted[-1].predict_proba(rows)
    np.testing.assert_allclose(stopped.predict_proba(rows), last)
    assert stopped.n_iter_ <= after


def test_rounds_keep_the_trust_they_were_stopped_at():
    model = clone(MODELS[2]).set_callbacks(Tasks(stop_at="round", after=1)).fit(Z, Y)
    assert model.n_iter_ == 1
    assert model.row_weights_.min() < 1
    assert len(model.objective_history_) == 2


class Propagated(Tasks):
    """Is handed on to estimators within."""

    max_propagation_depth = None


def test_nodes_hand_callbacks_on():
    tasks = Propagated()
    tree = HierarchicalSoftmax(tree=[[0, 1], 2]).set_callbacks(tasks).fit(Z, Y)
    n_rows = [len(e.history_["objective"]) for e in tree.node_estimators_]
    one, two = (["iteration"] * n + ["fit"] for n in n_rows)
    assert tasks.names == [*one, *two, "fit"]
    assert not hasattr(tree.node_estimators_[0], "_skl_callbacks")


@pytest.mark.slow
def test_nodes_in_workers_have_callbacks():
    tree = HierarchicalSoftmax(tree=[[0, 1], 2], n_jobs=2).set_callbacks(Propagated())
    plain = HierarchicalSoftmax(tree=[[0, 1], 2]).fit(Z, Y)
    np.testing.assert_array_equal(tree.fit(Z, Y).predict(Z), plain.predict(Z))


def test_a_callback_of_the_nodes_ends_their_fits():
    node = SoftmaxRegression(tol=1e-8).set_callbacks(Counter(stop_after=1))
    tree = HierarchicalSoftmax(node, tree=[[0, 1], 2]).fit(Z, Y)
    assert [estimator.n_iter_ for estimator in tree.node_estimators_] == [1, 1]
    assert not tree.converged_


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_scikit_learns_progress_bar(model, capsys):
    pytest.importorskip("rich")
    bar = ProgressBar(max_propagation_depth=None)
    clone(model).set_callbacks(bar).fit(Z, Y)
    assert type(model).__name__ in capsys.readouterr().out


def test_wide_rows_are_seen_in_their_own_columns():
    wide, y = make_classification(30, 80, n_informative=5, random_state=0)
    counter = Counter()
    model = SoftmaxRegression(C=0.1).set_callbacks(counter).fit(wide, y)
    assert counter.values[-1] == pytest.approx(model.objective_)
    halted = SoftmaxRegression(C=0.1).set_callbacks(Counter(stop_after=1)).fit(wide, y)
    assert halted.coef_.shape == (1, 80)
    assert model.objective_ < halted.objective_


def test_scikit_learns_own_callback():
    monitor = ScoringMonitor(scoring="accuracy")
    model = SoftmaxRegression().set_callbacks(monitor).fit(X, Y)
    scores = monitor.get_logs(select="most_recent").data
    assert len(scores) >= model.n_iter_


def test_a_checkpoint_survives_a_crash(tmp_path):
    X, y = load_digits(return_X_y=True)
    path = tmp_path / "fit.pkl"
    model = SoftmaxRegression(tol=1e-8)
    model.set_callbacks(Checkpoint(path, every=0), Counter(crash_after=12))
    with pytest.raises(RuntimeError, match="the machine is gone"):
        model.fit(X, y)
    assert not hasattr(model, "coef_")
    saved = pickle.loads(path.read_bytes())
    assert not hasattr(saved, "_skl_callbacks")
    assert saved.n_iter_ == 12
    whole = clone(model).set_callbacks().fit(X, y)
    resumed = saved.set_params(warm_start=True).fit(X, y)
    assert resumed.converged_
    assert resumed.n_iter_ < whole.n_iter_
    np.testing.assert_allclose(resumed.objective_, whole.objective_, rtol=1e-8)
    saved.partial_fit(X[:100], y[:100])
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_waits(tmp_path):
    path = tmp_path / "fit.pkl"
    counter = Counter(crash_after=2)
    model = SoftmaxRegression().set_callbacks(Checkpoint(path, every=1e6), counter)
    with pytest.raises(RuntimeError, match="gone"):
        model.fit(X, Y)
    assert not path.exists()
    counter.crash_after = np.inf
    model.fit(X, Y)
    np.testing.assert_array_equal(pickle.loads(path.read_bytes()).coef_, model.coef_)


def test_the_page_on_checkpoints_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, *blocks = code_of(DOCS / "out-of-core.md")
    scope = {}
    for code in blocks:
        exec(compile(code, "out-of-core.md", "exec"), scope)
    assert Path("fit.pkl").exists()
    assert scope["model"].n_iter_ == 0
    assert not scope["slow"].converged_


@pytest.mark.parametrize("every", [-1, "often", None, float("nan")])
def test_a_bad_interval_is_refused(every):
    with pytest.raises(ValueError, match="every must be"):
        Checkpoint("somewhere", every=every)


def test_bad_input_leaves_no_context_behind():
    model = SoftmaxRegression().set_callbacks(counter := Counter())
    with pytest.raises(ValueError, match="NaN"):
        model.fit(X * np.nan, Y)
    assert counter.closed
    assert set(vars(model)) == {*model.get_params(), "_skl_callbacks"}


@pytest.mark.parametrize("solver", ["newton-cholesky", "newton-cg", "lbfgs"])
def test_a_stop_claims_no_optimum_where_there_is_none(solver):
    model = SoftmaxRegression(C=np.inf, solver=solver)
    with pytest.warns(match="no finite optimum"):
        whole = clone(model).fit(X, Y)
    for after in range(whole.n_iter_ + 1):
        stopped = clone(model).set_callbacks(Counter(stop_after=after)).fit(X, Y)
        assert not stopped.converged_


class Scribbler(Tasks):
    """Writes to the coefficients it is shown, and keeps what it read."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "iteration":
            self.fitted.append(fitted_estimator.coef_.copy())
            fitted_estimator.coef_ += 1
            fitted_estimator.intercept_ += 1


@pytest.mark.parametrize("n_classes", [2, 3])
def test_what_a_callback_writes_changes_nothing(n_classes):
    rows, y = Z[n_classes > Y], Y[n_classes > Y]
    for solver in SOLVERS:
        model = SoftmaxRegression(C=0.1, solver=solver)
        whole = clone(model).fit(rows, y)
        shown = clone(model).set_callbacks(Scribbler()).fit(rows, y)
        np.testing.assert_array_equal(shown.coef_, whole.coef_)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_what_is_shown_is_of_this_fit_and_goes_on(solver):
    tasks = Tasks()
    model = SoftmaxRegression(solver=solver, tol=1e-3).set_callbacks(tasks)
    model.partial_fit(Z[:50], Y[:50], classes=[0, 1, 2]).fit(Z, Y)
    *_, shown, last = tasks.fitted
    assert shown.solver_ == last.solver_ == model.solver_
    np.testing.assert_array_equal(shown.coef_, model.coef_)
    rows, y = Z[::3], Y[::3]
    gone_on = shown.set_callbacks().partial_fit(rows, y)
    fresh = clone(model).set_callbacks().fit(Z, Y).partial_fit(rows, y)
    np.testing.assert_array_equal(gone_on.coef_, fresh.coef_)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_checkpoint_of_a_part_saves_the_end(n_jobs, tmp_path):
    path = tmp_path / "fit.pkl"
    own = SoftmaxRegression().set_callbacks(Checkpoint(path))
    pipeline = make_pipeline(StandardScaler(), own).fit(X, Y)
    coef = pickle.loads(path.read_bytes()).coef_
    np.testing.assert_array_equal(coef, pipeline[-1].coef_)
    # Of many fits at a time, each is written whole; the last is that of all rows.
    own = SoftmaxRegression().set_callbacks(Checkpoint(path, every=0))
    search = GridSearchCV(own, {"C": [0.1, 1.0, 10.0]}, cv=3, n_jobs=n_jobs).fit(X, Y)
    coef = pickle.loads(path.read_bytes()).coef_
    np.testing.assert_array_equal(coef, search.best_estimator_.coef_)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("loss", ["softmax", "topk-3"])
@pytest.mark.parametrize("solver", ["gd", "lbfgs", "minibatch"])
def test_a_stop_keeps_what_was_proven_till_then(solver, loss):
    X, y = load_digits(return_X_y=True)
    for after in (5, 11):
        tasks = Tasks(stop_at="iteration", after=after)
        model = SoftmaxRegression(solver=solver, loss=loss, max_iter=20)
        model.set_callbacks(tasks).fit(X, y)
        history, seen = model.history_, tasks.fitted[after]
        assert history["objective"][-1] == model.objective_
        assert history["optimality_gap"][-1] == model.optimality_gap_
        assert (np.diff(history["seconds"]) >= 0).all()
        assert seen.objective_ >= model.objective_
        if loss == "softmax":
            assert model.optimality_gap_ <= seen.optimality_gap_


def test_a_stop_within_the_last_round_warns_of_nothing():
    for after in range(20):
        tasks = Tasks(stop_at="iteration", after=after)
        model = RobustSoftmaxRegression().set_callbacks(tasks)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(Z, Y)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_nothing_of_an_earlier_fit_is_shown(model):
    again, fresh = Tasks(), Tasks()
    named = pd.DataFrame(Z).add_prefix("column ")
    clone(model).fit(named, Y).set_callbacks(again).fit(Z, Y)
    clone(model).set_callbacks(fresh).fit(Z, Y)
    assert [vars(one).keys() for one in again.fitted] == [
        vars(one).keys() for one in fresh.fitted
    ]
