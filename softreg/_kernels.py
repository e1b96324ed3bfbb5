"""Kernels: pure functions of one block, which `LocalBlocks.reduce` sums.

Each is `kernel(block, kept, *args) -> (summands, kept)`; scores are class-major,
`(B, K, rows)`.
"""

from __future__ import annotations

from typing import Any

from softreg import _fused as fused
from softreg._arrays import (
    Array,
    cast,
    contiguous,
    identity,
    inner_over_classes,
    is_cupy,
    namespace,
    one_hot,
    product,
)
from softreg._blocks import Block, Sums
from softreg._design import Design, Operand
from softreg._losses import Loss, Softmax, TopK, clipped, shift_to_top, split_top
from softreg._preconditioner import Standardisation
from softreg._targets import HardTargets


def _scores(block: Block, design: Design, operand: Operand) -> Array:
    return shift_to_top(block.targets.add_margin(design.forward(operand)))


def weighted(block: Block, values: Array) -> Array:
    """Multiply class-major values by the rows' weights, in place."""
    values *= cast(block.weight, values.dtype)[:, None, :]
    return values


def row_loss(block: Block, potential: Array, shifted: Array) -> Array:
    """Return the weighted sum of the losses, (B,)."""
    losses = potential - block.targets.inner(shifted)
    return namespace(losses).sum(block.weight * losses, axis=1)


def row_lengths(block: Block, kept: Any) -> tuple[Sums, Any]:
    """Keep the norm of each row."""
    return (), block.design.loaded().lengths()


def row_losses(
    block: Block, kept: Any, loss: Loss, operand: Operand
) -> tuple[Sums, Any]:
    """Keep the loss of each row, (B, rows)."""
    shifted = _scores(block, block.design.loaded(), operand)
    potential, _ = loss.potential_and_proba(shifted)
    return (), potential - block.targets.inner(shifted)


def evaluate(
    block: Block, kept: Any, loss: Loss, operand: Operand, keep: bool, potentials: bool
) -> tuple[Sums, Any]:
    """Return the loss, its gradient in the scores through X, and what else is asked.

    That is `potentials`, the sums over the rows of `w p_k f(u)` (B, K), and what
    held-out rows score.
    """
    xp = namespace(block.weight)
    design = block.design.loaded()
    scores = design.forward(operand)
    held_out = held_out_scores(block, loss, scores)
    codes = _fused_codes(block, loss)
    if codes is not None:
        losses, residual, reached, shifted = fused.residual(
            scores, codes, block.weight, potentials
        )
        own = (shifted,) if keep else None
        value = xp.sum(losses, axis=1)
        return (value, design.adjoint(residual), *reached, *held_out), own
    top, shifted = split_top(block.targets.add_margin(scores))
    potential, proba = loss.potential_and_proba(shifted)
    value = row_loss(block, potential, shifted)
    reached = (_by_class(block, proba, potential + top),) if potentials else ()
    residual = xp.asarray(proba, copy=True) if keep else proba
    residual = weighted(block, block.targets.subtract_from(residual))
    state = (shifted, proba) if keep else None
    return (value, design.adjoint(residual), *reached, *held_out), state


def _by_class(block: Block, proba: Array, values: Array) -> Array:
    """Return the weighted sums over the rows of `p_k` times a value, (B, K)."""
    values = cast(block.weight, values.dtype) * values
    both = zip(_items(proba), _items(values), strict=True)
    xp = namespace(proba)
    return cast(xp.stack([product(own, row) for own, row in both]), xp.float64)


def _fused_codes(block: Block, loss: Loss) -> Array | None:
    """Return the rows' classes where one kernel does for a block: softmax, on CuPy."""
    targets = block.targets
    if not is_cupy(block.weight) or not isinstance(loss, Softmax):
        return None
    if not isinstance(targets, HardTargets):
        return None
    return targets.codes if targets.smoothing == 0 and targets.cost is None else None


