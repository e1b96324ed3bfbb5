"""Callbacks of scikit-learn's kind: `estimator.set_callbacks(Checkpoint(path))`."""

from __future__ import annotations

import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any

from sklearn.base import clone

from softreg._parameters import is_real

__all__ = ["Checkpoint"]


class Checkpoint:
    """Saves the fitted estimator every so often during `fit`.

    The file is a pickle of the estimator as if the fit had ended there. It is replaced
    as a whole, so it is never half written. To go on after a crash, load it, set
    `warm_start=True`, and fit again: the fit starts from the saved coefficients.

    Parameters
    ----------
    path : str or Path
        Where to save; an older file there is replaced.
    every : float, default=60.0
        Seconds between two savings, 0 for every iteration. The end of the fit is
        always saved.

    Raises
    ------
    ValueError
        For seconds that are no number of at least 0.

    Examples
    --------
    >>> import pickle, tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from softreg import SoftmaxRegression
    >>> from softreg.callbacks import Checkpoint
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "fit.pkl"
    ...     model = SoftmaxRegression().set_callbacks(Checkpoint(path)).fit(X, y)
    ...     saved = pickle.loads(path.read_bytes())
    >>> saved.set_params(warm_start=True).fit(X, y).n_iter_
    0
    """

    def __init__(self, path: str | Path, every: float = 60.0) -> None:
        if not (is_real(every) and every >= 0):
            raise ValueError(
                f"every must be a number of seconds of at least 0, got {every!r}. The "
                "default is 60."
            )
        self.path = path
        self.every = every
        self._saved_at = time.monotonic()

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin to count the seconds."""
        self._saved_at = time.monotonic()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any
    ) -> bool:
        """Save the estimator where it is time to."""
        late = time.monotonic() - self._saved_at >= self.every
        # Within a pipeline or a search the fit is a task of theirs, merged with it.
        whole = context.parent is None or context.source_task_name is not None
        if fitted_estimator is not None and (late or whole):
            self._save(fitted_estimator)
        return False

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing: what is saved stays."""

    def _save(self, estimator: Any) -> None:
        """Write the estimator without its callbacks, beside the file, and rename."""
        saved = clone(estimator).set_callbacks()
        state = {n: v for n, v in vars(estimator).items() if "callback" not in n}
        saved.__dict__.update(state)
        path = Path(self.path)
        # Fits of a search may be saved at the same time.
        own = f"{path.name}.{os.getpid()}-{threading.get_ident()}.part"
        unfinished = path.with_name(own)
        unfinished.write_bytes(pickle.dumps(saved))
        unfinished.replace(path)
        self._saved_at = time.monotonic()
