"""`RobustSoftmaxRegression`: rows that do not fit count for less, round by round."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning

from softreg._arrays import Array, like, namespace, to_numpy
from softreg._data import Ingested, ingest
from softreg._fitted import become
from softreg._losses import Loss, loss_of
from softreg._parameters import INF, Range, refusal, solver_of
from softreg._prediction import LinearSoftmaxMixin
from softreg._progress import progress
from softreg._softmax import (
    SoftmaxRegression,
    attributes_of,
    explanation,
    so_far,
)
from softreg._solve import Solution, solve
from softreg._status import StatusMixin
from softreg._watching import Task, fit_task
from softreg.solvers._loop import Record, Watcher

LEAST_TRUST = 1e-30
# Attributes that are those of the last fit.
SHARED = {"classes_", "coef_", "intercept_", "n_features_in_", "feature_names_in_"}


class Transform(Protocol):
    """A concave, increasing function of a row's loss."""

    def value(self, losses: np.ndarray) -> np.ndarray:
        """Return h(l)."""

    def slope(self, losses: np.ndarray) -> np.ndarray:
        """Return h'(l)."""


class Generalized(NamedTuple):
    """Generalised cross-entropy, `(1 - p^q) / q` (Zhang & Sabuncu, 1805.07836)."""

    q: float

    def value(self, losses: np.ndarray) -> np.ndarray:
        """Return `(1 - e^(-q l)) / q`."""
        return -np.expm1(-self.q * losses) / self.q

    def slope(self, losses: np.ndarray) -> np.ndarray:
        """Return `e^(-q l)`."""
        return np.exp(-self.q * losses)


class Symmetric(NamedTuple):
    """Symmetric cross-entropy, `CE + 4 (1 - p)` (Wang et al., 1908.06112)."""

    reverse: float = 4.0

    def value(self, losses: np.ndarray) -> np.ndarray:
        """Return `l + 4 (1 - e^(-l))`."""
        return losses - self.reverse * np.expm1(-losses)

    def slope(self, losses: np.ndarray) -> np.ndarray:
        """Return `1 + 4 e^(-l)`."""
        return 1 + self.reverse * np.exp(-losses)


