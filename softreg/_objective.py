"""B regularised mean losses over the same rows: value, gradient, Hessian, line, gap.

Written once, over `blocks.reduce`; the penalty is added after the sum and never meets a
block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from softreg import _kernels as kernels
from softreg._arrays import Array, identity, like, namespace, to_numpy
from softreg._blocks import Blocks, LocalBlocks, Sums
from softreg._certificate import Moments, bound_of_squares, gap_free_intercept
from softreg._curvature import Curvature
from softreg._design import Operand, Parametrisation
from softreg._geometry import Geometry
from softreg._losses import Loss, TopK
from softreg._minibatches import default_rows, minibatches
from softreg._preconditioner import Preconditioner, Shared
from softreg.solvers._loop import inner, largest_entry
from softreg.solvers._protocols import Line, Point

BALANCE_RIDGE = 1e-10
# Problems whose penalties lie within this factor share one preconditioner.
ALIKE = 2.0


class DataTerm(NamedTuple):
    """What a pass tells of the mean losses of B problems.

    Parameters
    ----------
    loss : (B,) array
    gradient : (B, K, P) array
        One row a class.
    kept : list
        What the blocks kept.
    potentials : (B, K) array or None
        The means of `p_k f(u)`, where the intercept is free.
    scores : (B, 2) array or None
        Of held-out rows.
    """

    loss: Array
    gradient: Array
    kept: Any
    potentials: Array | None = None
    scores: Array | None = None


@dataclass(frozen=True)
class Objective:
    """The regularised mean losses of a batch of problems.

    Parameters
    ----------
    blocks : Blocks
        The rows.
    loss : Loss
    parametrisation : Parametrisation
    moments : Moments
        Constants of the data.
    l2 : (B,) array
        lambda of each problem.
    n_rows : int
        Rows of the data.
    intercept : {"none", "free", "penalised"}
    geometry : Geometry
        What the preconditioners need to know of the columns.
    """

    blocks: Blocks
    loss: Loss
    parametrisation: Parametrisation
    moments: Moments
    l2: Array
    n_rows: int
    intercept: str
    geometry: Geometry

    @property
    def convex(self) -> bool:
        """Whether there is one minimum: Newton's methods then apply, and the bound."""
        return True

    @property
    def passes(self) -> float:
        """Reads of X so far."""
        return self.blocks.engine.passes

    @property
    def eps(self) -> float:
        """Rounding unit of the products."""
        return float(namespace(self.l2).finfo(self.blocks.dtype).eps)

    # -- value, gradient, gap ---------------------------------------------------------

    def evaluate(self, coef: Array, *, keep: bool = False) -> Point:
        """Return value, gradient and gap at coef (B, k, P); one pass."""
        keep = keep and self._may_keep(coef)
        data = self._data_term(coef, keep)
        value = data.loss + self.penalty(coef)
        gradient = coef * self._penalty_mask
        gradient *= self.l2[:, None, None]
        gradient += self.parametrisation.contract(data.gradient)
        gap, balanced = self._gaps(coef, data, gradient)
        rounding = self._rounding(coef)
        state = data.kept if keep else None
        return Point(coef, value, gradient, gap, balanced, rounding, state, data.scores)

    def _data_term(self, coef: Array, keep: bool) -> DataTerm:
        operand, free = self._operand(coef), self.intercept == "free"
        sums, kept = self._reduce(
            kernels.evaluate, self.loss, operand, keep, free, size=coef
        )
        loss, gradient, *rest = sums
        gradient = self.parametrisation.tempered(gradient)
        potentials = rest.pop(0) if free else None
        return DataTerm(loss, gradient, kept, potentials, *rest)

    def penalty(self, coef: Array) -> Array:
        """Return `lambda / 2 ||W||^2`, (B,)."""
        penalised = coef * self._penalty_mask
        return self.l2 / 2 * inner(penalised, penalised)

    def slack(self, coef: Array) -> tuple[Array, Array]:
        """Return how far a smoothed loss is above its own, and its eps, (B,) each."""
        assert isinstance(self.loss, TopK)
        operand = self._operand(coef)
        sums, _ = self._reduce(kernels.slack, self.loss, operand, size=coef)
        return sums[0], sums[1]

    def row_losses(self, coef: Array) -> Array:
        """Return the loss of each row, (B, n); one pass."""
        operand = self._operand(coef)
        _, losses = self._reduce(kernels.row_losses, self.loss, operand, size=coef)
        return namespace(coef).concat(losses, axis=1)

    def _rounding(self, coef: Array) -> Array:
        """Return the rounding of the value relative to itself, (B,).

        A score is known to eps times the size of its terms, and a row's loss moves with
        its scores by at most about twice itself.
        """
        xp = namespace(coef)
        sizes = xp.abs(coef) @ self.geometry.root_mean_square
        size = xp.max(sizes, axis=1) / self.parametrisation.temperature
        return float(xp.finfo(xp.float64).eps) * (4 + size)

    def _gaps(
        self, coef: Array, data: DataTerm, gradient: Array
    ) -> tuple[Array, Array]:
        """Return the bound, and what about it would be with balanced intercepts."""
        if self.intercept != "free":
            bound = bound_of_squares(inner(gradient, gradient), self.l2)
            return bound, bound
        gap, square = gap_free_intercept(
            self.loss,
            self.parametrisation.unfold(coef),
            data.gradient,
            data.potentials,
            self.moments,
            # Two rows with 2 lambda are one row with lambda.
            2 * self.l2 if self.parametrisation.folded else self.l2,
            self.parametrisation.temperature,
        )
        excess = gradient[..., -1:]
        squares = inner(gradient, gradient) - inner(excess, excess)
        plain = bound_of_squares(squares, self.l2)
        return gap, namespace(gap).minimum(square, plain)

    def without_idle_columns(self, coef: Array) -> Array:
        """Return coef with 0 for columns that do not vary, as at any optimum.

        What they contributed goes to a free intercept; scores stay the same.
        """
        xp = namespace(coef)
        standard = self.geometry.standard
        varies = standard.scale > 0
        n_columns = standard.scale.shape[0]
        weights = coef[..., :n_columns]
        kept = xp.where(varies, weights, xp.zeros_like(weights))
        if not standard.has_intercept:
            return kept
        shift = xp.sum((weights - kept) * standard.centre, axis=-1, keepdims=True)
        return xp.concat([kept, coef[..., -1:] + shift], axis=-1)

    def slopes(self, point: Point) -> np.ndarray:
        """Return the gradient's largest entry, as it is and standardised, (B, 2).

        The second is asked for only where nothing can be proven: without a penalty a
        column in small units would else count for nothing.
        """
        plain = largest_entry(point.gradient)
        if self.convex and bool(namespace(self.l2).all(self.l2 > 0)):
            return np.stack([plain, plain], axis=1)
        standard = self.geometry.standard.pull(point.gradient)
        return np.stack([plain, largest_entry(standard)], axis=1)

    def balance(self, point: Point) -> Point:
        """Return the point after a Newton step in the intercepts alone.

        The bound is of first order in the intercepts' gradient; this makes it of second
        order. The better of the two points is returned.
        """
        coef, temperature = point.coef, self.parametrisation.temperature
        xp = namespace(coef)
        sums, _ = self._reduce(
            kernels.class_curvature,
            self.loss,
            self._operand(coef),
            size=coef,
            kept=point.kept,
        )
        n_classes = self.parametrisation.n_classes
        # The common shift of the classes has no curvature, nor has a class that no row
        # is near: give them some.
        eye = identity(n_classes, coef)
        curvature = sums[0] + 1 / n_classes + BALANCE_RIDGE * eye
        excess = point.gradient[..., -1] * temperature
        if self.parametrisation.folded:
            excess = xp.concat([-excess, excess], axis=1)
        step = -temperature * xp.linalg.solve(curvature, excess[..., None])[..., 0]
        step = step - xp.mean(step, axis=1, keepdims=True)
        if self.parametrisation.folded:
            step = step[:, 1:] - step[:, :1]
        keep = point.kept is not None
        for _ in range(4):
            moved = xp.concat(
                [coef[..., :-1], (coef[..., -1] + step)[..., None]], axis=-1
            )
            balanced = self.evaluate(moved, keep=keep)
            slack = (balanced.rounding + self.eps) * xp.abs(point.value)
            if bool(xp.all(balanced.value <= point.value + slack)):
                return balanced
            step = step / 2
        return point

    def separated(self, coef: Array) -> np.ndarray:
        """Return where every row prefers its class to all others together, (B,).

        Then larger coefficients are always better, and without a penalty none are best;
        unless a row can have loss 0.
        """
        if self.loss.reaches_zero:
            return np.zeros(coef.shape[0], dtype=bool)
        operand = self._operand(coef)
        sums, _ = self._reduce(kernels.undecided, self.loss, operand, size=coef)
        return to_numpy(sums[0]) == 0

    # -- second order -----------------------------------------------------------------

    def hessian_product(self, point: Point, direction: Array) -> Array:
        """Return the Hessian at the point times direction, (B, k, P); one pass."""
        (full_product,), _ = self._reduce(
            kernels.hessian_product,
            self.loss,
            self._operand_of(point),
            self._operand(direction),
            size=direction,
            kept=point.kept,
        )
        product = direction * self._penalty_mask
        product *= self.l2[:, None, None]
        product += self.parametrisation.contract(
            self.parametrisation.tempered(full_product)
        )
        return product

    def line(self, point: Point, direction: Array) -> Callable[[Array], Line]:
        """Return the function of steps (B,) along a direction.

        Where the point has kept its scores, those of the direction are kept too, and a
        trial step reads no row.
        """
        operand, along = self._operand_of(point), self._operand(direction)
        kept = None
        if point.kept is not None:
            _, kept = self._reduce(
                kernels.line_start, along, size=direction, kept=point.kept
            )
        start = point.coef * self._penalty_mask
        way = direction * self._penalty_mask
        cross, square = inner(start, way), inner(way, way)
        norm = inner(start, start)

        def at(steps: Array) -> Line:
            sums, _ = self._reduce(
                kernels.line,
                self.loss,
                operand,
                along,
                steps,
                size=direction,
                kept=kept,
                reads=0.0 if kept is not None else 1.0,
            )
            return Line(
                sums[0] + self.l2 / 2 * (norm + steps * (2 * cross + steps * square)),
                sums[1] + self.l2 * (cross + steps * square),
            )

        return at

    # -- preconditioners --------------------------------------------------------------

    def _curvature(self, l2: Array) -> Curvature:
        """Return the curvature of problems with these penalties, (B,) or (1,)."""
        return Curvature(
            self.blocks,
            self.loss,
            self.parametrisation,
            self.geometry,
            # Lambda in standardised coordinates.
            l2[:, None] * (self.geometry.standard.full_scale**2 * self._penalty_mask),
            self.l2.shape[0],
            self.moments.pooled().mean_target[0, :],
            self.n_rows,
        )

    @property
    def _common(self) -> Curvature:
        """The curvature of all problems as one, where their penalties are alike."""
        xp = namespace(self.l2)
        alike = bool(xp.max(self.l2) <= ALIKE * xp.min(self.l2))
        l2 = xp.mean(self.l2, axis=0, keepdims=True) if alike else self.l2
        return self._curvature(l2)

    def shared_preconditioner(self) -> Shared:
        """Return the Hessian's shape at W = 0: no pass once the Gram is there."""
        return self._common.at_zero()

    def curvature_preconditioner(self, point: Point, thoroughness: int) -> Any:
        """Return an approximate inverse Hessian at the point, from a sample of rows."""
        operand = self._operand(point.coef)
        return self._common.at(operand, point.kept, thoroughness)

    def curvature_cost(self, thoroughness: int) -> float:
        """Return about what `curvature_preconditioner` costs, in passes."""
        return self._common.cost(thoroughness)

    def hessian_preconditioner(self, point: Point) -> Preconditioner:
        """Return the inverse of the whole Hessian at the point, each problem's own."""
        operand = self._operand(point.coef)
        return self._curvature(self.l2).whole(operand, point.kept)

    # -- batches and precision --------------------------------------------------------

    def take(self, members: list[int]) -> Objective:
        """Return the same rows with fewer problems."""
        xp = namespace(self.l2)
        index = like(np.asarray(members), self.l2)
        return replace(
            self,
            l2=xp.take(self.l2, index),
            moments=self.moments.take(index),
            blocks=self.blocks.take(index),
        )

    def in_double(self) -> Objective | None:
        """Return the objective with float64 products; None where it has them."""
        xp = namespace(self.l2)
        if self.blocks.dtype == xp.float64:
            return None
        return replace(self, blocks=self.blocks.with_dtype(xp.float64))

    def minibatch_rows(self) -> int:
        """Return how many rows make a minibatch unless a solver says so."""
        n_problems, n_columns = self.l2.shape[0], self.moments.mean_x.shape[-1]
        shape = self.parametrisation.n_rows, n_columns
        n_scores = n_problems * self.parametrisation.n_classes
        return default_rows(self.n_rows, shape, n_scores, self._itemsize)

    def minibatches(self, seed: Sequence[int], n_rows: int) -> Iterator[Objective]:
        """Yield the objectives of all rows in a random order, about so many at a time.

        The mean of their losses is that of all rows.
        """
        assert isinstance(self.blocks, LocalBlocks)
        for blocks in minibatches(self.blocks, np.random.default_rng(seed), n_rows):
            yield replace(self, blocks=blocks, n_rows=min(n_rows, self.n_rows))

    # -- parts ------------------------------------------------------------------------

    @cached_property
    def _penalty_mask(self) -> Array | float:
        if self.intercept != "free":
            return 1.0
        xp = namespace(self.l2)
        mask = xp.ones_like(self.moments.mean_x[0, :])
        return xp.concat([mask[:-1], 0 * mask[-1:]])

    def _may_keep(self, coef: Array) -> bool:
        scores = coef.shape[0] * self.parametrisation.n_classes * self.n_rows
        return 2 * self._itemsize * scores <= self.blocks.engine.kept_bytes

    @property
    def _itemsize(self) -> int:
        return int(namespace(self.l2).finfo(self.blocks.dtype).bits // 8)

    def _operand(self, coef: Array) -> Operand:
        return self.blocks.operand(self.parametrisation.expand(coef))

    def _operand_of(self, point: Point) -> Operand | None:
        """Return the operand of a point, None where its scores were kept instead."""
        return self._operand(point.coef) if point.kept is None else None

    def _reduce(
        self,
        kernel: Callable[..., Any],
        *args: Any,
        size: Any,
        kept: Any = None,
        reads: float = 1.0,
    ) -> tuple[Sums, Any]:
        if not isinstance(size, int):
            size = size.shape[0] * size.shape[1] * size.shape[2]
        return self.blocks.reduce(
            kernel, *args, summand_size=size, kept=kept, reads=reads
        )
