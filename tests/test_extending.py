"""Losses and solvers of a user's own: proven as those that softreg has."""

import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse
from bank import Data
from pages import DOCS, code_of
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

from softreg import (
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
)
from softreg.losses import Loss
from softreg.solvers import NewtonCholesky, Solver

PAGE = DOCS / "extending.md"
X, Y = load_wine(return_X_y=True)


def page_module():
    """Return the classes of docs/extending.md, as of a module: they can be pickled."""
    module = types.ModuleType("extending_page")
    sys.modules[module.__name__] = module
    for code in code_of(PAGE):
        if "class " in code:
            exec(compile(code, PAGE.name, "exec"), module.__dict__)
    return module


EXTENDING = page_module()
LOSS, SOLVER = EXTENDING.FermiDirac(), EXTENDING.BarzilaiBorwein()


class LogSumExp(Loss):
    """The softmax's, by the least that a loss has to say."""

    def potential_and_proba(self, shifted):
        proba = np.exp(shifted)
        total = proba.sum(axis=1)
        return np.log(total), proba / total[:, None]

    def curvature(self, proba):
        return proba, 1.0

    def scores(self, proba):
        return np.log(proba)


@pytest.mark.parametrize("solver", ["newton-cg", "newton-cholesky", "lbfgs", SOLVER])
@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_a_new_loss_is_solved_and_proven_by_every_solver(load, solver):
    rows, y = load(return_X_y=True)
    model = SoftmaxRegression(C=0.1, loss=LOSS, solver=solver).fit(rows, y)
    tight = SoftmaxRegression(C=0.1, loss=LOSS, tol=1e-9).fit(rows, y)
    assert model.converged_
    assert tight.converged_
    true_gap = model.objective_ - tight.objective_
    assert -1e-8 * tight.objective_ <= true_gap <= model.optimality_gap_
    assert model.optimality_gap_ <= 1e-4 * model.objective_


@pytest.mark.parametrize(
    "load", [load_iris, load_wine, load_breast_cancer], ids=lambda load: load.__name__
)
def test_a_new_solver_proves_the_same_optimum(load):
    rows, y = load(return_X_y=True)
    exact = SoftmaxRegression(C=0.1, tol=1e-10).fit(rows, y)
    model = SoftmaxRegression(C=0.1, solver=SOLVER, tol=1e-7).fit(rows, y)
    assert model.converged_
    assert model.solver_ == "barzilai-borwein"
    np.testing.assert_allclose(model.objective_, exact.objective_, rtol=1e-7)
    assert model.objective_ - exact.objective_ <= model.optimality_gap_


@pytest.mark.parametrize("max_iter", [1, 3, 10])
def test_the_gap_holds_wherever_a_new_solver_stops(max_iter):
    exact = SoftmaxRegression(solver=NewtonCholesky(), tol=1e-10).fit(X, Y)
    with pytest.warns(match=r"barzilai-borwein stopped after \d+ iterations"):
        model = SoftmaxRegression(solver=SOLVER, max_iter=max_iter).fit(X, Y)
    assert 0 < model.objective_ - exact.objective_ <= model.optimality_gap_


def test_a_loss_written_anew_is_the_softmax():
    ours = SoftmaxRegression(tol=1e-9).fit(X, Y)
    theirs = SoftmaxRegression(loss=LogSumExp(), tol=1e-9).fit(X, Y)
    np.testing.assert_allclose(theirs.coef_, ours.coef_, atol=1e-6)
    np.testing.assert_allclose(
        theirs.predict_log_proba(X), ours.predict_log_proba(X), atol=1e-6
    )
    np.testing.assert_allclose(
        theirs.proba_jacobian(X[:5]), ours.proba_jacobian(X[:5]), atol=1e-8
    )


