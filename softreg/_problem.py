"""What a fit needs to know of its data, and the exact reductions of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from softreg._arrays import (
    Array,
    Described,
    cast,
    contiguous,
    eigenvectors,
    is_on_gpu,
    is_sparse,
    namespace,
    place_of,
    zeros,
)
from softreg._blocks import (
    Block,
    Blocks,
    Engine,
    HeldOut,
    LocalBlocks,
    block_rows,
    even_cuts,
    gpu_block_rows,
    sparse_block_rows,
)
from softreg._certificate import Moments
from softreg._curvature import FULL_SPEED
from softreg._design import Parametrisation, StreamedDesign, design, rows_of
from softreg._geometry import Geometry, geometry_of, moments_of
from softreg._losses import Loss
from softreg._objective import Objective
from softreg._parts import Layout, Parted, RowData
from softreg._sources import RowSource
from softreg._streams import RowStream
from softreg._targets import Targets

MAX_GRAM_COLUMNS = 6000
SPARSE_GRAM_PASSES = 10
# Rows of a source are read whole where they are to be reduced and take no more.
WHOLE_BYTES = 1 << 27


@dataclass(frozen=True)
class Problem:
    """Rows, targets and weights as blocks, with the model they are fitted by.

    Parameters
    ----------
    X : array, CSR matrix or `Parted` (n, d)
    targets : Targets
        Of all rows.
    weight : (W, n) array
        Each row of it sums to one.
    dtype : dtype
        Of the products with X.
    loss : Loss
    parametrisation : Parametrisation
    intercept : {"none", "free", "penalised"}
    engine : Engine
    held_out : HeldOut or None
        Of all rows, where every evaluation is to score them.
    """

    X: Any
    targets: Targets
    weight: Array
    dtype: Any
    loss: Loss
    parametrisation: Parametrisation
    intercept: str
    engine: Engine
    held_out: HeldOut | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape (k, P) of the coefficients of one problem."""
        n_columns = self.X.shape[1] + (self.intercept != "none")
        return self.parametrisation.n_rows, n_columns

    @cached_property
    def blocks(self) -> Blocks:
        """The rows in pieces."""
        if isinstance(self.X, Parted):
            rows = RowData(self.targets, self.weight, self.held_out)
            layout = Layout(self.block_rows, self.dtype, self.intercept != "none")
            return self.X.blocks(rows, layout, self.engine)
        cuts = even_cuts(self.X.shape[0], self.block_rows)
        parts = [rows_of(self.X, *cut) for cut in cuts]
        stream = RowStream(parts, self.weight) if self.streams else None
        blocks = tuple(
            self._block(index, slice(*cut), parts[index], stream)
            for index, cut in enumerate(cuts)
        )
        return LocalBlocks(blocks, self.engine)

    @property
    def block_rows(self) -> int:
        """Return how many rows make a block."""
        n_rows, n_features = self.X.shape
        n_classes = self.parametrisation.n_classes
        width = namespace(self.weight).finfo(self.dtype).bits // 8
        if is_on_gpu(self.weight):
            n_scores = n_classes * self.weight.shape[0]
            stored = 2 * self.X.nnz // n_rows if is_sparse(self.X) else n_features
            return gpu_block_rows(stored, n_scores, width)
        if is_sparse(self.X):
            return sparse_block_rows(n_rows, n_features, n_classes, self.X.nnz)
        return block_rows(n_features, n_classes, width)

    @property
    def whole(self) -> bool:
        """Whether X is one matrix, in the place that is computed in."""
        return not isinstance(self.X, Described) and not self.streams

    @property
    def streams(self) -> bool:
        """Whether X lies elsewhere than it is computed with."""
        return place_of(self.X) != place_of(self.weight)

    def _block(
        self, index: int, rows: slice, X: Any, stream: RowStream | None
    ) -> Block:
        has_intercept = self.intercept != "none"
        return Block(
            design(X, self.dtype, has_intercept=has_intercept)
            if stream is None
            else StreamedDesign(stream, index, self.dtype, has_intercept),
            self.targets.of_rows(rows),
            self.weight[:, rows],
            None if self.held_out is None else self.held_out.of_rows(rows),
        )

    @cached_property
    def moments(self) -> Moments:
        """Constants of the data."""
        n_classes = self.parametrisation.n_classes
        return moments_of(self.blocks, n_classes, self.X.shape[1])

    @cached_property
    def geometry(self) -> Geometry:
        """What is known of the columns, for every penalty."""
        mean_x = self.moments.pooled().mean_x[0, :]
        diagonal = not gram_pays(self.X, self.shape[0])
        return geometry_of(self.blocks, mean_x, self.intercept, diagonal=diagonal)

    def objective(self, l2: Array, geometry: Geometry | None = None) -> Objective:
        """Return the objective of a batch with these penalties (B,).

        `geometry` is that of more rows than these, where it is known.
        """
        return Objective(
            self.blocks,
            self.loss,
            self.parametrisation,
            self.moments,
            l2,
            self.X.shape[0],
            self.intercept,
            self.geometry if geometry is None else geometry,
        )

    def start(self, n_problems: int) -> Array:
        """Return W = 0 with a free intercept that gives the class frequencies."""
        coef = zeros((n_problems, *self.shape), self.weight)
        if self.intercept != "free":
            return coef
        xp = namespace(self.weight)
        scores = self.loss.scores(self.moments.mean_target)
        bias = self.parametrisation.temperature * scores
        bias = bias - xp.mean(bias, axis=1, keepdims=True)
        if self.parametrisation.folded:
            bias = bias[:, 1:] - bias[:, :1]
        bias = xp.broadcast_to(bias[:, :, None], (n_problems, self.shape[0], 1))
        return xp.concat([coef[..., :-1], bias], axis=2)


