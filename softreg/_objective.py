"""B regularised mean losses over the same rows: value, gradient, Hessian, line, gap.

Written once, over `blocks.reduce`. The kernels below are pure functions of a block; the
penalty is added after the sum and never meets a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from softreg import _preconditioner as preconditioner
from softreg._arrays import Array, cast, namespace, to_numpy
from softreg._blocks import Block, LocalBlocks, Sums
from softreg._certificate import Moments, bound_of_gradient, gap_free_intercept
from softreg._design import Design, Operand, Parametrisation, Rows
from softreg._losses import Loss, shift_to_top
from softreg._preconditioner import Preconditioner, Shared, Standardisation
from softreg.solvers._loop import Line, Point, inner, largest_entry

# Scores and probabilities are kept beside their rows up to this size, else recomputed.
KEPT_BYTES = 1 << 26
MAX_FULL_HESSIAN = 2600
# How much faster a product of square matrices runs than one with few columns.
FULL_SPEED = 3.0
BALANCE_RIDGE = 1e-10
# A spread below this share of the mean is the mean's rounding.
VARIES = 8 * 2.2e-16
# Columns whose mean is so many times their spread are not multiplied in float32.
OFFSET = 1e3
# Blocks of pairs may take as much memory as X, or this.
SMALL_BYTES = 1 << 25
MAX_CLASS_BLOCKS_BYTES = 1 << 28
# Blocks of pairs of classes are formed in groups of this size in a read of X.
GROUP_BYTES = 1 << 23


@dataclass(frozen=True)
class Geometry:
    """The columns' centred Gram matrix, formed once for all problems and precisions.

    Parameters
    ----------
    blocks : LocalBlocks
        The rows.
    mean_x : (P,) array
        Weighted means of the columns.
    intercept : {"none", "free", "penalised"}
    diagonal : bool
        Whether the diagonal of the Gram matrix must do.
    stored_bytes : int
        Memory of X.
    """

    blocks: LocalBlocks
    mean_x: Array
    intercept: str
    diagonal: bool
    stored_bytes: int

    @property
    def centre(self) -> Array:
        """Means of the columns where the intercept is free to absorb them, else 0."""
        if self.intercept == "none":
            return 0 * self.mean_x
        return self.mean_x[:-1] * (1.0 if self.intercept == "free" else 0.0)

    @cached_property
    def gram(self) -> Array:
        """Weighted Gram matrix (P, P) of the centred columns, or its diagonal (P,)."""
        xp = namespace(self.mean_x)
        gram = self._gram(self.blocks)
        if self.blocks.dtype != xp.float64 and self._is_offset(_diagonal(gram)):
            gram = self._gram(self.blocks.with_dtype(xp.float64))
        return gram

    def _gram(self, blocks: LocalBlocks) -> Array:
        n_columns = self.mean_x.shape[0]
        sums, _ = blocks.reduce(
            _squares if self.diagonal else _gram,
            self.centre,
            summand_size=n_columns if self.diagonal else n_columns**2,
        )
        return sums[0]

    def _is_offset(self, squares: Array) -> bool:
        """Return whether a column varies by little beside its mean."""
        xp = namespace(squares)
        mean = xp.abs(self.mean_x[: self.centre.shape[0]])
        squares = squares[: mean.shape[0]]
        return bool(xp.any((squares > 0) & (squares < (mean / OFFSET) ** 2)))

    @property
    def squares(self) -> Array:
        """Weighted mean squares of the centred columns, (P,)."""
        return _diagonal(self.gram)

    @cached_property
    def root_mean_square(self) -> Array:
        """Root mean squares of the columns as they are, (P,)."""
        xp = namespace(self.gram)
        mean = self.mean_x
        if self.intercept == "free":
            centred = xp.concat([self.squares[:-1], 0 * mean[-1:]])
            return xp.sqrt(centred + mean**2)
        return xp.sqrt(self.squares)

    @cached_property
    def wants_double(self) -> bool:
        """Whether products in float32 would be all rounding."""
        return self._is_offset(self.squares)

    @cached_property
    def standard(self) -> Standardisation:
        """The coordinates in which the columns have mean square 1."""
        xp = namespace(self.gram)
        centre = self.centre
        squares = self.squares[: centre.shape[0]]
        varies = squares > (VARIES * xp.abs(centre)) ** 2
        safe = xp.where(varies, squares, xp.ones_like(squares))
        scale = xp.where(varies, 1 / xp.sqrt(safe), xp.zeros_like(squares))
        return Standardisation(centre, scale, self.intercept != "none")

    @property
    def standard_gram(self) -> Array:
        """`gram` in standardised coordinates: unit diagonal."""
        scale = self.standard.full_scale
        if self.gram.ndim == 1:
            return self.gram * scale**2
        return self.gram * scale * scale[:, None]


def _diagonal(gram: Array) -> Array:
    return gram if gram.ndim == 1 else namespace(gram).linalg.diagonal(gram)


@dataclass(frozen=True)
class Objective:
    """The regularised mean losses of a batch of problems.

    Parameters
    ----------
    blocks : LocalBlocks
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

    blocks: LocalBlocks
    loss: Loss
    parametrisation: Parametrisation
    moments: Moments
    l2: Array
    n_rows: int
    intercept: str
    geometry: Geometry

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
        operand = self._operand(coef)
        sums, kept = self._reduce(_evaluate, self.loss, operand, keep, size=coef)
        data_loss, full_gradient = sums
        full_gradient = full_gradient / self.parametrisation.temperature
        penalised = coef * self._penalty_mask
        gradient = (
            self.parametrisation.contract(full_gradient)
            + self.l2[:, None, None] * penalised
        )
        value = data_loss + self.l2 / 2 * inner(penalised, penalised)
        gap, balanced = self._gaps(coef, data_loss, full_gradient, gradient)
        rounding = self._rounding(coef)
        state = kept if keep else None
        return Point(coef, value, gradient, gap, balanced, rounding, state)

    def _rounding(self, coef: Array) -> Array:
        """Return the rounding of the value relative to itself, (B,).

        A score is known to eps times the size of its terms, and a row's loss moves with
        its scores by at most about twice itself.
        """
        xp = namespace(coef)
        sizes = xp.sum(xp.abs(coef) * self.geometry.root_mean_square, axis=2)
        size = xp.max(sizes, axis=1) / self.parametrisation.temperature
        return float(xp.finfo(xp.float64).eps) * (4 + size)

    def _gaps(
        self, coef: Array, data_loss: Array, full_gradient: Array, gradient: Array
    ) -> tuple[Array, Array]:
        if self.intercept != "free":
            bound = bound_of_gradient(gradient, self.l2)
            return bound, bound
        gap = gap_free_intercept(
            self.parametrisation.unfold(coef),
            data_loss,
            full_gradient,
            self.moments,
            # Two rows with 2 lambda are one row with lambda.
            2 * self.l2 if self.parametrisation.folded else self.l2,
            self.parametrisation.temperature,
        )
        return gap, bound_of_gradient(gradient[..., :-1], self.l2)

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
        if bool(namespace(self.l2).all(self.l2 > 0)):
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
            _class_curvature,
            self.loss,
            self._operand(coef),
            size=coef,
            kept=point.kept,
        )
        n_classes = self.parametrisation.n_classes
        # The common shift of the classes has no curvature, nor has a class that no row
        # is near: give them some.
        eye = xp.eye(n_classes, dtype=xp.float64)
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
            slack = balanced.rounding * xp.abs(point.value)
            if bool(xp.all(balanced.value <= point.value + slack)):
                return balanced
            step = step / 2
        return point

    def separated(self, coef: Array) -> np.ndarray:
        """Return where every row prefers its class to all others together, (B,).

        Then larger coefficients are always better, and without a penalty none are best.
        """
        operand = self._operand(coef)
        sums, _ = self._reduce(_undecided, self.loss, operand, size=coef)
        return to_numpy(sums[0]) == 0

    # -- second order -----------------------------------------------------------------

    def hessian_product(self, point: Point, direction: Array) -> Array:
        """Return the Hessian at the point times direction, (B, k, P); one pass."""
        temperature = self.parametrisation.temperature
        sums, _ = self._reduce(
            _hessian_product,
            self.loss,
            self._operand(point.coef),
            self._operand(direction),
            size=direction,
            kept=point.kept,
        )
        product = self.parametrisation.contract(sums[0] / temperature)
        return product + self.l2[:, None, None] * direction * self._penalty_mask

    def line(self, point: Point, direction: Array) -> Callable[[Array], Line]:
        """Return the function of steps (B,) along a direction.

        Where the point has kept its scores, those of the direction are kept too, and a
        trial step reads no row.
        """
        operand, along = self._operand(point.coef), self._operand(direction)
        kept = None
        if point.kept is not None:
            _, kept = self._reduce(_line_start, along, size=direction, kept=point.kept)
        start = point.coef * self._penalty_mask
        way = direction * self._penalty_mask
        cross, square = inner(start, way), inner(way, way)
        norm = inner(start, start)

        def at(steps: Array) -> Line:
            sums, _ = self._reduce(
                _line,
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

    def shared_preconditioner(self) -> Shared:
        """Return the Hessian's shape at W = 0: no pass once the Gram is there."""
        return preconditioner.shared(
            self.geometry.standard_gram,
            self._standard_penalty,
            self._mean_curvature,
            self.geometry.standard,
        )

    def curvature_preconditioner(self, point: Point, step: int = 1) -> Preconditioner:
        """Return the Hessian at the point from every step-th row, factorised.

        The whole of it where its pairs of classes fit, else a block a class.
        """
        if self.structure == "full":
            return self.hessian_preconditioner(point, step)
        if self.structure == "pairs":
            return self._pairs_preconditioner(point, step)
        n_rows, n_columns = point.coef.shape[1:]
        # A class at a time: all at once would be the largest array of a fit.
        grams = (
            self._curvature(_class_block, point, step, n_columns**2, k)
            for k in range(n_rows)
        )
        return preconditioner.class_blocks(
            grams, self._standard_penalty, self.geometry.standard, self.blocks.dtype
        )

    def _pairs_preconditioner(self, point: Point, step: int) -> Preconditioner:
        n_classes, n_columns = point.coef.shape[1:]
        order = [(k, j) for k in range(n_classes - 1) for j in range(k + 1)]
        width = max(1, GROUP_BYTES // (4 * n_columns**2))
        grams = {}
        for start in range(0, len(order), width):
            group = order[start : start + width]
            size = len(group) * n_columns**2
            blocks = self._curvature(_class_pairs, point, step, size, group)
            # Each block owns its memory, so that it is freed with its pair.
            xp = namespace(blocks)
            for position, pair in enumerate(group):
                grams[pair] = xp.asarray(blocks[:, position, ...], copy=True)
        return preconditioner.pairs(
            grams, self._standard_penalty, n_classes, self.geometry.standard
        )

    def hessian_preconditioner(self, point: Point, step: int = 1) -> Preconditioner:
        """Return the whole Hessian at the point, from every step-th row, factorised."""
        n_rows, n_columns = point.coef.shape[1:]
        if self.parametrisation.folded:
            # One row: the block of either class is the Hessian.
            hessians = self._curvature(_class_block, point, step, n_columns**2, 0)
        else:
            size = (n_rows * n_columns) ** 2
            hessians = self._curvature(_hessian, point, step, size)
        return preconditioner.full(
            hessians, self._standard_penalty, self.geometry.standard
        )

    def _curvature(
        self, kernel: Any, point: Point, step: int, size: int, *args: Any
    ) -> Array:
        """Return the kernel's sum over every step-th row, at a point."""
        (total,), _ = self.blocks.sampled(step).reduce(
            kernel,
            self.loss,
            self._operand(point.coef),
            self.geometry.standard,
            *args,
            summand_size=size,
            kept=point.kept if step == 1 else None,
            reads=1 / step,
        )
        total /= self.parametrisation.temperature**2
        return total

    def curvature_sample(self, thoroughness: int) -> tuple[int, float]:
        """Return a row step for `curvature_preconditioner` and its cost in passes.

        The cost is infinite where there is no such preconditioner.
        """
        if self.structure is None:
            return 1, np.inf
        n_rows = self.parametrisation.n_rows
        n_columns = self.moments.mean_x.shape[-1]
        if self.structure == "full":
            wanted = 4 * n_rows * n_columns + 1000
            a_row = (n_rows * n_columns) ** 2
            factors = (n_rows * n_columns) ** 3 / 3
        elif self.structure == "pairs":
            wanted = n_rows * n_columns
            a_row = n_rows * (n_rows - 1) / 2 * n_columns**2
            factors = (n_rows * n_columns) ** 3 / 3
        else:
            wanted = 10 * n_columns
            a_row = n_rows * n_columns**2
            # A factor and an inverse a class.
            factors = 7 / 3 * n_rows * n_columns**3
        step = max(1, self.n_rows // (thoroughness * wanted))
        a_pass = 4 * self.n_rows * n_rows * n_columns
        cost = (a_row * self.n_rows / step + factors) / (a_pass * FULL_SPEED)
        return step, cost

    @property
    def structure(self) -> str | None:
        """Which Hessian can be factorised: "full", "pairs", "class" or None."""
        n_rows = self.parametrisation.n_rows
        n_columns = self.moments.mean_x.shape[-1]
        if n_rows * n_columns <= MAX_FULL_HESSIAN:
            return "full"
        if self.geometry.diagonal:
            return None
        block = self.l2.shape[0] * 4 * n_columns**2
        pairs_bytes = n_rows * (n_rows - 1) / 2 * block
        if n_rows > 1 and pairs_bytes <= max(SMALL_BYTES, self.geometry.stored_bytes):
            return "pairs"
        if n_rows * block <= MAX_CLASS_BLOCKS_BYTES:
            return "class"
        return None

    # -- batches and precision --------------------------------------------------------

    def take(self, members: list[int]) -> Objective:
        """Return the same rows with fewer problems."""
        xp = namespace(self.l2)
        index = xp.asarray(members)
        moments = self.moments
        if moments.mean_x.shape[0] > 1:
            moments = Moments(*(xp.take(m, index, axis=0) for m in moments))
        return replace(
            self,
            l2=xp.take(self.l2, index),
            moments=moments,
            blocks=self.blocks.take(index),
        )

    def in_double(self) -> Objective | None:
        """Return the objective with float64 products; None where it has them."""
        xp = namespace(self.l2)
        if self.blocks.dtype == xp.float64:
            return None
        return replace(self, blocks=self.blocks.with_dtype(xp.float64))

    # -- parts ------------------------------------------------------------------------

    @property
    def _penalty_mask(self) -> Array | float:
        if self.intercept != "free":
            return 1.0
        xp = namespace(self.l2)
        mask = xp.ones_like(self.moments.mean_x[0, :])
        return xp.concat([mask[:-1], 0 * mask[-1:]])

    @property
    def _standard_penalty(self) -> Array:
        """Lambda in standardised coordinates, (B, P)."""
        return self.l2[:, None] * (
            self.geometry.standard.full_scale**2 * self._penalty_mask
        )

    @property
    def _mean_curvature(self) -> float:
        """Mean p (1 - p) at the class frequencies, over T^2, as a class sees it."""
        target = self.moments.mean_target[0, :]
        spread = 1 - float(namespace(target).sum(target**2))
        n_classes = self.parametrisation.n_classes
        share = spread / max(n_classes - 1, 2)
        return max(share, 1e-6) / self.parametrisation.temperature**2

    def _may_keep(self, coef: Array) -> bool:
        itemsize = namespace(coef).finfo(self.blocks.dtype).bits // 8
        scores = coef.shape[0] * self.parametrisation.n_classes * self.n_rows
        return 2 * itemsize * scores <= KEPT_BYTES

    def _operand(self, coef: Array) -> Operand:
        design: Rows = self.blocks.blocks[0].design
        return design.operand(self.parametrisation.expand(coef))

    def _reduce(
        self,
        kernel: Callable[..., Any],
        *args: Any,
        size: Any,
        kept: list[Any] | None = None,
        reads: float = 1.0,
    ) -> tuple[Sums, list[Any]]:
        if not isinstance(size, int):
            size = size.shape[0] * size.shape[1] * size.shape[2]
        return self.blocks.reduce(
            kernel, *args, summand_size=size, kept=kept, reads=reads
        )


# -- kernels: pure functions of one block ---------------------------------------------


def _scores(block: Block, design: Design, operand: Operand) -> Array:
    return shift_to_top(block.targets.add_margin(design.forward(operand)))


def _weighted(block: Block, values: Array) -> Array:
    """Multiply class-major values by the rows' weights, in place."""
    values *= cast(block.weight, values.dtype)[:, None, :]
    return values


def _row_loss(block: Block, potential: Array, shifted: Array) -> Array:
    """Return the weighted sum of the losses, (B,)."""
    losses = potential - block.targets.inner(shifted)
    return namespace(losses).sum(block.weight * losses, axis=1)


def _evaluate(
    block: Block, kept: Any, loss: Loss, operand: Operand, keep: bool
) -> tuple[Sums, Any]:
    xp = namespace(block.weight)
    design = block.design.loaded()
    shifted = _scores(block, design, operand)
    potential, proba = loss.potential_and_proba(shifted)
    value = _row_loss(block, potential, shifted)
    residual = xp.asarray(proba, copy=True) if keep else proba
    residual = _weighted(block, block.targets.subtract_from(residual))
    state = (shifted, proba) if keep else None
    return (value, design.adjoint(residual)), state


def _undecided(
    block: Block, kept: Any, loss: Loss, operand: Operand
) -> tuple[Sums, Any]:
    """Count the rows whose class has at most half of the probability, (B,)."""
    xp = namespace(block.weight)
    shifted = _scores(block, block.design.loaded(), operand)
    _, proba = loss.potential_and_proba(shifted)
    target = block.targets.dense(xp.float64)
    decided = xp.any((target == 1) & (proba > 0.5), axis=1)
    counted = (block.weight > 0) & ~decided
    return (xp.sum(cast(counted, xp.float64), axis=1),), None


def _proba(
    block: Block, design: Design, kept: Any, loss: Loss, operand: Operand
) -> Array:
    if kept is not None:
        return kept[1]
    return loss.potential_and_proba(_scores(block, design, operand))[1]


def _hessian_product(
    block: Block, kept: Any, loss: Loss, operand: Operand, along: Operand
) -> tuple[Sums, Any]:
    xp = namespace(block.weight)
    design = block.design.loaded()
    curvature, total = loss.curvature(_proba(block, design, kept, loss, operand))
    product = design.forward(along)
    product *= curvature
    mean = xp.sum(product, axis=1, keepdims=True) / total
    product -= curvature * mean
    return (design.adjoint(_weighted(block, product)),), None


def _line_start(block: Block, kept: Any, along: Operand) -> tuple[Sums, Any]:
    return (), (kept[0], block.design.loaded().forward(along))


def _line(
    block: Block, kept: Any, loss: Loss, operand: Operand, along: Operand, steps: Array
) -> tuple[Sums, Any]:
    xp = namespace(block.weight)
    if kept is None:
        design = block.design.loaded()
        kept = _scores(block, design, operand), design.forward(along)
    scores, way = kept
    shifted = shift_to_top(scores + cast(steps, way.dtype)[:, None, None] * way)
    potential, proba = loss.potential_and_proba(shifted)
    value = _row_loss(block, potential, shifted)
    residual = block.targets.subtract_from(proba)
    slopes = xp.sum(residual * way, axis=1)
    return (value, xp.sum(block.weight * slopes, axis=1)), None


def _class_curvature(
    block: Block, kept: Any, loss: Loss, operand: Operand
) -> tuple[Sums, Any]:
    """Return mean dp/dz, (B, K, K)."""
    xp = namespace(block.weight)
    design = block.design.loaded()
    curvature, total = loss.curvature(_proba(block, design, kept, loss, operand))
    weighted = curvature * cast(block.weight, curvature.dtype)[:, None, :]
    outer = (weighted / total) @ xp.matrix_transpose(curvature)
    diagonal = xp.sum(weighted, axis=2)
    eye = xp.eye(curvature.shape[1], dtype=curvature.dtype)
    return (cast(eye * diagonal[:, None, :] - outer, xp.float64),), None


def _gram(block: Block, kept: Any, centre: Array) -> tuple[Sums, Any]:
    return (block.design.loaded().gram(block.weight[0, :], centre),), None


def _squares(block: Block, kept: Any, centre: Array) -> tuple[Sums, Any]:
    return (block.design.loaded().squares(block.weight[0, :], centre),), None


def _curvature(
    block: Block, kept: Any, loss: Loss, operand: Operand, standard: Standardisation
) -> tuple[Array, Array, Array]:
    """Return s (B, K, rows), 1 / sum(s) (B, rows) and the standardised rows."""
    xp = namespace(block.weight)
    design = block.design.loaded()
    proba = _proba(block, design, kept, loss, operand)
    curvature, total = loss.curvature(proba)
    inverse = xp.ones_like(curvature[:, 0, :])
    if not isinstance(total, float):
        inverse = 1 / total[:, 0, :]
    return curvature, inverse, design.standardised(standard.centre, standard.scale)


def _own_weight(block: Block, problem: int, dtype: Any) -> Array:
    """Return the row weights of one problem of a batch."""
    return cast(block.weight[min(problem, block.weight.shape[0] - 1), :], dtype)


def _class_block(
    block: Block,
    kept: Any,
    loss: Loss,
    operand: Operand,
    standard: Standardisation,
    k: int,
) -> tuple[Sums, Any]:
    """Return `sum_i w_i (J_i)_kk x_i x_i'`, (B, P, P)."""
    xp = namespace(block.weight)
    curvature, inverse, rows = _curvature(block, kept, loss, operand, standard)
    grams = []
    for b in range(curvature.shape[0]):
        own = curvature[b, k, :]
        weight = _own_weight(block, b, own.dtype)
        root = xp.sqrt(weight * own * (1 - own * inverse[b, :]))
        scaled = rows * root[:, None]
        grams.append(cast(scaled.T @ scaled, xp.float64))
    return (xp.stack(grams),), None


def _class_pairs(
    block: Block,
    kept: Any,
    loss: Loss,
    operand: Operand,
    standard: Standardisation,
    group: list[tuple[int, int]],
) -> tuple[Sums, Any]:
    """Return `sum_i w_i (J_i)_kl x_i x_i'` for pairs (k, l), float32 (B, pairs, P, P).

    A block off the diagonal is symmetric too: minus the square of rows scaled by
    `sqrt(s_k s_l / sum(s))`.
    """
    xp = namespace(block.weight)
    curvature, inverse, rows = _curvature(block, kept, loss, operand, standard)
    rows = cast(rows, xp.float32)
    problems = []
    for b in range(curvature.shape[0]):
        weight = _own_weight(block, b, curvature.dtype)
        blocks = []
        for k, j in group:
            rest = (1 if k == j else 0) - curvature[b, j, :] * inverse[b, :]
            root = xp.sqrt(weight * curvature[b, k, :] * xp.abs(rest))
            scaled = rows * cast(root, xp.float32)[:, None]
            square = scaled.T @ scaled
            blocks.append(square if k == j else -square)
        problems.append(xp.stack(blocks))
    return (xp.stack(problems),), None


def _hessian(
    block: Block,
    kept: Any,
    loss: Loss,
    operand: Operand,
    standard: Standardisation,
) -> tuple[Sums, Any]:
    """Return the Hessian of the mean loss, (B, k P, k P).

    `blockdiag(X' diag(s_k) X) - Z'Z` with `Z_i = s_i (x) x_i / sqrt(sum s_i)`: one
    symmetric product in place of one for each pair of classes.
    """
    xp = namespace(block.weight)
    curvature, inverse, rows = _curvature(block, kept, loss, operand, standard)
    n_classes, n_columns = curvature.shape[1], rows.shape[1]
    hessians = []
    for b in range(curvature.shape[0]):
        own = _own_weight(block, b, curvature.dtype)
        diagonal = _spread(curvature[b, :, :] * own, rows).T @ rows
        outer = _spread(curvature[b, :, :] * xp.sqrt(own * inverse[b, :]), rows)
        hessian = -(outer.T @ outer)
        for k in range(n_classes):
            span = slice(k * n_columns, (k + 1) * n_columns)
            hessian[span, span] += diagonal[span, :]
        hessians.append(cast(hessian, xp.float64))
    return (xp.stack(hessians),), None


def _spread(weights: Array, rows: Array) -> Array:
    """Return `weights_i (x) x_i` of each row, (rows, K P)."""
    xp = namespace(rows)
    product = weights.T[:, :, None] * rows[:, None, :]
    return xp.reshape(product, (rows.shape[0], -1))


def moments_of(blocks: LocalBlocks) -> Moments:
    """Return the constants of the data, in float64; one pass."""
    xp = namespace(blocks.blocks[0].weight)
    precise = blocks.with_dtype(xp.float64)
    first = precise.blocks[0]
    n_classes = first.targets.dense(xp.float64).shape[0]
    size = (n_classes + 1) * (first.design.X.shape[1] + 1)  # type: ignore[attr-defined]
    (mean_x, target, target_x, margin, target_margin), _ = precise.reduce(
        _moments, summand_size=size
    )
    return Moments(mean_x, target, target_x, margin, target_margin)


def _moments(block: Block, kept: Any) -> tuple[Sums, Any]:
    xp = namespace(block.weight)
    target = block.targets.dense(xp.float64)
    weight = block.weight
    stacked = xp.concat([target, xp.ones_like(target[:1, :])], axis=0)
    sums = block.design.loaded().adjoint(stacked[None, :, :] * weight[:, None, :])
    mean_target = weight @ target.T
    margin = block.targets.margin(xp.float64)
    if margin is None:
        mean_margin = xp.zeros_like(mean_target)
        target_margin = xp.zeros_like(weight[:, 0])
    else:
        mean_margin = weight @ margin.T
        target_margin = weight @ xp.sum(margin * target, axis=0)
    return (
        sums[:, -1, :],
        mean_target,
        sums[:, :-1, :],
        mean_margin,
        target_margin,
    ), None