def held_out_scores(block: Block, loss: Loss, scores: Array) -> Sums:
    """Return accuracy and mean log-probability of held-out rows, (B, 2), or nothing."""
    if block.held_out is None:
        return ()
    xp = namespace(scores)
    weight, floor = block.held_out
    plain, both = block.targets.plain(), []
    for own, of_rows in zip(_items(weight), _items(scores), strict=True):
        rows = xp.nonzero(own)[0]
        targets, chosen = plain.at(rows), xp.take(of_rows, rows, axis=1)
        best = cast(one_hot(xp.argmax(chosen, axis=0), chosen.shape[0]), xp.float64)
        log_proba = loss.log_proba(shift_to_top(chosen[None, ...]))
        log_proba = clipped(log_proba, floor)
        held, hits = xp.take(own, rows), targets.inner(best[None, ...])[0, :]
        log_proba = targets.inner(log_proba)[0, :]
        both.append(xp.stack([xp.sum(held * hits), xp.sum(held * log_proba)]))
    return (xp.stack(both),)


def undecided(
    block: Block, kept: Any, loss: Loss, operand: Operand
) -> tuple[Sums, Any]:
    """Count the rows whose class has at most half of the probability, (B,)."""
    xp = namespace(block.weight)
    shifted = _scores(block, block.design.loaded(), operand)
    proba = loss.proba(shifted)
    target = block.targets.dense(xp.float64)
    decided = xp.any((target == 1) & (proba > 0.5), axis=1)
    counted = (block.weight > 0) & ~decided
    return (xp.sum(cast(counted, xp.float64), axis=1),), None


def _shifted(block: Block, design: Design, kept: Any, operand: Operand | None) -> Array:
    """Return scores as kept, or else of the operand."""
    if kept is not None:
        return kept[0]
    assert operand is not None
    return _scores(block, design, operand)


def _state(
    block: Block, design: Design, kept: Any, loss: Loss, operand: Operand | None
) -> tuple[Array, Array]:
    """Return scores and probabilities as kept, or else of the operand.

    Fused kernels keep the scores alone.
    """
    if kept is not None and len(kept) == 2:
        return kept
    shifted = _shifted(block, design, kept, operand)
    return shifted, loss.proba(shifted)


def hessian_product(
    block: Block, kept: Any, loss: Loss, operand: Operand | None, along: Operand
) -> tuple[Sums, Any]:
    design = block.design.loaded()
    if _fused_codes(block, loss) is not None:
        shifted = _shifted(block, design, kept, operand)
        scores = fused.curved(shifted, design.forward(along), block.weight)
        return (design.adjoint(scores),), None
    shifted, proba = _state(block, design, kept, loss, operand)
    scores = loss.hessian_product(shifted, proba, design.forward(along))
    return (design.adjoint(weighted(block, scores)),), None


def slack(block: Block, kept: Any, loss: TopK, operand: Operand) -> tuple[Sums, Any]:
    """Return how far a smoothed loss is above its own, and its gradient's eps."""
    shifted = _scores(block, block.design.loaded(), operand)
    above, eps = loss.slack(shifted)
    xp = namespace(above)
    return (
        xp.sum(block.weight * above, axis=1),
        xp.sum(block.weight * eps, axis=1),
    ), None


def _way(block: Block, design: Design, along: Operand) -> Array:
    """Return the direction's scores less what they are at the targets.

    A row's common shift changes nothing, and without it the slope is `p . way`: at easy
    rows `(p - y) . way` would be a difference of nearly equal numbers.
    """
    way = design.forward(along)
    way -= block.targets.inner(way)[:, None, :]
    return way


def line_start(block: Block, kept: Any, along: Operand) -> tuple[Sums, Any]:
    return (), (kept[0], _way(block, block.design.loaded(), along))


