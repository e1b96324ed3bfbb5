"""Losses of scores and targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from softreg import _projections as projections
from softreg._arrays import Array, as_array, as_floating, cast, namespace, one_hot
from softreg._losses import loss_of_order
from softreg.functional._scores import checked_alpha, shift_scores, within

# Rows of targets may miss a sum of one by their rounding.
SIMPLEX_ROUNDING = 1e-5


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Array:
    """Return ``-sum_k q_k log softmax(z / T)_k``, the loss of softmax regression.

    Parameters
    ----------
    logits : array of shape (n, K)
        Scores.
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row.
    temperature : float, default=1.0
        T, as in `softmax`.
    label_smoothing : float in [0, 1), default=0.0
        The target is ``(1 - eps) q + eps / K``.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        The loss, in nats.

    Raises
    ------
    ValueError
        If shapes do not match, a target is off the simplex, or a number is out of its
        range.
    TypeError
        If what should be a number is none.

    See Also
    --------
    fenchel_young_loss : Of other orders than 1.
    smooth_labels : The smoothed targets themselves.

    References
    ----------
    Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR
    2016, arXiv 1512.00567, for label smoothing.

    Examples
    --------
    >>> from softreg.functional import cross_entropy
    >>> cross_entropy([[0.0, 0.0]], [1]).round(4)
    np.float64(0.6931)
    """
    shifted, q = _scores_and_target(logits, target, temperature)
    q = _smoothed(q, label_smoothing)
    # <q, log p> row by row: log p is never infinite.
    total = projections.softmax(shifted, -1)[0]
    losses = total - namespace(q).sum(q * shifted, axis=-1)
    return _reduced(losses, sample_weight, reduction)


def binary_cross_entropy(
    logits: Any, target: Any, *, sample_weight: Any = None, reduction: str = "mean"
) -> Array:
    """Return ``log(1 + exp(z)) - y z``: cross-entropy of two classes from one score.

    Parameters
    ----------
    logits : array of shape (n,)
        Scores of class 1 against class 0.
    target : array of shape (n,)
        In [0, 1]: the class, or its probability.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        The loss, in nats.

    Raises
    ------
    ValueError
        If shapes do not match or a target is outside [0, 1].

    Examples
    --------
    >>> from softreg.functional import binary_cross_entropy
    >>> binary_cross_entropy([0.0], [1]).round(4)
    np.float64(0.6931)
    """
    z = as_floating(logits)
    xp = namespace(z)
    y = cast(xp.asarray(target), z.dtype)
    if y.shape != z.shape:
        raise ValueError(
            f"target must have the shape of logits, {z.shape}, got {y.shape}."
        )
    if not bool(xp.all((y >= 0) & (y <= 1))):
        raise ValueError("target must lie in [0, 1]. Pass classes as 0 and 1.")
    # softplus(z) - y z, with max(z, 0) - y z formed without cancellation.
    zero = xp.zeros_like(z)
    linear = xp.where(z > 0, (1 - y) * z, zero) + xp.where(z > 0, zero, -y * z)
    losses = linear + xp.log1p(xp.exp(-xp.abs(z)))
    return _reduced(losses, sample_weight, reduction)


def fenchel_young_loss(
    logits: Any,
    target: Any,
    *,
    alpha: float = 1.0,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Array:
    """Return ``Omega*(z) + Omega(q) - <z, q>``, zero exactly where ``entmax(z) = q``.

    For one-hot targets it is the loss of the estimator; at alpha = 1 cross-entropy less
    the entropy of the target.

    Parameters
    ----------
    logits : array of shape (n, K)
        Scores.
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row.
    alpha : float in (0, 2], default=1.0
        1 is softmax, 2 sparsemax.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        The loss, at least 0.

    Raises
    ------
    ValueError
        If shapes do not match, a target is off the simplex, or alpha out of (0, 2].

    References
    ----------
    Blondel, Martins & Niculae, arXiv 1901.02324.

    Examples
    --------
    >>> from softreg.functional import fenchel_young_loss
    >>> fenchel_young_loss([[0.0, 3.0]], [1], alpha=2.0)
    np.float64(0.0)
    """
    alpha = checked_alpha(alpha)
    shifted, q = _scores_and_target(logits, target)
    xp = namespace(shifted)
    # The loss of the estimator, which is class-major.
    potential = loss_of_order(alpha).potential_and_proba(shifted.T[None, :, :])[0][0, :]
    own = projections.entropy(q, alpha, -1)
    losses = potential - xp.sum(q * shifted, axis=-1) + own
    # Below zero it is rounding.
    losses = xp.where(losses > 0, losses, xp.zeros_like(losses))
    return _reduced(losses, sample_weight, reduction)


def gce_loss(
    logits: Any,
    target: Any,
    *,
    q: float = 0.7,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Array:
    """Return generalised cross-entropy, ``(1 - p_y^q) / q``: robust to wrong labels.

    Parameters
    ----------
    logits : array of shape (n, K)
        Scores.
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row: ``p_y`` is then ``exp(-l)`` with
        l the cross-entropy.
    q : float in (0, 1], default=0.7
        Towards 0 cross-entropy, 1 is the mean absolute error.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        Bounded by 1 / q; not convex.

    Raises
    ------
    ValueError
        If shapes do not match, a target is off the simplex, or q out of (0, 1].

    References
    ----------
    Zhang & Sabuncu, NeurIPS 2018, arXiv 1805.07836.

    Examples
    --------
    >>> from softreg.functional import gce_loss
    >>> gce_loss([[0.0, 0.0]], [1], q=1.0)
    np.float64(0.5)
    """
    order = within(q, "q", "(0, 1]", lambda value: 0 < value <= 1)
    losses = cross_entropy(logits, target, reduction="none")
    xp = namespace(losses)
    return _reduced(-xp.expm1(-order * losses) / order, sample_weight, reduction)


def sce_loss(
    logits: Any,
    target: Any,
    *,
    a: float = 1.0,
    b: float = 1.0,
    log_zero: float = -4.0,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Array:
    """Return symmetric cross-entropy, ``a CE - b log_zero (1 - p_y)``.

    Parameters
    ----------
    logits : array of shape (n, K)
        Scores.
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row: ``p_y`` is then ``exp(-l)`` with
        l the cross-entropy.
    a, b : float, default=1.0
        Weights of cross-entropy and of its reverse, at least 0.
    log_zero : float, default=-4.0
        What stands for log(0) in the reverse, below 0.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        The loss; not convex for b > 0.

    Raises
    ------
    ValueError
        If shapes do not match, a target is off the simplex, or a number is out of its
        range.

    References
    ----------
    Wang et al., "Symmetric cross entropy for robust learning with noisy labels", ICCV
    2019, arXiv 1908.06112.

    Examples
    --------
    >>> from softreg.functional import sce_loss
    >>> sce_loss([[0.0, 0.0]], [1], a=0.0)
    np.float64(2.0)
    """
    a = within(a, "a", "[0, inf)", lambda value: 0 <= value < np.inf)
    b = within(b, "b", "[0, inf)", lambda value: 0 <= value < np.inf)
    within(log_zero, "log_zero", "(-inf, 0)", lambda value: -np.inf < value < 0)
    losses = cross_entropy(logits, target, reduction="none")
    missed = -namespace(losses).expm1(-losses)
    return _reduced(a * losses - b * log_zero * missed, sample_weight, reduction)


def focal_loss(
    logits: Any,
    target: Any,
    *,
    gamma: float = 2.0,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Array:
    """Return ``(1 - p_y)^gamma`` times cross-entropy: easy rows count for less.

    Parameters
    ----------
    logits : array of shape (n, K)
        Scores.
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row: ``sum_k q_k`` times the loss of
        class k.
    gamma : float, default=2.0
        At least 0, which is cross-entropy.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        Not convex for gamma > 0.

    Raises
    ------
    ValueError
        If shapes do not match, a target is off the simplex, or gamma is negative.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", ICCV 2017, arXiv 1708.02002.

    Examples
    --------
    >>> from softreg.functional import focal_loss
    >>> focal_loss([[0.0, 0.0]], [1]).round(4)
    np.float64(0.1733)
    """
    gamma = within(gamma, "gamma", "[0, inf)", lambda value: 0 <= value < np.inf)
    shifted, target = _scores_and_target(logits, target)
    xp = namespace(shifted)
    log = shifted - projections.softmax(shifted, -1)[0][:, None]
    terms = (-xp.expm1(log)) ** gamma * -log
    return _reduced(xp.sum(target * terms, axis=-1), sample_weight, reduction)


def bi_tempered_loss(
    logits: Any,
    target: Any,
    *,
    t1: float,
    t2: float,
    sample_weight: Any = None,
    reduction: str = "mean",
) -> Array:
    """Return the bi-tempered logistic loss.

    ``sum_k q_k (log_t1 q_k - log_t1 p_k) - (q_k^(2 - t1) - p_k^(2 - t1)) / (2 - t1)``
    with ``log_t u = (u^(1 - t) - 1) / (1 - t)`` and p the tempered softmax of order t2,
    which is `entmax` at ``alpha = 2 - t2``.

    Parameters
    ----------
    logits : array of shape (n, K)
        Scores.
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row.
    t1 : float in [0, 2)
        Below 1 the loss is bounded.
    t2 : float of at least 0
        Above 1 the tails of p are heavy.
    sample_weight : array of shape (n,), default=None
        Weights of the rows in the mean.
    reduction : {"mean", "none"}, default="mean"
        "none" returns the unweighted loss of each row.

    Returns
    -------
    loss : array of shape () or (n,)
        Convex only for ``t1 = t2 >= 1``, where it is `fenchel_young_loss`.

    Raises
    ------
    ValueError
        If shapes do not match, a target is off the simplex, or a temperature is out of
        its range.

    References
    ----------
    Amid et al., "Robust bi-tempered logistic loss based on Bregman divergences",
    NeurIPS 2019, arXiv 1906.03361.

    Examples
    --------
    >>> from softreg.functional import bi_tempered_loss
    >>> bi_tempered_loss([[-0.5, 0.1, 2.0]], [[0.2, 0.3, 0.5]], t1=0.5, t2=1.5).round(6)
    np.float64(0.023019)
    """
    t2 = within(t2, "t2", "[0, inf)", lambda value: 0 <= value < np.inf)
    t1 = within(t1, "t1", "[0, 2)", lambda value: 0 <= value < 2)
    shifted, q = _scores_and_target(logits, target)
    xp = namespace(shifted)
    proba = projections.project(shifted, 2 - t2, -1)
    order = 2 - t1
    # 0 log 0 is 0, whatever p is.
    inside, one = q > 0, xp.ones_like(q)
    own, other = xp.where(inside, q, one), xp.where(inside, proba, one)
    terms = q * (_tempered_log(own, t1) - _tempered_log(other, t1))
    powers = (q**order - proba**order) / order
    return _reduced(xp.sum(terms - powers, axis=-1), sample_weight, reduction)


def smooth_labels(target: Any, eps: float, n_classes: int | None = None) -> Array:
    """Return smoothed targets, ``(1 - eps) q + eps / K``.

    Parameters
    ----------
    target : array of int of shape (n,) or of float of shape (n, K)
        Codes of the classes, or a distribution a row.
    eps : float in [0, 1)
        The share that is spread evenly.
    n_classes : int, default=None
        K; without it, for codes, the largest code and one.

    Returns
    -------
    rows : array of shape (n, K)
        A distribution a row.

    Raises
    ------
    ValueError
        If a code is not in 0, ..., K - 1, a row is off the simplex, or eps out of its
        range.

    References
    ----------
    Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR
    2016, arXiv 1512.00567.

    Examples
    --------
    >>> from softreg.functional import smooth_labels
    >>> smooth_labels([1], 0.1, n_classes=2)
    array([[0.05, 0.95]])
    """
    target = as_array(target)
    xp = namespace(target)
    if target.ndim == 1:
        if n_classes is None:
            n_classes = int(xp.max(target)) + 1
        target = _one_hot_rows(target, n_classes, xp.float64)
    elif n_classes not in (None, target.shape[-1]):
        raise ValueError(
            f"target must have n_classes={n_classes} columns, got {target.shape[-1]}."
        )
    else:
        target = as_floating(target)
        _check_simplex(target)
    return _smoothed(target, eps)


def _scores_and_target(
    logits: Any, target: Any, temperature: float = 1.0
) -> tuple[Array, Array]:
    """Return shifted scores and targets as rows, (n, K) both."""
    shifted = shift_scores(logits, -1, temperature)
    xp = namespace(shifted)
    if shifted.ndim != 2:
        raise ValueError(f"logits must be of shape (n, K), got {shifted.shape}.")
    target = xp.asarray(target)
    if target.ndim == 1 and target.shape[0] == shifted.shape[0]:
        return shifted, _one_hot_rows(target, shifted.shape[1], shifted.dtype)
    if target.shape != shifted.shape:
        raise ValueError(
            f"target must be codes (n,) or rows (n, K) for logits of shape "
            f"{shifted.shape}, got shape {target.shape}."
        )
    target = cast(as_floating(target), shifted.dtype)
    _check_simplex(target)
    return shifted, target


def _one_hot_rows(codes: Array, n_classes: int, dtype: Any) -> Array:
    xp = namespace(codes)
    if not xp.isdtype(codes.dtype, "integral"):
        raise ValueError(
            f"Codes of classes must be integers, got {codes.dtype}. Pass codes 0, ..., "
            "K - 1, or a distribution a row."
        )
    if not bool(xp.all((codes >= 0) & (codes < n_classes))):
        raise ValueError(
            f"Codes of classes must be in 0, ..., {n_classes - 1}, got "
            f"{int(xp.min(codes))} to {int(xp.max(codes))}."
        )
    return cast(one_hot(codes, n_classes).T, dtype)


def _check_simplex(rows: Array) -> None:
    xp = namespace(rows)
    off = xp.abs(xp.sum(rows, axis=-1) - 1)
    if not bool(xp.all(rows >= 0)) or not bool(xp.all(off <= SIMPLEX_ROUNDING)):
        raise ValueError(
            "Rows of targets must be non-negative and sum to 1. Divide each by its sum."
        )


def _smoothed(rows: Array, eps: float) -> Array:
    eps = within(eps, "The smoothing", "[0, 1)", lambda value: 0 <= value < 1)
    return rows if eps == 0 else (1 - eps) * rows + eps / rows.shape[-1]


def _tempered_log(values: Array, t: float) -> Array:
    """Return `(u^(1 - t) - 1) / (1 - t)`, the logarithm at t = 1."""
    xp = namespace(values)
    safe = xp.where(values > 0, values, xp.ones_like(values))
    log = xp.log(safe)
    tempered = log if t == 1 else xp.expm1((1 - t) * log) / (1 - t)
    at_zero = -1 / (1 - t) if t < 1 else -xp.inf
    return xp.where(values > 0, tempered, xp.full_like(values, at_zero))


def _reduced(losses: Array, sample_weight: Any, reduction: str) -> Array:
    if reduction == "none":
        return losses
    if reduction != "mean":
        raise ValueError(f'reduction must be "mean" or "none", got {reduction!r}.')
    xp = namespace(losses)
    if sample_weight is None:
        return xp.mean(losses)
    weight = cast(xp.asarray(sample_weight), losses.dtype)
    if weight.shape != losses.shape:
        raise ValueError(
            f"sample_weight must be of shape {losses.shape}, got {weight.shape}."
        )
    total = xp.sum(weight)
    if not bool(xp.all(weight >= 0)) or not bool(total > 0):
        raise ValueError(
            "sample_weight must be non-negative with a positive sum. Leave it out for "
            "equal weights."
        )
    return xp.sum(weight * losses) / total
