"""From the classifiers at the nodes of a tree to the probabilities of its classes.

Log-probabilities are class-major, `(arity, rows)`, and are added along a path: a
product of many probabilities would underflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse

from softreg._arrays import Array, is_foreign, namespace, rows_at, rows_in_order
from softreg._prediction import LinearSoftmaxMixin
from softreg._scores import LinearMap
from softreg._sources import RowSource
from softreg._trees import Tree

PROBABILITIES = ("predict_log_proba", "predict_proba")
# Entries of log-probabilities that are formed at a time, and of those that wait.
BLOCK_ENTRIES = 1 << 20
WAITING_ENTRIES = 1 << 22
# A tree is wide with so many classes a node.
WIDE = 4


class Nodes(Protocol):
    """The classifiers of a tree, parents first."""

    def of(self, X: Any) -> Nodes:
        """Return the nodes in the dtype for rows of X."""

    def block_rows(self, X: Any) -> int:
        """Return how many rows to take at a time."""

    def every(self, rows: Any) -> list[Array]:
        """Return the log-probabilities of the children of every node."""

    def one(self, index: int, rows: Any) -> Array:
        """Return the log-probabilities of the children of one node."""


class AnyNodes(NamedTuple):
    """Classifiers that are asked one by one."""

    estimators: list[Any]

    def of(self, X: Any) -> AnyNodes:
        """Return them as they are: each has its own dtype."""
        return self

    def block_rows(self, X: Any) -> int:
        """Return the rows that keep the probabilities in proportion."""
        n_outputs = sum(e.classes_.shape[0] for e in self.estimators)
        return max(1, BLOCK_ENTRIES // n_outputs)

    def every(self, rows: Any) -> list[Array]:
        """Ask each."""
        return [self.one(index, rows) for index in range(len(self.estimators))]

    def one(self, index: int, rows: Any) -> Array:
        """Ask one."""
        estimator = self.estimators[index]
        with np.errstate(divide="ignore"):  # the logarithm of a probability of 0
            if hasattr(estimator, "predict_log_proba"):
                return estimator.predict_log_proba(rows).T
            return np.log(estimator.predict_proba(rows)).T


@dataclass(frozen=True)
class LinearNodes:
    """Linear models of this package: the scores of all nodes are one product."""

    estimators: list[LinearSoftmaxMixin]
    maps: list[LinearMap]

    def of(self, X: Any) -> LinearNodes:
        """Cast the coefficients."""
        return replace(self, maps=[linear.of(X) for linear in self.maps])

    @cached_property
    def stacked(self) -> LinearMap:
        """The coefficients of all nodes in one array."""
        xp = namespace(self.maps[0].intercept)
        return LinearMap(
            xp.concat([_dense(linear.coef) for linear in self.maps]),
            xp.concat([linear.intercept for linear in self.maps]),
        )

    def block_rows(self, X: Any) -> int:
        """Return the rows that suit the product."""
        return self.stacked.block_rows(X)

    def every(self, rows: Any) -> list[Array]:
        """Form all scores, then the log-probabilities at each node."""
        scores = self.stacked.scores(rows)
        ends = accumulate((m.intercept.shape[0] for m in self.maps), initial=0)
        return [
            estimator.log_proba_of(scores[start:stop, :])
            for estimator, (start, stop) in zip(
                self.estimators, pairwise(ends), strict=True
            )
        ]

    def one(self, index: int, rows: Any) -> Array:
        """Form the scores of one node."""
        return self.estimators[index].log_proba_of(self.maps[index].scores(rows))


def _dense(coef: Any) -> Array:
    return coef.toarray() if scipy.sparse.issparse(coef) else coef


def nodes_of(estimators: list[Any]) -> Nodes:
    """Return the classifiers of a tree as its nodes."""
    if not all(isinstance(e, LinearSoftmaxMixin) for e in estimators):
        return AnyNodes(estimators)
    intercepts = [e.intercept_ for e in estimators]
    maps = [
        LinearMap(e.coef_, own if is_foreign(own) else np.asarray(own))
        for e, own in zip(estimators, intercepts, strict=True)
    ]
    return LinearNodes(estimators, maps)


def all_leaves(tree: Tree, nodes: Nodes, rows: Any) -> Array:
    """Return the log-probabilities of all classes, (rows, K)."""
    return rows_in_order(_leaves(tree, nodes.every(rows)), len(tree.order)).T


def _leaves(tree: Tree, every: list[Array]) -> Iterator[tuple[np.ndarray, Array]]:
    """Yield the classes right below each node, and their log-probabilities."""
    reached: dict[int, Any] = {0: 0.0}
    for index, (node, log_proba) in enumerate(zip(tree.nodes, every, strict=True)):
        total = log_proba + reached.pop(index)
        for child, place in zip(node.nodes.tolist(), node.inner.tolist(), strict=True):
            reached[child] = total[place, :]
        if len(node.leaves):
            leaves = rows_at(total, node.leaves) if len(node.inner) else total
            yield tree.order[node.positions], leaves


class Best:
    """The best leaves of some rows so far, and the nodes they have yet to open."""

    def __init__(self, tree: Tree, n_rows: int, k: int) -> None:
        self.tree = tree
        self.log_proba = np.full((n_rows, k), -np.inf)
        self.codes = np.full((n_rows, k), len(tree.order))
        self.waiting = np.full((n_rows, len(tree.nodes)), -np.inf)
        self.waiting[:, 0] = 0.0

    def next_nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that may still find better, and the node each has to open.

        A path only loses probability: what waits below the worst of the best is
        hopeless.
        """
        nodes = np.argmax(self.waiting, axis=1)
        bound = np.take_along_axis(self.waiting, nodes[:, None], axis=1)[:, 0]
        hopeful = np.flatnonzero((bound >= self.log_proba[:, -1]) & (bound > -np.inf))
        return hopeful, nodes[hopeful]

    def open(self, index: int, rows: np.ndarray, log_proba: np.ndarray) -> None:
        """Take note of what a node says of some rows, (arity, rows)."""
        node = self.tree.nodes[index]
        total = log_proba + self.waiting[rows, index]
        self.waiting[rows, index] = -np.inf
        if len(node.inner):
            self.waiting[rows[:, None], node.nodes] = total[node.inner].T
        if len(node.leaves):
            self._merge(self.tree.order[node.positions], rows, total[node.leaves].T)

    def _merge(self, own: np.ndarray, rows: np.ndarray, log_proba: np.ndarray) -> None:
        """Put leaves of these codes among the best of some rows."""
        k = self.codes.shape[1]
        better = np.flatnonzero(log_proba.max(axis=1) >= self.log_proba[rows, -1])
        rows, log_proba = rows[better], log_proba[better]
        values = np.concatenate([self.log_proba[rows], log_proba], axis=1)
        own = np.broadcast_to(own, log_proba.shape)
        codes = np.concatenate([self.codes[rows], own], axis=1)
        # Ties go to the class that comes first, as in an argmax.
        order = np.lexsort((codes, -values), axis=1)[:, :k]
        self.log_proba[rows] = np.take_along_axis(values, order, axis=1)
        self.codes[rows] = np.take_along_axis(codes, order, axis=1)

    def fill(self) -> None:
        """Name classes of probability 0 where fewer than k have a positive one."""
        n_classes = len(self.tree.order)
        for row in np.flatnonzero((self.codes == n_classes).any(axis=1)).tolist():
            open_places = self.codes[row] == n_classes
            rest = np.setdiff1d(np.arange(n_classes), self.codes[row])
            self.codes[row, open_places] = rest[: open_places.sum()]


