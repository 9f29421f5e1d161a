"""What a pause of a pilot waits for, and how long a notice is to be seen."""

import pytest
from textual import pilot
from textual.message_pump import MessagePump
from textual.notifications import Notification


def _busy(pump: MessagePump) -> bool:
    return not pump._message_queue.empty() or bool(pump._next_callbacks) or bool(getattr(pump, "_callbacks", ()))


@pytest.fixture(autouse=True)
def pauses_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause without a length ends when nothing on the screen has a message left. Textual's own takes a process that
    used no processor time for a moment for an idle one, which on a busy machine it is not."""

    async def pause(self: pilot.Pilot[object], delay: float | None = None) -> None:
        if delay is not None:
            return await plain(self, delay)
        for _ in range(100):
            await plain(self)
            screen = self.app.screen
            if not any(_busy(pump) for pump in (self.app, *screen.walk_children(with_self=True))):
                return None
        return None

    plain = pilot.Pilot.pause
    monkeypatch.setattr(pilot.Pilot, "pause", pause)


@pytest.fixture(autouse=True)
def notices_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice is there until it is looked at: on a busy machine the seconds that it has may be over before."""
    monkeypatch.setattr(Notification, "time_left", property(lambda notice: 600.0))
