"""The edge of Dask input: its partitions, checked where they lie, as one matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from softreg._arrays import Described, is_foreign, stacked_rows
from softreg._dask import (
    Cluster,
    cluster_of,
    computed_here,
    each_partition,
    head_of,
    is_frame,
    row_counts,
    seceded,
)
from softreg._parameters import advising
from softreg._parts import Facts, LocalParts, facts_of, joined, surfaced
from softreg._problem import row_space_pays
from softreg._rows import checked_rows
from softreg._sharded import Group, ShardedRows, dealt
from softreg._shards import facts_in, make_pile

NUMERIC = "biuf"
# A matrix of more columns than rows is fetched up to this size: in one process it can
# be solved in the space of its rows.
FETCHED_BYTES = 1 << 28


def parted_rows(estimator: Any, X: Any, most_threads: int | None) -> Any:
    """Return a Dask collection as one matrix in parts, checked as `checked_rows` does.

    The parts stay where Dask computes them: on the workers, each of which uses so many
    threads at most, or in this process. Only a small matrix of more columns than rows
    becomes an array.
    """
    with advising("X must hold finite numbers, a row a sample."):
        _check_kind(X)
        validate_data(estimator, head_of(X), reset=True, skip_check_array=True)
    parts = each_partition(checked_part, X, _named_as(estimator))
    cluster = cluster_of(X)
    if cluster is not None:
        with seceded():
            return _on_cluster(cluster, X, parts, most_threads)
    here = surfaced(computed_here(parts))
    described = _described([facts_of(part) for part in here])
    if _is_fetched(described):
        return stacked_rows(_with_rows(here))
    return LocalParts(**vars(described), parts=joined(_with_rows(here)))


def _on_cluster(
    cluster: Cluster, X: Any, parts: list[Any], most_threads: int | None
) -> Any:
    """Return delayed parts as the shards of a cluster, one a worker."""
    held = cluster.compute(parts)
    cluster.settle(held)
    # Partitions whose rows are not known yet are taken to be equal.
    sizes = np.nan_to_num(row_counts(X), nan=1.0).tolist()
    threads = cluster.threads()
    hands = dealt(cluster.holders(held), sizes, threads)
    piles = [
        cluster.start(make_pile, *(held[part] for part in own), worker=worker)
        for worker, own in hands.items()
    ]
    told = [
        cluster.start(facts_in, pile, worker=worker)
        for worker, pile in zip(hands, piles, strict=True)
    ]
    facts = surfaced(_in_order(hands.values(), cluster.answers(told), len(held)))
    described = _described(facts)
    if _is_fetched(described):
        return stacked_rows(_with_rows(cluster.answers(held)))
    ends = np.cumsum([0, *(fact.shape[0] for fact in facts)])
    groups = []
    for (worker, own), pile in zip(hands.items(), piles, strict=True):
        rows = np.concatenate([np.arange(ends[p], ends[p + 1]) for p in own])
        n_threads = min(threads[worker], most_threads or threads[worker])
        groups.append(Group(worker, n_threads, rows, pile))
    groups = [group for group in groups if len(group.rows)]
    return ShardedRows(**vars(described), cluster=cluster, groups=tuple(groups))


def _in_order(
    hands: Iterable[list[int]], told: list[list[Any]], n_parts: int
) -> list[Any]:
    """Return what was told of the parts in each hand, in the order of the parts."""
    facts: list[Any] = [Facts((0, 0), None, 0, None)] * n_parts
    for own, of_own in zip(hands, told, strict=True):
        for part, fact in zip(own, of_own, strict=True):
            facts[part] = fact
    return facts


def _check_kind(X: Any) -> None:
    """Refuse a collection that is no matrix of numbers."""
    # Of the class: a delayed value has any attribute one asks for.
    found = f"{X.ndim}D" if hasattr(type(X), "ndim") else type(X).__name__
    if found != "2D":
        raise ValueError(f"Expected 2D array, got {found} Dask collection instead.")
    if not is_frame(X):
        return
    kinds = {str(name): dtype for name, dtype in X.dtypes.items()}
    strange = [f"{n!r} ({t})" for n, t in kinds.items() if t.kind not in NUMERIC]
    if strange:
        raise ValueError(
            f"X must have numeric columns only, got {', '.join(strange)}. Encode them "
            "as numbers, or leave them out."
        )


def _named_as(estimator: Any) -> Any:
    """Return an estimator of the class and the columns, without parameters.

    That is all that the checks of a partition ask of it.
    """
    stub = object.__new__(type(estimator))
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(stub, name, getattr(estimator, name))
    return stub


def checked_part(part: Any, stub: Any) -> Any:
    """Return a partition checked, or the error; a value is not tried again."""
    try:
        if is_foreign(part):
            raise TypeError(
                "The partitions of X must be of NumPy, pandas or SciPy, got "
                f"{type(part).__name__}. Convert them, as by map_blocks."
            )
        if not part.shape[0]:
            return np.empty((0, stub.n_features_in_), np.uint8)
        return checked_rows(stub, part, reset=False)
    except (TypeError, ValueError) as error:
        return error


def _with_rows(parts: Sequence[Any]) -> list[Any]:
    return [part for part in parts if part.shape[0]]


def _described(facts: list[Any]) -> Described:
    """Return the matrix of all partitions, without its entries."""
    full = [own for own in facts if own.shape[0]]
    if not full:
        shape = (0, facts[0].shape[1])
        raise ValueError(
            f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is "
            "required. X must have rows in some partition."
        )
    stored = [own.nnz for own in full if own.nnz is not None]
    if 0 < len(stored) < len(full):
        raise ValueError(
            f"X must have sparse partitions or dense ones, got {len(stored)} sparse "
            f"ones of {len(full)}. Convert them, as by map_blocks."
        )
    return Described(
        (sum(own.shape[0] for own in full), full[0].shape[1]),
        np.result_type(*(own.dtype for own in full)),
        sum(own.nbytes for own in full),
        sum(stored) if stored else None,
    )


def _is_fetched(X: Described) -> bool:
    return row_space_pays(X) and X.nbytes <= FETCHED_BYTES
