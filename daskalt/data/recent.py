"""Objects of a process that are expensive to make, kept while there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["Recent"]


class Recent:
    """Objects of this process by token, the least recently used dropped first.

    A task unpickles its sources anew; expensive objects are kept here instead.

    Parameters
    ----------
    limit : int
        Total size of the objects; one is kept however large.
    size : callable
        The size of one.
    """

    def __init__(self, limit: int, size: Callable[[Any], int]) -> None:
        self._limit = limit
        self._size = size
        self._items: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, token: str, make: Callable[[], Any]) -> Any:
        """Return the object of a token, made now if it is not kept."""
        with self._lock:
            if token in self._items:
                self._items.move_to_end(token)
                return self._items[token]
        item = make()
        with self._lock:
            item = self._items.setdefault(token, item)
            while len(self._items) > 1 and sum(map(self._size, self._items.values())) > self._limit:
                self._items.popitem(last=False)
        return item
