"""Log-sum-exp of the k largest scores, and smooth functions that tend to it.

    f(u) = log sum of the k largest e^u  =  max_w log sum_j w_j e^(u_j)

over `0 <= w_j <= 1, sum w = k`. f has kinks where the scores of ranks k and k + 1 tie,
and minima sit on them. The term `- (width / 2) (||w||^2 - k)` inside the maximum makes
it smooth; it then lies above f. Scores are class-major `(B, K, rows)`, 0 at the top.
"""

from __future__ import annotations

from typing import NamedTuple

from softreg._arrays import Array, cast, inner_over_classes, namespace
from softreg._projections import softmax, top_classes

MAX_ITER = 100
# An excess of the sum that cannot be told from none.
ROUNDING = 2.0**-50
# A weight so many rounding units below 1 is 1.
FULL = 256.0


class Choice(NamedTuple):
    """How much each class is chosen in the smooth function."""

    weight: Array  # w
    share: Array  # e^u / Z, Z = sum w e^u
    rest: Array  # Z - 1, (B, rows)

    @property
    def proba(self) -> Array:
        """The gradient in the scores."""
        return self.weight * self.share

    @property
    def free(self) -> Array:
        """Which classes are neither chosen in full nor left out."""
        return (self.weight > 0) & (self.weight < 1)


def top_softmax(shifted: Array, k: int) -> tuple[Array, Array]:
    """Return f and the softmax over the k largest; ties go to the first classes."""
    xp = namespace(shifted)
    inside = top_classes(shifted, k, 1)
    return softmax(xp.where(inside, shifted, xp.full_like(shifted, -xp.inf)), 1)


def choose(shifted: Array, k: int, width: float) -> Choice:
    """Return the maximising w: `clip(e^u / (width Z) - threshold, 0, 1)`.

    Z depends on w; `sum w e^u - Z` falls in Z, and Newton's method finds its root.
    """
    xp = namespace(shifted)
    scores = cast(shifted, xp.float64)
    terms = xp.exp(scores)
    ordered = xp.sort(scores, axis=1, descending=True)
    rank = ordered[:, k - 1 : k, :]
    # Differences of e^u from that of rank k keep their digits, where they lose any.
    ahead = scores - rank
    near = xp.exp(rank) * xp.expm1(xp.minimum(ahead, 1.0))
    beyond = xp.where(ahead > 1, terms - xp.exp(rank), near)
    total = xp.sum(xp.exp(ordered[:, :k, :]), axis=1, keepdims=True)
    low, high = xp.ones_like(total) * k / scores.shape[1], total
    for _ in range(MAX_ITER):
        weight = _capped(beyond / (width * total), k)
        excess = xp.sum(weight * terms, axis=1, keepdims=True) - total
        spread = _centred(terms, (weight > 0) & (weight < 1))
        slope = xp.sum(spread * spread, axis=1, keepdims=True) / (width * total**2)
        moved, low, high = _newton(total, excess, 1 + slope, low, high, ROUNDING * k)
        if not bool(xp.any(moved != total)):
            break
        total = moved
    chosen = weight * terms
    lead = scores == 0
    others = inner_over_classes(chosen, cast(~lead, chosen.dtype))
    rest = others + (inner_over_classes(weight, cast(lead, chosen.dtype)) - 1)
    return Choice(weight, terms / (1 + rest)[:, None, :], rest)


def chosen(shifted: Array, proba: Array, k: int) -> Choice:
    """Return the choice behind a gradient: `p = w e^u / Z` and `sum w = k` give Z."""
    xp = namespace(shifted)
    terms, proba = xp.exp(shifted), cast(proba, shifted.dtype)
    safe = xp.where(terms > 0, terms, xp.ones_like(terms))
    ratio = proba / safe
    total = k / xp.sum(ratio, axis=1, keepdims=True)
    weight = ratio * total
    # Rounding must not set a class free that is chosen in full.
    full = weight > 1 - FULL * float(xp.finfo(weight.dtype).eps)
    weight = xp.where(full, xp.ones_like(weight), weight)
    return Choice(weight, terms / total, total[:, 0, :] - 1)


def _capped(values: Array, k: int) -> Array:
    """Return `clip(values - threshold, 0, 1)` with sum k; the k-th largest is 0."""
    xp = namespace(values)
    low = -xp.ones_like(values[:, :1, :])
    threshold, high = low, xp.zeros_like(low)
    for _ in range(MAX_ITER):
        weight = xp.clip(values - threshold, 0.0, 1.0)
        excess = xp.sum(weight, axis=1, keepdims=True) - k
        free = cast((weight > 0) & (weight < 1), values.dtype)
        count = xp.sum(free, axis=1, keepdims=True)
        slope = xp.where(count > 0, count, xp.ones_like(count))
        moved, low, high = _newton(threshold, excess, slope, low, high, ROUNDING * k)
        if not bool(xp.any(moved != threshold)):
            break
        threshold = moved
    return weight


def _newton(
    at: Array, excess: Array, slope: Array, low: Array, high: Array, rounding: float
) -> tuple[Array, Array, Array]:
    """Return a step to the root of a falling function, within a bracket that shrinks.

    Where the excess is all rounding there is no step.
    """
    xp = namespace(at)
    high = xp.where(excess < 0, at, high)
    low = xp.where(excess > 0, at, low)
    moved = at + excess / slope
    moved = xp.where((moved > low) & (moved < high), moved, (low + high) / 2)
    return xp.where(xp.abs(excess) > rounding, moved, at), low, high


def _centred(values: Array, free: Array) -> Array:
    """Return the values of the free classes less their mean, 0 elsewhere."""
    xp = namespace(values)
    mask = cast(free, values.dtype)
    count = xp.sum(mask, axis=1, keepdims=True)
    mean = xp.sum(mask * values, axis=1, keepdims=True)
    return mask * (values - mean / xp.where(count > 0, count, xp.ones_like(count)))


def hessian_product(choice: Choice, width: float, along: Array) -> Array:
    """Return the Hessian in the scores times a direction.

    That of w held fixed, `diag(p) - p p'`, and how the free weights move.
    """
    xp = namespace(along)
    proba, share = choice.proba, choice.share
    moved = along - inner_over_classes(proba, along)[:, None, :]
    pull = _centred(share * moved, choice.free)
    spread = _centred(share, choice.free)
    own = xp.sum(spread * spread, axis=1, keepdims=True)
    shared = xp.sum(spread * pull, axis=1, keepdims=True) / (width + own)
    shift = share * (pull - shared * spread) / width
    return proba * (moved - xp.sum(shift, axis=1, keepdims=True)) + shift
