"""Painting what has changed, and nothing else."""

from __future__ import annotations

from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.widget import Widget


class SparingCompositor(Compositor):
    """Renders the widgets that lie where something has changed. Textual renders all within the one box around all
    changes: of a text on the left and figures on the right, everything that stands between and above them."""

    _changed: tuple[Region, ...] = ()

    @property
    def visible_widgets(self) -> dict[Widget, tuple[Region, Region]]:
        """Each widget on the screen with its region and what clips it; while changes are painted, those in question."""
        found = super().visible_widgets
        if not self._changed:
            return found
        shown = ((widget, places, places[0].intersection(places[1])) for widget, places in found.items())
        return {widget: places for widget, places, shown_in in shown if any(map(shown_in.overlaps, self._changed))}

    def render_partial_update(self) -> ChopsUpdate | None:
        """What has changed since the last update; None where nothing has."""
        changed = tuple(self._dirty_regions)
        _ = self.cuts  # made of all widgets, and kept
        self._changed = changed
        try:
            return super().render_partial_update()
        finally:
            self._changed = ()
