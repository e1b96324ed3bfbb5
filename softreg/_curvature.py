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
from softreg._blocks import LocalBlocks
from softreg._design import Operand, Parametrisation
from softreg._geometry import Geometry
from softreg._losses import Loss
from softreg._preconditioner import Preconditioner, Shared

# The side of the Hessian that is factorised to precondition with, whole or on axes.
MAX_SIDE = 1000
MIN_AXES = 4
# What the first Hessian on axes may cost, in passes.
AXES_PASSES = 3.0
# How much faster a product of square matrices runs than one with few columns.
FULL_SPEED = 3.0
# What a pass over few rows costs besides its products, in operations.
OVERHEAD = 1e6


def n_axes(n_rows: int, n_classes: int, n_columns: int) -> int:
    """Return how many axes of the data the coarse Hessian spans; 0 for none.

    `n_classes` counts rows of coefficients: one row's Hessian is its one block. As many
    axes as fit, in size and in time (benchmarks/preconditioners.py).
    """
    if n_classes == 1 or n_classes * n_columns <= MAX_SIDE:
        return 0
    axes = min(MAX_SIDE // n_classes, n_columns) - 1
    a_pass = pass_operations(n_rows, n_classes, n_columns)
    while axes >= MIN_AXES:
        side = n_classes * (axes + 1)
        if hessian_operations(n_rows, side, 1) <= AXES_PASSES * a_pass:
            return axes
        axes = axes * 7 // 8
    return 0


def pass_operations(n_rows: int, n_classes: int, n_columns: int) -> float:
    """Return what a pass takes in operations of products of square matrices."""
    return FULL_SPEED * (OVERHEAD + 4 * n_rows * n_classes * n_columns)


def hessian_step(n_rows: int, side: int, thoroughness: int) -> int:
    """Return which rows a Hessian of this side is summed over: every step-th."""
    return max(1, n_rows // (thoroughness * (8 * side + 1000)))


def hessian_operations(n_rows: int, side: int, thoroughness: int) -> float:
    """Return the operations of summing a Hessian over its sample and factorising it."""
    sampled = n_rows / hessian_step(n_rows, side, thoroughness)
    return side**2 * (sampled + 2 * side / 3)


@dataclass(frozen=True)
class Curvature:
    """Factorised Hessians of a batch of problems.

    Parameters
    ----------
    blocks : LocalBlocks
    loss : Loss
    parametrisation : Parametrisation
    geometry : Geometry
    penalty : (B, P) array
        Of the standardised columns.
    mean_target : (K,) array
        Frequencies of the classes.
    n_rows : int
        Rows of the data.
    """

    blocks: LocalBlocks
    loss: Loss
    parametrisation: Parametrisation
    geometry: Geometry
    penalty: Array
    mean_target: Array
    n_rows: int

    @property
    def structure(self) -> str:
        """What `at` returns: "full", "axes" or "shared"."""
        n_rows = self.parametrisation.n_rows
        if n_rows > 1 and n_rows * self.penalty.shape[1] <= MAX_SIDE:
            return "full"
        return "axes" if self.geometry.n_axes else "shared"

    @property
    def _side(self) -> int:
        """Return the side of the Hessian that is factorised besides a shared block."""
        columns = {
            "full": self.penalty.shape[1],
            "axes": self.geometry.n_axes + 1,
            "shared": 0,
        }
        return self.parametrisation.n_rows * columns[self.structure]

    def cost(self, thoroughness: int) -> float:
        """Return about what `at` costs, in passes."""
        n_rows, n_columns = self.n_rows, self.penalty.shape[1]
        reads = operations = 0.0
        if self._side:
            sampled = n_rows / hessian_step(n_rows, self._side, thoroughness)
            reads += sampled
            operations += hessian_operations(n_rows, self._side, thoroughness)
            operations += sampled * 2 * n_columns * self.geometry.n_axes
        if self.structure != "full":
            sampled = n_rows / self._block_step(thoroughness)
            reads += sampled
            if not self.geometry.diagonal:
                operations += n_columns**2 * (sampled + 2 * n_columns / 3)
        a_pass = pass_operations(n_rows, self.parametrisation.n_rows, n_columns)
        return reads / n_rows + operations / a_pass

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

    def at(self, operand: Operand, kept: Any, thoroughness: int) -> Preconditioner:
        """Return the best preconditioner of this size, from a sample of rows."""
        if self.structure == "full":
            step = hessian_step(self.n_rows, self._side, thoroughness)
            return self.whole(operand, kept, step)
        grams = self._blocks(operand, kept, self._block_step(thoroughness))
        standard = self.geometry.standard
        block = preconditioner.shared(grams, self.penalty, standard)
        if self.structure == "shared":
            return block
        axes = self.geometry.axes
        step = hessian_step(self.n_rows, self._side, thoroughness)
        hessians = self._hessians(operand, kept, step, axes)
        return preconditioner.two_level(block, grams, hessians, self.penalty, axes)

    def whole(self, operand: Operand, kept: Any, step: int = 1) -> Preconditioner:
        """Return the whole Hessian from every step-th row."""
        standard = self.geometry.standard
        if self.parametrisation.folded:
            grams = self._blocks(operand, kept, step)
            return preconditioner.shared(grams, self.penalty, standard)
        hessians = self._hessians(operand, kept, step, None)
        return preconditioner.full(hessians, self.penalty, standard)

    def _hessians(
        self, operand: Operand, kept: Any, step: int, axes: Array | None
    ) -> Array:
        """Return the Hessians of the data, (B, m, m), of all columns or along axes."""
        n_columns = self.penalty.shape[1] if axes is None else axes.shape[1]
        side = self.parametrisation.n_rows * n_columns
        return self._sum(
            kernels.hessian, operand, kept, step, side, self.geometry.standard, axes
        )

    def _blocks(self, operand: Operand, kept: Any, step: int) -> list[Array]:
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
        self, kernel: Any, operand: Operand, kept: Any, step: int, side: int, *args: Any
    ) -> Array:
        """Return the kernel's (B, side, side) over every step-th row."""
        (total,), _ = self.blocks.sampled(step, least=side).reduce(
            kernel,
            self.loss,
            operand,
            *args,
            summand_size=max(side**2, self.penalty.shape[1]),
            kept=kept if step == 1 else None,
            reads=1 / step,
        )
        total /= self.parametrisation.temperature**2
        return total
