"""What everything that has a slot cache does with it: models, and heads with keys and values of their own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from specterm.models.cache import SlotCache
from specterm.models.runners.graphs import ForwardGraphs


class Cached:
    """The part of a `Runner` that is its cache's, and that of the graphs of passes over it. There is no cache before
    `allocate`, and there are graphs on CUDA only, of what can be captured."""

    cache: SlotCache | None = None
    _graphs: ForwardGraphs | None = None

    def kv_token_bytes(self) -> int | None:
        """See `Runner`."""
        return self.cache.token_bytes() if self.cache is not None else None

    def allocate(self, rows: int, capacity: int) -> None:
        """See `Runner`."""
        if self.cache is None or self.cache.rows < rows or self.cache.capacity < capacity:
            slots = -(-capacity // 64) * 64
            if self.cache is None:
                self.cache = SlotCache(rows, slots)
            else:
                self.cache.resize(rows, slots)

    def release(self) -> None:
        """See `Runner`."""
        self.cache = None
        if self._graphs is not None:
            self._graphs.clear()

    def remark(self) -> str | None:
        """See `Runner`."""
        refused = None if self._graphs is None else self._graphs.refused
        return None if refused is None else f"CUDA graphs are not used: {refused}"

    def kept(self) -> Sequence[Hashable]:
        """See `Runner`."""
        return self.cache.kept if self.cache is not None else ()

    def keep(self, contents: Sequence[Hashable]) -> None:
        """See `Runner`."""
        if self.cache is not None:
            self.cache.kept = tuple(contents)
