"""scikit-learn's callbacks on the iterations of a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.callback import CallbackContext

from softreg._arrays import Array
from softreg.solvers._loop import Halted, Record

Fitted = Callable[[list[Record], Array], dict[str, Any]]


class CallbackWatcher:
    """Calls an estimator's callbacks after every iteration, and halts if one says so.

    Parameters
    ----------
    estimator : estimator
    context : CallbackContext
        Of the fit; every iteration is a task of it.
    data : dict
        `X`, `y` and `metadata`, as callbacks are to see them.
    fitted : callable
        Returns the fitted attributes of a history and coefficients.
    """

    def __init__(
        self,
        estimator: Any,
        context: CallbackContext,
        data: dict[str, Any],
        fitted: Fitted,
    ) -> None:
        self._estimator, self._context = estimator, context
        self._data, self._fitted = data, fitted
        self._rows: list[Record] = []

    def __call__(self, row: Record, coef: Array) -> None:
        """Take note of an iteration."""
        self._rows.append(row)
        task = self._context.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(estimator=self._estimator, **self._data)
        stop = task.call_on_fit_task_end(
            estimator=self._estimator,
            **self._data,
            reconstruction_attributes=lambda: self._fitted(self._rows, coef),
        )
        if stop:
            raise Halted(coef, self._rows)
