"""scikit-learn's callbacks: the tasks of a fit, and its iterations among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sklearn.callback import CallbackContext

from softreg._arrays import Array
from softreg._fitted import without_fit
from softreg.solvers._loop import Halted, Record, Watcher

# Fitted attributes, as if the fit had ended at a history and coefficients (k, P).
SoFar = Callable[[list[Record], Array], dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """A task of a fit that callbacks are told of.

    Parameters
    ----------
    estimator : estimator
    data : dict
        `X`, `y` and `metadata`, as callbacks are to see them.
    context : CallbackContext
        Of scikit-learn.
    """

    estimator: Any
    data: dict[str, Any]
    context: CallbackContext

    @property
    def is_watched(self) -> bool:
        """Whether anyone listens."""
        return hasattr(self.estimator, "_skl_callbacks")

    def subtask(self, name: str, max_subtasks: int | None = 0) -> Task:
        """Begin a task that is part of this one."""
        context = self.context.subcontext(task_name=name, max_subtasks=max_subtasks)
        return Task(self.estimator, self.data, context).begun()

    def part(self, name: str) -> Task | None:
        """Return a task to begin in another process; None where nobody listens."""
        if not self.is_watched:
            return None
        context = self.context.subcontext(task_name=name)
        return Task(self.estimator, {}, context)

    def begun(self) -> Task:
        """Tell that the task begins."""
        self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)
        return self

    def ended(self, fitted: Callable[[], dict[str, Any]] | None = None) -> bool:
        """Tell that the task ended; return whether its level shall end as well.

        `fitted` returns the fitted attributes as if the fit ended here.
        """
        given = self._whole(fitted) if fitted is not None else None
        return self.context.call_on_fit_task_end(
            estimator=self.estimator, **self.data, reconstruction_attributes=given
        )

    def _whole(self, fitted: Callable[[], dict[str, Any]]) -> Callable[[], Any]:
        """Return what gives a copy all of its attributes: none of an earlier fit.

        scikit-learn sets what it gets on a copy of the estimator.
        """
        return lambda: {"__dict__": without_fit(self.estimator) | fitted()}

    @contextmanager
    def around(self, member: Any, X: Any, y: Any) -> Iterator[None]:
        """Hand callbacks that wish so on to an estimator that is fitted within."""
        own = Task(self.estimator, {"X": X, "y": y}, self.context)
        with self.context.propagate_callback_context(member):
            own.begun()
            yield
        own.ended()

    def watchers(self, so_far: SoFar) -> list[Watcher]:
        """Return what makes each iteration of a solver a task of this one."""
        return [_IterationWatcher(self, so_far)] if self.is_watched else []


def fit_task(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Task:
    """Begin the task of a whole fit; of how many subtasks is not known before."""
    context = estimator._init_callback_context(max_subtasks=None)
    data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
    return Task(estimator, data, context).begun()


class _IterationWatcher:
    """Makes every iteration a task, and halts the solver if a callback says so."""

    def __init__(self, task: Task, so_far: SoFar) -> None:
        self._task, self._so_far = task, so_far
        self._rows: list[Record] = []

    def __call__(self, row: Record, coef: Array) -> None:
        """Take note of an iteration."""
        self._rows.append(row)
        iteration = self._task.subtask("iteration")
        if iteration.ended(lambda: self._so_far(self._rows, coef)):
            raise Halted(coef, self._rows)
