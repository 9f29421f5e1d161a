"""The figures of the run that is going, or was last, brought to the panes a few times a second."""

from __future__ import annotations

import time
from enum import Enum
from itertools import zip_longest

from specterm.catalogue import lossless
from specterm.config import MethodSpec
from specterm.events import Event, Loaded, Prefilled, RunStarted
from specterm.metrics import LiveFigures
from specterm.metrics.verdict import verdict
from specterm.tui.widgets.figures import FiguresBar, FiguresPanel

INTERVAL_S = 0.5


class RunKind(Enum):
    """Where figures come from, as they are called during the run and after it."""

    LIVE = ("live", "final, live")
    MEASURED = ("live", "final")  # the screen was painted seldom
    REPLAYED = ("replay", "recorded")


class RunFigures:
    """Counts the events of a run and shows the figures with what is to be said about them."""

    def __init__(self, panel: FiguresPanel, bar: FiguresBar) -> None:
        self._panel, self._bar = panel, bar
        self._live = LiveFigures()
        self._loaded: Loaded | None = None
        self._method: MethodSpec | None = None
        self._shown_at = 0.0
        self._prompt_tokens = self._reused_tokens = 0
        self._drafts_reused: list[int] = []  # of each model that drafts
        self.kind = RunKind.LIVE

    def load(self, loaded: Loaded) -> None:
        """Take note of the models, and of what they cost."""
        self._loaded = loaded

    def start(self, label: str, method: MethodSpec | None, kind: RunKind) -> None:
        """A run of the setting that is called `label` begins; without its `method` nothing is said about its gain."""
        self._live, self._method, self.kind = LiveFigures(), method, kind
        self._prompt_tokens = self._reused_tokens = 0
        self._drafts_reused = []
        # The form may be edited before the figures are read: they say which setting they belong to.
        self._panel.border_subtitle = self._bar.label = label
        self._panel.remove_class("-lossy")
        self._show(kind.value[0])

    def disturb(self) -> None:
        """The way of painting changed during the run: its figures were not measured after all."""
        if self.kind is RunKind.MEASURED:
            self.kind = RunKind.LIVE

    def observe(self, event: Event) -> None:
        """Count an event of the run; the first one says whether its rule is lossless."""
        if isinstance(event, RunStarted) and lossless(event.spec) is False:
            self._panel.border_subtitle = f"{self._panel.border_subtitle} · NOT lossless"
            self._panel.add_class("-lossy")
        self._live.observe(event)
        if isinstance(event, Prefilled):
            self._prompt_tokens += event.prompt_tokens
            self._reused_tokens += event.reused_tokens
            own = event.drafts_reused or ()
            self._drafts_reused = [a + b for a, b in zip_longest(self._drafts_reused, own, fillvalue=0)]

    def draw(self) -> bool:
        """Show the live figures, unless they were shown a moment ago; returns whether it did."""
        now = time.monotonic()
        if now - self._shown_at < INTERVAL_S:
            return False
        self._shown_at = now
        self._show(self.kind.value[0])
        return True

    def finish(self) -> None:
        """Show the final figures."""
        self._show(self.kind.value[1])

    def _show(self, kind: str) -> None:
        figures, drafted_rounds = self._live.figures, self._live.drafted_rounds
        found = None
        if self._method is not None and drafted_rounds is not None:
            costs = None if self._loaded is None else self._loaded.calibration
            found = verdict(figures, drafted_rounds, self._method, costs)
        if self._reused_tokens or any(self._drafts_reused):  # what is timed is not the prefill of the whole prompt
            kind += f", reused {self._reused_tokens} of {self._prompt_tokens}"
            if self._drafts_reused:
                kind += ", drafts " + " and ".join(map(str, self._drafts_reused))
        for pane in (self._panel, self._bar):
            pane.show(figures, kind, found)
