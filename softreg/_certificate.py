"""A proven bound of the distance to the optimum, from sums that a pass already has.

F is lambda-strongly convex in the weights, so without a free intercept
`F - min F <= ||G||^2 / (2 lambda)`. A free intercept needs a dual point whose mean is
that of the targets: of each row's probabilities the share e_k of class k is taken away,
and what is taken from all classes is given to one constant distribution v,

    q_i = (1 - e) p_i + r_i v,    r_i = <e, p_i>,

with e and v such that the means fit. By convexity of the Fenchel-Young loss in its
target,

    F - min F <= cost(e) + mean_i r_i l_i(v) + ||D||^2 / (2 lambda)

with l_i(v) the loss were v the row's target, D the gradient in the weights at q in
place of p, and cost(e) what the thinning alone costs. It holds at any point. See
docs/mathematics.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from softreg._arrays import Array, namespace
from softreg._losses import Loss
from softreg.solvers._loop import inner

# A smaller share is the rounding of the class means.
NEGLIGIBLE_SHARE = 1e-14
TINY = float(np.finfo(np.float64).tiny)


class Moments(NamedTuple):
    """Constants of the data, each a weighted mean; W leads as in the block weights."""

    mean_x: Array  # (W, P), 1 in the intercept's column
    mean_target: Array  # (W, K)
    mean_target_x: Array  # (W, K, P)
    mean_margin: Array  # (W, K)

    def take(self, members: Array) -> Moments:
        """Return those of fewer problems."""
        if self.mean_x.shape[0] == 1:
            return self
        return Moments(*(namespace(m).take(m, members, axis=0) for m in self))

    def pooled(self) -> Moments:
        """Return their mean over the problems."""
        return Moments(*(namespace(m).mean(m, axis=0)[None, ...] for m in self))


def gap_free_intercept(
    loss: Loss,
    coef: Array,
    gradient: Array,
    class_potentials: Array,
    moments: Moments,
    l2: Array,
    temperature: float,
) -> tuple[Array, Array]:
    """Return the bound (B,) where the last column is a free intercept, and its square.

    The second is what D alone makes of it: about the bound with balanced intercepts.

    Parameters
    ----------
    loss : Loss
    coef, gradient : (B, K, P)
        One row a class; the gradient is that of the mean loss alone.
    class_potentials : (B, K)
        The weighted mean of `p_k f(u)`.
    moments : Moments
    l2 : (B,)
        lambda of the K-row form.
    temperature : float
    """
    xp = namespace(coef)
    proba = moments.mean_target + temperature * gradient[..., -1]
    taken = _taken(loss, proba, moments.mean_target)
    proba_x = moments.mean_target_x + temperature * gradient
    # mean_i r_i x_i, and of it the scores under v: mean_i r_i <v, u_i>.
    removed_x = taken.share[:, None, :] @ proba_x
    scores = inner(removed_x, taken.given[:, None, :] @ coef) / temperature
    # A row gives away at least the least share: so much of its margin counts.
    margin = xp.min(taken.share, axis=1) * xp.vecdot(moments.mean_margin, taken.given)
    moved = xp.vecdot(taken.share, class_potentials) - scores - margin
    moved += taken.total * loss.omega(taken.given)
    dual = taken.given[..., None] * removed_x[..., :-1]
    dual -= taken.share[..., None] * proba_x[..., :-1]
    dual /= temperature
    dual += gradient[..., :-1]
    dual += l2[:, None, None] * coef[..., :-1]
    square = bound_of_squares(inner(dual, dual), l2)
    # Both are means of losses: below zero they are rounding.
    return xp.maximum(taken.cost, 0.0) + xp.maximum(moved, 0.0) + square, square


def bound_of_squares(squares: Array, l2: Array) -> Array:
    """Return ||G||^2 / (2 lambda) from the squares (B,); inf where lambda is 0."""
    xp = namespace(squares)
    positive = l2 > 0
    return xp.where(positive, squares / (2 * xp.where(positive, l2, 1.0)), xp.inf)


class _Taken(NamedTuple):
    """What is taken from the classes, and given to a distribution."""

    share: Array  # (B, K) e
    given: Array  # (B, K) v
    total: Array  # (B,) the mean of r
    cost: Array  # (B,)


def _taken(loss: Loss, proba: Array, target: Array) -> _Taken:
    """Return the shares that leave each class no more than its target.

    From each class what it has too much, where the loss can bound what that costs;
    else the same share from all classes, which costs nothing by itself.
    """
    xp = namespace(proba)
    share = xp.maximum(proba - target, 0.0) / xp.maximum(proba, TINY)
    share = xp.where(share < NEGLIGIBLE_SHARE, 0.0, share)
    most = xp.max(share, axis=1)
    cost = loss.thinning_cost(share, proba)
    # The other way costs about as much as the largest share.
    thins = cost < most
    share = xp.where(thins[:, None], share, most[:, None])
    given = xp.maximum(target - (1 - share) * proba, 0.0)
    total = xp.sum(given, axis=1)
    # Where all of it is rounding v may vanish; the targets' mean is then as good.
    given = given / xp.maximum(total, TINY)[:, None]
    given = xp.where((total > 0)[:, None], given, target)
    return _Taken(share, given, total, xp.where(thins, cost, 0.0))
