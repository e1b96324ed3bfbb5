"""Scores to distributions: the regularised argmax of the Tsallis entropies.

    P(u) = argmax_p <u, p> - Omega(p)
    Omega(p) = (sum p^alpha - 1) / (alpha (alpha - 1))

alpha = 1 is softmax, 1.5 is 1.5-entmax, 2 sparsemax (Blondel, Martins & Niculae,
1901.02324). Scores are shifted to 0 at the top before they come here: projections do
not change with a common shift, and large scores would lose their digits in sums.
"""

from __future__ import annotations

from softreg._arrays import Array, cast, inner_over_classes, namespace

MAX_NEWTON = 100
# A row is easy where all classes but one weigh less than this together.
EASY = 1e-3


def project(shifted: Array, alpha: float, axis: int) -> Array:
    """Return P of scores whose largest entry along the axis is 0."""
    if alpha == 1:
        terms, total = _exponentials(shifted, axis)
        terms /= total
        return terms
    if alpha == 2:
        return _sparsemax(shifted, axis)
    if alpha == 1.5:
        return _entmax15(shifted, axis)
    return _entmax(shifted, alpha, axis)


def softmax(shifted: Array, axis: int) -> tuple[Array, Array]:
    """Return log-sum-exp, and the softmax.

    Of easy rows the sum of all terms but the largest is formed alone: log(total) would
    be 0 from a gap of scores of 40 on (Blanchard, Higham & Higham 2021).
    """
    xp = namespace(shifted)
    proba, total = _exponentials(shifted, axis)
    rest = xp.squeeze(total, axis=axis) - 1
    easy = rest < EASY
    if bool(xp.any(easy)):
        # The sign is -1 for all classes but the largest: no mask as large as both.
        others = -inner_over_classes(xp.sign(shifted), proba, axis)
        rest = xp.where(easy, others, rest)
    proba /= total
    return xp.log1p(rest), proba


def _exponentials(shifted: Array, axis: int) -> tuple[Array, Array]:
    """Return e^u, and its sum with the axis kept."""
    xp = namespace(shifted)
    terms = xp.exp(shifted)
    return terms, xp.sum(terms, axis=axis, keepdims=True)


def curvature(proba: Array, alpha: float) -> Array:
    """Return s: the Jacobian of P is `diag(s) - s s' / sum(s)`."""
    if alpha == 1:
        return proba
    xp = namespace(proba)
    positive = proba > 0
    safe = xp.where(positive, proba, xp.ones_like(proba))
    return xp.where(positive, safe ** (2 - alpha), xp.zeros_like(proba))


def entropy(proba: Array, alpha: float, axis: int) -> Array:
    """Return Omega, at most 0; at corners of the simplex 0.

    Near alpha = 1 the powers would cancel: `p^alpha - p` is formed as one.
    """
    xp = namespace(proba)
    positive = proba > 0
    log = xp.log(xp.where(positive, proba, xp.ones_like(proba)))
    if alpha == 1:
        return xp.sum(proba * log, axis=axis)
    terms = proba * xp.expm1((alpha - 1) * log)
    return xp.sum(terms, axis=axis) / (alpha * (alpha - 1))


def top_classes(scores: Array, k: int, axis: int) -> Array:
    """Return which entries are among the k largest; ties go to the first in order."""
    xp = namespace(scores)
    order = xp.argsort(scores, axis=axis, descending=True, stable=True)
    rank = xp.argsort(order, axis=axis, stable=True)
    return rank < k


def _sparsemax(shifted: Array, axis: int) -> Array:
    """Martins & Astudillo (1602.02068): the Euclidean projection on the simplex."""
    xp = namespace(shifted)
    ordered = xp.sort(cast(shifted, xp.float64), axis=axis, descending=True)
    count = _counts(ordered, axis)
    support = 1 + count * ordered > xp.cumulative_sum(ordered, axis=axis)
    size = xp.sum(cast(support, xp.float64), axis=axis, keepdims=True)
    inside = xp.where(support, ordered, xp.zeros_like(ordered))
    threshold = (xp.sum(inside, axis=axis, keepdims=True) - 1) / size
    return _positive_part(shifted - cast(threshold, shifted.dtype))


def _entmax15(shifted: Array, axis: int) -> Array:
    """Peters, Niculae & Martins (1905.05702), by sorting."""
    xp = namespace(shifted)
    # The threshold is at least -1: what lies lower has no part, be it -inf.
    half = xp.clip(shifted / 2, -2.0, 0.0)
    ordered = xp.sort(cast(half, xp.float64), axis=axis, descending=True)
    count = _counts(ordered, axis)
    mean = xp.cumulative_sum(ordered, axis=axis) / count
    square = xp.cumulative_sum(ordered * ordered, axis=axis) / count
    room = _positive_part((1 - count * (square - mean * mean)) / count)
    thresholds = mean - xp.sqrt(room)
    support = cast(thresholds <= ordered, xp.float64)
    size = xp.sum(support, axis=axis, keepdims=True)
    chosen = xp.where(count == size, thresholds, xp.zeros_like(thresholds))
    threshold = xp.sum(chosen, axis=axis, keepdims=True)
    return _positive_part(half - cast(threshold, shifted.dtype)) ** 2


def _entmax(shifted: Array, alpha: float, axis: int) -> Array:
    """Newton's method on the threshold nu of `sum p = 1`.

    The sum is convex and decreasing in nu for alpha <= 2: from nu = 0 the steps rise
    to the root and never pass it.
    """
    xp = namespace(shifted)
    scores = cast(shifted, xp.float64)
    threshold = xp.zeros_like(xp.sum(scores, axis=axis, keepdims=True))
    proba = _power(scores - threshold, alpha)
    for _ in range(MAX_NEWTON):
        excess = xp.sum(proba, axis=axis, keepdims=True) - 1
        slope = xp.sum(curvature(proba, alpha), axis=axis, keepdims=True)
        moved = threshold + excess / xp.where(slope > 0, slope, xp.ones_like(slope))
        if not bool(xp.any(moved > threshold)):
            break
        threshold = moved
        proba = _power(scores - threshold, alpha)
    proba = proba / xp.sum(proba, axis=axis, keepdims=True)
    return cast(proba, shifted.dtype)


def _power(scores: Array, alpha: float) -> Array:
    """Return `[1 + (alpha - 1) scores]_+ ^ (1 / (alpha - 1))`; alpha may be near 1."""
    xp = namespace(scores)
    argument = (alpha - 1) * scores
    inside = argument > -1
    safe = xp.where(inside, argument, xp.zeros_like(argument))
    power = xp.exp(xp.log1p(safe) / (alpha - 1))
    return xp.where(inside, power, xp.zeros_like(power))


def _counts(array: Array, axis: int) -> Array:
    """Return 1, 2, ... along the axis, shaped to broadcast."""
    xp = namespace(array)
    return xp.cumulative_sum(xp.ones_like(array), axis=axis)


def _positive_part(array: Array) -> Array:
    xp = namespace(array)
    return xp.where(array > 0, array, xp.zeros_like(array))
