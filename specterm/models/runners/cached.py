"""What every runner with a slot cache does."""

from __future__ import annotations

from specterm.models.cached import Cached


class CachedRunner(Cached):
    """The part of a `Runner` that does not depend on the model."""

    def remark(self) -> str | None:
        """See `Runner`."""
        return None
