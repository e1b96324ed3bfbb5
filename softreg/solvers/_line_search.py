"""A step length along a direction of descent of a convex function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from softreg._arrays import Array, namespace
from softreg.solvers._protocols import Line

MAX_TRIALS = 40
# The slope must fall to this share of its start, in size.
FLATNESS = 0.25
GROWTH = 4.0
WIDE = 100.0


class Step(NamedTuple):
    """Step lengths (B,), 0 where none was found, and the value there."""

    length: Array
    value: Array


def search(
    line: Callable[[Array], Line],
    value: Array,
    slope: Array,
    flatness: float = FLATNESS,
) -> Step:
    """Bracket the minimum of each problem along its line on value and slope.

    Step 1 is tried first; it may also grow. Slopes decide, since near an optimum values
    differ by less than their rounding. A problem whose slope is not negative, or whose
    trials run out, stays where it is.
    """
    xp = namespace(value)
    low, high = xp.zeros_like(value), xp.full_like(value, xp.inf)
    low_slope, high_slope = slope, xp.zeros_like(value)
    trial = xp.ones_like(value)
    length, best = xp.zeros_like(value), value
    open_ = slope < 0
    # Values of equal points differ by their rounding.
    slack = 64 * float(xp.finfo(value.dtype).eps) * xp.abs(value)
    for number in range(MAX_TRIALS):
        at = line(trial)
        finite = xp.isfinite(at.value) & xp.isfinite(at.slope)
        falls = finite & (at.value <= value + slack)
        flat = falls & (xp.abs(at.slope) <= flatness * xp.abs(slope))
        better = open_ & falls & (flat | (at.value < best))
        length, best = xp.where(better, trial, length), xp.where(better, at.value, best)
        open_ = open_ & ~flat
        if not bool(xp.any(open_)):
            break
        short = falls & (at.slope < 0)
        low_slope = xp.where(short, at.slope, low_slope)
        low = xp.where(short, trial, low)
        high_slope = xp.where(short, high_slope, xp.where(finite, at.slope, 0 * slope))
        high = xp.where(short, high, trial)
        # In a region of no curvature a Newton step may be 1e40 too long.
        leap = 10.0 ** -max(0, number - 2)
        after = _next_trial(low, high, low_slope, high_slope, leap)
        trial = xp.where(open_, after, trial)
    return Step(length, best)


def _next_trial(
    low: Array, high: Array, low_slope: Array, high_slope: Array, leap: float
) -> Array:
    """Return the root of the slopes' secant within the bracket, or a longer step.

    Brackets of several orders of magnitude are cut in the logarithm.
    """
    xp = namespace(low)
    bracketed = xp.isfinite(high)
    end = xp.where(bracketed, high, low)
    rise = high_slope - low_slope
    usable = (high_slope > 0) & (rise > 0)
    share = -low_slope / xp.where(usable, rise, xp.ones_like(rise))
    share = xp.clip(share, 0.1, 0.9)
    # Without a slope at the far end (it was not finite) the bracket is cut short.
    share = xp.where(usable, share, xp.full_like(share, 0.25))
    inside = low + share * (end - low)
    inside = xp.where(low > 0, inside, inside * leap)
    wide = (low > 0) & (end > WIDE * low)
    inside = xp.where(wide, xp.sqrt(low * end), inside)
    return xp.where(bracketed, inside, GROWTH * low)