def gram_pays(X: Any, n_classes: int) -> bool:
    """Return whether the Gram matrix of the columns is in proportion to X.

    On tf-idf of 15000 x 5026, stored in 127000 entries, its 25 million made the fit 11
    times slower than their diagonal (benchmarks/preconditioners.py). A sparse pass is
    short: its Cholesky factor may take as long as so many of them.
    """
    n_rows, n_columns = X.shape
    if n_columns > MAX_GRAM_COLUMNS:
        return False
    if not is_sparse(X):
        return n_columns <= 4 * n_rows
    affordable = SPARSE_GRAM_PASSES * FULL_SPEED * 4 * X.nnz * n_classes
    return n_columns**2 <= 4 * X.nnz and n_columns**3 / 3 <= affordable


def row_space_pays(X: Any) -> bool:
    """Return whether X has more columns than rows and the reduced X is no larger."""
    n_rows, n_features = X.shape
    if n_rows >= n_features:
        return False
    if isinstance(X, RowSource):
        return X.nbytes <= WHOLE_BYTES
    return not is_sparse(X) or n_rows**2 <= 2 * X.nnz


@dataclass(frozen=True)
class RowSpace:
    """The rows in an orthonormal basis of the space they span.

    With `X = L Q'`, `Q` orthonormal, the optimal W has its rows in the span of Q, and
    `||V Q'|| = ||V||`: the problem in L has the same minimum.
    """

    problem: Problem
    original: Problem
    mixing: Array  # (r, n): coef = (V mixing) (X - centre)
    centre: Array  # (d,)

    def lift(self, coef: Array) -> Array:
        """Return coefficients of the original columns."""
        xp, X = namespace(coef), self.original.X
        weights = coef[..., : self.mixing.shape[0]] @ self.mixing
        own = [weights[b, ...] for b in range(weights.shape[0])]
        if is_sparse(X):
            lifted = xp.stack([(X.T @ w.T).T for w in own])
        else:
            lifted = xp.stack([_product(w, X, self.centre) for w in own])
        bias = coef[..., self.mixing.shape[0] :]
        if self.original.intercept == "free":
            bias = bias - lifted @ self.centre[:, None]
        return xp.concat([lifted, bias], axis=-1)


def to_row_space(problem: Problem) -> RowSpace:
    """Return the problem in the row space of X, from the Gram matrix of the rows.

    Where the intercept is free to absorb a shift, dense columns are centred first: a
    common offset would drown all else in the Gram matrix.
    """
    if isinstance(problem.X, RowSource):
        problem = replace(problem, X=np.asarray(problem.X))
    X, xp = problem.X, namespace(problem.weight)
    centre = zeros((X.shape[1],), problem.weight)
    if is_sparse(X):
        # In float64: small integers would wrap, float32 would lose half of the digits.
        precise = X.astype(xp.float64)
        gram = (precise @ precise.T).toarray()
    else:
        if problem.intercept == "free":
            centre = xp.sum(X, axis=0, dtype=xp.float64) / X.shape[0]
        gram = _row_gram(X, centre)
    if not bool(xp.all(xp.isfinite(gram))):
        raise ValueError(
            "X must have rows whose squares are finite, got values so large that they "
            "overflow. Divide the columns down."
        )
    squares, vectors = eigenvectors(gram)
    rounding = gram.shape[0] * float(xp.finfo(xp.float64).eps)
    kept = squares > xp.max(squares) * rounding
    # They ascend.
    rank = max(1, int(xp.sum(cast(kept, xp.int64))))
    squares, vectors = squares[-rank:], vectors[:, -rank:]
    root = xp.sqrt(xp.clip(squares, float(xp.finfo(xp.float64).smallest_normal), None))
    reduced = contiguous(vectors * root)
    mixing = (vectors / root).T
    small = replace(problem, X=reduced, dtype=xp.float64)
    return RowSpace(small, problem, mixing, centre)


def _row_gram(X: Array, centre: Array) -> Array:
    """Return the Gram matrix of the centred rows."""
    gram = zeros((X.shape[0], X.shape[0]), centre)
    for chunk in _centred_chunks(X, centre):
        gram += chunk @ chunk.T
    return gram


def _product(left: Array, X: Array, centre: Array) -> Array:
    """Return left @ (X - centre)."""
    parts = [left @ chunk for chunk in _centred_chunks(X, centre)]
    return namespace(left).concat(parts, axis=1)


def _centred_chunks(X: Array, centre: Array) -> Iterator[Array]:
    """Yield X - centre in float64 by chunks of columns: X is never cast whole."""
    n_rows, n_columns = X.shape
    width = max(64, (1 << 19) // n_rows)
    for start in range(0, n_columns, width):
        columns = slice(start, min(start + width, n_columns))
        yield cast(X[:, columns], centre.dtype) - centre[columns]
