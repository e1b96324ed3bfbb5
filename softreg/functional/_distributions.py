"""Scores to distributions, and their Jacobians."""

from __future__ import annotations

from typing import Any

import numpy as np

from softreg import _projections as projections
from softreg._arrays import Array, as_floating, cast, identity, namespace
from softreg.functional._scores import checked_alpha, shift_scores


def softmax(z: Any, *, temperature: float = 1.0, axis: int = -1) -> Array:
    """Return the softmax of scores, ``exp(z / T) / sum(exp(z / T))``.

    Parameters
    ----------
    z : array of any shape
        Scores.
    temperature : float, default=1.0
        T: above 1 the distribution is flatter, below 1 closer to `hardmax`.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    proba : array of the shape of z
        Sums to one along the axis.

    Raises
    ------
    ValueError
        If the temperature is not a positive number.

    See Also
    --------
    log_softmax : Its logarithm, which does not underflow.
    entmax : Its relatives of other orders.

    Examples
    --------
    >>> from softreg.functional import softmax
    >>> softmax([5.0, 7.0, 10.0]).round(4)
    array([0.0064, 0.0471, 0.9465])
    """
    return projections.project(shift_scores(z, axis, temperature), 1.0, axis)


def log_softmax(z: Any, *, temperature: float = 1.0, axis: int = -1) -> Array:
    """Return the logarithm of `softmax`, finite wherever the scores are.

    Parameters
    ----------
    z : array of any shape
        Scores.
    temperature : float, default=1.0
        T, as in `softmax`.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    log_proba : array of the shape of z
        At most 0, in nats.

    Raises
    ------
    ValueError
        If the temperature is not a positive number.

    Notes
    -----
    The sum of all terms but the largest is formed alone, so that the value near 0 has
    its digits.

    References
    ----------
    Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax
    functions", IMA Journal of Numerical Analysis 41, 2021.

    Examples
    --------
    >>> from softreg.functional import log_softmax
    >>> log_softmax([0.0, -1000.0])
    array([    0., -1000.])
    """
    shifted = shift_scores(z, axis, temperature)
    total = projections.softmax(shifted, axis)[0]
    return shifted - namespace(shifted).expand_dims(total, axis=axis)


def logsumexp(z: Any, *, axis: int = -1) -> Array:
    """Return ``log(sum(exp(z)))``.

    Parameters
    ----------
    z : array of any shape
        Scores.
    axis : int, default=-1
        The axis that is summed over.

    Returns
    -------
    values : array
        Of the shape of z without the axis.

    References
    ----------
    Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax
    functions", IMA Journal of Numerical Analysis 41, 2021.

    Examples
    --------
    >>> from softreg.functional import logsumexp
    >>> float(logsumexp([1000.0, 1000.0])).__round__(4)
    1000.6931
    """
    z = as_floating(z)
    top = namespace(z).max(z, axis=axis)
    return top + projections.softmax(shift_scores(z, axis), axis)[0]


def hardmax(z: Any, *, axis: int = -1) -> Array:
    """Return 1 at the largest score and 0 elsewhere: softmax as T tends to 0.

    Its gradient is zero almost everywhere. Ties go to the first in order.

    Parameters
    ----------
    z : array of any shape
        Scores.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    proba : array of the shape of z
        A single 1 along the axis.

    Examples
    --------
    >>> from softreg.functional import hardmax
    >>> hardmax([5.0, 7.0, 10.0])
    array([0., 0., 1.])
    """
    z = as_floating(z)
    return cast(projections.top_classes(z, 1, axis), z.dtype)


def sparsemax(z: Any, *, axis: int = -1) -> Array:
    """Return the Euclidean projection of scores on the simplex: `entmax` at alpha = 2.

    Parameters
    ----------
    z : array of any shape
        Scores.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    proba : array of the shape of z
        Exactly 0 for classes far below the best.

    References
    ----------
    Martins & Astudillo, "From softmax to sparsemax", ICML 2016, arXiv 1602.02068.

    Examples
    --------
    >>> from softreg.functional import sparsemax
    >>> sparsemax([-2.0, 0.0, 0.5])
    array([0.  , 0.25, 0.75])
    """
    return entmax(z, 2.0, axis=axis)


def entmax15(z: Any, *, axis: int = -1) -> Array:
    """Return 1.5-entmax: half-way between softmax and sparsemax.

    Parameters
    ----------
    z : array of any shape
        Scores.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    proba : array of the shape of z
        Exactly 0 for classes far below the best.

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019,
    arXiv 1905.05702.

    Examples
    --------
    >>> from softreg.functional import entmax15
    >>> entmax15([-2.0, 0.0, 0.5]).round(4)
    array([0.   , 0.326, 0.674])
    """
    return entmax(z, 1.5, axis=axis)


