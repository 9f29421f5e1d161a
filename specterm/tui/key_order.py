"""Keys take effect in the order in which they were typed, however fast they come.

Textual's text fields insert letters at once, but what a key is bound to is looked up when it has bubbled to the app: of
a burst, as a terminal multiplexer or a slow link sends it, Ctrl+U would take away the letters typed behind it, and Tab
would come too late for them. So a key waits until all that the one before it did has been done; and those typed before
the first screen was there wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

LONGEST_WAIT_S = 1.0
"""Who handles a key may be taken down meanwhile, and then nobody says that it is through. Then the screen that is in
sight now is asked, which may be one that takes longer to open."""


class _NoScreen(events.Event):
    """What keys wait for until the first screen is there, however long it takes."""


class KeyOrder:
    """Holds back the keys and pastes of `app` that come while another is on its way."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._going: events.Event | None = _NoScreen()  # no key before there is somebody to take it
        self._held: deque[events.Event] = deque()
        self._place: tuple[object, object] = (None, None)  # screen and focus when the key on its way set out

    def begin(self, ready: events.Ready) -> None:
        """The first screen is there."""
        self._going = ready
        if self._held:
            self._limit(ready)
        self._settle(ready)

    def admit(self, event: events.Event) -> bool:
        """Whether `event` goes on now; if not, it will be posted again."""
        if self._going is not None and event is not self._going:
            if not self._held and not isinstance(self._going, _NoScreen):
                self._limit(self._going)
            self._held.append(event)
            return False
        self._going, self._place = event, self._where
        if self._held:
            self._limit(event)
        return True

    def _limit(self, event: events.Event) -> None:
        """Wait no longer for those who handle `event` than is sensible."""
        self._app.set_timer(LONGEST_WAIT_S, partial(self._settle_again, event))

    def _settle_again(self, event: events.Event) -> None:
        if event is self._going:
            self._settle(event)
            self._limit(event)

    def follow(self, event: events.Event, first: MessagePump) -> None:
        """`event` was handed to `first`, unless the app itself has done what it is for."""
        if event.is_forwarded:
            self._wait(event, first)
        else:
            self._settle(event)

    def _wait(self, event: events.Event, node: MessagePump) -> None:
        if not node.call_later(self._handled, event, node):
            self._settle(event)  # it is being taken down

    def _handled(self, event: events.Event, node: MessagePump) -> None:
        """`node` has done what it does with `event`."""
        if node is self._app and self._is_held_down:
            self._release(event)
        elif node is self._app or node._parent is None:
            self._settle(event)
        elif node._parent is self._app:
            # The app does what the key is bound to; a screen that hands it on to its sender says that it is stopped.
            self._wait(event, self._app)
        elif event._stop_propagation and not self._next_is_bound:
            self._release(event)
        elif event._stop_propagation:
            self._settle(event)  # what is shown may follow what was typed
        else:
            self._wait(event, node._parent)

    @property
    def _is_held_down(self) -> bool:
        """Whether the key on its way comes again, and left the focus where it was: what it moves need not be painted at
        each place."""
        going, following = self._going, self._held[0] if self._held else None
        same = isinstance(going, events.Key) and isinstance(following, events.Key) and going.key == following.key
        return same and self._place == self._where

    @property
    def _where(self) -> tuple[object, object]:
        return (self._app.screen, self._app.focused) if self._app.screen_stack else (None, None)

    @property
    def _next_is_bound(self) -> bool:
        """Whether a key waits that is no letter."""
        return bool(self._held) and isinstance(key := self._held[0], events.Key) and not key.is_printable

    def _settle(self, event: events.Event) -> None:
        """It may have been bound to something, which may move the focus with the next refresh, or that of a screen
        which it opens."""
        self._after_refresh(lambda: self._after_refresh(partial(self._release, event)))

    def _after_refresh(self, then: Callable[[], None]) -> None:
        if self._app.screen_stack:  # else the app is ending
            self._app.screen.call_after_refresh(then)

    def _release(self, event: events.Event) -> None:
        """`event` is through: let the next one go; nothing, if that has been done already."""
        if event is self._going:
            self._going = self._held.popleft() if self._held else None
            if self._going is not None:
                self._app.post_message(self._going)
