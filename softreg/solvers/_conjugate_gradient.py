"""Truncated conjugate gradients on the Newton system of a batch of problems."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

from softreg._arrays import Array, namespace, tensor_float_products
from softreg.solvers._loop import inner
from softreg.solvers._protocols import Point


class NewtonStep(NamedTuple):
    """Direction (B, k, P), the decrease its quadratic model predicts (B,), CG steps."""

    direction: Array
    decrease: Array
    n_steps: int


def newton_direction(
    objective: Any,
    point: Point,
    preconditioner: Any,
    *,
    tol: float,
    max_steps: int,
    tensor_float: bool = False,
    share: float = 1.0,
) -> NewtonStep:
    """Minimise the quadratic model of each problem until a step gains little.

    The rule is LIBLINEAR's since 2.40 (Galli & Lin 2021, truncation by the model's
    decrease): stop after step j once `j (q_j - q_{j-1}) <= tol q_j`. With
    `tensor_float` the Hessian products, and nothing else, are rougher on a GPU.

    The model's Hessian is `share` of the objective's and, for the rest, what the
    preconditioner is the inverse of.
    """
    xp = namespace(point.coef)
    rough: Any = tensor_float_products if tensor_float else nullcontext
    residual = -point.gradient
    search = preconditioner.solve(residual)
    # What the preconditioner makes the search direction of.
    unsolved = residual + 0.0 if share < 1 else residual
    energy = inner(residual, search)
    direction = xp.zeros_like(residual)
    decrease = xp.zeros_like(energy)
    active = energy > 0
    n_steps = 0
    while n_steps < max_steps and bool(xp.any(active)):
        n_steps += 1
        with rough(point.coef):
            product = objective.hessian_product(point, search)
        if share < 1:
            product = share * product + (1 - share) * unsolved
        curvature = inner(search, product)
        # Curvature is positive but for rounding; there the model is exhausted.
        active = active & (curvature > 0)
        length = _quotient(energy, curvature, active)
        direction += length[:, None, None] * search
        product *= length[:, None, None]
        residual -= product
        gain = length * energy / 2
        decrease = decrease + gain
        active = active & (n_steps * gain > tol * decrease)
        solved = preconditioner.solve(residual)
        new_energy = inner(residual, solved)
        ratio = _quotient(new_energy, energy, active)
        search *= ratio[:, None, None]
        search += solved
        if share < 1:
            unsolved = ratio[:, None, None] * unsolved + residual
        energy = new_energy
        active = active & (energy > 0)
    return NewtonStep(direction, decrease, n_steps)


def _quotient(numerator: Array, denominator: Array, where: Array) -> Array:
    """Return the quotient, 0 elsewhere."""
    xp = namespace(numerator)
    safe = xp.where(where, denominator, xp.ones_like(denominator))
    return xp.where(where, numerator / safe, xp.zeros_like(numerator))
