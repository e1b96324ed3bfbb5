"""The tree of classes: its shapes, its exact fit, its predictions."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import minimize
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from softreg import HierarchicalSoftmax, SoftmaxRegression, _hierarchical, _trees
from softreg.functional import cross_entropy

X, Y = load_digits(return_X_y=True)
X = X[:400] / 16
Y = Y[:400]
NAMES = np.array(["zero", "one", "two", "three", "four"])
SMALL = Y < 5
TREES = ["cluster", "huffman", "balanced", [[0, 1], [2, [3, 4]]]]


def flat(tree):
    if not isinstance(tree, list):
        return [tree]
    return [leaf for part in tree for leaf in flat(part)]


def widest(tree):
    if not isinstance(tree, list):
        return 1
    return max([len(tree), *map(widest, tree)])


@pytest.mark.parametrize("kind", ["cluster", "huffman", "balanced"])
@pytest.mark.parametrize("arity", [None, 2, 3, 10])
def test_trees_have_every_class_once_and_no_wider_node(kind, arity):
    model = HierarchicalSoftmax(GaussianNB(var_smoothing=0.1), tree=kind, arity=arity)
    tree = model.fit(X, Y).tree_
    assert sorted(flat(tree)) == list(range(10))
    assert widest(tree) <= (arity or (2 if kind == "huffman" else 4))


def test_huffman_joins_the_lightest_first():
    # The textbook's example: lengths 1, 3, 3, 3, 4, 4 for these frequencies.
    joins = _trees.huffman(np.array([45, 13, 12, 16, 9, 5]), 2)
    tree = _trees.planted(joins, 6).nested("abcdef")
    depth = {}

    def walk(part, level):
        for entry in part:
            if isinstance(entry, list):
                walk(entry, level + 1)
            else:
                depth[entry] = level

    walk(tree, 1)
    assert depth == {"a": 1, "b": 3, "c": 3, "d": 3, "e": 4, "f": 4}


def test_huffman_fills_every_node_but_the_first_to_its_arity():
    joins = _trees.huffman(np.arange(1.0, 9.0), 3)
    assert [len(join) for join in joins] == [2, 3, 3, 3]


def test_clusters_join_near_means():
    means = np.array([[0.0, 0], [10, 0], [0.1, 0], [10.1, 0], [50, 0]])
    squares = ((means[:, None] - means) ** 2).sum(axis=2)
    tree = _trees.planted(_trees.clustered(squares, 2), 5).nested(range(5))
    parts = sorted(sorted(flat(part)) for part in tree)
    assert parts == [[0, 1, 2, 3], [4]]
    tree = _trees.planted(_trees.clustered(squares, 3), 5).nested(range(5))
    assert sorted(sorted(flat(part)) for part in tree) == [[0, 2], [1, 3], [4]]


def test_a_chain_as_deep_as_it_has_classes_needs_no_recursion():
    tree = [0]
    for label in range(1, 3000):
        tree = [label, tree]
    planted = _trees.planted(_trees.given(tree, range(3000)), 3000)
    assert len(planted.nodes) == 2999
    assert planted.order.tolist() == list(range(2999, -1, -1))
    assert planted.nested(list(range(3000)))[0] == 2999


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_fitting_the_nodes_alone_minimises_the_joint_objective(tree):
    """Independent oracle: SciPy on the sum over the paths, by finite differences."""
    pick = np.flatnonzero(SMALL)[:60]
    A, b = X[pick][:, [10, 20, 30, 43]], Y[pick]
    weight = np.random.default_rng(0).uniform(0.5, 2, len(b))
    decay = 0.05
    model = HierarchicalSoftmax(
        SoftmaxRegression(weight_decay=decay, tol=1e-10), tree=tree
    )
    model.fit(A, b, weight)
    nodes = model._tree.nodes
    positions = model._tree.positions[b]
    shapes = [(len(node.children), 5) for node in nodes]
    cuts = np.cumsum([0, *(rows * columns for rows, columns in shapes)])

    def joint(theta):
        value = 0.0
        for node, shape, start in zip(nodes, shapes, cuts[:-1], strict=True):
            own = theta[start : start + shape[0] * 5].reshape(shape)
            below = (positions >= node.start) & (positions < node.stop)
            child = np.searchsorted(node.cuts, positions[below], side="right") - 1
            scores = A[below] @ own[:, :4].T + own[:, 4]
            losses = cross_entropy(scores, child, reduction="none")
            # Two rows with 2 lambda are one row with lambda.
            factor = 2 if shape[0] == 2 else 1
            value += weight[below] @ losses / weight.sum()
            value += factor * decay / 2 * (own[:, :4] ** 2).sum()
        return value

    best = minimize(joint, np.zeros(cuts[-1]), method="L-BFGS-B", tol=1e-14)
    assert model.objective_ == pytest.approx(best.fun, rel=1e-6)
    assert model.objective_ - best.fun <= model.optimality_gap_ + 1e-12
    assert model.converged_


def test_a_tree_of_depth_one_is_the_flat_model():
    tree = HierarchicalSoftmax(SoftmaxRegression(tol=1e-10), tree=list(range(10)))
    flat_model = SoftmaxRegression(tol=1e-10).fit(X, Y)
    tree.fit(X, Y)
    np.testing.assert_allclose(
        tree.predict_proba(X), flat_model.predict_proba(X), atol=1e-6
    )
    assert tree.objective_ == pytest.approx(flat_model.objective_, rel=1e-9)


@pytest.mark.parametrize("wide", [1, 100])
@pytest.mark.parametrize("tree", TREES[:3], ids=str)
@pytest.mark.parametrize("loss", ["softmax", "sparsemax"])
def test_probabilities_sum_to_one_and_predictions_are_their_best(
    tree, loss, wide, monkeypatch
):
    monkeypatch.setattr("softreg._descent.WIDE", wide)
    model = HierarchicalSoftmax(SoftmaxRegression(loss=loss), tree=tree).fit(X, Y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert (model.predict(X) == model.classes_[proba.argmax(axis=1)]).all()
    labels, best = model.predict_best(X, 3)
    chosen = np.take_along_axis(proba, labels, axis=1)
    np.testing.assert_allclose(best, chosen, atol=1e-12)
    np.testing.assert_allclose(best, -np.sort(-proba, axis=1)[:, :3], atol=1e-12)
    assert (model.predict(X, top_k=3) == labels).all()
    assert all(len(set(row)) == 3 for row in labels.tolist())


def test_probabilities_are_products_along_the_paths():
    model = HierarchicalSoftmax(tree=[[0, 1], [2, [3, 4]]]).fit(X[SMALL], Y[SMALL])
    root, left, right, last = (e.predict_proba(X) for e in model.node_estimators_)
    expected = [
        root[:, 0] * left[:, 0],
        root[:, 0] * left[:, 1],
        root[:, 1] * right[:, 0],
        root[:, 1] * right[:, 1] * last[:, 0],
        root[:, 1] * right[:, 1] * last[:, 1],
    ]
    np.testing.assert_allclose(model.predict_proba(X).T, expected, rtol=1e-10)


def test_the_best_few_do_not_open_hopeless_nodes(monkeypatch):
    monkeypatch.setattr("softreg._descent.WIDE", 1)
    model = HierarchicalSoftmax(tree=[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]).fit(X, Y)
    opened = 0
    own = SoftmaxRegression.log_proba_of

    def counted(self, scores):
        nonlocal opened
        opened += scores.shape[1]
        return own(self, scores)

    monkeypatch.setattr(SoftmaxRegression, "log_proba_of", counted)
    model.predict(X, top_k=1)
    assert opened < 2.5 * len(X)  # of six nodes


def test_any_classifier_with_log_probabilities_serves():
    linear = HierarchicalSoftmax(LogisticRegression(max_iter=1000, tol=1e-10))
    ours = HierarchicalSoftmax(SoftmaxRegression(tol=1e-10))
    np.testing.assert_allclose(
        linear.fit(X, Y).predict_proba(X), ours.fit(X, Y).predict_proba(X), atol=1e-5
    )
    forest = HierarchicalSoftmax(RandomForestClassifier(5), random_state=0)
    first = forest.fit(X, Y).predict_best(X, 2)[0]
    assert (forest.fit(X, Y).predict_best(X, 2)[0] == first).all()
    assert forest.score(X, Y) > 0.9
    seeds = {e.random_state for e in forest.node_estimators_}
    assert len(seeds) == len(forest.node_estimators_)
    neighbours = HierarchicalSoftmax(KNeighborsClassifier()).fit(X, Y)
    np.testing.assert_allclose(neighbours.predict_proba(X).sum(axis=1), 1)
    with pytest.raises(TypeError, match=r"must have one of .*, got LinearSVC"):
        HierarchicalSoftmax(LinearSVC()).fit(X, Y)
    with pytest.raises(ValueError, match="KNeighborsClassifier takes no sample_weight"):
        HierarchicalSoftmax(KNeighborsClassifier()).fit(X, Y, np.ones(len(Y)))


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_sparse_rows_give_the_same_tree_and_probabilities(form):
    dense = HierarchicalSoftmax(SoftmaxRegression(tol=1e-10)).fit(X, Y)
    sparse = HierarchicalSoftmax(SoftmaxRegression(tol=1e-10)).fit(form(X), Y)
    assert dense.tree_ == sparse.tree_
    np.testing.assert_allclose(
        dense.predict_proba(X), sparse.predict_proba(form(X)), atol=1e-6
    )


def test_nodes_fitted_side_by_side_have_the_same_bits():
    alone = HierarchicalSoftmax().fit(X, Y)
    together = HierarchicalSoftmax(n_jobs=2).fit(X, Y)
    for one, other in zip(
        alone.node_estimators_, together.node_estimators_, strict=True
    ):
        assert (one.coef_ == other.coef_).all()


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 4: 0.5}])
def test_class_weights_are_resolved_on_the_classes(class_weight):
    weight = np.random.default_rng(0).integers(0, 3, len(Y)).astype(float)
    template = SoftmaxRegression(class_weight=class_weight, tol=1e-10)
    tree = [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]
    model = HierarchicalSoftmax(template, tree=tree).fit(X, Y, weight)
    given = {None: {}, "balanced": None}.get(
        class_weight if not isinstance(class_weight, dict) else 0, class_weight
    )
    if given is None:
        mass = np.bincount(Y, weight)
        given = dict(enumerate(weight.sum() / (10 * mass)))
    carried = weight * np.array([given.get(label, 1.0) for label in Y])
    plain = HierarchicalSoftmax(SoftmaxRegression(tol=1e-10), tree=tree)
    plain.fit(X, Y, carried)
    np.testing.assert_allclose(
        model.predict_proba(X), plain.predict_proba(X), atol=1e-6
    )


def test_weight_decay_means_the_same_for_every_node():
    n = len(Y)
    by_c = HierarchicalSoftmax(SoftmaxRegression(C=0.5, tol=1e-10)).fit(X, Y)
    by_decay = HierarchicalSoftmax(
        SoftmaxRegression(weight_decay=1 / (0.5 * n), tol=1e-10)
    ).fit(X, Y)
    np.testing.assert_allclose(
        by_c.predict_proba(X), by_decay.predict_proba(X), atol=1e-6
    )


def test_labels_of_no_weight_are_left_out():
    weight = np.where(Y == 3, 0.0, 1.0)
    model = HierarchicalSoftmax(tree=[[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]])
    model.fit(X, Y, weight)
    assert 3 not in model.classes_
    assert model.tree_ == [[0, 1, 2], [4, 5, 6], [7, 8, 9]]


def test_string_labels_and_named_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[SMALL], columns=[f"pixel {i}" for i in range(64)])
    tree = [["zero", "one"], ["two", "three", "four"]]
    model = HierarchicalSoftmax(tree=tree).fit(frame, NAMES[Y[SMALL]])
    assert model.tree_ == tree
    assert model.feature_names_in_[0] == "pixel 0"
    assert set(model.predict(frame, top_k=2).ravel()) <= set(NAMES)
    model.fit(X[SMALL], NAMES[Y[SMALL]])
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tree": [[0, 1], [2, 3]]}, r"every class of y, got none for \[4\]"),
        ({"tree": [[0, 1, 2], [2, 3, 4]]}, r"every class once, got \['2'\] more than"),
        ({"tree": [[0, 1], []]}, "none of them empty"),
        ({"tree": "ward"}, "tree must be one of"),
        ({"tree": [0, np.arange(1, 5)]}, "nested lists of class labels, got ndarray"),
        ({"arity": 1}, "arity must be None or an integer of at least 2, got 1"),
        ({"tree": [0, 1, 2, 3, 4], "arity": 2}, "must be None where the tree is given"),
        ({"estimator": SoftmaxRegression(margin=np.eye(5))}, "must be a number, got a"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_and_leaves_the_model_as_it_was(parameters, message):
    model = HierarchicalSoftmax().fit(X[SMALL], Y[SMALL])
    before = dict(vars(model))
    model.set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(X[SMALL], Y[SMALL])
    model.set_params(**{name: before[name] for name in parameters})
    assert vars(model) == before


def test_a_list_in_itself_is_refused_at_once():
    tree = [0, 1, 2, 3, 4]
    tree.append(tree)
    with pytest.raises(ValueError, match="one list in two places"):
        HierarchicalSoftmax(tree=tree).fit(X[SMALL], Y[SMALL])


@pytest.mark.parametrize("k", [0, 11, 1.5, True])
def test_too_many_best_are_refused(k):
    model = HierarchicalSoftmax().fit(X, Y)
    with pytest.raises((ValueError, TypeError), match="an integer from 1 to 10"):
        model.predict(X, top_k=k)


def test_classes_of_probability_zero_fill_the_best(monkeypatch):
    monkeypatch.setattr("softreg._descent.WIDE", 1)
    A, b = load_iris(return_X_y=True)
    model = HierarchicalSoftmax(SoftmaxRegression(loss="sparsemax"), tree=[[0, 1], 2])
    labels, proba = model.fit(A, b).predict_best(A, 3)
    assert all(sorted(row) == [0, 1, 2] for row in labels.tolist())
    assert (proba == 0).any()


def test_five_best_or_all_of_fewer():
    A, b = load_iris(return_X_y=True)
    assert HierarchicalSoftmax().fit(A, b).predict_best(A)[0].shape == (150, 3)
    assert HierarchicalSoftmax().fit(X, Y).predict_best(X)[0].shape == (400, 5)


def test_one_warning_speaks_for_all_nodes():
    model = HierarchicalSoftmax(SoftmaxRegression(max_iter=1, tol=1e-12))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y)
    assert len(caught) == 1
    assert issubclass(caught[0].category, ConvergenceWarning)
    assert "nodes did not converge; the first says:" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert not model.converged_


def test_a_new_fit_leaves_nothing_of_the_last():
    model = HierarchicalSoftmax().fit(X, Y)
    assert model.converged_
    model.set_params(estimator=GaussianNB(var_smoothing=0.1)).fit(X, Y)
    assert not hasattr(model, "converged_")
    assert not hasattr(model, "objective_")


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_class_means_do_not_depend_on_the_pieces_of_x(form, monkeypatch):
    counts = (16 * X).astype(np.uint8)
    whole = HierarchicalSoftmax().fit(form(counts), Y).tree_
    monkeypatch.setattr("softreg._hierarchical.PIECE_ENTRIES", 1000)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    data = _hierarchical._labelled(form(counts), Y, weight, None)
    means = _hierarchical._class_means(data)
    means = means.toarray() if scipy.sparse.issparse(means) else means
    expected = [
        np.average(counts[k == Y], axis=0, weights=weight[k == Y]) for k in range(10)
    ]
    np.testing.assert_allclose(means, expected, rtol=1e-12)
    assert HierarchicalSoftmax().fit(form(counts), Y).tree_ == whole
