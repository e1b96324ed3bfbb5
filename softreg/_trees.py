"""Trees of classes: how a hierarchical model splits them.

A tree is made of joins: `joins[j]` lists the children of inner node `K + j`, where a
number below K is a class and any other an inner node joined before. The last join is
the root. Nothing here recurses: trees may be as deep as they have classes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.cluster.hierarchy
import scipy.spatial.distance

Joins = list[list[int]]


@dataclass(frozen=True)
class Node:
    """An inner node; its children's classes are neighbours in the order of leaves."""

    cuts: np.ndarray  # (arity + 1,) positions where the children start, and the end
    children: list[int]  # the index of each child's node; -1 for a class

    @property
    def start(self) -> int:
        """Position of the first class."""
        return int(self.cuts[0])

    @property
    def stop(self) -> int:
        """Position after the last class."""
        return int(self.cuts[-1])

    @cached_property
    def inner(self) -> np.ndarray:
        """Places of the children that are nodes."""
        return np.flatnonzero(np.asarray(self.children) >= 0)

    @cached_property
    def nodes(self) -> np.ndarray:
        """Indices of the children that are nodes."""
        return np.asarray(self.children)[self.inner]

    @cached_property
    def leaves(self) -> np.ndarray:
        """Places of the children that are classes."""
        return np.flatnonzero(np.asarray(self.children) < 0)

    @cached_property
    def positions(self) -> np.ndarray:
        """Positions of the children that are classes."""
        return self.cuts[self.leaves]


class Tree(NamedTuple):
    """The classes in the order of leaves, and the inner nodes, parents first."""

    order: np.ndarray  # (K,) the class at each position
    nodes: list[Node]

    @property
    def positions(self) -> np.ndarray:
        """Return the position of each class."""
        return np.argsort(self.order)

    def nested(self, labels: Sequence[Any]) -> list[Any]:
        """Return the tree as nested lists of labels."""
        lists: list[list[Any]] = [[] for _ in self.nodes]
        for own, node in zip(lists, self.nodes, strict=True):
            for child, start in zip(node.children, node.cuts[:-1], strict=True):
                own.append(labels[self.order[start]] if child < 0 else lists[child])
        return lists[0]


def planted(joins: Joins, n_classes: int) -> Tree:
    """Return the tree of some joins."""
    sizes = [1] * n_classes
    for join in joins:
        sizes.append(sum(sizes[child] for child in join))
    order = np.zeros(n_classes, dtype=np.intp)
    nodes: list[Node] = []
    # What to plant, its first position, and its parent's children and place in them.
    pending: list[tuple[int, int, list[int], int]] = [(len(sizes) - 1, 0, [0], 0)]
    while pending:
        name, start, siblings, place = pending.pop()
        if name < n_classes:
            order[start] = name
            continue
        siblings[place] = len(nodes)
        join = joins[name - n_classes]
        cuts = start + np.cumsum([0, *(sizes[child] for child in join)])
        children = [-1] * len(join)
        nodes.append(Node(cuts, children))
        for i in reversed(range(len(join))):
            pending.append((join[i], int(cuts[i]), children, i))
    return Tree(order, nodes)


def balanced(n_classes: int, arity: int) -> Joins:
    """Split the classes in their order into equal parts, and each part again."""
    spans = [(0, n_classes)]
    splits: list[list[tuple[int, int]]] = []
    for start, stop in spans:  # grows as it goes
        parts = min(arity, stop - start)
        cuts = np.linspace(start, stop, parts + 1).round().astype(int).tolist()
        splits.append(list(itertools.pairwise(cuts)))
        spans += [part for part in splits[-1] if part[1] - part[0] > 1]
    return _from_the_root(splits, n_classes)


def _from_the_root(splits: list[list[tuple[int, int]]], n_classes: int) -> Joins:
    """Return joins of spans that were split breadth first."""
    names: dict[tuple[int, int], int] = {(i, i + 1): i for i in range(n_classes)}
    joins: Joins = []
    for split in reversed(splits):
        joins.append([names[part] for part in split])
        names[split[0][0], split[-1][1]] = n_classes + len(joins) - 1
    return joins


