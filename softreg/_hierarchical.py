"""`HierarchicalSoftmax`: a tree of classes, one classifier a node."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
)

from softreg import _trees as trees
from softreg._arrays import (
    Array,
    cast,
    device_context,
    empty,
    home_of,
    is_foreign,
    is_sparse,
    like,
    namespace,
    on_host,
    one_hot,
    rows_at,
    to_numpy,
)
from softreg._descent import PROBABILITIES, Nodes, all_leaves, best_leaves, nodes_of
from softreg._design import design
from softreg._fitted import become
from softreg._labels import coded, labels_like, labels_of, row_weights
from softreg._parameters import advising, is_whole, refusal
from softreg._prediction import AccuracyMixin, LinearSoftmaxMixin
from softreg._rows import check_same_place, checked_rows
from softreg._scores import map_rows
from softreg._softmax import SoftmaxRegression
from softreg._sources import RowSource
from softreg._status import StatusMixin
from softreg._watching import Task, fit_task

KINDS = ("cluster", "huffman", "balanced")
# Entries of X that are cast at a time.
PIECE_ENTRIES = 1 << 21
# What sums up the nodes' fits: the first two by their share of the weight.
SUMMARY = ("objective_", "optimality_gap_", "converged_")


class HierarchicalSoftmax(
    StatusMixin,
    CallbackSupportMixin,
    AccuracyMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Softmax over a tree of classes: many classes at the price of few.

    At each inner node v of the tree a classifier chooses among the children, and

        P(y | x) = product over the nodes v on the path to y of P(child | v, x).

    The logarithm of a product is a sum, and each term has its own parameters and meets
    only the rows below its node: a fit of each node alone, at the same C, is the exact
    minimiser of the tree's own objective. It is another model than the flat softmax,
    not an approximation of it; how accurate it is depends on the tree.

    Parameters
    ----------
    estimator : classifier, default=None
        What is cloned for each node; it needs `predict_log_proba` or `predict_proba`,
        and is fitted to arrays of numbers, whatever X was (see the Notes). None is
        `SoftmaxRegression()`; to search over its parameters pass one. Its
        `class_weight` is resolved once, on the classes; its `weight_decay` is rescaled
        to the weight of a node's rows, so that all nodes share one objective.
    tree : {"cluster", "huffman", "balanced"} or list, default="cluster"
        "cluster" joins classes of near means (Ward's criterion), which costs the least
        accuracy. "huffman" joins the rarest first: frequent classes get short paths.
        "balanced" splits the sorted classes into equal parts. Nested lists of labels,
        as `[["cat", "dog"], ["car", "bus"]]`, are the tree itself; labels that y lacks
        are left out.
    arity : int, default=None
        Most children of a node, 2 or more. None is 2 for "huffman", and otherwise the
        square root of the number of classes, rounded up: about two levels, the least
        work for a processor that likes large products. Given trees take no arity.
    n_jobs : int, default=None
        Nodes fitted at a time, as joblib counts them. None is one after the other,
        each with the threads that `estimator` takes.
    random_state : int, RandomState instance or None, default=None
        Seeds the nodes' `random_state`, each with its own, where they have one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels. Labels all of whose rows weigh 0 are left out.
    tree_ : list
        The tree used, as nested lists of labels.
    node_estimators_ : list
        The fitted classifiers, parents first. Their classes are the children's
        numbers, in the order of `tree_`.
    objective_ : float
        The tree's objective in units of the mean, `sum_v (S_v / S) F_v`. Only where
        the nodes have theirs, as also the next two.
    optimality_gap_ : float
        Proven upper bound of how far it is from its minimum.
    converged_ : bool
        Whether every node reached its `tol`.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, where X has string names.

    See Also
    --------
    SoftmaxRegression : The flat model.

    Notes
    -----
    A row costs its path: the sum of the arities on it, in place of the number of
    classes. Sparse losses have nodes with probabilities of exactly 0.

    Arrays of torch, CuPy or another array-API library are computed with in it, where
    they lie, by softreg's estimators at the nodes. Other classifiers get them as
    NumPy's or SciPy's; the answers are of the kind of X either way.

    To callbacks each node is a task; a tree needs all of them, so that one that asks to
    stop there is not heeded. Set on `estimator`, it stops the fit of a node.

    References
    ----------
    Morin & Bengio, "Hierarchical probabilistic neural network language model",
    AISTATS 2005. Ward, "Hierarchical grouping to optimize an objective function", JASA
    58, 1963.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softreg import HierarchicalSoftmax
    >>> X, y = load_digits(return_X_y=True)
    >>> model = HierarchicalSoftmax(tree=[[0, 6, 4], [1, 8, 2, 3, 5, 9, 7]]).fit(X, y)
    >>> len(model.node_estimators_)
    3
    >>> model.predict(X[:3], top_k=2)[:, 0]
    array([0, 1, 2])
    """

    classes_: np.ndarray
    node_estimators_: list[Any]

    def __init__(
        self,
        estimator: Any = None,
        *,
        tree: Any = "cluster",
        arity: int | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.tree = tree
        self.arity = arity
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse X is welcome where the nodes take it."""
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = get_tags(self._template()).input_tags.sparse
        return tags

    def _template(self) -> Any:
        return SoftmaxRegression() if self.estimator is None else self.estimator

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HierarchicalSoftmax:
        """Make the tree, and fit the classifier of each node.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Labels of any kind.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, 0 or more; for classifiers whose `fit` takes them,
            which a pipeline's does not.

        Returns
        -------
        self : HierarchicalSoftmax
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            For bad input, before any computing; the estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            Once, where the classifiers of some nodes warn of it.
        """
        task = fit_task(self, X, y, sample_weight)
        template = self._template()
        _check_parameters(self, template, sample_weight)
        scratch = copy.copy(self)
        X = checked_rows(scratch, X, reset=True)
        home = home_of(X)
        X = X if _lives_anywhere(template) else on_host(X)
        y, sample_weight = on_host(y), on_host(sample_weight)
        data = _labelled(X, y, sample_weight, getattr(template, "class_weight", None))
        joins = _joins(self.tree, self.arity, data)
        tree = trees.planted(joins, len(data.classes))
        seeds = check_random_state(self.random_state)
        # Made before nodes are sent to workers, as scikit-learn's searches do.
        tasks = [task.part("node") for _ in tree.nodes]
        fits = Parallel(n_jobs=self.n_jobs)(
            delayed(_fitted)(_classifier(template, data, part, seeds), part, own)
            for part, own in zip(_parts(tree, data), tasks, strict=True)
        )
        columns = ("n_features_in_", "feature_names_in_")
        fitted = {
            name: vars(scratch)[name] for name in columns if hasattr(scratch, name)
        }
        fitted |= _summary(fits, data)
        fitted["classes_"] = labels_like(data.classes, home)
        fitted["_home"] = empty((0,), home)
        fitted["node_estimators_"] = [fit.estimator for fit in fits]
        fitted["_joins"], fitted["_tree"] = joins, tree
        become(self, fitted)
        task.ended(lambda: fitted)
        _tell(fits)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return what is saved: lists of numbers, from which the tree grows again."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_tree"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was saved."""
        super().__setstate__(state)
        if "_joins" in state:
            self._tree = trees.planted(self._joins, self.classes_.shape[0])

    @property
    def tree_(self) -> list[Any]:
        """The tree used, as nested lists of labels."""
        check_is_fitted(self)
        return self._tree.nested(on_host(self.classes_).tolist())

    def predict(self, X: Any, *, top_k: int | None = None) -> np.ndarray:
        """Return the most probable label of each row, or the few most probable.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        top_k : int, default=None
            How many labels to return; None is the best alone.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, top_k)
            Labels from `classes_`, the most probable first.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, or for more labels than classes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import HierarchicalSoftmax
        >>> X, y = load_iris(return_X_y=True)
        >>> model = HierarchicalSoftmax(tree=[0, [1, 2]]).fit(X, y)
        >>> model.predict(X[[0, 100]], top_k=2).tolist()
        [[0, 1], [2, 1]]
        """
        labels, _ = self._best(X, 1 if top_k is None else top_k, "predict")
        return labels[:, 0] if top_k is None else labels

    def predict_best(
        self, X: Any, k: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k most probable labels of each row, and their probabilities.

        In a tree with wide nodes those that cannot lead to one of them are not
        computed; of arrays of another library than NumPy all are.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        k : int, default=None
            How many, from 1 to the number of classes; None is 5, or all where there
            are fewer.

        Returns
        -------
        labels : ndarray of shape (n_samples, k)
            Labels from `classes_`, the most probable first.
        proba : ndarray of shape (n_samples, k)
            Their probabilities, as `predict_proba` has them.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, or for more labels than classes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import HierarchicalSoftmax
        >>> X, y = load_iris(return_X_y=True)
        >>> model = HierarchicalSoftmax(tree=[0, [1, 2]]).fit(X, y)
        >>> labels, proba = model.predict_best(X[[0, 60]], 2)
        >>> labels[:, 0], proba.shape
        (array([0, 1]), (2, 2))
        """
        return self._best(X, k, "predict_best")

    def _best(self, X: Any, k: int | None, method: str) -> tuple[Array, Array]:
        """Return what `predict_best` does; `method` is what the user called."""
        check_is_fitted(self)
        n_classes = self.classes_.shape[0]
        k = min(5, n_classes) if k is None else k
        if not (is_whole(k) and 1 <= k <= n_classes):
            raise refusal(
                k,
                f"k (or top_k) must be an integer from 1 to {n_classes}",
                "It is how many of the classes to name.",
            )
        rows, nodes = self._asked(X, method)
        codes, log_proba = best_leaves(self._tree, nodes, rows, k)
        proba = like(namespace(log_proba).exp(log_proba), self._home)
        return labels_of(self.classes_, like(codes, self._home)), proba

    def _asked(self, X: Any, method: str) -> tuple[Any, Nodes]:
        """Return the checked rows where the nodes are, and the nodes for them."""
        X = checked_rows(self, X, reset=False)
        check_same_place(self, X, self._home, method)
        if not _lives_anywhere(self.node_estimators_[0]):
            X = on_host(X)
        return X, nodes_of(self.node_estimators_).of(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Rows sum to one.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import HierarchicalSoftmax
        >>> X, y = load_iris(return_X_y=True)
        >>> model = HierarchicalSoftmax(tree=[0, [1, 2]]).fit(X, y)
        >>> model.predict_proba(X[:2]).sum(axis=1).round(6)
        array([1., 1.])
        """
        log_proba = self._log_proba(X, "predict_proba")
        return namespace(log_proba).exp(log_proba)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithms of the probabilities, sums along the paths.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            -inf where a node gives probability 0.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            For X that does not go with the fit, naming what is wrong.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softreg import HierarchicalSoftmax
        >>> X, y = load_iris(return_X_y=True)
        >>> model = HierarchicalSoftmax(tree=[0, [1, 2]]).fit(X, y)
        >>> bool((model.predict_log_proba(X) < 0).all())
        True
        """
        return self._log_proba(X, "predict_log_proba")

    def _log_proba(self, X: Any, method: str) -> Array:
        """Return the log-probabilities; `method` is what the user called."""
        check_is_fitted(self)
        rows, nodes = self._asked(X, method)
        size = nodes.block_rows(rows)
        answer = map_rows(rows, size, lambda own: all_leaves(self._tree, nodes, own))
        return like(answer, self._home)


class Labelled(NamedTuple):
    """The rows that count, and what they are."""

    X: Any
    classes: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    total: float
    weighted: bool


class Part(NamedTuple):
    """What the classifier of one node learns from."""

    X: Any
    child: np.ndarray
    weight: np.ndarray | None
    total: float


class Fit(NamedTuple):
    """A node's classifier, the weight of its rows, and what it warned of."""

    estimator: Any
    total: float
    warned: list[str]


def _lives_anywhere(estimator: Any) -> bool:
    """Return whether an estimator computes where X lies, in its library."""
    return isinstance(estimator, LinearSoftmaxMixin | HierarchicalSoftmax)


def _check_parameters(model: Any, estimator: Any, sample_weight: Any) -> None:
    named = isinstance(model.tree, str) and model.tree in KINDS
    if not named and not isinstance(model.tree, list | tuple):
        raise refusal(
            model.tree,
            f"tree must be one of {sorted(KINDS)} or nested lists of labels",
            "'cluster' joins similar classes.",
        )
    arity = model.arity
    if arity is not None and not (is_whole(arity) and arity >= 2):
        raise refusal(
            arity,
            "arity must be None or an integer of at least 2",
            "It is the most children of a node.",
        )
    if arity is not None and not named:
        raise ValueError(
            f"arity must be None where the tree is given, got {arity}. The lists say "
            "how many children each node has."
        )
    if not any(hasattr(estimator, name) for name in PROBABILITIES):
        raise TypeError(
            f"estimator must have one of {PROBABILITIES}, got "
            f"{type(estimator).__name__}. Use a classifier with probabilities."
        )
    class_weight = getattr(estimator, "class_weight", None)
    if not (class_weight in (None, "balanced") or isinstance(class_weight, Mapping)):
        raise ValueError(
            "class_weight of the estimator must be None, 'balanced' or a dict, got "
            f"{class_weight!r}. Weights belong to the classes, not to the nodes."
        )
    weighted = sample_weight is not None or class_weight is not None
    if weighted and not has_fit_parameter(estimator, "sample_weight"):
        raise ValueError(
            f"{type(estimator).__name__} takes no sample_weight. Fit without weights, "
            "or with another estimator."
        )
    if np.ndim(getattr(estimator, "margin", 0.0)) > 0:
        raise ValueError(
            "margin of the estimator must be a number, got a matrix. A node chooses "
            "among its children, not among the classes."
        )


def _labelled(X: Any, y: Any, sample_weight: Any, class_weight: Any) -> Labelled:
    with advising("Pass one label for each row of X."):
        check_consistent_length(X, y)
    weight = row_weights(sample_weight, X.shape[0])
    classes, codes, weight = coded(y, weight, class_weight)
    weighted = sample_weight is not None or class_weight is not None
    return Labelled(X, classes, codes, weight, float(weight.sum()), weighted)


def _joins(tree: Any, arity: int | None, data: Labelled) -> trees.Joins:
    n_classes = len(data.classes)
    if not isinstance(tree, str):
        return trees.given(tree, data.classes.tolist())
    if tree == "huffman":
        mass = np.bincount(data.codes, data.weight, minlength=n_classes)
        return trees.huffman(mass, arity or 2)
    arity = arity or max(2, int(np.ceil(np.sqrt(n_classes))))
    if tree == "balanced":
        return trees.balanced(n_classes, arity)
    return trees.clustered(_squared_distances(data), arity)


def _squared_distances(data: Labelled) -> np.ndarray:
    """Return the squared distances between the class means."""
    with device_context(home_of(data.X)):
        means = _class_means(data)
        if not is_sparse(means):
            means = means - namespace(means).mean(means, axis=0)
        gram = means @ means.T
    gram = gram.toarray() if is_sparse(gram) else to_numpy(gram)
    squares = np.diagonal(gram)
    return squares[:, None] + squares - 2 * gram


def _class_means(data: Labelled) -> Any:
    """Return the class means (K, d), sparse as SciPy's X; a piece is cast at a time."""
    n_rows, n_classes = len(data.codes), len(data.classes)
    share = data.weight / np.bincount(data.codes, data.weight)[data.codes]
    stored = data.X.nnz if is_sparse(data.X) else math.prod(data.X.shape)
    if is_foreign(data.X):
        stored = max(stored, n_rows * n_classes)
    size = max(1, PIECE_ENTRIES * n_rows // max(1, stored))
    means: Any = 0
    for start in range(0, n_rows, size):
        own = slice(start, min(start + size, n_rows))
        sums = _class_sums(data.X[own, :], data.codes[own], share[own], n_classes)
        means = means + sums
    return means


def _class_sums(rows: Any, codes: np.ndarray, share: np.ndarray, n_classes: int) -> Any:
    """Return the sum of each class's rows (K, d), each row as often as its share."""
    if not is_foreign(rows):
        places = codes, np.arange(len(codes))
        shape = n_classes, len(codes)
        chosen = scipy.sparse.csr_array((share, places), shape=shape)
        return chosen @ rows.astype(np.float64, copy=False)
    home = home_of(rows)
    dtype = namespace(home).float64
    chosen = cast(one_hot(like(codes, home), n_classes), dtype) * like(share, home)
    loaded = design(rows, dtype, has_intercept=False).loaded()
    return loaded.adjoint(chosen[None, :, :])[0, :, :]


def _parts(tree: trees.Tree, data: Labelled) -> Iterator[Part]:
    """Yield the rows below each node, and the child that each belongs to."""
    counted = np.flatnonzero(data.weight > 0)
    # An array serves a node of all rows as it is.
    whole = None if isinstance(data.X, RowSource) else len(data.codes)
    positions = tree.positions[data.codes]
    order = counted[np.argsort(positions[counted], kind="stable")]
    along = positions[order]
    for node in tree.nodes:
        span = slice(*np.searchsorted(along, [node.start, node.stop]))
        rows = np.sort(order[span])
        child = np.searchsorted(node.cuts, positions[rows], side="right") - 1
        yield Part(
            data.X if len(rows) == whole else rows_at(data.X, rows),
            child,
            data.weight[rows] if data.weighted else None,
            float(data.weight[rows].sum()),
        )


def _classifier(
    template: Any, data: Labelled, part: Part, seeds: np.random.RandomState
) -> Any:
    """Return the unfitted classifier of a node.

    Its penalty is that of the whole tree: per row, of fewer rows, it is the larger.
    """
    estimator = clone(template)
    parameters = estimator.get_params(deep=False)
    changed: dict[str, Any] = {}
    if parameters.get("class_weight") is not None:
        changed["class_weight"] = None
    if parameters.get("weight_decay") is not None:
        changed["weight_decay"] = parameters["weight_decay"] * data.total / part.total
    if "random_state" in parameters and parameters["random_state"] is None:
        changed["random_state"] = int(seeds.randint(np.iinfo(np.int32).max))
    return estimator.set_params(**changed)


def _fitted(estimator: Any, part: Part, task: Task | None) -> Fit:
    """Fit the classifier of a node; what it warns of is told once, of all nodes."""
    weight = {} if part.weight is None else {"sample_weight": part.weight}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        with task.around(estimator, part.X, part.child) if task else nullcontext():
            estimator.fit(part.X, part.child, **weight)
    unfinished = []
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            unfinished.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Fit(estimator, part.total, unfinished)


def _summary(fits: list[Fit], data: Labelled) -> dict[str, Any]:
    """Return the attributes that sum up those of the nodes, where all have them."""
    estimators = [fit.estimator for fit in fits]
    shares = [fit.total / data.total for fit in fits]
    summary: dict[str, Any] = {}
    for name in SUMMARY[:2]:
        if all(hasattr(estimator, name) for estimator in estimators):
            values = [getattr(estimator, name) for estimator in estimators]
            summary[name] = float(np.dot(shares, values))
    if all(hasattr(estimator, "converged_") for estimator in estimators):
        summary["converged_"] = all(e.converged_ for e in estimators)
    return summary


def _tell(fits: list[Fit]) -> None:
    """Warn once of all nodes that did not converge."""
    warned = [fit.warned for fit in fits if fit.warned]
    if warned:
        warnings.warn(
            f"{len(warned)} of {len(fits)} nodes did not converge; the first says: "
            f"{warned[0][0]}",
            ConvergenceWarning,
            stacklevel=4,  # over that of scikit-learn's decorator
        )