def test_no_step_in_any_direction_lowers_the_optimum():
    data = Data(n_rows=80, n_classes=3)
    model = SoftmaxRegression(loss=LOSS, weight_decay=0.01, tol=1e-10)
    model.fit(data.X, data.codes)

    def value(coef):
        scores = np.column_stack([data.X, np.ones(len(data.X))]) @ coef.T
        top = scores.max(axis=1)
        potential, _ = LOSS.potential_and_proba((scores - top[:, None]).T[None])
        own = scores[np.arange(len(scores)), data.codes]
        return (potential[0] + top - own).mean() + 0.005 * (coef[:, :-1] ** 2).sum()

    best = np.column_stack([model.coef_, model.intercept_])
    np.testing.assert_allclose(model.objective_, value(best), rtol=1e-9)
    for _ in range(20):
        way = data.rng.normal(size=best.shape)
        assert value(best + 1e-3 * way) >= value(best)


def test_new_ones_meet_every_other_option():
    targets = np.random.default_rng(0).dirichlet(np.ones(3), len(Y))
    model = SoftmaxRegression(C=0.1, loss=LOSS, solver=SOLVER)
    for params in (
        {"label_smoothing": 0.1},
        {"margin": 1.0},
        {"temperature": 2.0},
        {"class_weight": "balanced"},
        {"fit_intercept": False, "max_iter": 5000},
        {"warm_start": True},
    ):
        assert clone(model).set_params(**params).fit(X, Y).converged_, params
    assert clone(model).fit(X, targets).converged_
    assert clone(model).fit(scipy.sparse.csr_array(X), Y).converged_
    single = clone(model).fit(X.astype(np.float32), Y)
    assert single.converged_
    assert single.coef_.dtype == np.float32


def test_new_ones_serve_the_estimators_around_the_fit():
    search = SoftmaxRegressionCV([1e-3, 0.1], cv=3, loss=LOSS, solver=SOLVER).fit(X, Y)
    assert (search.optimality_gaps_ <= 1e-4 * search.objectives_).all()
    assert search.solver_ == "barzilai-borwein"
    path = softmax_path(X, Y, Cs=[1e-3, 0.1], loss=LOSS, solver=SOLVER)
    assert (path.optimality_gaps <= 1e-4 * path.objectives).all()
    robust = RobustSoftmaxRegression(SoftmaxRegression(C=0.1, loss=LOSS)).fit(X, Y)
    assert robust.converged_


def test_clone_and_pickle_keep_them():
    model = SoftmaxRegression(C=0.1, loss=LOSS, solver=SOLVER)
    copy = clone(model)
    assert (copy.loss, copy.solver) == (LOSS, SOLVER)
    assert "FermiDirac(bisections=60)" in repr(copy)
    fitted = pickle.loads(pickle.dumps(copy.fit(X, Y)))
    np.testing.assert_array_equal(fitted.predict_proba(X), copy.predict_proba(X))


def test_what_is_missing_is_named():
    class NoScores(Loss):
        def potential_and_proba(self, shifted):
            return shifted[:, 0], shifted

        def curvature(self, proba):
            return proba, 1.0

    class NoStep(Solver):
        def start(self, objective, coef):
            return None

    with pytest.raises(TypeError, match=r"NoScores.*scores"):
        NoScores()
    with pytest.raises(TypeError, match=r"NoStep.*step"):
        NoStep()


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"loss": LogSumExp}, "an object of a subclass of softreg.losses.Loss, got"),
        ({"loss": object()}, "an object of a subclass of softreg.losses.Loss, got"),
        ({"solver": type(SOLVER)}, "an object of softreg.solvers or of a subclass"),
        ({"solver": object()}, "an object of softreg.solvers or of a subclass"),
    ],
)
def test_what_is_no_object_of_a_subclass_is_refused(params, says):
    with pytest.raises(TypeError, match=says):
        SoftmaxRegression(**params).fit(X, Y)


