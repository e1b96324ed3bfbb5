"""The functions against published numbers, SciPy, identities and finite differences."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from softreg import functional as fn
from softreg._arrays import to_numpy

ALPHAS = [0.3, 0.9, 1.0, 1.0 + 1e-7, 1.33, 1.5, 1.9, 2.0]
scores = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(2, 9)),
    elements=st.floats(-30, 30),
)


def random_rows(seed=0, n=7, n_classes=5, spread=2.0):
    rng = np.random.default_rng(seed)
    z = spread * rng.normal(size=(n, n_classes))
    return z, rng.integers(0, n_classes, n), rng.dirichlet(np.ones(n_classes), n)


# -- published numbers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (fn.softmax([5.0, 7, 10]), [0.006377, 0.047123, 0.946499]),
        (fn.softmax([4.0, 5, 6]), [0.090031, 0.244728, 0.665241]),
        (fn.softmax([2.0, 1, 0.1]), [0.659001, 0.242433, 0.098566]),
        (fn.softmax([-2, 0, 0.5]), [0.0486, 0.3592, 0.5922]),
        (fn.entmax15([-2, 0, 0.5]), [0, 0.3260, 0.6740]),
        (fn.sparsemax([-2, 0, 0.5]), [0, 0.25, 0.75]),
        (fn.entmax([-1, 0, 0.5], 1.33), [0.0460, 0.3276, 0.6264]),
        (fn.entmax([1, 2, 3.5], 1.33), [0.0026, 0.1012, 0.8963]),
    ],
)
def test_distributions_have_their_published_values(value, expected):
    digits = 6 if len(str(expected[0])) > 6 else 4
    np.testing.assert_allclose(value, expected, atol=0.6 * 10.0**-digits)


@pytest.mark.parametrize(("alpha", "loss"), [(1, 2.302585), (1.5, 0.911696), (2, 0.45)])
def test_losses_of_equal_scores(alpha, loss):
    value = fn.fenchel_young_loss(np.zeros((1, 10)), [3], alpha=alpha)
    np.testing.assert_allclose(value, loss, atol=1e-6)


@pytest.mark.parametrize(
    ("t1", "t2", "expected"),
    [
        (0.5, 1.5, [0.02301914, 0.18972909, 0.93874922]),
        (0.5, 0.8, [0.21646352, 0.41836594, 1.3399793]),
    ],
)
def test_bi_tempered_loss_has_its_published_values(t1, t2, expected):
    z = [[-0.5, 0.1, 2.0], [0.1, 1.5, -5.0], [4.0, -3.0, -6.0]]
    target = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.2, 0.8, 0.0]]
    losses = fn.bi_tempered_loss(z, target, t1=t1, t2=t2, reduction="none")
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


# -- oracles --------------------------------------------------------------------------


@given(scores)
def test_softmax_and_its_logarithm_are_scipys(z):
    np.testing.assert_allclose(fn.softmax(z), scipy.special.softmax(z, axis=-1))
    np.testing.assert_allclose(
        fn.log_softmax(z), scipy.special.log_softmax(z, axis=-1), rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(
        fn.logsumexp(z, axis=0), scipy.special.logsumexp(z, axis=0), atol=1e-12
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_torch_agrees(alpha):
    torch = pytest.importorskip("torch")
    z, codes, rows = random_rows()
    tensor = torch.tensor(z, requires_grad=True)
    if alpha == 1:
        for target, ours in ((torch.tensor(codes), codes), (torch.tensor(rows), rows)):
            loss = torch.nn.functional.cross_entropy(
                tensor / 1.7, target, label_smoothing=0.1
            )
            own = fn.cross_entropy(z, ours, temperature=1.7, label_smoothing=0.1)
            np.testing.assert_allclose(own, loss.detach(), rtol=1e-12)
    proba = fn.entmax(torch.tensor(z), alpha)
    assert isinstance(proba, torch.Tensor)
    np.testing.assert_allclose(proba, fn.entmax(z, alpha), atol=1e-12)


# -- identities -----------------------------------------------------------------------


@settings(max_examples=50)
@given(scores, st.sampled_from(ALPHAS))
def test_distributions_solve_their_problem(z, alpha):
    proba = fn.entmax(z, alpha)
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(fn.entmax(z + 3.5, alpha), proba, atol=1e-9)
    # Stationarity: z - Omega'(p) is one number on the support, and at most that off it.
    safe = np.where(proba > 0, proba, 1)
    slope = np.log(safe) if alpha == 1 else (safe ** (alpha - 1) - 1) / (alpha - 1)
    level = np.where(proba > 0, z - slope, -np.inf)
    top = level.max(axis=-1, keepdims=True)
    certain = proba > 1e-9
    np.testing.assert_allclose(
        np.where(certain, level, top), np.broadcast_to(top, z.shape), atol=1e-5
    )
    if alpha > 1.1:
        off = np.where(proba == 0, z + 1 / (alpha - 1), -np.inf)
        assert (off <= top + 1e-6).all()


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_sorting_and_newton_agree(alpha):
    z, _, _ = random_rows(n=50, n_classes=30)
    np.testing.assert_allclose(
        fn.entmax(z, alpha), fn.entmax(z, alpha - 1e-12), atol=1e-10
    )


def test_special_cases_are_each_other():
    z, codes, rows = random_rows()
    for target in (codes, rows):
        plain = fn.cross_entropy(z, target, reduction="none")
        q = np.eye(5)[codes] if target is codes else rows
        entropy = -scipy.special.xlogy(q, q).sum(axis=1)
        fenchel = fn.fenchel_young_loss(z, target, reduction="none")
        np.testing.assert_allclose(plain - fenchel, entropy, atol=1e-12)
        np.testing.assert_allclose(fn.focal_loss(z, target, gamma=0), plain.mean())
        np.testing.assert_allclose(fn.sce_loss(z, target, b=0), plain.mean())
        for t in (1.0, 1.4, 1.9):
            np.testing.assert_allclose(
                fn.bi_tempered_loss(z, target, t1=t, t2=t, reduction="none"),
                fn.fenchel_young_loss(z, target, alpha=2 - t, reduction="none"),
                atol=1e-12,
            )
    proba = fn.softmax(z)[np.arange(len(z)), codes]
    np.testing.assert_allclose(fn.gce_loss(z, codes, q=1), (1 - proba).mean())
    np.testing.assert_allclose(fn.topk_softmax(z, 5), fn.softmax(z))
    np.testing.assert_array_equal(fn.topk_softmax(z, 1), fn.hardmax(z))
    np.testing.assert_allclose(
        fn.softmax(z, temperature=1e-3), fn.hardmax(z), atol=1e-9
    )
    binary = fn.binary_cross_entropy(z[:, 0], codes % 2, reduction="none")
    pair = np.column_stack([np.zeros(len(z)), z[:, 0]])
    np.testing.assert_allclose(
        binary, fn.cross_entropy(pair, codes % 2, reduction="none"), atol=1e-14
    )
    smooth = fn.smooth_labels(codes, 0.2, n_classes=5)
    np.testing.assert_allclose(
        fn.cross_entropy(z, smooth), fn.cross_entropy(z, codes, label_smoothing=0.2)
    )


@given(scores, st.integers(1, 9))
def test_top_k_is_softmax_over_so_many(z, k):
    proba = fn.topk_softmax(z, k)
    assert ((proba > 0).sum(axis=-1) == min(k, z.shape[1])).all()
    np.testing.assert_allclose(proba.sum(axis=-1), 1)
    kept = np.where(proba > 0, z, -np.inf)
    np.testing.assert_allclose(proba, scipy.special.softmax(kept, axis=-1))
    lowest_kept = np.where(proba > 0, z, np.inf).min(axis=-1)
    highest_left = np.where(proba > 0, -np.inf, z).max(axis=-1)
    assert (highest_left <= lowest_kept).all()


# -- derivatives ----------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_jacobian_is_the_finite_difference(alpha):
    z, _, _ = random_rows(spread=0.6)
    rng = np.random.default_rng(1)
    v = rng.normal(size=z.shape)
    step = 1e-6
    expected = (fn.entmax(z + step * v, alpha) - fn.entmax(z - step * v, alpha)) / (
        2 * step
    )
    product = fn.softmax_jvp(z, v, alpha=alpha)
    np.testing.assert_allclose(product, expected, atol=1e-7)
    jacobian = fn.softmax_jacobian(z, alpha=alpha)
    np.testing.assert_allclose(np.einsum("nkl,nl->nk", jacobian, v), product)
    np.testing.assert_allclose(jacobian, np.swapaxes(jacobian, 1, 2), atol=1e-15)
    np.testing.assert_allclose(jacobian.sum(axis=2), 0, atol=1e-14)
    assert np.linalg.eigvalsh(jacobian).min() > -1e-12


LOSSES = {
    "cross_entropy": lambda z, y: fn.cross_entropy(z, y, temperature=2.0),
    "gce": lambda z, y: fn.gce_loss(z, y),
    "sce": lambda z, y: fn.sce_loss(z, y),
    "focal": lambda z, y: fn.focal_loss(z, y, gamma=1.5),
}


def gradients(z, codes):
    """Return the gradients that mathematics gives, one a loss."""
    proba, y = fn.softmax(z), np.eye(z.shape[1])[codes]
    own = proba[np.arange(len(z)), codes][:, None]
    log = np.log(own)
    return {
        "cross_entropy": (fn.softmax(z, temperature=2.0) - y) / 2,
        "gce": own**0.7 * (proba - y),
        "sce": (1 + 4 * own) * (proba - y),
        "focal": ((1 - own) ** 1.5 - 1.5 * own * (1 - own) ** 0.5 * log) * (proba - y),
    }


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(name):
    z, codes, _ = random_rows()
    loss = LOSSES[name]
    way = np.random.default_rng(1).normal(size=z.shape)
    step = 1e-6
    slope = (loss(z + step * way, codes) - loss(z - step * way, codes)) / (2 * step)
    expected = (gradients(z, codes)[name] * way).sum() / len(z)
    np.testing.assert_allclose(slope, expected, rtol=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_of_the_fenchel_young_loss_is_the_residual(alpha):
    z, _, rows = random_rows()
    way = np.random.default_rng(1).normal(size=z.shape)
    step = 1e-6
    slope = (
        fn.fenchel_young_loss(z + step * way, rows, alpha=alpha)
        - fn.fenchel_young_loss(z - step * way, rows, alpha=alpha)
    ) / (2 * step)
    expected = ((fn.entmax(z, alpha) - rows) * way).sum() / len(z)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    own = fn.entmax(z, alpha)
    least = fn.fenchel_young_loss(z, own / own.sum(1, keepdims=True), alpha=alpha)
    np.testing.assert_allclose(least, 0, atol=1e-12)


# -- ranges ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_huge_scores_neither_overflow_nor_lose_the_winner(alpha, kind):
    z = np.array([[1000, 1, 0], [1e8, 1e8, 0], [-1e8, -1e8, -2e8]], dtype=kind)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        proba = fn.entmax(z, alpha)
        losses = fn.fenchel_young_loss(z, [0, 0, 0], alpha=alpha, reduction="none")
    assert proba.dtype == kind
    assert losses.dtype == kind
    np.testing.assert_allclose(proba[1:], [[0.5, 0.5, 0]] * 2, atol=1e-2)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_what_is_masked_has_no_part(alpha):
    z = np.array([[1.0, 0.5, -1.5], [3.0, -1.0, 2.9]])
    masked = np.insert(z, 1, -np.inf, axis=1)
    proba = fn.entmax(masked, alpha)
    assert (proba[:, 1] == 0).all()
    np.testing.assert_allclose(np.delete(proba, 1, axis=1), fn.entmax(z, alpha))


def test_easy_rows_keep_their_digits():
    z = np.array([[0.0, -50.0, -50.0]])
    expected = np.log1p(2 * np.exp(-50.0))
    np.testing.assert_allclose(fn.cross_entropy(z, [0]), expected, rtol=1e-12)
    np.testing.assert_allclose(fn.log_softmax(z)[0, 0], -expected, rtol=1e-12)
    np.testing.assert_allclose(fn.gce_loss(z, [0]), expected, rtol=1e-12)
    np.testing.assert_allclose(fn.binary_cross_entropy([50.0], [1]), np.exp(-50.0))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_any_axis(axis):
    z = np.random.default_rng(0).normal(size=(3, 4, 5))
    moved = np.moveaxis(z, axis, -1)
    for function in (
        fn.softmax, fn.log_softmax, fn.hardmax, fn.sparsemax, fn.entmax15,
        lambda z, axis=-1: fn.entmax(z, 1.2, axis=axis),
        lambda z, axis=-1: fn.topk_softmax(z, 2, axis=axis),
        lambda z, axis=-1: fn.softmax_jvp(z, z, alpha=1.5, axis=axis),
    ):  # fmt: skip
        expected = np.moveaxis(function(moved), -1, axis)
        np.testing.assert_allclose(function(z, axis=axis), expected, atol=1e-14)


def test_any_library_keeps_its_kind_and_dtype(xp):
    z, codes, rows = random_rows()
    for kind in (xp.float32, xp.float64):
        scores = xp.astype(xp.asarray(z), kind)
        q = xp.astype(xp.asarray(rows), kind)
        maps = [
            fn.softmax(scores), fn.log_softmax(scores), fn.logsumexp(scores),
            fn.hardmax(scores), fn.sparsemax(scores), fn.entmax15(scores),
            fn.entmax(scores, 0.7), fn.topk_softmax(scores, 2),
            fn.softmax_jacobian(scores, alpha=1.5), fn.softmax_jvp(scores, q),
        ]  # fmt: skip
        losses = [
            function(scores, target)
            for target in (xp.asarray(codes), q)
            for function in (
                fn.cross_entropy, fn.fenchel_young_loss, fn.gce_loss, fn.sce_loss,
                fn.focal_loss, lambda z, y: fn.bi_tempered_loss(z, y, t1=0.8, t2=1.2),
            )
        ]  # fmt: skip
        losses.append(fn.binary_cross_entropy(scores, q))
        for value in (*maps, *losses, fn.smooth_labels(q, 0.1)):
            assert value.dtype == kind
            assert type(value) is type(scores) or isinstance(value, np.generic)
    np.testing.assert_allclose(to_numpy(maps[0]), fn.softmax(z))


def test_weights_average_and_reduction_none_does_not():
    z, codes, _ = random_rows()
    weight = np.arange(7.0)
    rows = fn.cross_entropy(z, codes, reduction="none", sample_weight=weight)
    np.testing.assert_array_equal(rows, fn.cross_entropy(z, codes, reduction="none"))
    mean = fn.cross_entropy(z, codes, sample_weight=weight)
    np.testing.assert_allclose(mean, np.average(rows, weights=weight))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fn.entmax([0.0, 1], 0), "alpha"),
        (lambda: fn.entmax([0.0, 1], 2.1), "alpha"),
        (lambda: fn.softmax([0.0, 1], temperature=0), "temperature"),
        (lambda: fn.topk_softmax([0.0, 1], 0), "k must"),
        (lambda: fn.topk_softmax([0.0, 1], 1.5), "k must"),
        (lambda: fn.cross_entropy([[0.0, 1]], [2]), "0, ..., 1"),
        (lambda: fn.cross_entropy([[0.0, 1]], [0.5]), "integers"),
        (lambda: fn.cross_entropy([[0.0, 1]], [[0.5, 0.6]]), "sum to 1"),
        (lambda: fn.cross_entropy([[0.0, 1]], [[-0.5, 1.5]]), "non-negative"),
        (lambda: fn.cross_entropy([[0.0, 1]], [0, 1]), "shape"),
        (lambda: fn.cross_entropy([0.0, 1], [0, 1]), "logits"),
        (lambda: fn.cross_entropy([[0.0, 1]], [0], label_smoothing=1), "smoothing"),
        (lambda: fn.cross_entropy([[0.0, 1]], [0], reduction="sum"), "reduction"),
        (lambda: fn.cross_entropy([[0.0, 1]], [0], sample_weight=[-1]), "non-negative"),
        (lambda: fn.cross_entropy([[0.0, 1]], [0], sample_weight=[1, 2]), "shape"),
        (lambda: fn.gce_loss([[0.0, 1]], [0], q=0), "q must"),
        (lambda: fn.sce_loss([[0.0, 1]], [0], log_zero=1), "log_zero"),
        (lambda: fn.focal_loss([[0.0, 1]], [0], gamma=-1), "gamma"),
        (lambda: fn.bi_tempered_loss([[0.0, 1]], [0], t1=2, t2=1), "t1"),
        (lambda: fn.binary_cross_entropy([0.0], [1.5]), "0, 1"),
        (lambda: fn.binary_cross_entropy([0.0], [1, 0]), "shape"),
        (lambda: fn.smooth_labels([3], 0.1, n_classes=2), "0, ..., 1"),
        (lambda: fn.smooth_labels([[0.5, 0.5]], 0.1, n_classes=3), "n_classes"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_numbers_must_be_numbers():
    with pytest.raises(TypeError, match="alpha"):
        fn.entmax([0.0, 1], "softmax")
