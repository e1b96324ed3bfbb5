"""`SoftmaxRegression`: parameters in, one solve, attributes out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning

from softreg._arrays import (
    Array,
    cast,
    contiguous,
    dtype_name,
    like,
    namespace,
    on_host,
)
from softreg._data import Ingested, Stream, ingest
from softreg._fitted import become
from softreg._labels import Known, known_classes, labels_like
from softreg._losses import Loss, loss_of
from softreg._online import OnlineState, Seen, absorbed, seen_of
from softreg._parameters import check_streams, solver_of
from softreg._prediction import LinearSoftmaxMixin, coefficients_of
from softreg._progress import progress
from softreg._rows import check_same_place
from softreg._solve import Solution, solve
from softreg._status import StatusMixin
from softreg._watching import fit_task
from softreg.solvers import MiniBatch
from softreg.solvers._loop import Record

HISTORY = (
    "objective",
    "gradient_norm",
    "optimality_gap",
    "passes",
    "seconds",
    "precision",
)


class SoftmaxRegression(
    CallbackSupportMixin,
    StatusMixin,
    LinearSoftmaxMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Multinomial logistic regression with L2 weight decay and a proven optimum.

    The model is `P(y = k | x) = softmax((W x + b) / T)_k`. The fit minimises

        F(W, b) = (1 / S) sum_i s_i loss(W x_i + b, y_i) + (lambda / 2) ||W||^2,

    S the sum of the weights s_i and lambda = 1 / (C S), or `weight_decay`. For
    lambda > 0 the optimal W is unique. The fit stops on a proven bound of how far F is
    from its minimum, `optimality_gap_`: `tol` means the same for every solver and data
    set, and X need not be scaled. Two classes have one row of coefficients, as in
    `sklearn.linear_model.LogisticRegression`, which has the same optimum at the same C.

    Parameters
    ----------
    C : float, default=1.0
        Inverse of the regularisation strength, in (0, inf]; `inf` is unpenalised.
    weight_decay : float, default=None
        Lambda of the mean loss, 0 or more; overrides C.
    loss : str, float or softreg.losses.Loss, default="softmax"
        "softmax", "entmax15", "sparsemax", "topk-<k>" or an order alpha in (0, 2], of
        which the loss is the Fenchel-Young loss of Tsallis' entropy: 1 is
        "softmax", the cross-entropy; 1.5 is "entmax15" and 2 "sparsemax", which give
        classes far below the best a probability of exactly 0 and rows far on the right
        side no loss; below 1 tails are heavier and outliers in X weigh less. "topk-3"
        is the cross-entropy of the softmax over the 3 largest scores, or as many as
        named, from 2 to K, all others having probability 0. An object is a loss of
        your own.
    temperature : float, default=1.0
        T of the loss and of `predict_proba`; `decision_function` gives `W x + b`.
    label_smoothing : float, default=0.0
        In [0, 1): the targets are `(1 - eps) onehot + eps / K`.
    margin : float or array-like of shape (n_classes, n_classes), default=0.0
        Added in training to the scores of the wrong classes, after the division by T:
        a number of 0 or more, or a cost matrix with zero diagonal, a row for each true
        class. Soft targets take the mean row.
    fit_intercept : bool, default=True
        Whether to fit b.
    penalize_intercept : bool, default=False
        Whether the penalty includes b.
    class_weight : None, "balanced" or dict, default=None
        Weights of the classes; "balanced" is `S / (K * weight of the class)`. Labels a
        dict lacks weigh 1. Refused with soft targets.
    solver : str or softreg.solvers.Solver, default="auto"
        "auto", "lbfgs", "newton-cg", "newton-cholesky", "minibatch" or "gd": how to
        solve; the optimum is the same. An object sets options, or is a solver of your
        own. "auto" is "newton-cholesky" while `n (K (d + 1))^2 <= 5e6`, else
        "newton-cg".
    tol : float, default=1e-4
        Stop once `optimality_gap_ <= tol * objective_`. Where lambda = 0 there is no
        such proof: stop once the gradient's largest entry is at most tol times that at
        W = 0, b = 0.
    max_iter : int, default=1000
        Most iterations of the solver.
    warm_start : bool, default=False
        Start from the last solution. Where the classes changed, those that stayed keep
        their coefficients.
    device : {None, "cpu", "cuda", "cuda:<index>"}, default=None
        Where to compute; None is where X lives. With "cuda" NumPy and SciPy input goes
        to the GPU (whole where it fits, else a block at a time) and answers come back
        as NumPy; that needs CuPy.
    n_jobs : int, default=None
        Threads for blocks of rows. None or -1: all that the process may use, within a
        joblib worker its share. The result has the same bits for any number.
    random_state : int, RandomState instance or None, default=None
        Of the order in which "minibatch" visits the rows; None leaves it to the
        solver's `seed`. The other solvers are deterministic.
    verbose : int, default=0
        1 shows a bar on a terminal (iterations, objective, proven gap, passes over X a
        second, about the time left to `tol`), and elsewhere prints a line an iteration.
        Workers of joblib are quiet.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels; `arange(K)` with soft targets. Labels all of whose rows weigh 0 are left
        out.
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        W, with columns that sum to zero; one row for two classes.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        b, summing to zero; zeros without an intercept.
    n_iter_ : int
        Iterations used.
    converged_ : bool
        Whether `tol` was reached.
    objective_ : float
        F at the solution.
    optimality_gap_ : float
        Proven upper bound of `F - min F`; `inf` where lambda is 0.
    weight_decay_ : float
        The lambda used.
    solver_ : str
        Name of the solver that ran.
    history_ : dict of ndarray
        "objective", "gradient_norm" (largest entry), "optimality_gap", "passes" (reads
        of X), "seconds" and "precision" (of the products with X), from the start to the
        last iteration. float32 input is solved in float32 and then proven, and where
        need be finished, in float64: the column "precision" shows where. That change,
        and the return from the row space where X has more columns than rows, have a row
        of their own.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has string names.

    See Also
    --------
    sklearn.linear_model.LogisticRegression : The same optimum, reached less surely.

    Notes
    -----
    X is read as it lies, block by block of rows, and never copied whole unless its form
    leaves no choice (lists, frames, sparse formats other than CSR): float32 and float64
    of any layout, memory maps, small integers and float16 (as float32), other integers
    (as float64), CSR matrices with 32- or 64-bit indices, and whatever has `shape`,
    `dtype` and slices of rows, as HDF5 and zarr arrays have (docs/out-of-core.md). With
    more columns than rows the fit runs in the space that the rows span.

    References
    ----------
    Blondel, Martins & Niculae, "Learning with Fenchel-Young losses", JMLR 21, 2020, for
    the loss and its dual.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression().fit(X, y)
    >>> model.converged_, model.optimality_gap_ <= 1e-4 * model.objective_
    (True, True)
    >>> model.predict_proba(X[:2]).round(3)
    array([[1., 0., 0.],
           [1., 0., 0.]])
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        weight_decay: float | None = None,
        loss: str | float | Loss = "softmax",
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        margin: Any = 0.0,
        fit_intercept: bool = True,
        penalize_intercept: bool = False,
        class_weight: Any = None,
        solver: Any = "auto",
        tol: float = 1e-4,
        max_iter: int = 1000,
        warm_start: bool = False,
        device: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.C = C
        self.weight_decay = weight_decay
        self.loss = loss
        self.temperature = temperature
        self.label_smoothing = label_smoothing
        self.margin = margin
        self.fit_intercept = fit_intercept
        self.penalize_intercept = penalize_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SoftmaxRegression:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data, in any units; a Dask array or frame is fitted where it lies.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels of any kind, or soft targets: floats, each row a distribution.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, 0 or more. A weight of 2 is the row twice, 0 no row.

        Returns
        -------
        self : SoftmaxRegression
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            For bad input, before any computing; the estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            Once, where the fit stops before `tol`.
        """
        task = fit_task(self, X, y, sample_weight)
        data = ingest(self, X, y, sample_weight)

        def known(rows: list[Record], coef: Array) -> dict[str, Any]:
            return so_far(data, rows, coef) | {"_seen": seen_of(data).saved()}

        with progress(self) as watch:
            solution = solve(
                data.problem,
                np.array([data.weight_decay]),
                solver_of(self),
                tol=self.tol,
                max_iter=self.max_iter,
                coef=_warm_coef(self, data) if self.warm_start else None,
                dtype=data.dtype,
                watch=[*watch, *task.watchers(known)],
            )
        fitted = attributes_of(data, solution, data.weight_decay)
        fitted["_seen"] = seen_of(data).saved()
        become(self, fitted)
        task.ended(lambda: fitted)
        if solution.reason[0] == "halted":
            return self
        if not self.converged_:
            warnings.warn(
                explanation(self, solution.reason[0], float(solution.reached[0])),
                ConvergenceWarning,
                stacklevel=3,  # over that of scikit-learn's decorator
            )
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> SoftmaxRegression:
        """Go on fitting with more rows, which are not kept.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            More data: one row or many, with the columns of the first call.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Their labels, or soft targets.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; wanted in the first call, unless `fit` was
            called before or y are soft targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, 0 or more.

        Returns
        -------
        self : SoftmaxRegression
            The estimator.

        Raises
        ------
        ValueError, TypeError
            For bad input, before any computing; the estimator stays as it was.

        Notes
        -----
        Whatever `solver` is, each minibatch of the rows takes one Newton step, in any
        units of X; the coefficients are an average of these steps. `batch_size` and
        `seed` are those of `softreg.solvers.MiniBatch`, but by default a minibatch has
        1024 rows, or as many as there are columns. With C, lambda is `1 / (C S)`, S
        the weights of all rows so far; rows that come twice count twice. "balanced"
        goes by the classes so far. After `fit` it goes on from there. Rows should come
        in random order: the latest weigh most.

        It sets `classes_`, `coef_`, `intercept_`, `weight_decay_`, `solver_`
        ("minibatch") and `n_iter_`, the steps so far. Nothing is proven of rows that
        were not kept: `converged_`, `objective_`, `optimality_gap_` and `history_` of
        an earlier `fit` are removed.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from softreg import SoftmaxRegression
        >>> X, y = load_digits(return_X_y=True)
        >>> model = SoftmaxRegression()
        >>> for start in range(0, len(y), 100):
        ...     rows = slice(start, start + 100)
        ...     model = model.partial_fit(X[rows], y[rows], classes=range(10))
        >>> model.score(X, y) > 0.95
        True
        """
        check_streams(self)
        known = known_classes(self, classes, y)
        state = None
        if hasattr(self, "coef_"):
            check_same_place(self, X, self.coef_, "partial_fit")
            state = _state_of(self)
        seen = None if state is None else state.seen
        mass, weight = (0.0, 0.0) if seen is None else (seen.mass, seen.weight)
        stream = Stream(Known(known, mass), weight, is_new=state is None)
        data = ingest(self, X, y, sample_weight, stream=stream, in_parts=False)
        if state is None:
            nowhere = np.zeros(data.problem.shape)
            state = OnlineState(nowhere, nowhere)
        if state.coef.shape != data.problem.shape:
            raise ValueError(
                "fit_intercept must stay what it was in the calls before, got "
                f"{self.fit_intercept}. Set it back, or begin with a new estimator."
            )
        solver = solver_of(self)
        minibatch = solver if isinstance(solver, MiniBatch) else MiniBatch()
        state = absorbed(state, data, minibatch)
        average = state.average
        if len(average) > 1:
            average = average - average.mean(axis=0)
        fitted = linear_attributes(data, average) | {
            "n_iter_": state.n_steps,
            "weight_decay_": data.weight_decay,
            "solver_": MiniBatch.name,
            "_online": state.saved(),
        }
        become(self, fitted)
        return self

    @property
    def _loss(self) -> Loss:
        return loss_of(self.loss, self.classes_.shape[0])

    @property
    def _temperature(self) -> float:
        return self.temperature


