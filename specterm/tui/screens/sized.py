"""Screens whose layout fits the terminal from their first frame on."""

from __future__ import annotations

from textual import events, on
from textual.screen import Screen, ScreenResultType


class SizedScreen(Screen[ScreenResultType]):
    """A whole screen with the classes of the app's breakpoints, which `Screen` sets only after its first frame.

    What a small terminal hides loses the focus; with the place that it needs, the focus comes back to the screen, so
    that keys are not typed into nothing.
    """

    @on(events.Resize)
    def _regain_focus(self) -> None:
        """Once the new layout stands, focus what the screen begins with, if nothing has the focus."""
        self.call_after_refresh(self._update_auto_focus)

    @on(events.Compose)
    @on(events.ScreenResume)
    def _take_size(self) -> None:
        """Set the classes before there are widgets, each of which they would style anew, and before a layout is made of
        those that were covered while the terminal changed."""
        width, height = self.app.size
        axes = ((width, self.app.HORIZONTAL_BREAKPOINTS or []), (height, self.app.VERTICAL_BREAKPOINTS or []))
        classes = {name: False for _, breakpoints in axes for _, name in breakpoints}
        for dimension, breakpoints in axes:
            classes |= dict.fromkeys(self._get_breakpoint_classes(dimension, breakpoints), True)
        self.update_classes(classes, animate=False)
