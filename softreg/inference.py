"""Reading a fitted model: standard errors, p-values, intervals, marginal effects.

With s_i the weights of the rows, a fit minimises `sum_i s_i loss_i` and a penalty. Let
H be the Hessian of that sum, P the penalty's, A = H + P, and g_i the gradient of a
row's loss. The estimate varies with covariance `A^-1 B A^-1`, B that of the sum of
`s_i g_i`: if the model holds B is H, and `sum_i s_i^2 g_i g_i'` estimates it in any
case. Without a penalty the first is the inverse of the information.

All of it is formed in standardised columns, and in coordinates of the coefficients that
sum to zero over the classes: there A has an inverse.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.special
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from softreg import _kernels as kernels
from softreg._arrays import Array, is_dask, like, namespace, on_host, to_numpy
from softreg._blocks import Blocks
from softreg._cross_validation import SoftmaxRegressionCV
from softreg._data import Ingested, Stream, ingest
from softreg._design import Parametrisation
from softreg._labels import Known
from softreg._losses import Softmax
from softreg._objective import Objective
from softreg._parameters import Range, check_choice, refusal
from softreg._preconditioner import Standardisation
from softreg._prediction import LinearSoftmaxMixin, coefficients_of
from softreg._problem import Problem
from softreg._rows import check_same_place, in_memory
from softreg._softmax import SoftmaxRegression

if TYPE_CHECKING:
    import pandas

__all__ = ["marginal_effects", "summary"]

LEVEL = Range(0, 1, "a number in (0, 1)", "0.95 is usual.", True, True)
# The Hessian takes memory by the square of its side, and is copied a few times.
MAX_SIDE = 10_000
# Reciprocal condition of the equilibrated information that is all rounding.
SINGULAR = 1e-12
# Coefficients so many standard errors from the optimum are not it; nor are those which
# a Newton step moves so far, on standardised columns.
FAR_IN_ERRORS = 0.1
FAR = 0.05
NAMED_COLUMNS = 6


class _Curvature(NamedTuple):
    """The second order of a fit, in reduced standardised coordinates of side `r P`.

    Reduced coefficients (r, P) are `basis` (K, r) times less those of the K classes:
    r = K - 1, all that sum to zero.
    """

    basis: np.ndarray
    standard: Standardisation
    hessian: np.ndarray  # of the weighted sum of losses
    penalty: np.ndarray  # (r P,), its diagonal
    gradient: np.ndarray  # (r P,), of both
    scores: np.ndarray | None  # B as it is observed


def summary(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    coding: str = "symmetric",
    covariance: str = "model",
    level: float = 0.95,
) -> pandas.DataFrame:
    """Return coefficients with standard errors, z, p-values and intervals.

    Parameters
    ----------
    estimator : SoftmaxRegression or SoftmaxRegressionCV
        Fitted with the softmax loss, without margin and label smoothing. Only with
        `C=inf` are its coefficients maximum likelihood estimates.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        The rows of the fit.
    y : array-like of shape (n_samples,)
        Their labels.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights of the fit. `covariance="model"` takes them as counts of equal
        rows, "robust" as how much each single row was made to count.
    coding : {"symmetric", "base"}, default="symmetric"
        "symmetric" has all classes, with coefficients that sum to zero; "base" all but
        the first, each less those of the first (the coding of statsmodels' `MNLogit`).
        Two classes have one row of coefficients either way, that of `classes_[1]`
        against `classes_[0]`.
    covariance : {"model", "robust"}, default="model"
        "model" trusts the model's probabilities; "robust" is the sandwich (HC0), which
        holds for a wrong model as well.
    level : float, default=0.95
        Coverage of the intervals, in (0, 1).

    Returns
    -------
    table : DataFrame of shape (n_coefficients, 6)
        Columns coef, std_err, z, p_value, ci_low and ci_high; indexed by class and
        feature, the row "intercept" first. `coef` are in units of `coef_`: divided by
        the temperature they are log-odds.

    Raises
    ------
    ImportError
        Without pandas.
    TypeError
        For an estimator that minimises no sum of losses of rows.
    ValueError
        For another loss than softmax, a margin or label smoothing; for data that do
        not go with the fit; where columns are linearly dependent or classes separated,
        so that an unpenalised fit has no standard errors.
    sklearn.exceptions.NotFittedError
        Before `fit`.

    Warns
    -----
    UserWarning
        Where the fit is penalised: its coefficients are biased towards zero and the
        intervals do not cover. Where the coefficients are not the optimum of these
        rows. Where `class_weight` makes "model" wrong.

    Notes
    -----
    With a penalty, A = H + P is the Hessian of the penalised sum (P has 1 / C for each
    penalised coefficient), and "model" is `A^-1 H A^-1`: how the *penalised* estimate
    varies from sample to sample (le Cessie & van Houwelingen), not the larger `A^-1`,
    which is the spread of a posterior. It says nothing of the bias, and H is taken
    where a strong penalty makes probabilities less sure than they are: it then is too
    large. No table corrects for choosing C, or the columns, on the same rows.

    References
    ----------
    McFadden, "Conditional logit analysis of qualitative choice behavior", 1974.
    White, "Maximum likelihood estimation of misspecified models", Econometrica 50,
    1982, for the sandwich.
    le Cessie & van Houwelingen, "Ridge estimators in logistic regression", Applied
    Statistics 41, 1992, for the covariance of penalised estimates.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from softreg import SoftmaxRegression
    >>> from softreg.inference import summary
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> X = X[["sepal length (cm)"]]
    >>> model = SoftmaxRegression(C=np.inf, tol=1e-8).fit(X, y)
    >>> summary(model, X, y, coding="base").iloc[:, :3].round(2)
                              coef  std_err     z
    class feature
    1     intercept         -26.08     4.89 -5.33
          sepal length (cm)   4.82     0.91  5.31
    2     intercept         -38.76     5.69 -6.81
          sepal length (cm)   6.85     1.02  6.70
    """
    frames = _pandas()
    _check_likelihood(estimator)
    check_choice("coding", coding, ["base", "symmetric"], "'base' is the first class.")
    check_choice("covariance", covariance, ["model", "robust"], "'robust' is HC0.")
    if not LEVEL.holds(level):
        raise refusal(level, f"level must be {LEVEL.text}", LEVEL.hint)
    classes = on_host(estimator.classes_)
    _check_rows(X)
    y = _known_labels(y, classes, sample_weight)
    data = _ingested(estimator, X, y, sample_weight, "summary")
    curvature = _curvature_of(estimator, data, covariance)
    coded = _coding(coding, len(classes)) @ curvature.basis
    variances, step = _variances(estimator, data, curvature, coded)
    errors = np.sqrt(variances)
    _tell(estimator, data, covariance, _distances(curvature, step, coded, errors))
    coef = coefficients_of(estimator)
    if len(classes) > 2:
        coef = _coding(coding, len(classes)) @ (coef - coef.mean(axis=0))
    # A column that does not vary has no standard error in a penalised fit, and no z.
    z = coef / np.where(errors > 0, errors, np.nan)
    half = scipy.special.ndtri((1 + level) / 2) * errors
    values = {
        "coef": coef,
        "std_err": errors,
        "z": z,
        "p_value": scipy.special.erfc(np.abs(z) / np.sqrt(2)),
        "ci_low": coef - half,
        "ci_high": coef + half,
    }
    names = _feature_names(estimator)
    shown = classes if coding == "symmetric" and len(classes) > 2 else classes[1:]
    order = list(range(len(names)))
    if estimator.fit_intercept:
        names, order = ["intercept", *names], [len(names), *order]
    index = frames.MultiIndex.from_product([shown, names], names=["class", "feature"])
    table = {name: value[:, order].ravel() for name, value in values.items()}
    return frames.DataFrame(table, index=index)


def marginal_effects(estimator: Any, X: Any) -> pandas.DataFrame:
    """Return the average marginal effects: how probabilities change with the columns.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator with linear scores, of any loss: `SoftmaxRegression`,
        `SoftmaxRegressionCV`, `RobustSoftmaxRegression` or
        `LargeMarginSoftmaxRegression`.
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        The rows to average over.

    Returns
    -------
    effects : DataFrame of shape (n_classes, n_features)
        Mean of `dp_k / dx_j` over the rows, in probability per unit of the column; a
        row a class, a column a feature. Sums to zero over the classes.

    Raises
    ------
    ImportError
        Without pandas.
    TypeError
        For an estimator without linear scores.
    ValueError
        For X that does not go with the fit.
    sklearn.exceptions.NotFittedError
        Before `fit`.

    Notes
    -----
    The mean of `J(p_i) W / T` is that of the Jacobians J times W: nothing larger than
    a block's probabilities and K x K is held. For a column of zeros and ones it is a
    derivative all the same, as in statsmodels' `get_margeff`, not the difference.

    References
    ----------
    Greene, "Econometric Analysis", on marginal effects in discrete choice.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softreg import SoftmaxRegression
    >>> from softreg.inference import marginal_effects
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> X = X[["sepal length (cm)"]]
    >>> marginal_effects(SoftmaxRegression(tol=1e-8).fit(X, y), X).round(2)
    feature  sepal length (cm)
    class
    0                    -0.37
    1                     0.07
    2                     0.30
    """
    frames = _pandas()
    _check_alone(estimator)
    if not isinstance(estimator, LinearSoftmaxMixin):
        raise TypeError(
            "estimator must have linear scores, as SoftmaxRegression has, got "
            f"{type(estimator).__name__}. Ask the estimators at its nodes one by one."
        )
    check_is_fitted(estimator)
    classes = on_host(estimator.classes_)
    _check_rows(X)
    # Derivatives know no labels: any will do.
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    labels = np.repeat(classes[:1], n_rows)
    data = _ingested(estimator, X, labels, None, "marginal_effects")
    problem, coef = data.problem, coefficients_of(estimator)
    form = Parametrisation(len(classes), float(estimator._temperature), len(coef) == 1)
    with problem.engine:
        blocks = _in_double(problem)
        weights = like(coef[None, ...], problem.weight)
        expanded = form.expand(weights)
        (mean,), _ = blocks.reduce(
            kernels.class_curvature,
            estimator._loss,
            blocks.operand(expanded),
            summand_size=len(classes) ** 2,
        )
        names = _feature_names(estimator)
        effects = to_numpy(mean @ expanded)[0, :, : len(names)]
    return frames.DataFrame(
        effects,
        index=frames.Index(classes, name="class"),
        columns=frames.Index(names, name="feature"),
    )


# -- the edge -------------------------------------------------------------------------


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "softreg.inference answers with a pandas DataFrame, and pandas is not "
            'installed. Run pip install "softreg[inference]".'
        ) from error
    return pandas


def _check_alone(estimator: Any) -> None:
    """Refuse what holds the estimator that is meant, and say where it is."""
    if isinstance(estimator, Pipeline):
        raise TypeError(
            "estimator must be the last step of its pipeline, got the Pipeline. Pass "
            "pipeline[-1], and pipeline[:-1].transform(X) for X; columns have names "
            "if pipeline.set_output(transform='pandas') came before fit."
        )
    if hasattr(estimator, "best_estimator_"):
        raise TypeError(
            "estimator must be that which the search found, got "
            f"{type(estimator).__name__}. Pass its best_estimator_."
        )


def _check_likelihood(estimator: Any) -> None:
    _check_alone(estimator)
    if not isinstance(estimator, SoftmaxRegression | SoftmaxRegressionCV):
        raise TypeError(
            "estimator must be a SoftmaxRegression or SoftmaxRegressionCV, got "
            f"{type(estimator).__name__}. Others maximise no likelihood of the rows."
        )
    check_is_fitted(estimator)
    advice = "Refit with loss='softmax', margin=0 and label_smoothing=0."
    if not isinstance(estimator._loss, Softmax):
        raise ValueError(
            "Standard errors need a likelihood, which of the losses only 'softmax' is, "
            f"got loss={estimator.loss!r}. {advice}"
        )
    for name in ("margin", "label_smoothing"):
        value = on_host(getattr(estimator, name))
        if np.any(value):
            raise ValueError(
                f"Standard errors need a likelihood, which has no {name}, got "
                f"{name}={value!r}. {advice}"
            )


def _check_rows(X: Any) -> None:
    if is_dask(X):
        raise TypeError(
            "X must be in memory, got a Dask collection. Pass X.compute(), or a sample "
            "of its rows."
        )


def _known_labels(y: Any, classes: np.ndarray, sample_weight: Any) -> Any:
    """Return y; refuse soft targets, and labels that the fit did not see.

    It saw no row of weight 0: the label of such a one is of no account.
    """
    if np.ndim(y) == 2 and np.shape(y)[1] > 1:
        raise ValueError(
            f"y must be labels (n,), got shape {np.shape(y)}. Soft targets have no "
            "likelihood of rows; pass repeated rows with sample_weight to the fit."
        )
    known, labels = set(classes.tolist()), np.ravel(in_memory(y))
    strange = set(labels.tolist()) - known
    if strange and np.shape(sample_weight) == labels.shape:
        idle = np.asarray(in_memory(sample_weight)) == 0
        y = np.where(idle, classes[0], labels)
        strange = set(y.tolist()) - known
    if strange:
        raise ValueError(
            f"y must hold the classes of the fit, {classes.tolist()}, got "
            f"{sorted(strange, key=str)[:NAMED_COLUMNS]} besides. Pass the rows of the "
            "fit."
        )
    return y


def _ingested(
    estimator: Any, X: Any, y: Any, sample_weight: Any, method: str
) -> Ingested:
    """Check the data against the fit, and return them as its problem."""
    classes = on_host(estimator.classes_)
    same = ("fit_intercept", "penalize_intercept", "class_weight", "device", "n_jobs")
    given = {
        name: getattr(estimator, name) for name in same if hasattr(estimator, name)
    }
    model = SoftmaxRegression(
        weight_decay=getattr(estimator, "weight_decay_", 0.0),
        temperature=estimator._temperature,
        **given,
    )
    stream = Stream(Known(classes), 0.0, is_new=False)
    data = ingest(
        model, X, y, sample_weight, owner=estimator, stream=stream, in_parts=False
    )
    check_same_place(estimator, data.X, estimator.coef_, method)
    return data


def _feature_names(estimator: Any) -> list[str]:
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return [f"x{j}" for j in range(estimator.n_features_in_)]
    return [str(name) for name in names]


# -- the mathematics ------------------------------------------------------------------


def _coding(coding: str, n_classes: int) -> np.ndarray:
    """Return what takes coefficients that sum to zero to those of the table."""
    if coding == "symmetric" and n_classes > 2:
        return np.eye(n_classes)
    return np.hstack([-np.ones((n_classes - 1, 1)), np.eye(n_classes - 1)])


def _curvature_of(estimator: Any, data: Ingested, covariance: str) -> _Curvature:
    """Return the second order at the coefficients: one pass, or two."""
    problem, total = data.problem, float(data.weight.sum())
    n_classes, side = len(data.classes), problem.shape[1] * len(data.classes)
    if side > MAX_SIDE:
        raise ValueError(
            f"Standard errors need a Hessian of K (d + 1) = {side} rows "
            f"({8 * side**2 / 1e9:.0f} GB); at most {MAX_SIDE} are allowed. Fit fewer "
            "columns."
        )
    folded = problem.parametrisation.folded
    basis = scipy.linalg.helmert(n_classes).T
    if folded:
        # Coefficients (-w / 2, w / 2) of the one row w.
        basis = np.array([[-0.5], [0.5]])
    with problem.engine:
        coef = like(coefficients_of(estimator)[None, ...], problem.weight)
        objective = problem.objective(like(np.array([data.weight_decay]), coef))
        objective = objective.in_double() or objective
        standard = objective.geometry.standard
        hessian = _sum_of(objective, coef, kernels.hessian, False, standard, None)
        scores = None
        if covariance == "robust":
            scores = _sum_of(objective, coef, kernels.score_products, standard)
            scores = _reduced(scores, basis) * total**2
        gradient = to_numpy(standard.pull(objective.evaluate(coef).gradient))[0]
    standard = Standardisation(
        to_numpy(standard.centre), to_numpy(standard.scale), standard.has_intercept
    )
    squares = standard.full_scale**2
    # A column that does not vary has the coefficient 0, and no other scale.
    squares = np.where(squares > 0, squares, 1.0)
    if problem.intercept == "free":
        squares[-1] = 0.0
    penalty = np.tile(data.weight_decay * total * squares, basis.shape[1])
    gradient = gradient if folded else basis.T @ gradient
    return _Curvature(
        basis,
        standard,
        _reduced(hessian, basis) * total,
        penalty,
        gradient.ravel() * total,
        scores,
    )


def _in_double(problem: Problem) -> Blocks:
    """Return the rows with products in float64."""
    return problem.blocks.with_dtype(namespace(problem.weight).float64)


def _sum_of(objective: Objective, coef: Array, kernel: Any, *args: Any) -> np.ndarray:
    """Return a kernel's sum over the blocks, of the side K P, at untempered scores."""
    form, blocks = objective.parametrisation, objective.blocks
    side = form.n_classes * coef.shape[2]
    operand = blocks.operand(form.expand(coef))
    (total,), _ = blocks.reduce(
        kernel, objective.loss, operand, *args, summand_size=side**2
    )
    return to_numpy(total)[0] / form.temperature**2


def _reduced(matrix: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return a form on the coefficients (K P, K P) as one on reduced ones."""
    n_classes, rank = basis.shape
    n_columns = len(matrix) // n_classes
    half = basis.T @ matrix.reshape(n_classes, -1)
    half = half.reshape(rank * n_columns, n_classes, n_columns)
    whole = np.einsum("mkp,kr->mrp", half, basis)
    return whole.reshape(rank * n_columns, -1)


def _variances(
    estimator: Any, data: Ingested, curvature: _Curvature, coded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances (rows of `coded`, P), and a Newton step (r P,)."""
    hessian, penalty = curvature.hessian, curvature.penalty
    whole = hessian.copy()
    whole[np.diag_indices_from(whole)] += penalty
    sizes = np.sqrt(np.maximum(np.diagonal(whole), 0.0))
    if not (sizes > 0).all():
        raise _singular(estimator, data, curvature, sizes == 0)
    # Equilibrated: columns that hardly vary and rare classes are no singularity.
    whole /= sizes
    whole /= sizes[:, None]
    factor, failed = scipy.linalg.lapack.dpotrf(whole, lower=1)
    condition = 0.0
    if not failed:
        norm = np.abs(whole).sum(axis=0).max()
        condition, _ = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")
    if condition < SINGULAR:
        flat = np.abs(np.linalg.eigh(whole)[1][:, 0])
        raise _singular(estimator, data, curvature, flat > 1e-6 * flat.max())

    def solve(values: np.ndarray) -> np.ndarray:
        scaled = (values.T / sizes).T
        return (scipy.linalg.cho_solve((factor, True), scaled).T / sizes).T

    middle = hessian if curvature.scores is None else curvature.scores
    if curvature.scores is None and not penalty.any():
        spread = solve(np.eye(len(hessian)))
    else:
        spread = solve(solve(middle).T)
    rank, n_columns = coded.shape[1], len(hessian) // coded.shape[1]
    blocks = spread.reshape(rank, n_columns, rank, n_columns)
    push, variances = curvature.standard.push, []
    for row in coded:
        own = np.einsum("a,apbq,b->pq", row, blocks, row, optimize=True)
        variances.append(np.diagonal(push(push(own).T)))
    # Those of columns that do not vary are 0 up to rounding.
    return np.maximum(np.stack(variances), 0.0), solve(curvature.gradient)


def _distances(
    curvature: _Curvature, step: np.ndarray, coded: np.ndarray, errors: np.ndarray
) -> tuple[float, float]:
    """Return how far the optimum is, in standard errors and in standardised columns."""
    moved = coded @ step.reshape(coded.shape[1], -1)
    there = np.abs(curvature.standard.push(moved))
    varies = errors > 0
    in_errors = there[varies] / errors[varies]
    return float(in_errors.max(initial=0.0)), float(np.abs(moved).max())


def _singular(
    estimator: Any, data: Ingested, curvature: _Curvature, among: np.ndarray
) -> ValueError:
    """Return the error for an information without inverse: why, and what to do."""
    problem, standard = data.problem, curvature.standard
    with problem.engine:
        blocks = _in_double(problem)
        (gram,), _ = blocks.reduce(
            kernels.gram,
            like(standard.centre, problem.weight),
            summand_size=problem.shape[1] ** 2,
        )
    scale = standard.full_scale
    squares = np.linalg.eigvalsh(to_numpy(gram) * scale * scale[:, None])
    if squares[0] > SINGULAR * squares[-1]:
        return ValueError(
            "The information matrix is singular at these coefficients: the classes are "
            "separated, so that there is no maximum likelihood estimate and there are "
            "no standard errors. Refit with a finite C, leave out the columns that "
            "separate, or merge classes."
        )
    columns = among.reshape(-1, problem.shape[1]).any(axis=0)
    names = [*_feature_names(estimator), "intercept"]
    found = [names[j] for j in np.flatnonzero(columns)]
    more = " and more" if len(found) > NAMED_COLUMNS else ""
    return ValueError(
        "The information matrix is singular: columns are linearly dependent, got "
        f"{found[:NAMED_COLUMNS]}{more} (a column that does not vary depends on the "
        "intercept). An unpenalised fit has no standard errors then: leave out columns "
        "until none is a combination of others, and refit."
    )


def _tell(
    estimator: Any, data: Ingested, covariance: str, far: tuple[float, float]
) -> None:
    """Warn, once each, of what makes the table wrong."""
    penalised, (in_errors, moved) = data.weight_decay > 0, far
    off = in_errors > FAR_IN_ERRORS
    if (off or moved > FAR) and not penalised:
        _check_separated(estimator, data)
    if penalised:
        _warn(
            "The fit is penalised (weight_decay_ = "
            f"{data.weight_decay:.3g}): its coefficients are biased towards zero, and "
            "intervals and p-values around them do not cover as they say. Refit with "
            "C=np.inf for maximum likelihood estimates."
        )
    if off:
        _warn(
            "The coefficients are not the optimum of these rows: about "
            f"{in_errors:.2g} standard errors from it. Pass X, y and sample_weight of "
            "the fit, or refit with a smaller tol, as tol=1e-8."
        )
    elif moved > FAR and not penalised:
        _warn(
            "The likelihood still rises along large coefficients with large standard "
            "errors: some class is likely separated from others by a column, so that "
            "these have no finite estimate. Refit with a smaller tol to make sure; if "
            "they grow, leave out the column, merge classes, or use a finite C."
        )
    if estimator.class_weight is not None and covariance == "model":
        _warn(
            f"class_weight={estimator.class_weight!r} makes rows count for more or "
            "less than they are, which covariance='model' takes for observations. Use "
            "covariance='robust', or refit with class_weight=None."
        )


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)


def _check_separated(estimator: Any, data: Ingested) -> None:
    problem = data.problem
    with problem.engine:
        coef = like(coefficients_of(estimator)[None, ...], problem.weight)
        separated = problem.objective(like(np.zeros(1), coef)).separated(coef)
    if separated[0]:
        raise ValueError(
            "The classes are separated without error, so that there is no maximum "
            "likelihood estimate and there are no standard errors: the coefficients "
            "grow without bound. Refit with a finite C, or leave out the columns that "
            "separate."
        )