def attributes_of(
    data: Ingested, solution: Solution, weight_decay: float, member: int = 0
) -> dict[str, Any]:
    """Return every fitted attribute of one problem of a batch."""
    return linear_attributes(data, solution.coef[member, ...]) | {
        "n_iter_": int(solution.n_iter[member]),
        "converged_": bool(solution.converged[member]),
        "objective_": float(solution.value[member]),
        "optimality_gap_": float(solution.gap[member]),
        "weight_decay_": weight_decay,
        "solver_": solution.solver,
        "history_": columns_of(solution.history[member]),
    }


def columns_of(rows: Sequence[Record]) -> dict[str, np.ndarray]:
    """Return a history as the columns of `history_`."""
    return {name: np.array([getattr(row, name) for row in rows]) for name in HISTORY}


def so_far(data: Ingested, rows: Sequence[Record], coef: Array) -> dict[str, Any]:
    """Return the fitted attributes as if the fit had ended at coefficients (k, P)."""
    last = rows[-1]
    if coef.shape[0] > 1:
        coef = coef - namespace(coef).mean(coef, axis=0)
    return linear_attributes(data, coef) | {
        "n_iter_": last.iteration,
        "objective_": last.objective,
        "optimality_gap_": last.optimality_gap,
        "converged_": False,
        "weight_decay_": data.weight_decay,
        "solver_": last.solver,
        "history_": columns_of(rows),
    }


