"""`SoftmaxRegressionCV`: C chosen by cross-validation, all folds in one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    process_routing,
)

from softreg._arrays import is_dask, is_foreign, on_host
from softreg._data import Ingested, ingest
from softreg._fitted import become, fitted_here
from softreg._folds import (
    Split,
    batches_of,
    known_rows,
    least_log_proba,
    row_numbers,
)
from softreg._losses import Loss, clipped, loss_of
from softreg._parameters import (
    advising,
    check_choice,
    grid_of,
    is_flag,
    refusal,
    solver_of,
)
from softreg._path import decays_of
from softreg._prediction import LinearSoftmaxMixin
from softreg._problem import row_space_pays
from softreg._progress import progress
from softreg._rows import check_same_place, in_memory
from softreg._search import Routed, Search, chosen_index, judge_of
from softreg._softmax import SoftmaxRegression, attributes_of, so_far
from softreg._solve import evaluated, solve
from softreg._status import StatusMixin
from softreg._targets import SoftTargets
from softreg._watching import Task, fit_task


class SoftmaxRegressionCV(
    StatusMixin,
    CallbackSupportMixin,
    LinearSoftmaxMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Softmax regression with C chosen by cross-validation.

    The folds of one C are fitted as one batch: each pass over X serves all of them, and
    what is known of X (moments, Gram matrix, factors) serves all values of C. No row of
    X is copied: a fold is a row of weights. C runs from strong to weak regularisation,
    each fit from the last. Every fit has the proof of optimality of
    `SoftmaxRegression`.

    Parameters
    ----------
    Cs : int or array-like of shape (n_Cs,), default=10
        Values of C, finite and above 0; an integer is so many from 1e-4 to 1e4, evenly
        in the logarithm.
    cv : int, splitter or iterable, default=None
        As in `sklearn.model_selection.cross_validate`: None is 5 stratified folds, an
        integer so many; a splitter; or pairs (train, test) of row numbers. A row drawn
        more than once weighs as often.
    scoring : str or callable, default=None
        As in `sklearn.model_selection.cross_validate`; None is accuracy. Accuracy and
        "neg_log_loss" come from the scores that the fits compute anyway; for others
        the held-out rows are copied, a fold at a time. For Dask input only those two.
    selection : {"best", "1se"}, default="best"
        "best" is the C of the highest mean score over the folds, the strongest penalty
        of equals. "1se" is the strongest penalty whose mean score is within one
        standard error (standard deviation over the folds, ddof=1, by the square root
        of their number) of the highest.
    refit : bool, default=True
        Whether to fit all rows at the chosen C. Otherwise the coefficients are the mean
        of the folds' at that C.
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
        Start each fit from the last `coefs_paths_` where that is better than the path's
        own start. Only where classes, number of folds and number of values of C are
        those of the last fit, and no fold lacks a class.
    device : {None, "cpu", "cuda", "cuda:<index>"}, default=None
        Where to compute; None is where X lives. With "cuda" NumPy and SciPy input goes
        to the GPU (whole where it fits, else a block at a time) and answers come back
        as NumPy; that needs CuPy.
    n_jobs : int, default=None
        Threads for blocks of rows. None or -1: all that the process may use, within a
        joblib worker its share. The result has the same bits for any number.
    random_state : int, RandomState instance or None, default=None
        For solvers that draw rows at random; those above are deterministic.
    verbose : int, default=0
        1 prints a line a C of the search, and shows the fit of all rows as
        `SoftmaxRegression` does. Workers of joblib are quiet.

    Attributes
    ----------
    C_ : float
        The chosen C.
    Cs_ : ndarray of shape (n_Cs,)
        The values of C, in the order they were given.
    scores_ : ndarray of shape (n_folds, n_Cs)
        Score of each fold's held-out rows at each C.
    coefs_paths_ : ndarray of shape (n_folds, n_Cs, n_classes, n_features + 1)
        Coefficients of each fold, the intercept last; 1 in place of n_classes for two
        classes. A class that a fold's training rows lack has zeros and the intercept
        `-inf`: probability 0.
    n_iter_ : ndarray of shape (n_folds, n_Cs)
        Iterations of each fit.
    objectives_ : ndarray of shape (n_folds, n_Cs)
        F of each fold at its solution.
    optimality_gaps_ : ndarray of shape (n_folds, n_Cs)
        Proven upper bounds of `F - min F` of each fold.
    classes_ : ndarray of shape (n_classes,)
        Labels; `arange(K)` with soft targets.
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        W at the chosen C.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        b at the chosen C.
    converged_ : bool
        Whether the fit of all rows reached `tol`; without `refit`, whether each fold's
        at the chosen C did.
    objective_ : float
        F of all rows at `coef_` and `intercept_`.
    optimality_gap_ : float
        Proven upper bound of its distance to the minimum. Without `refit` it is that of
        a mean of coefficients, which is no minimum.
    weight_decay_ : float
        Lambda of F.
    solver_ : str
        Name of the solver that ran.
    history_ : dict of ndarray
        Of the fit of all rows, as in `SoftmaxRegression`; without `refit` of the one
        evaluation.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where all are strings.

    See Also
    --------
    SoftmaxRegression : One fit at a given C.
    softmax_path : The coefficients along a grid of C, without folds.

    Notes
    -----
    "balanced" class weights are those of each fold's training rows. `sample_weight`
    weighs the rows in the fits and, without scikit-learn's metadata routing, in the
    scores; with soft targets "neg_log_loss" is minus their mean cross-entropy. A row of
    a class that a fold lacks counts as wrong there, with the smallest
    probability that `sklearn.metrics.log_loss` knows. The standard error of "1se" is
    that of Breiman et al., whose folds are independent only in part.

    References
    ----------
    Breiman, Friedman, Olshen & Stone, "Classification and Regression Trees", 1984,
    section 3.4.3, for "1se".

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegressionCV
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegressionCV(Cs=[0.01, 1, 100], scoring="neg_log_loss").fit(X, y)
    >>> model.C_, model.scores_.shape, model.coefs_paths_.shape
    (1.0, (5, 3), (5, 3, 3, 14))
    """

    # As of `score`'s own: weights go to the scorer, which says whether it wants them.
    __metadata_request__score = {"sample_weight": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        Cs: Any = 10,
        *,
        cv: Any = None,
        scoring: Any = None,
        selection: str = "best",
        refit: bool = True,
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
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.selection = selection
        self.refit = refit
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
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, **params: Any
    ) -> SoftmaxRegressionCV:
        """Fit every fold at every C, choose C, and fit all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data, in any units; a Dask array or frame is fitted where it lies.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels of any kind, or soft targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, 0 or more.
        **params
            `groups` for the splitter; with scikit-learn's metadata routing enabled,
            what splitter and scorer request.

        Returns
        -------
        self : SoftmaxRegressionCV
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            For bad input, naming fold and C where it lies there; the estimator stays as
            it was.

        Warns
        -----
        ConvergenceWarning
            Once, where fits stop before `tol`.
        """
        task = fit_task(self, X, y, sample_weight)
        values = grid_of(self.Cs)
        self._check_choices()
        y, sample_weight = in_memory(y), in_memory(sample_weight)
        params = {name: in_memory(value) for name, value in params.items()}
        estimator = SoftmaxRegression(**self._shared())
        routed = self._routed(sample_weight, params)
        data = ingest(estimator, X, y, sample_weight, owner=self)
        decays_of(values, data.weight.sum())
        self._check_scoring(data)
        splits = self._splits(X, y, routed.split, data)
        judge = judge_of(self.scoring, routed.score, X, y, estimator, data, splits)
        batches = batches_of(estimator, data, splits, judge.weight, known_rows(y, data))
        search = Search(estimator, data, values, len(splits), self.refit)
        starts = self._last_paths(data, len(splits), values)
        for batch in batches:
            search.run(batch, judge, starts, task)
        chosen = chosen_index(values, search.scores, self.selection)
        fitted = self._final(search, chosen, task) | search.attributes(chosen)
        become(self, fitted)
        task.ended(lambda: fitted)
        search.stopped.warn(stacklevel=4)  # over that of scikit-learn's decorator
        return self

    def _check_choices(self) -> None:
        check_choice(
            "selection",
            self.selection,
            ["best", "1se"],
            "'1se' takes the strongest penalty within one standard error of the best.",
        )
        if not is_flag(self.refit):
            raise refusal(self.refit, "refit must be True or False", "Pass a bool.")
        if not (self.scoring is None or isinstance(self.scoring, str)) and not callable(
            self.scoring
        ):
            raise TypeError(
                f"scoring must be None, a name or a callable, got {self.scoring!r}. C "
                "is chosen by one score; for several use GridSearchCV."
            )

    def _check_scoring(self, data: Ingested) -> None:
        soft = isinstance(data.targets, SoftTargets)
        if soft and self.scoring != "neg_log_loss":
            raise ValueError(
                "scoring must be 'neg_log_loss' with soft targets, got "
                f"{self.scoring!r}. Distributions have no accuracy."
            )

    def _shared(self) -> dict[str, Any]:
        """Return the parameters of `SoftmaxRegression`."""
        own = self.get_params(deep=False)
        return {k: own[k] for k in SoftmaxRegression().get_params() if k in own}

    def _splits(
        self, X: Any, y: Any, params: dict[str, Any], data: Ingested
    ) -> list[Split]:
        with advising(
            "cv must be None, an integer of 2 or more, a splitter that these rows "
            "suffice for (and `groups` of fit, one a row, where it wants them), or a "
            "list of pairs (train, test) of row numbers."
        ):
            cv = check_cv(self.cv, y, classifier=True)
            # Splits are of row numbers; these rows are not in this memory.
            elsewhere = is_dask(X) or is_foreign(X)
            rows = np.empty((len(data.weight), 0)) if elsewhere else X
            found = list(cv.split(rows, y, **params))
        splits = row_numbers(found, len(data.weight))
        if self.selection == "1se" and len(splits) < 2:
            raise ValueError(
                "selection='1se' needs at least two folds, got one. Use "
                "selection='best'."
            )
        return splits

    def _last_paths(
        self, data: Ingested, n_folds: int, values: np.ndarray
    ) -> np.ndarray | None:
        """Return the last fit's paths where they are of this shape and kind."""
        last = on_host(getattr(self, "coefs_paths_", None))
        if not self.warm_start or last is None:
            return None
        k, n_columns = data.problem.shape
        shape = (n_folds, len(values), k, data.n_features_in + 1)
        classes = on_host(self.classes_)
        same = last.shape == shape and np.array_equal(classes, data.classes)
        if not same or not np.isfinite(last).all():
            return None
        return last[..., :n_columns].astype(np.float64)

    def _final(self, search: Search, chosen: int, task: Task) -> dict[str, Any]:
        """Return the attributes of the fit of all rows."""
        data, estimator = search.data, search.estimator
        decay = 1 / (float(search.values[chosen]) * float(data.weight.sum()))
        mean, l2 = search.mean_coef(chosen), np.array([decay])
        if not self.refit:
            search.check_classes(chosen)
            solution = evaluated(data.problem, l2, mean, data.dtype)
            done = np.array([search.converged[:, chosen].all()])
            solution = solution._replace(converged=done, solver=search.solver)
            return attributes_of(data, solution, decay)
        known = search.attributes(chosen)
        refit = task.subtask("refit", None)
        halting = refit.watchers(lambda rows, coef: so_far(data, rows, coef) | known)
        with progress(self) as watch:
            solution = solve(
                data.problem,
                l2,
                solver_of(estimator),
                tol=self.tol,
                max_iter=self.max_iter,
                # Of more columns than rows a fresh start finds those the rows span.
                coef=None if row_space_pays(data.X) else mean,
                dtype=data.dtype,
                watch=[*watch, *halting],
            )
        search.stopped.note(data, solution, [decay], ["the fit of all rows"])
        fitted = attributes_of(data, solution, decay)
        refit.ended(lambda: fitted | known)
        return fitted

    def score(
        self, X: Any, y: Any, sample_weight: Any = None, **score_params: Any
    ) -> float:
        """Return the score of `scoring` on the given rows.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels; soft targets with `scoring="neg_log_loss"`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        **score_params
            With scikit-learn's metadata routing enabled, what the scorer requests.

        Returns
        -------
        score : float
            Accuracy where `scoring` is None.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For rows that do not go with the fit, or that the scorer refuses.
        """
        y, sample_weight = in_memory(y), in_memory(sample_weight)
        routing = get_config()["enable_metadata_routing"]
        if self.scoring is None and not score_params and not routing:
            return super().score(X, y, sample_weight)
        if self.scoring == "neg_log_loss" and np.ndim(y) == 2 and np.shape(y)[1] > 1:
            low = least_log_proba(self.coef_.dtype)
            log_proba = clipped(in_memory(self.predict_log_proba(X)), low)
            of_rows = (np.asarray(y) * log_proba).sum(axis=1)
            return float(np.average(of_rows, weights=sample_weight))
        if sample_weight is not None:
            score_params["sample_weight"] = sample_weight
        if routing:
            routed = process_routing(self, "score", **score_params)
            score_params = routed["scorer"]["score"]
        check_same_place(self, X, self.coef_, "score")
        here = fitted_here(self)
        scorer = check_scoring(here, self.scoring or "accuracy")
        return scorer(here, on_host(X), y, **score_params)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return what metadata goes where: to the fit, the splitter and the scorer.

        Returns
        -------
        router : MetadataRouter
            Of scikit-learn's metadata routing.
        """
        to_splitter = MethodMapping().add(caller="fit", callee="split")
        to_scorer = MethodMapping().add(caller="fit", callee="score")
        to_scorer = to_scorer.add(caller="score", callee="score")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=self.cv, method_mapping=to_splitter)
            .add(
                scorer=check_scoring(SoftmaxRegression(), self.scoring or "accuracy"),
                method_mapping=to_scorer,
            )
        )

    def _routed(self, sample_weight: Any, params: dict[str, Any]) -> Routed:
        """Return what goes to the splitter and to the scorer."""
        if get_config()["enable_metadata_routing"]:
            given = params if sample_weight is None else {
                **params, "sample_weight": sample_weight
            }  # fmt: skip
            routed = process_routing(self, "fit", **given)
            return Routed(routed["splitter"]["split"], routed["scorer"]["score"])
        strangers = sorted(set(params) - {"groups"})
        if strangers:
            raise TypeError(
                f"fit takes X, y, sample_weight and groups, got {strangers}. Enable "
                "scikit-learn's metadata routing to pass more to splitter or scorer: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return Routed(params, weights)

    @property
    def _loss(self) -> Loss:
        return loss_of(self.loss, self.classes_.shape[0])

    @property
    def _temperature(self) -> float:
        return self.temperature
