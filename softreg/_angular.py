"""The angular margin of L-Softmax (Liu et al., 1612.02295), as an objective.

The score of a row's own class is taken down by how far its angle to that class's
coefficients, m times as wide, leaves it:

    f_y = (mu w.x + ||w|| ||x|| psi(c)) / (1 + mu) + b,     c = w.x / (||w|| ||x||)

psi is `cos(m angle)` made monotone. Only the scores differ from those of the softmax:
penalty, weights, targets and blocks are those of `Objective`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from softreg import _kernels as kernels
from softreg._arrays import (
    Array,
    cast,
    namespace,
    one_hot,
    subtract_at_class,
    take_class,
)
from softreg._blocks import Block, Sums
from softreg._design import Operand
from softreg._losses import Loss, shift_to_top
from softreg._objective import DataTerm, Objective
from softreg.solvers._loop import inner
from softreg.solvers._protocols import Line, Point


@dataclass(frozen=True)
class AngularObjective(Objective):
    """The objective with an angular margin; one problem, not convex for m > 1.

    Parameters
    ----------
    m : int
        How many times wider the angle to the own class is taken to be.
    mu : float
        Weight of the plain score, which eases the margin.
    lengths : list of (rows,) arrays
        The norm of each row, block by block.
    held : (K,) array of bool or None
        Classes whose coefficients stay 0, where the objective has a kink.
    """

    m: int
    mu: float
    lengths: list[Array]
    held: Array | None = None

    @classmethod
    def of(cls, objective: Objective, m: int, mu: float) -> AngularObjective:
        """Return an objective with the margin in place of none."""
        _, lengths = objective.blocks.reduce(kernels.row_lengths, summand_size=1)
        own = {f.name: getattr(objective, f.name) for f in fields(Objective)}
        return cls(**own, m=m, mu=mu, lengths=lengths)

    @property
    def convex(self) -> bool:
        """Nothing is proven of its minimum."""
        return False

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return int(self.geometry.standard.scale.shape[0])

    def _data_term(self, coef: Array, keep: bool) -> DataTerm:
        xp = namespace(coef)
        n_features = self.n_features
        weights, bias = coef[..., :n_features], coef[..., n_features:]
        norms = xp.linalg.vector_norm(weights, axis=2)
        through_origin = xp.concat([weights, xp.zeros_like(bias)], axis=2)
        sums, _ = self._reduce(
            evaluate,
            self.loss,
            self._operand(through_origin),
            xp.sum(bias, axis=2),
            norms,
            self.m,
            self.mu,
            size=coef,
            kept=self.lengths,
        )
        data_loss, gradient, bias_gradient, turning = sums
        own = gradient[..., :n_features] + turning[..., None] * weights
        if bias.shape[2] > 0:
            own = xp.concat([own, bias_gradient[..., None]], axis=2)
        if self.held is not None:
            own = without_classes(own, self.held, n_features)
        return DataTerm(data_loss, own, [])

    def line(self, point: Point, direction: Array) -> Callable[[Array], Line]:
        """Return the function of steps (B,) along a direction: a pass for each.

        The length of a class's coefficients, and so its scores, bend along it.
        """

        def at(steps: Array) -> Line:
            there = self.evaluate(point.coef + steps[:, None, None] * direction)
            return Line(there.value, inner(there.gradient, direction))

        return at

    def shared_preconditioner(self) -> Any:
        """Return that of the softmax; column by column where classes are held at 0."""
        if self.held is None:
            return super().shared_preconditioner()
        return Columnwise(self.geometry.standard.full_scale)

    def _gaps(self, coef: Array, *sums: Any) -> tuple[Array, Array]:
        """Return no bound: there may be lower minima."""
        unknown = namespace(coef).full_like(self.l2, float("inf"))
        return unknown, unknown


class Columnwise(NamedTuple):
    """Columns scaled each by itself: what is 0 stays 0."""

    scale: Array

    def whiten(self, gradient: Array) -> Array:
        """Return the gradient in scaled coordinates."""
        return gradient * self.scale

    def unwhiten(self, vector: Array) -> Array:
        """Return the coefficients of scaled coordinates."""
        return vector * self.scale

    def solve(self, vectors: Array) -> Array:
        """Scale twice."""
        return vectors * self.scale**2

    def take(self, members: list[int]) -> Columnwise:
        """Return that of fewer problems: the same."""
        return self


def without_classes(coef: Array, classes: Array, n_features: int) -> Array:
    """Return coefficients (B, K, P) with 0 for the columns of some classes.

    `classes` has a flag for each. Intercepts stay.
    """
    xp = namespace(coef)
    weights = coef[..., :n_features]
    kept = xp.where(classes[:, None], xp.zeros_like(weights), weights)
    return xp.concat([kept, coef[..., n_features:]], axis=2)


def evaluate(
    block: Block,
    lengths: Array,
    loss: Loss,
    operand: Operand,
    bias: Array,
    norms: Array,
    m: int,
    mu: float,
) -> tuple[Sums, None]:
    """Return the loss, its gradient in W through the scores, in b, and by turning.

    The last is the factor of w_y itself: `f_y` depends on W through `||w_y||` too.
    """
    xp = namespace(block.weight)
    codes = block.targets.codes  # type: ignore[attr-defined]
    design = block.design.loaded()
    scores = design.forward(operand)
    linear = take_class(scores, codes)
    norm = xp.take(norms, codes, axis=1)
    reach = norm * lengths
    turned = reach > 0
    safe = xp.where(turned, reach, xp.ones_like(reach))
    # A row or a class of no length has no angle, and no margin.
    cosine = xp.where(turned, xp.clip(linear / safe, -1, 1), xp.ones_like(reach))
    psi, slope = angular(cosine, m)
    slope = xp.where(turned, slope, xp.ones_like(slope))
    scores += bias[:, :, None]
    scores = subtract_at_class(scores, codes, (linear - reach * psi) / (1 + mu))
    shifted = shift_to_top(scores)
    potential, proba = loss.potential_and_proba(shifted)
    value = kernels.row_loss(block, potential, shifted)
    residual = kernels.weighted(block, block.targets.subtract_from(proba))
    own = take_class(residual, codes)
    bias_gradient = xp.sum(residual, axis=2)
    classes = cast(one_hot(codes, scores.shape[1]), own.dtype)
    safe_norm = xp.where(norm > 0, norm, xp.ones_like(norm))
    turning = own * lengths * (psi - cosine * slope) / ((1 + mu) * safe_norm)
    residual = subtract_at_class(residual, codes, own * (1 - slope) / (1 + mu))
    return (value, design.adjoint(residual), bias_gradient, turning @ classes.T), None


def angular(cosine: Array, m: int) -> tuple[Array, Array]:
    """Return psi and its derivative: `(-1)^k T_m(c) - 2 k`, `k = floor(m angle / pi)`.

    T_m is Chebyshev's polynomial, T_m' = m U_(m-1).
    """
    xp = namespace(cosine)
    before, first = xp.ones_like(cosine), cosine
    second_before, second = xp.zeros_like(cosine), xp.ones_like(cosine)
    for _ in range(m - 1):
        before, first = first, 2 * cosine * first - before
        second_before, second = second, 2 * cosine * second - second_before
    angle = xp.acos(cosine)
    k = xp.floor(m * angle / xp.pi)
    k = xp.where(k > m - 1, xp.full_like(k, m - 1), k)
    sign = 1 - 2 * (k % 2)
    return sign * first - 2 * k, sign * m * second
