"""What every runner with a slot cache does with it."""

from __future__ import annotations

from specterm.models.cache import SlotCache


class CachedRunner:
    """The part of a `Runner` that is its cache's; there is none before `allocate`."""

    cache: SlotCache | None = None

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

    def intact(self) -> int:
        """See `Runner`."""
        return self.cache.intact if self.cache is not None else 0

    def keep(self, slots: int) -> None:
        """See `Runner`."""
        if self.cache is not None:
            self.cache.intact = slots

    def remark(self) -> str | None:
        """See `Runner`."""
        return None
