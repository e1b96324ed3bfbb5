"""The Hessian at a point, sampled and factorised: what the solvers precondition with.

Three structures, by size: the whole Hessian; one block for every class, corrected by
the whole Hessian on the leading axes of the data; that block alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from softreg import _kernels as kernels
from softreg import _preconditioner as preconditioner
from softreg._arrays import Array, namespace
from softreg._blocks import Blocks
from softreg._design import Operand, Parametrisation
from softreg._geometry import Geometry
from softreg._losses import Loss
from softreg._preconditioner import Preconditioner, Shared

# The side of the Hessian that is factorised to precondition with: on axes, or whole at
# once, and whole where a fit goes on for long. It takes memory by its square.
MAX_SIDE = 1000
LARGEST_SIDE = 3000
MIN_AXES = 4
# What the first Hessian on axes may cost, in passes.
AXES_PASSES = 3.0
# How much faster a product of square matrices runs than a pass: that of one problem
# has few columns, that of a batch more.
FULL_SPEED = 3.0
FULL_SPEED_OF_BATCH = 1.7
# What a pass over few rows costs besides its products, in operations.
OVERHEAD = 1e6


def spanned_columns(
    n_rows: int,
    n_classes: int,
    n_columns: int,
    n_problems: int = 1,
    thoroughness: int = 1,
) -> int:
    """Return over how many columns the whole Hessian is formed; 0 for none.

    All of them, or as many leading axes (and the intercept) as fit in size and in time
    (benchmarks/preconditioners.py). `n_classes` counts rows of coefficients: one row's
    Hessian is its one block.
    """
    if n_classes == 1:
        return 0
    if n_classes * n_columns <= MAX_SIDE:
        return n_columns
    a_pass = pass_operations(n_rows, n_classes, n_columns, n_problems)
    affordable = thoroughness * AXES_PASSES * a_pass
    whole = n_classes * n_columns
    operations = hessian_operations(n_rows, whole, thoroughness)
    if whole <= LARGEST_SIDE and operations <= affordable:
        return n_columns
    columns = MAX_SIDE // n_classes
    while columns > MIN_AXES:
        side = n_classes * columns
        if hessian_operations(n_rows, side, thoroughness) <= affordable:
            return columns
        columns = (columns - 1) * 7 // 8 + 1
    return 0


def pass_operations(
    n_rows: int, n_classes: int, n_columns: int, n_problems: int = 1
) -> float:
    """Return what a pass takes in operations of products of square matrices."""
    slowness = FULL_SPEED if n_problems == 1 else FULL_SPEED_OF_BATCH
    products = 4 * n_rows * n_problems * n_classes * n_columns
    return slowness * (OVERHEAD + products)


def hessian_rows(side: int) -> int:
    """Return how many rows a Hessian of this side is summed over, at the least."""
    return 8 * side + 1000


def hessian_step(n_rows: int, side: int, thoroughness: int) -> int:
    """Return which rows a Hessian of this side is summed over: every step-th."""
    return max(1, n_rows // (thoroughness * hessian_rows(side)))


def hessian_operations(n_rows: int, side: int, thoroughness: int) -> float:
    """Return the operations of summing a Hessian over its sample and factorising it."""
    sampled = n_rows / hessian_step(n_rows, side, thoroughness)
    return side**2 * (sampled + 2 * side / 3)


@dataclass(frozen=True)
class Curvature:
    """Factorised Hessians of a batch of problems: one for each, or one for all.

    Parameters
    ----------
    blocks : Blocks
    loss : Loss
    parametrisation : Parametrisation
    geometry : Geometry
    penalty : (B, P) array, or (1, P)
        Of the standardised columns; one row where one Hessian serves all problems.
    n_problems : int
        B.
    mean_target : (K,) array
        Frequencies of the classes.
    n_rows : int
        Rows of the data.
    """

    blocks: Blocks
    loss: Loss
    parametrisation: Parametrisation
    geometry: Geometry
    penalty: Array
    n_problems: int
    mean_target: Array
    n_rows: int

    @property
    def _pools(self) -> bool:
        """Whether one Hessian serves all problems."""
        return bool(self.penalty.shape[0] < self.n_problems)

    def spanned(self, thoroughness: int) -> int:
        """Return how many columns the whole Hessian spans: P all, 0 none, else axes."""
        n_classes, n_columns = self.parametrisation.n_rows, self.penalty.shape[1]
        columns = spanned_columns(
            self.n_rows,
            n_classes,
            n_columns,
            self.n_problems if self._pools else 1,
            thoroughness,
        )
        return 0 if columns < n_columns and self.geometry.diagonal else columns

    def cost(self, thoroughness: int) -> float:
        """Return about what `at` costs, in passes."""
        n_rows, n_columns = self.n_rows, self.penalty.shape[1]
        columns = self.spanned(thoroughness)
        side = self.parametrisation.n_rows * columns
        reads = operations = 0.0
        if side:
            sampled = n_rows / hessian_step(n_rows, side, thoroughness)
            reads += sampled
            operations += hessian_operations(n_rows, side, thoroughness)
            if columns < n_columns:
                operations += sampled * 2 * n_columns * columns
        if columns < n_columns:
            sampled = n_rows / self._block_step(thoroughness)
            reads += sampled
            if not self.geometry.diagonal:
                operations += n_columns**2 * (sampled + 2 * n_columns / 3)
        n_classes = self.parametrisation.n_rows
        a_pass = pass_operations(n_rows, n_classes, n_columns, self.n_problems)
        return reads / n_rows + operations * self.penalty.shape[0] / a_pass

    def _block_step(self, thoroughness: int) -> int:
        if self.geometry.diagonal:
            return 1
        return max(1, self.n_rows // (thoroughness * 10 * self.penalty.shape[1]))

    def at_zero(self) -> Shared:
        """Return the Hessian's shape at W = 0: no pass once the Gram is there."""
        gram = self._mean_curvature * self.geometry.standard_gram
        grams = [gram] * self.penalty.shape[0]
        return preconditioner.shared(grams, self.penalty, self.geometry.standard)

    @property
    def _mean_curvature(self) -> float:
        """Trace of dp/dz at the class frequencies, over T^2, as a class sees it."""
        xp = namespace(self.mean_target)
        curvature, total = self.loss.curvature(self.mean_target[None, :, None])
        share = float(xp.sum(curvature - curvature**2 / total)) / self._share
        return max(share, 1e-6) / self.parametrisation.temperature**2

    @property
    def _share(self) -> int:
        """What the trace of dp/dz has to be divided by for a block's curvature.

        It has K - 1 directions; two classes in one row see a quarter of 2 of each.
        """
        return max(self.parametrisation.n_classes - 1, 2)

    def at(
        self, operand: Operand | None, kept: Any, thoroughness: int
    ) -> Preconditioner:
        """Return the best preconditioner of this size, from a sample of rows."""
        columns = self.spanned(thoroughness)
        side = self.parametrisation.n_rows * columns
        step = hessian_step(self.n_rows, side, thoroughness)
        if columns == self.penalty.shape[1]:
            return self.whole(operand, kept, step)
        grams = self._blocks(operand, kept, self._block_step(thoroughness))
        standard = self.geometry.standard
        block = preconditioner.shared(grams, self.penalty, standard)
        if columns == 0:
            return block
        axes = self.geometry.axes(columns - 1)
        hessians = self._hessians(operand, kept, step, axes)
        return preconditioner.two_level(block, grams, hessians, self.penalty, axes)

    def whole(
        self, operand: Operand | None, kept: Any, step: int = 1
    ) -> Preconditioner:
        """Return the whole Hessian from every step-th row."""
        standard = self.geometry.standard
        if self.parametrisation.folded:
            grams = self._blocks(operand, kept, step)
            return preconditioner.shared(grams, self.penalty, standard)
        hessians = self._hessians(operand, kept, step, None)
        return preconditioner.full(hessians, self.penalty, standard)

    def _hessians(
        self, operand: Operand | None, kept: Any, step: int, axes: Array | None
    ) -> Array:
        """Return the Hessians of the data, (B, m, m), of all columns or along axes."""
        n_columns = self.penalty.shape[1] if axes is None else axes.shape[1]
        side = self.parametrisation.n_rows * n_columns
        return self._sum(
            kernels.hessian, operand, kept, step, side, self.geometry.standard, axes
        )

    def _blocks(self, operand: Operand | None, kept: Any, step: int) -> list[Array]:
        """Return the mean of the Hessian's blocks of the classes for each problem."""
        geometry = self.geometry
        side = 1 if geometry.diagonal else self.penalty.shape[1]
        sums = self._sum(
            kernels.mean_block, operand, kept, step, side,
            geometry.centre, geometry.diagonal,
        )  # fmt: skip
        sums /= self._share
        return [geometry.in_standard_units(sums[b, ...]) for b in range(sums.shape[0])]

    def _sum(
        self,
        kernel: Any,
        operand: Operand | None,
        kept: Any,
        step: int,
        side: int,
        *args: Any,
    ) -> Array:
        """Return the kernel's (B, side, side) over every step-th row."""
        (total,), _ = self.blocks.sampled(step, least=side).reduce(
            kernel,
            self.loss,
            operand,
            self._pools,
            *args,
            summand_size=max(side**2, self.penalty.shape[1]),
            kept=kept if step == 1 else None,
            reads=1 / step,
        )
        total /= self.parametrisation.temperature**2
        return total
