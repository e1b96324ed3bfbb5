"""What a solver asks, and what it is told: problem first, data instead of closures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from softreg._arrays import Array, like, namespace


class Point(NamedTuple):
    """Where a solver stands: what one evaluation of an objective tells.

    An `Objective` makes it. Of B problems at once, problem first; k is the number of
    classes, or 1 for two, and P that of the columns, the intercept's last.

    Parameters
    ----------
    coef : array of shape (B, k, P)
        Coefficients.
    value : array of shape (B,)
        F there.
    gradient : array of shape (B, k, P)
        Its gradient.
    gap : array of shape (B,)
        Proven bound of `value - minimum`; inf where there is none.
    balanced_gap : array of shape (B,)
        What the bound would be with the intercepts at their optimum.
    rounding : array of shape (B,)
        Rounding of the value, relative to itself.
    kept : list or None, default=None
        What the blocks of rows kept of the evaluation; None: recompute.
    held_out : array of shape (B, 2) or None, default=None
        Accuracy and log-probability of the rows that a fold leaves out.

    See Also
    --------
    Objective : Makes points.
    """

    coef: Array
    value: Array
    gradient: Array
    gap: Array
    balanced_gap: Array
    rounding: Array
    kept: Any = None
    held_out: Array | None = None

    def take(self, members: list[int]) -> Point:
        """Return the point of fewer problems."""
        xp = namespace(self.coef)
        index = like(np.asarray(members), self.coef)
        coef, value, gradient, gap, balanced, rounding = (
            xp.take(a, index, axis=0) for a in self[:6]
        )
        kept = self.kept
        if not isinstance(kept, list):
            kept = None  # what workers keep is of all problems
        else:
            kept = [tuple(xp.take(a, index, axis=0) for a in block) for block in kept]
        held_out = self.held_out
        if held_out is not None:
            held_out = xp.take(held_out, index, axis=0)
        return Point(coef, value, gradient, gap, balanced, rounding, kept, held_out)


class Line(NamedTuple):
    """Values and slopes at some step along a direction.

    Parameters
    ----------
    value : array of shape (B,)
        F there.
    slope : array of shape (B,)
        Its derivative by the step.

    See Also
    --------
    Objective.line : Makes them.
    """

    value: Array
    slope: Array


class Objective(Protocol):
    """What a solver may ask of B regularised mean losses over the same rows.

    It is given to `Solver.start` and `Solver.step`; softreg makes it.

    See Also
    --------
    Solver : Asks.
    Point : What it is told.
    """

    @property
    def convex(self) -> bool:
        """Whether there is one minimum."""

    @property
    def passes(self) -> float:
        """Reads of X so far."""

    @property
    def eps(self) -> float:
        """Rounding unit of the products."""

    @property
    def n_rows(self) -> int:
        """Rows of the data."""

    def evaluate(self, coef: Array, *, keep: bool = False) -> Point:
        """Return value, gradient and gap at coefficients; one pass over X.

        Parameters
        ----------
        coef : array of shape (B, k, P)
            Coefficients.
        keep : bool, default=False
            Whether to keep the rows' scores, where there is room: Hessian products and
            lines from the point then read less.

        Returns
        -------
        point : Point
            The point at coef.
        """

    def slopes(self, point: Point) -> np.ndarray:
        """Return the gradient's largest entry, as it is and for standardised columns.

        Parameters
        ----------
        point : Point
            Where.

        Returns
        -------
        slopes : ndarray of shape (B, 2)
            Both, in absolute value.
        """

    def balance(self, point: Point) -> Point:
        """Return the point after a Newton step in the intercepts alone.

        Parameters
        ----------
        point : Point
            Where to start.

        Returns
        -------
        point : Point
            The better of the two.
        """

    def hessian_product(self, point: Point, direction: Array) -> Array:
        """Return the Hessian at a point times a direction; one pass over X.

        Parameters
        ----------
        point : Point
            Where.
        direction : array of shape (B, k, P)
            The direction.

        Returns
        -------
        product : array of shape (B, k, P)
            The Hessian times it.
        """

    def line(self, point: Point, direction: Array) -> Callable[[Array], Line]:
        """Return the function of step lengths along a direction.

        Parameters
        ----------
        point : Point
            Where the line begins.
        direction : array of shape (B, k, P)
            Where it leads.

        Returns
        -------
        line : callable
            Of step lengths (B,) it returns the `Line` there. It reads no row where the
            point has kept its scores, else each call is a pass.
        """

    def shared_preconditioner(self) -> Any:
        """Return the Hessian's shape at W = 0, one block for every class.

        Returns
        -------
        preconditioner : object
            With `solve(gradient)`, which divides (B, k, P) by it; `whiten` and
            `unwhiten`, by its square root; and `take(members)`.
        """

    def curvature_preconditioner(self, point: Point, thoroughness: int) -> Any:
        """Return an approximate Hessian at a point, factorised, of a sample of rows.

        Parameters
        ----------
        point : Point
            Where.
        thoroughness : int
            How many times the least sample, 1 or more.

        Returns
        -------
        preconditioner : object
            With `solve` and `take`.
        """

    def curvature_cost(self, thoroughness: int) -> float:
        """Return what `curvature_preconditioner` costs.

        Parameters
        ----------
        thoroughness : int
            How many times the least sample.

        Returns
        -------
        passes : float
            As so many passes over X, about.
        """

    def hessian_preconditioner(self, point: Point) -> Any:
        """Return the whole Hessian at a point, factorised.

        Parameters
        ----------
        point : Point
            Where.

        Returns
        -------
        preconditioner : object
            With `solve` and `take`; it takes memory by `(k P)^2`.
        """

    def minibatch_rows(self) -> int:
        """Return how many rows make a minibatch unless a solver says so.

        Returns
        -------
        n_rows : int
            Rows.
        """

    def minibatches(self, seed: Sequence[int], n_rows: int) -> Iterator[Any]:
        """Yield the objectives of shuffled minibatches.

        Parameters
        ----------
        seed : sequence of int
            Of the order of the rows.
        n_rows : int
            About how many rows each has.

        Yields
        ------
        objective : Objective
            Of some rows; the mean of all is the whole.
        """

    def take(self, members: list[int]) -> Objective:
        """Return the same rows with fewer problems.

        Parameters
        ----------
        members : list of int
            Which problems.

        Returns
        -------
        objective : Objective
            Of these.
        """

    def in_double(self) -> Objective | None:
        """Return the objective with float64 products.

        Returns
        -------
        objective : Objective or None
            None where it has them.
        """
