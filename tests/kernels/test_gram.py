"""What some directions show of a Gram matrix, held to plain loops."""

import numpy as np
import pytest

from daskalt.compute.statistics import combine
from daskalt.kernels.gram import Sketch, gram_matrix, sketch
from tests import naive

RTOL = {"float32": 1e-5, "float64": 1e-12}


def naive_gram(inputs, weight):
    """Σ w ã ãᵀ over rows and layers."""
    total = np.zeros((inputs[0].shape[1],) * 2)
    for a in inputs:
        for row, w in zip(a, weight, strict=True):
            for i in range(len(row)):
                for j in range(len(row)):
                    total[i, j] += float(w) * float(row[i]) * float(row[j])
    return total


def cases(dtype, layers, weighted, rows=11, columns=6, rank=2):
    rng = np.random.default_rng(layers)
    inputs = [rng.standard_normal((rows, columns)).astype(dtype) for _ in range(layers)]
    basis = rng.standard_normal((columns, rank)).astype(dtype)
    weight = rng.uniform(0, 2, rows).astype(dtype) if weighted else None
    return inputs, basis, weight


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sketch_is_of_the_dense_gram_matrix(dtype, layers, weighted):
    inputs, basis, weight = cases(dtype, layers, weighted)
    before = [a.copy() for a in inputs]
    found = sketch(inputs, basis, weight)
    dense = naive_gram(inputs, np.ones(11) if weight is None else weight)
    close = {"rtol": RTOL[dtype], "atol": RTOL[dtype] * np.trace(dense)}
    np.testing.assert_allclose(found.image, naive.matmul(dense, basis.astype(float)), **close)
    assert found.image.dtype == dtype
    assert found.rest + found.last == pytest.approx(np.trace(dense), rel=RTOL[dtype])
    assert found.last == pytest.approx(dense[-1, -1], rel=RTOL[dtype])
    np.testing.assert_allclose(gram_matrix(inputs, weight), dense, **close)
    for a, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, kept)


@pytest.mark.parametrize("weighted", [False, True])
def test_sketches_of_parts_sum_to_that_of_the_whole(weighted):
    inputs, basis, weight = cases("float64", 2, weighted)
    parts = [
        sketch([a[part] for a in inputs], basis, None if weight is None else weight[part])
        for part in (slice(4), slice(4, 11))
    ]
    whole, total = sketch(inputs, basis, weight), combine(*parts)
    assert isinstance(total, Sketch)
    for a, b in zip(total, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_sketch_of_more_directions_than_rows_and_of_wide_inputs():
    """Where products go strip by strip."""
    rng = np.random.default_rng(0)
    a, basis = rng.standard_normal((5, 600)), rng.standard_normal((600, 40))
    found = sketch([a], basis)
    np.testing.assert_allclose(found.image, a.T @ a @ basis, rtol=1e-10, atol=1e-10)
    assert found.rest + found.last == pytest.approx((a**2).sum())


def test_tiny_inputs_are_not_drowned_by_the_bias():
    a = np.ones((500, 301), np.float32)
    a[:, :-1] = 1e-4 * np.random.default_rng(0).standard_normal((500, 300))
    found = sketch([a], np.eye(301, 3, dtype=np.float32))
    assert found.rest == pytest.approx((a[:, :-1].astype(float) ** 2).sum(), rel=1e-4)
    assert found.last == pytest.approx(500)