def linear_attributes(data: Ingested, coef: Array) -> dict[str, Any]:
    """Return the attributes that prediction needs, of coefficients (k, P)."""
    coef, n_features = like(coef, data.home), data.n_features_in
    coef = cast(coef, getattr(namespace(coef), data.dtype))
    xp = namespace(coef)
    intercept = (
        coef[:, n_features] if coef.shape[1] > n_features else xp.zeros_like(coef[:, 0])
    )
    names = {}
    if data.feature_names_in is not None:
        names["feature_names_in_"] = data.feature_names_in
    # No views: they would keep all coefficients alive, and whoever writes to them, as a
    # callback may, would write to the solver's.
    return names | {
        "classes_": labels_like(data.classes, data.home),
        "coef_": contiguous(xp.asarray(coef[:, :n_features], copy=True)),
        "intercept_": xp.asarray(intercept, copy=True),
        "n_features_in_": n_features,
    }


def _state_of(estimator: SoftmaxRegression) -> OnlineState:
    """Return where steps stand; after a fit at its coefficients, with their weight."""
    if hasattr(estimator, "_online"):
        return OnlineState.loaded(estimator._online)
    if not hasattr(estimator, "_seen"):
        raise ValueError(
            "partial_fit must know the rows of an earlier fit to go on from it, got "
            "coefficients alone, as those of RobustSoftmaxRegression.estimator_ are. "
            "Begin with a clone of this estimator, or call fit."
        )
    coef = coefficients_of(estimator)
    return OnlineState(coef, coef, Seen.loaded(estimator._seen))