class Bent(LogSumExp):
    """Is no loss: something is done to its value and its probabilities."""

    def __init__(self, value=None, proba=None, scores=None, alone=None, omega=None):
        given = value, proba, scores, alone, omega
        self.bend = [bend or (lambda own: own) for bend in given]

    def potential_and_proba(self, shifted):
        value, proba = super().potential_and_proba(shifted)
        return self.bend[0](value), self.bend[1](proba)

    def scores(self, proba):
        return self.bend[2](super().scores(proba))

    def proba(self, shifted):
        return self.bend[3](super().proba(shifted))

    def omega(self, proba):
        return self.bend[4](super().omega(proba))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"value": lambda v: v - 2}, "at least max"),
        ({"value": lambda v: v / 2}, "lines that touch"),
        ({"value": lambda v: v * np.nan}, "potential must be finite"),
        ({"value": lambda v: v[:, None]}, r"potential must have shape \(1, 10\), got"),
        ({"value": lambda v: v.tolist()}, "potential must have shape .* got None"),
        ({"proba": lambda p: p**2 / (p**2).sum(axis=1, keepdims=True)}, "lines"),
        ({"proba": lambda p: 0.9 * p}, "sums to 0.9"),
        ({"proba": lambda p: p - 0.5 + 1.5 * (p == p.max(axis=1))}, "at least 0"),
        ({"proba": lambda p: p[0]}, "proba must have shape"),
        ({"scores": lambda u: u[0]}, "scores must have shape"),
        ({"scores": lambda u: u * np.nan}, "scores must be finite"),
        ({"alone": lambda p: 0 * p + 1 / 3}, "proba must return what"),
        ({"omega": lambda o: o - 10}, "omega must be from Omega to 0"),
        ({"omega": lambda o: o + 1}, "omega must be .* up to 1"),
        ({"omega": lambda o: o * np.nan}, "omega must be"),
    ],
)
def test_what_is_no_loss_is_refused_before_any_computing(how, says):
    model = SoftmaxRegression(loss=Bent(**how))
    with pytest.raises(ValueError, match=f"does not keep to what.*{says}"):
        model.fit(X, Y)
    assert vars(model) == model.get_params()
    assert SoftmaxRegression(loss=Bent()).fit(X, Y).converged_


class Partly(LogSumExp):
    """Has no value on the first row of a block, but probabilities."""

    def potential_and_proba(self, shifted):
        value, proba = super().potential_and_proba(shifted)
        if value.shape[1] == len(Y):
            value[:, 0] = np.nan
        return value, proba


@pytest.mark.parametrize("solver", ["auto", "newton-cg", "lbfgs"])
def test_values_that_are_no_numbers_end_the_fit_unproven(solver):
    with pytest.warns(match="stopped after"):
        model = SoftmaxRegression(loss=Partly(), solver=solver).fit(X, Y)
    assert not model.converged_


class InPlace(type(SOLVER)):
    """Steps too far, and writes over the coefficients where it stood."""

    def step(self, objective, state):
        coef = state.point.coef
        coef -= 3 * state.metric.solve(state.point.gradient)
        return state._replace(point=objective.evaluate(coef))


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_a_solver_may_write_to_its_coefficients(load):
    rows, y = load(return_X_y=True)
    with pytest.warns(match="InPlace|barzilai"):
        model = SoftmaxRegression(C=0.01, solver=InPlace()).fit(rows, y)
    proba = model.predict_proba(rows)[np.arange(len(y)), y]
    penalty = model.weight_decay_ / 2 * (model.coef_**2).sum()
    assert model.objective_ == pytest.approx(-np.log(proba).mean() + penalty)


class Shifting(type(SOLVER)):
    """Moves all classes together, which no loss sees and the penalty does."""

    def start(self, objective, coef):
        return super().start(objective, coef + 5.0)


def test_the_objective_is_that_of_the_centred_coefficients():
    model = SoftmaxRegression(solver=Shifting(), max_iter=5)
    with pytest.warns(match="stopped after 5 iterations"):
        model.fit(X, Y)
    n_rows, codes = len(Y), np.searchsorted(model.classes_, Y)
    losses = -model.predict_log_proba(X)[np.arange(n_rows), codes]
    penalty = model.weight_decay_ / 2 * (model.coef_**2).sum()
    assert model.objective_ == pytest.approx(losses.mean() + penalty, rel=1e-9)
    least = SoftmaxRegression(tol=1e-10).fit(X, Y).objective_
    assert 0 < model.objective_ - least <= model.optimality_gap_


class Stateless(Solver):
    """Starts with nothing that the loop can use."""

    def start(self, objective, coef):
        return objective.evaluate(coef)

    def step(self, objective, state):
        return state


def test_a_state_that_the_loop_cannot_use_is_named():
    with pytest.raises(TypeError, match=r"Stateless\.start must return a state with"):
        SoftmaxRegression(solver=Stateless()).fit(X, Y)