def entmax(z: Any, alpha: float, *, axis: int = -1) -> Array:
    """Return ``argmax_p <z, p> - Omega(p)`` for Tsallis' entropy of order alpha.

    Parameters
    ----------
    z : array of any shape
        Scores.
    alpha : float in (0, 2]
        1 is softmax, 1.5 `entmax15`, 2 `sparsemax`. Above 1 small probabilities are
        exactly 0, below 1 tails are heavier than those of softmax.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    proba : array of the shape of z
        Sums to one along the axis.

    Raises
    ------
    ValueError
        If alpha is not in (0, 2].

    References
    ----------
    Blondel, Martins & Niculae, "Learning with Fenchel-Young losses", JMLR 2020,
    arXiv 1901.02324.

    Examples
    --------
    >>> from softreg.functional import entmax
    >>> entmax([-1.0, 0.0, 0.5], 1.33).round(4)
    array([0.046 , 0.3276, 0.6264])
    """
    return projections.project(shift_scores(z, axis), checked_alpha(alpha), axis)


def topk_softmax(z: Any, k: int, *, axis: int = -1) -> Array:
    """Return the softmax over the k largest scores, 0 elsewhere.

    Parameters
    ----------
    z : array of any shape
        Scores.
    k : int
        At least 1; from the number of classes on it is `softmax`. Ties go to the first
        in order.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    proba : array of the shape of z
        Sums to one along the axis.

    Raises
    ------
    ValueError
        If k is not a positive integer.

    References
    ----------
    "Sparse Softmax" of Sun et al., arXiv 2112.12433. It is not `sparsemax`.

    Examples
    --------
    >>> from softreg.functional import topk_softmax
    >>> topk_softmax([1.0, 2.0, 3.0], 2).round(4)
    array([0.    , 0.2689, 0.7311])
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, got {k!r}.")
    z = as_floating(z)
    xp, shifted = namespace(z), shift_scores(z, axis)
    inside = projections.top_classes(z, int(k), axis)
    proba = xp.where(inside, xp.exp(shifted), xp.zeros_like(shifted))
    return proba / xp.sum(proba, axis=axis, keepdims=True)


def softmax_jacobian(z: Any, *, alpha: float = 1.0) -> Array:
    """Return the derivatives of `entmax` by the scores, over the last axis.

    Parameters
    ----------
    z : array of shape (..., K)
        Scores.
    alpha : float in (0, 2], default=1.0
        1 is softmax.

    Returns
    -------
    jacobian : array of shape (..., K, K)
        ``diag(s) - s s' / sum(s)`` with ``s = p^(2 - alpha)`` on the support:
        symmetric, positive semi-definite, its rows sum to zero.

    Raises
    ------
    ValueError
        If alpha is not in (0, 2].

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019,
    arXiv 1905.05702.

    Examples
    --------
    >>> from softreg.functional import softmax_jacobian
    >>> softmax_jacobian([0.0, 0.0])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    alpha = checked_alpha(alpha)
    s = projections.curvature(entmax(z, alpha), alpha)
    xp = namespace(s)
    total = xp.sum(s, axis=-1, keepdims=True)[..., None]
    outer = s[..., :, None] * s[..., None, :]
    return identity(s.shape[-1], s) * s[..., None] - outer / total


def softmax_jvp(z: Any, v: Any, *, alpha: float = 1.0, axis: int = -1) -> Array:
    """Return the Jacobian of `entmax` times a vector; it is symmetric, so also vjp.

    Parameters
    ----------
    z : array of any shape
        Scores.
    v : array of the shape of z
        Direction.
    alpha : float in (0, 2], default=1.0
        1 is softmax.
    axis : int, default=-1
        The axis of the classes.

    Returns
    -------
    product : array of the shape of z
        Sums to zero along the axis.

    Raises
    ------
    ValueError
        If alpha is not in (0, 2].

    References
    ----------
    Peters, Niculae & Martins, "Sparse sequence-to-sequence models", ACL 2019,
    arXiv 1905.05702.

    Examples
    --------
    >>> from softreg.functional import softmax_jvp
    >>> softmax_jvp([0.0, 0.0], [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    alpha = checked_alpha(alpha)
    s = projections.curvature(entmax(z, alpha, axis=axis), alpha)
    xp = namespace(s)
    v = cast(as_floating(v), s.dtype)
    mean = xp.sum(s * v, axis=axis, keepdims=True) / xp.sum(s, axis=axis, keepdims=True)
    return s * (v - mean)