def _warm_coef(estimator: SoftmaxRegression, data: Ingested) -> Array | None:
    """Return the last solution as a start; classes that are new start at the mean.

    None where there is no last solution, or it has other columns.
    """
    if getattr(estimator, "n_features_in_", None) != data.n_features_in:
        return None
    estimator.densify()
    coef, intercept = on_host(estimator.coef_), on_host(estimator.intercept_)
    old = np.column_stack([coef, intercept]).astype(float)
    if len(old) == 1:
        old = np.concatenate([-old / 2, old / 2])
    labels = on_host(estimator.classes_).tolist()
    rows = dict(zip(labels, old, strict=True))
    with data.problem.engine:
        start = on_host(data.problem.start(1))[0]
    if len(start) == 1:
        start = np.concatenate([-start / 2, start / 2])
    n_columns = start.shape[1]
    coef = np.stack(
        [
            rows[label][:n_columns] if label in rows else row
            for label, row in zip(data.classes.tolist(), start, strict=True)
        ]
    )
    if not any(label in rows for label in data.classes.tolist()):
        return None
    coef -= coef.mean(axis=0)
    coef = coef[1:] - coef[:1] if len(coef) == 2 else coef
    return like(coef[None, ...], data.problem.weight)


def explanation(estimator: SoftmaxRegression, reason: str, reached: float) -> str:
    """Return the text of the one warning: what stopped, how far it got, what to do."""
    if reason == "separated":
        return (
            f"{estimator.solver_} stopped after {estimator.n_iter_} iterations: the "
            "classes are separated without error, so with C=inf there is no finite "
            "optimum and the coefficients grow without bound. Use a finite C, or "
            "label_smoothing."
        )
    proven = np.isfinite(estimator.optimality_gap_)
    what = "relative gap" if proven else "gradient relative to that at zero"
    missed = f"with {what} {reached:.1e} > tol = {estimator.tol:.1e}"
    head = f"{estimator.solver_} stopped after {estimator.n_iter_} iterations"
    if reason == "max_iter":
        other = "" if estimator.solver == "auto" else ", or use solver='auto'"
        return f"{head} (max_iter) {missed}. Increase max_iter{other}."
    if reason == "kinks":
        return (
            f"{head} {missed}: smooth losses did not come near enough to the kinks of "
            f"{estimator.loss!r}. Bring the columns to one scale, as by "
            "StandardScaler, increase tol, or use a smaller C."
        )
    precision = estimator.history_["precision"][-1]
    dtype = dtype_name(estimator.coef_)
    return (
        f"{head} {missed}: rounding ({precision} "
        f"products, {dtype} coefficients) hides any further progress. This is the best "
        "point found. "
        + ("Increase tol, bring" if reached < 0.1 else "Bring")
        + " columns of large values nearer to zero or to a larger unit"
        + (", pass X as float64" if dtype == "float32" else "")
        + ", or use a smaller C."
    )