def huffman(weight: np.ndarray, arity: int) -> Joins:
    """Join the lightest first: the shortest mean path (Huffman 1952)."""
    n_classes = len(weight)
    heap = [(float(w), i) for i, w in enumerate(weight)]
    heapq.heapify(heap)
    joins: Joins = []
    # The first join takes what is over, so that all others are full.
    width = min(n_classes, 2 + (n_classes - 2) % (arity - 1))
    while len(heap) > 1:
        lightest = [heapq.heappop(heap) for _ in range(width)]
        joins.append([child for _, child in lightest])
        total = sum(w for w, _ in lightest)
        heapq.heappush(heap, (total, n_classes + len(joins) - 1))
        width = arity
    return joins


def clustered(squared_distances: np.ndarray, arity: int) -> Joins:
    """Cluster by Ward's criterion (1963), and cut each cluster at its highest joins.

    Parameters
    ----------
    squared_distances : (K, K) array
        Squared Euclidean distances between the class means.
    arity : int
        Most children of a node.
    """
    n_classes = len(squared_distances)
    distances = np.sqrt(np.maximum(squared_distances, 0))
    condensed = scipy.spatial.distance.squareform(distances, checks=False)
    pairs = scipy.cluster.hierarchy.linkage(condensed, "ward")[:, :2].astype(int)
    # Joins of a linkage rise in height: the highest of a set is its largest number.
    kept: dict[int, list[int]] = {}
    pending = [n_classes + len(pairs) - 1]
    while pending:
        name = pending.pop()
        parts = pairs[name - n_classes].tolist()
        while len(parts) < arity and max(parts) >= n_classes:
            highest = max(parts)
            place = parts.index(highest)
            parts[place : place + 1] = pairs[highest - n_classes].tolist()
        kept[name] = parts
        pending += [part for part in parts if part >= n_classes]
    return _renumbered(kept, n_classes)


def _renumbered(kept: dict[int, list[int]], n_classes: int) -> Joins:
    names = {old: n_classes + new for new, old in enumerate(sorted(kept))}
    return [[names.get(part, part) for part in kept[old]] for old in sorted(kept)]


def given(tree: Any, labels: Sequence[Hashable]) -> Joins:
    """Return the joins of nested lists, which must name each label once.

    Labels that the data lack are left out, and lists with one entry are that entry.
    """
    codes = {label: code for code, label in enumerate(labels)}
    lists = _lists_of(tree)
    named: list[Hashable] = []
    joins: Joins = []
    names: dict[int, int | None] = {}
    for own in reversed(lists):
        parts = []
        for entry in own:
            if isinstance(entry, list | tuple):
                part = names[id(entry)]
            elif isinstance(entry, Hashable):
                named.append(entry)
                part = codes.get(entry)
            else:
                raise ValueError(
                    "tree must be nested lists of class labels, got "
                    f"{type(entry).__name__} in it. Turn it into a list."
                )
            if part is not None:
                parts.append(part)
        if len(parts) > 1:
            joins.append(parts)
            parts = [len(labels) + len(joins) - 1]
        names[id(own)] = parts[0] if parts else None
    _check_names(named, labels)
    return joins


def _lists_of(tree: Any) -> list[Any]:
    """Return every list of a nested one, the outer before the inner."""
    lists = [tree]
    seen = {id(tree)}
    for own in lists:  # grows as it goes
        if not isinstance(own, list | tuple) or not own:
            raise ValueError(
                "tree must be nested lists of class labels, none of them empty, got "
                f"{own!r}. Put the labels of each subtree in a list of its own."
            )
        inner = [entry for entry in own if isinstance(entry, list | tuple)]
        if len({id(entry) for entry in inner} - seen) < len(inner):
            raise ValueError(
                "tree must name every class once, got one list in two places: "
                f"{own!r}. Leave it in one place."
            )
        seen.update(id(entry) for entry in inner)
        lists += inner
    return lists


def _check_names(named: list[Hashable], labels: Sequence[Hashable]) -> None:
    seen = set(named)
    missed = [label for label in labels if label not in seen]
    if missed:
        raise ValueError(
            f"tree must name every class of y, got none for {missed[:10]}. Add them "
            "where they belong."
        )
    if len(seen) < len(named):
        repeated = sorted({str(label) for label in named if named.count(label) > 1})
        raise ValueError(
            f"tree must name every class once, got {repeated[:10]} more than once. "
            "Leave each in one place."
        )
