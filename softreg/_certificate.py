"""A proven bound of the distance to the optimum, from sums that a pass already has.

F is lambda-strongly convex in the weights, so without a free intercept
`F - min F <= ||G||^2 / (2 lambda)`. A free intercept needs a dual point whose mean is
that of the targets: the probabilities are mixed with one constant distribution v until
it is.
By convexity of the Fenchel-Young loss in its target,

    F - min F <= t l_v + ||lambda W + (1 - t) R + t Delta||^2 / (2 lambda),

with l_v the mean loss were v every row's target, R the gradient of the data term, and
Delta = (v xbar' - Mq) / T. It holds at any point. See docs/mathematics.md.
"""

from __future__ import annotations

from typing import NamedTuple

from softreg._arrays import Array, namespace
from softreg.solvers._loop import inner

# A smaller t is the rounding of the class means.
NEGLIGIBLE_MIX = 1e-14


class Moments(NamedTuple):
    """Constants of the data, each a weighted mean; W leads as in the block weights."""

    mean_x: Array  # (W, P), 1 in the intercept's column
    mean_target: Array  # (W, K)
    mean_target_x: Array  # (W, K, P)
    mean_margin: Array  # (W, K)
    mean_target_margin: Array  # (W,)

    def take(self, members: Array) -> Moments:
        """Return those of fewer problems."""
        if self.mean_x.shape[0] == 1:
            return self
        return Moments(*(namespace(m).take(m, members, axis=0) for m in self))

    def pooled(self) -> Moments:
        """Return their mean over the problems."""
        return Moments(*(namespace(m).mean(m, axis=0)[None, ...] for m in self))


def gap_free_intercept(
    coef: Array,
    data_loss: Array,
    data_gradient: Array,
    moments: Moments,
    l2: Array,
    temperature: float,
) -> Array:
    """Return the bound (B,) where the last column is a free intercept.

    Parameters
    ----------
    coef, data_gradient : (B, K, P)
        One row a class; `data_gradient` is that of the mean loss alone.
    data_loss, l2 : (B,)
        The mean loss, and lambda of the K-row form.
    """
    xp = namespace(coef)
    target = moments.mean_target
    proba = target + temperature * data_gradient[..., -1]
    mix, constant = _mixture(proba, target)
    # <(W, b), v xbar' - Mq>: the mean scores under v less those under the targets.
    scores = (coef @ moments.mean_x[..., None])[..., 0]
    target_x = xp.broadcast_to(moments.mean_target_x, coef.shape)
    moved = xp.sum(scores * constant, axis=1) - inner(coef, target_x)
    loss_constant = (
        data_loss
        - moved / temperature
        + moments.mean_target_margin
        - xp.sum(moments.mean_margin * constant, axis=1)
    )
    share = (mix / temperature)[:, None, None]
    dual = (share * constant[:, :, None]) * moments.mean_x[:, None, :-1]
    dual -= share * target_x[..., :-1]
    dual += l2[:, None, None] * coef[..., :-1]
    dual += (1 - mix)[:, None, None] * data_gradient[..., :-1]
    # The mean loss is nonnegative; below zero it is rounding.
    loss_constant = xp.where(
        loss_constant > 0, loss_constant, xp.zeros_like(loss_constant)
    )
    return mix * loss_constant + bound_of_squares(inner(dual, dual), l2)


def bound_of_squares(squares: Array, l2: Array) -> Array:
    """Return ||G||^2 / (2 lambda) from the squares (B,); inf where lambda is 0."""
    xp = namespace(squares)
    positive = l2 > 0
    safe = xp.where(positive, l2, xp.ones_like(l2))
    return xp.where(positive, squares / (2 * safe), xp.full_like(squares, xp.inf))


def _mixture(proba: Array, target: Array) -> tuple[Array, Array]:
    """Return t (B,) and v (B, K): (1 - t) proba + t v = target, v on the simplex."""
    xp = namespace(proba)
    safe = xp.where(proba > 0, proba, xp.ones_like(proba))
    excess = xp.where(proba > target, 1 - target / safe, xp.zeros_like(proba))
    mix = xp.max(excess, axis=1)
    mix = xp.where(mix < NEGLIGIBLE_MIX, xp.zeros_like(mix), mix)
    mixed = mix > 0
    share = xp.where(mixed, mix, xp.ones_like(mix))[:, None]
    constant = (target - (1 - share) * proba) / share
    constant = xp.where(constant > 0, constant, xp.zeros_like(constant))
    total = xp.sum(constant, axis=1, keepdims=True)
    # Where t is all rounding v may vanish; the targets' mean is then as good.
    usable = total > 0
    constant = constant / xp.where(usable, total, xp.ones_like(total))
    constant = xp.where(usable, constant, xp.broadcast_to(target, constant.shape))
    target = xp.broadcast_to(target, proba.shape)
    return mix, xp.where(mixed[:, None], constant, target)