def best_leaves(tree: Tree, nodes: Nodes, X: Any, k: int) -> tuple[Array, Array]:
    """Return the codes and log-probabilities of the k best classes, (rows, k).

    A search has many small products, which pay where a node is wide; in a narrow tree
    all leaves are sooner formed than searched. So they are in another library than
    NumPy: on a GPU each step of a search would wait for the host.
    """
    if WIDE * len(tree.nodes) <= len(tree.order) and not is_foreign(X):
        find, size = _searched, WAITING_ENTRIES // len(tree.nodes)
        if isinstance(X, RowSource):
            size = min(size, nodes.block_rows(X))  # they are read, not viewed
    else:
        find, size = _ranked, nodes.block_rows(X)
    n_rows = X.shape[0]
    cuts = [(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]
    found = [find(tree, nodes, X[start:stop, :], k) for start, stop in cuts]
    codes, log_proba = zip(*found, strict=True)
    xp = namespace(codes[0])
    return xp.concat(codes), xp.concat(log_proba)


def _ranked(tree: Tree, nodes: Nodes, rows: Any, k: int) -> tuple[Array, Array]:
    """Rank all classes; ties go to the class that comes first."""
    log_proba = all_leaves(tree, nodes, rows)
    xp = namespace(log_proba)
    codes = xp.argsort(-log_proba, axis=1, stable=True)[:, :k]
    return codes, xp.take_along_axis(log_proba, codes, axis=1)


def _searched(
    tree: Tree, nodes: Nodes, rows: Any, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search for all rows at once, best first.

    In each round every row opens the most probable of its waiting nodes, and rows that
    open the same one share a product.
    """
    best = Best(tree, rows.shape[0], k)
    while True:
        hopeful, chosen = best.next_nodes()
        if not len(hopeful):
            best.fill()
            return best.codes, best.log_proba
        for index in np.unique(chosen).tolist():
            own = hopeful[chosen == index]
            best.open(index, own, nodes.one(index, rows[own]))
