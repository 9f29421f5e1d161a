"""A workbench in a real terminal of which every text from outside would steer that terminal: see `poison`."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import msgspec
from tui.fake_engine import CPU, GPU, LOADED, FakeEngine, FakeMonitor, round_of

from specterm.config import ModelSpec, RunSpec
from specterm.events import Loaded, LoadProgress, Notice, RunFinished
from specterm.tui.app import SpectermApp
from specterm.tui.terminal import Terminal


def poison(where: str) -> str:
    """A title, a screen erased in the old way and in the C1 way, a reordering and half a character, each named."""
    return f"{where}\x1b]0;{where}\x07\x1b[2J\x9b2J\u202e\u2066\r\x08\x7f\udcff"


class PoisonedEngine(FakeEngine):
    """Its first run says everything, its second fails."""

    def __init__(self) -> None:
        loaded = next(event for event in LOADED if isinstance(event, Loaded))
        target = dataclasses.replace(loaded.target, name=poison("target"), device_name=poison("device"))
        super().__init__(
            load=[
                LoadProgress(0.0, poison("stage"), 0.5),
                dataclasses.replace(loaded, target=target),
                Notice(0.1, "warning", poison("notice"), poison("advice")),
                RunFinished(0.2, "done"),
            ],
            rounds=[round_of(n, [poison("accepted")], [poison("rejected")], poison("own")) for n in range(5)],
        )

    def run(self, spec, requests):
        self._failure = poison("failure") if self.runs else None
        # A run is told as JSON, which has no half characters; an engine would have failed to find such a model before.
        return super().run(msgspec.structs.replace(spec, model=ModelSpec()), requests)


def main() -> None:
    themes = Path(tempfile.mkdtemp())
    (themes / "broken\x1b[2J\x9b.toml").write_text("name =")
    model = ModelSpec(target=poison("asked"), drafts=(poison("draft"),))
    devices = [dataclasses.replace(reading, name=poison("reading")) for reading in (GPU, CPU)]
    spec = msgspec.structs.replace(RunSpec(), model=model, trace="alternatives")
    app = SpectermApp(PoisonedEngine(), FakeMonitor(*devices), spec, prompt=poison("prompt"), theme_folders=(themes,))
    app.driver_class = Terminal
    sys.exit(app.run())


if __name__ == "__main__":
    main()