def line(
    block: Block,
    kept: Any,
    loss: Loss,
    operand: Operand | None,
    along: Operand,
    steps: Array,
) -> tuple[Sums, Any]:
    xp = namespace(block.weight)
    if kept is None:
        assert operand is not None
        design = block.design.loaded()
        kept = _scores(block, design, operand), _way(block, design, along)
    scores, way = kept
    codes = _fused_codes(block, loss)
    if codes is not None:
        both = fused.line(scores, way, steps, codes, block.weight)
        return tuple(xp.sum(sums, axis=1) for sums in both), None
    moved = cast(steps, way.dtype)[:, None, None] * way
    moved += scores
    shifted = shift_to_top(moved)
    potential, proba = loss.potential_and_proba(shifted)
    value = row_loss(block, potential, shifted)
    slopes = inner_over_classes(proba, way)
    return (value, xp.sum(block.weight * slopes, axis=1)), None


def class_curvature(
    block: Block, kept: Any, loss: Loss, operand: Operand
) -> tuple[Sums, Any]:
    """Return mean dp/dz, (B, K, K)."""
    xp = namespace(block.weight)
    design = block.design.loaded()
    curvature, total = loss.curvature(_state(block, design, kept, loss, operand)[1])
    scaled = weighted(block, xp.asarray(curvature, copy=True))
    diagonal = xp.sum(scaled, axis=2)
    scaled /= total
    # One by one: CuPy copies the transposed factor of a batch.
    pairs = zip(_items(scaled), _items(curvature), strict=True)
    outer = xp.stack([product(one, other.T) for one, other in pairs])
    eye = identity(curvature.shape[1], curvature)
    return (cast(eye * diagonal[:, None, :] - outer, xp.float64),), None


def gram(block: Block, kept: Any, centre: Array) -> tuple[Sums, Any]:
    return (block.design.loaded().gram(block.pooled().weight[0, :], centre),), None


def squares(block: Block, kept: Any, centre: Array) -> tuple[Sums, Any]:
    return (block.design.loaded().squares(block.pooled().weight[0, :], centre),), None


def mean_block(
    block: Block,
    kept: Any,
    loss: Loss,
    operand: Operand | None,
    pool: bool,
    centre: Array,
    diagonal: bool,
) -> tuple[Sums, Any]:
    """Return `sum_i w_i tr(J_i) x_i x_i'` of centred rows, (B, P, P) or diagonals.

    With `pool` their mean over the problems, (1, P, P).
    """
    xp = namespace(block.weight)
    design = block.design.loaded()
    curvature, total = loss.curvature(_state(block, design, kept, loss, operand)[1])
    sizes = xp.sum(curvature * (1 - curvature / total), axis=1)
    weights = block.weight * cast(sizes, xp.float64)
    if pool:
        weights = xp.mean(weights, axis=0, keepdims=True)
    form = design.squares if diagonal else design.gram
    return (xp.stack([form(own, centre) for own in _items(weights)]),), None


def _items(array: Array) -> list[Array]:
    return [array[b, ...] for b in range(array.shape[0])]


def _own_weight(block: Block, problem: int, dtype: Any) -> Array:
    """Return the row weights of one problem of a batch."""
    return cast(block.weight[min(problem, block.weight.shape[0] - 1), :], dtype)


