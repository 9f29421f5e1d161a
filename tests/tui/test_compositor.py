"""What is painted of a change: what Textual paints, of fewer widgets."""

from __future__ import annotations

import pytest
from textual._compositor import Compositor
from textual.geometry import Region
from textual.widget import Widget
from tui.screens import settle, workbench

from specterm.tui.compositor import SparingCompositor


@pytest.mark.parametrize("places", [("#stream", "#figures"), ("#figures",), ("#models", "#devices", "#prompt")])
async def test_a_change_is_painted_as_textual_paints_it_from_fewer_widgets(
    places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[Widget] = []
    render_lines = Widget.render_lines

    def noted(widget: Widget, crop: Region) -> object:
        rendered.append(widget)
        return render_lines(widget, crop)

    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        compositor = app.screen._compositor
        assert isinstance(compositor, SparingCompositor)
        monkeypatch.setattr(Widget, "render_lines", noted)
        painted, counts = [], []
        for paint in (Compositor.render_partial_update, SparingCompositor.render_partial_update):
            compositor._dirty_regions = {app.screen.query_one(place).region for place in places}
            rendered.clear()
            update = paint(compositor)
            assert update is not None
            painted.append(update.render_segments(app.console))
            counts.append(len(rendered))
        assert painted[0] == painted[1]
        assert 0 < counts[1] < counts[0]
        assert compositor.render_partial_update() is None
