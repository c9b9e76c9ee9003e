"""Values survive a round trip through JSON and npz unchanged, and only declared types do."""

import io
import json
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskalt.errors import InputError
from daskalt.rules import Adam
from daskalt.storage.records import decode, encode


class Pair(NamedTuple):
    first: object
    second: object = None


TYPES = {"Pair": Pair, "Adam": Adam}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.lists(st.integers(0, 9), max_size=4).map(lambda values: np.array(values, np.uint8)),
    st.lists(st.text(), max_size=4).map(lambda values: np.array(values, object)),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(), inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=3),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)


def there_and_back(value, types=TYPES):
    arrays = {}
    text = json.dumps(encode(value, "value", arrays))
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as read:
        return decode(json.loads(text), read, types)


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    else:
        assert a == b


@given(VALUES)
def test_values_come_back_as_they_were(value):
    same(value, there_and_back(value))


def test_arrays_at_places_of_one_name_are_kept_apart():
    value = {"a": {"b": np.zeros(1)}, "a.b": np.ones(1)}
    same(value, there_and_back(value))


def test_an_array_that_stands_twice_is_written_once():
    array, arrays = np.ones(3), {}
    encode([array, Pair(array)], "value", arrays)
    assert len(arrays) == 1


def test_only_declared_types_are_built():
    with pytest.raises(KeyError, match="Pair"):
        there_and_back(Pair(1), types={})
    with pytest.raises(KeyError, match="eval"):
        decode({"<eval>": "1"}, {}, TYPES)


@pytest.mark.parametrize("types", [None, {}, {"Adam": Pair}])
def test_an_object_that_is_not_declared_is_refused(types):
    with pytest.raises(InputError, match=r"value\.rule is of type Adam"):
        encode({"rule": Adam()}, "value", {}, types)


def test_parts_with_parameters_are_built_of_them():
    revived = decode(encode(Adam(0.5, beta_1=0.1), "value", {}, TYPES), {}, TYPES)
    assert revived.get_params() == Adam(0.5, beta_1=0.1).get_params()
