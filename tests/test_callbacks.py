"""Callbacks see every iteration, may end the fit, and checkpoints survive a crash."""

import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits, load_wine, make_classification

from softreg import SoftmaxRegression
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
    page = Path(__file__).resolve().parents[1] / "docs" / "out-of-core.md"
    _, code = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    scope = {}
    exec(compile(code, page.name, "exec"), scope)
    assert scope["model"].n_iter_ == 0


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