def hessian(
    block: Block,
    kept: Any,
    loss: Loss,
    operand: Operand | None,
    pool: bool,
    standard: Standardisation,
    axes: Array | None,
) -> tuple[Sums, Any]:
    """Return the Hessian of the mean loss, (B, K P, K P), or along axes (P, r) of it.

    `blockdiag(X' diag(s_k) X) - Z'Z` with `Z_i = s_i (x) x_i / sqrt(sum s_i)`: one
    symmetric product in place of one for each pair of classes. With `pool` it is one
    Hessian for all problems, (1, K P, K P), at each row's mean curvature.
    """
    xp = namespace(block.weight)
    design = block.design.loaded()
    curvature, total = loss.curvature(_state(block, design, kept, loss, operand)[1])
    if pool:
        curvature, total = _pooled(block, curvature)
        block = block.pooled()
    inverse = 1 / (total + 0 * curvature[:, :1, :])
    rows = design.standardised(standard.centre, standard.scale)
    if axes is not None:
        rows = product(rows, cast(axes, rows.dtype))
    columns = contiguous(rows.T)
    n_classes, n_columns = curvature.shape[1], rows.shape[1]
    hessians = []
    for b in range(curvature.shape[0]):
        own = _own_weight(block, b, curvature.dtype)
        outer = _spread(curvature[b, :, :] * xp.sqrt(own * inverse[b, ...]), columns)
        hessian = product(outer, outer.T)
        # In place, and one after the other: these are the largest arrays of a fit.
        hessian *= -1
        del outer
        diagonal = product(_spread(curvature[b, :, :] * own, columns), rows)
        for k in range(n_classes):
            span = slice(k * n_columns, (k + 1) * n_columns)
            hessian[span, span] += diagonal[span, :]
        hessians.append(cast(hessian, xp.float64))
    return (hessians[0][None, ...] if len(hessians) == 1 else xp.stack(hessians),), None


def _pooled(block: Block, curvature: Array) -> tuple[Array, Array]:
    """Return the mean curvature (1, K, rows) of each row, and its sum over classes.

    The mean is over the problems that the row counts in: one that leaves it out may
    see a steep loss there. That of the Jacobians `diag(s) - s s' / sum(s)` is at most
    the Jacobian of the mean, and hardly less while the problems are alike.
    """
    xp = namespace(block.weight)
    weight = cast(block.weight, curvature.dtype)[:, None, :]
    mass = xp.mean(weight, axis=0, keepdims=True)
    safe = xp.where(mass > 0, mass, xp.ones_like(mass))
    mean = xp.mean(curvature * weight, axis=0, keepdims=True) / safe
    # Rows that no problem counts have weight 0 and must not be divided by 0.
    total = xp.sum(mean, axis=1, keepdims=True)
    return mean, xp.where(mass > 0, total, xp.ones_like(total))


def _spread(weights: Array, columns: Array) -> Array:
    """Return `weights_i (x) x_i` of each row, (K P, rows)."""
    xp = namespace(columns)
    spread = weights[:, None, :] * columns[None, :, :]
    return xp.reshape(spread, (-1, columns.shape[1]))


def score_products(
    block: Block, kept: Any, loss: Loss, operand: Operand, standard: Standardisation
) -> tuple[Sums, Any]:
    """Return `sum_i w_i^2 g_i g_i'`, g_i a row's own gradient, (B, K P, K P)."""
    xp = namespace(block.weight)
    design = block.design.loaded()
    _, proba = _state(block, design, kept, loss, operand)
    residual = block.targets.subtract_from(xp.asarray(proba, copy=True))
    columns = contiguous(design.standardised(standard.centre, standard.scale).T)
    products = []
    for own in _items(weighted(block, residual)):
        spread = _spread(own, columns)
        products.append(cast(product(spread, spread.T), xp.float64))
    return (xp.stack(products),), None


def moments(block: Block, kept: Any) -> tuple[Sums, Any]:
    xp = namespace(block.weight)
    target = block.targets.dense(xp.float64)
    weight = block.weight
    stacked = xp.concat([target, xp.ones_like(target[:1, :])], axis=0)
    sums = block.design.loaded().adjoint(stacked[None, :, :] * weight[:, None, :])
    mean_target = weight @ target.T
    margin = block.targets.margin(xp.float64)
    mean_margin = xp.zeros_like(mean_target)
    if margin is not None:
        mean_margin = weight @ margin.T
    return (sums[:, -1, :], mean_target, sums[:, :-1, :], mean_margin), None