class RobustSoftmaxRegression(
    StatusMixin,
    CallbackSupportMixin,
    LinearSoftmaxMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Softmax regression for labels of which some are wrong.

    It minimises the mean of a concave function h of each row's loss, plus the penalty:
    a row far on the wrong side has little pull. Each round replaces h by its tangent,
    which is a softmax regression with weights `h'(loss)`, started from the last one; so
    the objective never rises. It is not convex: the result is the optimum near the
    plain fit, from which the rounds start.

    Parameters
    ----------
    estimator : SoftmaxRegression, default=None
        The fit of each round, with its loss, penalty and solver. None is
        `SoftmaxRegression()`; to search over its parameters pass one. C and
        `weight_decay` stay what they are for the whole weight of the rows, however
        little weight a round leaves them.
    loss : {"gce", "sce"}, default="gce"
        "gce" is the generalised cross-entropy, `(1 - p^q) / q`, the more robust; "sce"
        the symmetric one, `-log p + 4 (1 - p)`.
    q : float, default=0.7
        Of "gce", in (0, 1]: towards 0 the cross-entropy, 1 the error of a random guess
        from the probabilities.
    max_rounds : int, default=20
        Most rounds after the plain fit.
    tol : float, default=1e-4
        Stop once a round lowers the objective by at most tol of it.

    Attributes
    ----------
    estimator_ : SoftmaxRegression
        The last fit, with the proof of its optimum at the last weights.
    row_weights_ : ndarray of shape (n_samples,)
        Weight of each row in the last fit, relative to a row of loss 0, without its
        `sample_weight`: low where the label looks wrong.
    objective_history_ : ndarray
        The objective of the plain fit and after each round; it never rises.
    objective_ : float
        The last of them.
    n_iter_ : int
        Rounds.
    converged_ : bool
        Whether `tol` was reached, and that of the last fit.
    classes_, coef_, intercept_, n_features_in_, feature_names_in_
        As in `SoftmaxRegression`.

    See Also
    --------
    SoftmaxRegression : Its `label_smoothing` is the convex remedy.

    References
    ----------
    Zhang & Sabuncu, "Generalized cross entropy loss for training deep neural networks
    with noisy labels", NeurIPS 2018, arXiv 1805.07836, for "gce".
    Wang et al., "Symmetric cross entropy for robust learning with noisy labels", ICCV
    2019, arXiv 1908.06112, for "sce".

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from softreg import RobustSoftmaxRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> wrong = y.copy()
    >>> wrong[:40:4] = 2
    >>> model = RobustSoftmaxRegression().fit(X, wrong)
    >>> bool((model.row_weights_[:40:4] < 0.1).all())
    True
    """

    _counted = "round"

    def __init__(
        self,
        estimator: Any = None,
        *,
        loss: str = "gce",
        q: float = 0.7,
        max_rounds: int = 20,
        tol: float = 1e-4,
    ) -> None:
        self.estimator = estimator
        self.loss = loss
        self.q = q
        self.max_rounds = max_rounds
        self.tol = tol

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RobustSoftmaxRegression:
        """Fit the plain model, then reweigh and fit until nothing is gained.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels, or soft targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, 0 or more.

        Returns
        -------
        self : RobustSoftmaxRegression
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            For bad input, before any computing; the estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            Once, where `max_rounds` end before `tol`.
        """
        task = fit_task(self, X, y, sample_weight)
        transform = _transform(self)
        estimator = _inner(self.estimator)
        data = ingest(estimator, X, y, sample_weight, owner=self, in_parts=False)
        rounds = _Rounds(estimator, data, transform, task)
        while not rounds.ended and len(rounds.history) <= self.max_rounds:
            rounds.next(self.tol)
        fitted = rounds.attributes()
        become(self, fitted)
        task.ended(lambda: fitted)
        self._tell(rounds)
        return self

    def _tell(self, rounds: _Rounds) -> None:
        """Warn once of rounds that did not end, or of a last fit that did not."""
        reason, reached = rounds.solution.reason[0], rounds.solution.reached[0]
        if rounds.halted or (rounds.converged and reason == "halted"):
            return
        said = f"RobustSoftmaxRegression stopped after {self.n_iter_} rounds"
        if not rounds.converged:
            said += (
                f", the last of which lowered the objective by more than tol = "
                f"{self.tol}. Increase max_rounds or tol."
            )
        elif not self.converged_:
            inner = explanation(self.estimator_, reason, float(reached))
            said += f", but the last fit did not converge: {inner}"
        if not self.converged_:
            # Over `fit`, and over that of scikit-learn's decorator.
            warnings.warn(said, ConvergenceWarning, stacklevel=4)

    @property
    def _loss(self) -> Loss:
        return loss_of(self.estimator_.loss, self.classes_.shape[0])

    @property
    def _temperature(self) -> float:
        return self.estimator_.temperature


class _Rounds:
    """Majorise, minimise: the state between rounds."""

    def __init__(
        self,
        estimator: SoftmaxRegression,
        data: Ingested,
        transform: Transform,
        task: Task,
    ) -> None:
        self.estimator, self.data, self.transform = estimator, data, transform
        self.converged = self.halted = False
        self.trust = np.ones(data.problem.X.shape[0])
        self.l2 = data.weight_decay
        self.history: list[float] = []
        self.solution: Solution
        self._losses: np.ndarray
        self._task = task
        self._fit(self.trust, None)

    @property
    def ended(self) -> bool:
        """Whether there is nothing to gain by another round, or a callback stopped."""
        return self.converged or self.halted

    def next(self, tol: float) -> None:
        """Fit at the weights of the tangent; keep the fit if it is no worse."""
        before = self.trust, self.l2, self.solution, self._losses
        # No row, and so no class, may lose its weight to underflow.
        trust = np.maximum(self.transform.slope(self._losses), LEAST_TRUST)
        self._fit(trust, self.solution.coef)
        last, new = self.history[-2:]
        self.converged = last - new <= tol * last
        # Rounding may lift the objective by its last digits.
        if new > last:
            self.trust, self.l2, self.solution, self._losses = before
            self.history.pop()

    def attributes(self) -> dict[str, Any]:
        """Return the fitted attributes of the rounds so far."""
        fitted = self._of(attributes_of(self.data, self.solution, self.l2))
        trust = self.trust / self.transform.slope(np.zeros(1))
        return fitted | {
            "row_weights_": like(trust, self.data.home),
            "objective_history_": like(np.array(self.history), self.data.home),
            "objective_": self.history[-1],
            "n_iter_": len(self.history) - 1,
            "converged_": self.converged and fitted["estimator_"].converged_,
        }

    def _of(self, fitted: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes that are of one fit, from those of its estimator."""
        estimator = clone(self.estimator)
        become(estimator, fitted)
        shared = {name: fitted[name] for name in SHARED & set(fitted)}
        return shared | {"estimator_": estimator, "converged_": False}

    def _fit(self, trust: np.ndarray, coef: Any) -> None:
        """Fit at some trust, and take note of it: a task that callbacks may end."""
        task = self._task.subtask("round", None)
        self.solution = self._solve(trust, coef, task.watchers(self._so_far))
        self._losses = self._take_note(self.solution)
        self.halted = task.ended(self.attributes)

    def _so_far(self, rows: list[Record], coef: Array) -> dict[str, Any]:
        """Return the fitted attributes as if the fit had ended within a round."""
        return self._of(so_far(self.data, rows, coef))

    def _solve(self, trust: np.ndarray, coef: Any, watchers: list[Watcher]) -> Solution:
        """Fit with rows weighed by trust, the penalty as it was for all of them."""
        problem = self.data.problem
        with problem.engine:
            weight = problem.weight * like(trust, problem.weight)
            left = float(namespace(weight).sum(weight))
            weight = weight / left
        self.trust, self.l2 = trust, float(self.data.weight_decay / left)
        with progress(self.estimator) as watch:
            return solve(
                replace(problem, weight=weight),
                np.array([self.l2]),
                solver_of(self.estimator),
                tol=self.estimator.tol,
                max_iter=self.estimator.max_iter,
                coef=coef,
                dtype=self.data.dtype,
                watch=[*watch, *watchers],
            )

    def _take_note(self, solution: Solution) -> np.ndarray:
        """Append the objective, and return the loss of each row."""
        problem = self.data.problem
        decay = like(np.array([self.data.weight_decay]), problem.weight)
        objective = problem.objective(decay)
        objective = objective.in_double() or objective
        with problem.engine:
            losses = to_numpy(objective.row_losses(solution.coef))[0]
            penalty = float(objective.penalty(solution.coef)[0])
        data_loss = to_numpy(problem.weight)[0] @ self.transform.value(losses)
        self.history.append(float(data_loss) + penalty)
        return losses


def _inner(estimator: Any) -> SoftmaxRegression:
    if estimator is None:
        return SoftmaxRegression()
    if not isinstance(estimator, SoftmaxRegression):
        raise TypeError(
            "estimator must be a SoftmaxRegression, got "
            f"{type(estimator).__name__}. Its own loss is what is reweighted."
        )
    return clone(estimator)


def _transform(model: Any) -> Transform:
    """Check the parameters, and return the function of the losses."""
    for name, allowed in RANGES.items():
        value = getattr(model, name)
        if not allowed.holds(value):
            raise refusal(value, f"{name} must be {allowed.text}", allowed.hint)
    if model.loss not in ("gce", "sce"):
        raise refusal(
            model.loss,
            "loss must be 'gce' or 'sce'",
            "The loss of a row is that of the estimator.",
        )
    return Generalized(float(model.q)) if model.loss == "gce" else Symmetric()


RANGES = {
    "q": Range(0, 1, "a number in (0, 1]", "Larger is more robust.", True),
    "max_rounds": Range(
        1, INF, "an integer of at least 1", "The default is 20.", whole=True
    ),
    "tol": Range(
        0, INF, "a number in [0, inf)", "It is a relative fall.", open_high=True
    ),
}
