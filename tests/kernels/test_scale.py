import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskalt.kernels.scale import first_bad_entry, scale_rows
from tests import naive

STORED = ["?", "u1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2"]


def stored_rows(dtype, rows=6, columns=5):
    return np.random.default_rng(0).integers(0, 100, (rows, columns)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("layout", ["C", "F", "strided", "read-only"])
def test_scale_rows_equals_naive(stored, dtype, layout):
    x = stored_rows(stored)
    x = {"C": x, "F": np.asfortranarray(x), "strided": x[::2, 1:], "read-only": x}[layout]
    x.flags.writeable = layout != "read-only"
    shift = np.linspace(-1, 40, x.shape[1])
    factor = np.linspace(0.01, 3, x.shape[1])
    result = scale_rows(x, shift, factor, dtype)
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, naive.scale_rows(x, shift, factor), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stored", ["u1", "f4", "f8"])
def test_results_are_clipped_to_the_reach(stored):
    x = stored_rows(stored)
    shift, factor = np.full(5, 40.0), np.full(5, 0.1)
    expected = np.clip(naive.scale_rows(x, shift, factor), -2, 2)
    assert (np.abs(expected) == 2).any()
    result = scale_rows(x, shift, factor, np.float32, reach=2)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_overflow_is_clipped():
    x = np.array([[3e38, -3e38, 1]], np.float32)
    result = scale_rows(x, np.zeros(3), np.full(3, 1e3), np.float32, reach=10)
    np.testing.assert_array_equal(result, [[10, -10, 10, 1]])


def test_scale_rows_writes_into_out():
    x = stored_rows("u1")
    out = np.full((6, 6), np.nan, np.float32)
    assert scale_rows(x, np.zeros(5), np.ones(5), np.float32, out) is out
    np.testing.assert_array_equal(out, np.column_stack([x, np.ones(6)]))


@pytest.mark.parametrize("stored", ["f8", "i8"])
def test_a_large_shift_loses_no_digits(stored):
    x = np.array([[1_700_000_000], [1_700_000_001]], stored)
    result = scale_rows(x, np.array([1.7e9]), np.ones(1), np.float32)
    np.testing.assert_array_equal(result[:, 0], [0, 1])


def test_nan_passes_through():
    x = np.array([[np.nan, 1], [np.inf, 2]])
    result = scale_rows(x, np.zeros(2), np.ones(2), np.float32)
    np.testing.assert_array_equal(result, [[np.nan, 1, 1], [np.inf, 2, 1]])


@settings(deadline=None)  # the first call compiles
@given(
    rows=st.integers(0, 6),
    columns=st.integers(1, 5),
    dtype=st.sampled_from(["f2", "f4", "f8", ">f8"]),
    data=st.data(),
)
def test_first_bad_entry_equals_naive(rows, columns, dtype, data):
    values = st.sampled_from([0.0, -1.5, 60_000.0, 6e-8, np.nan, np.inf, -np.inf])
    entries = data.draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))
    x = np.array(entries, dtype).reshape(rows, columns)
    assert first_bad_entry(x) == naive.first_bad_entry(x)
    assert first_bad_entry(np.asfortranarray(x)) == naive.first_bad_entry(x)


def test_first_bad_entry_of_a_target():
    assert first_bad_entry(np.array([1.0, np.nan])) == (1, 0)
    assert first_bad_entry(np.array([1.0, 2.0])) is None


@pytest.mark.parametrize("values", [np.arange(4), np.array([True]), np.array(["nan"])])
def test_only_floats_can_be_bad(values):
    assert first_bad_entry(values) is None
