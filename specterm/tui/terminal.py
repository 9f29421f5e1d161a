"""The terminal as the workbench has it: painted on by Textual alone, and given back whatever ends the program.

Textual's own driver paints on standard error, lets what libraries write there land on the picture, and leaves the
terminal in its own mode when a signal ends the process. This one paints on standard output, puts standard error aside
while the picture stands, and takes TERM, HUP and INT as the wish to leave.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import termios
import threading
from contextlib import suppress
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

LEAVE_WITHIN_S = 1.6
"""How long leaving may take after a signal; then the process ends without it."""

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Mouse, focus, paste and key reports off, the line wraps, the main screen, a visible cursor.
_RESTORE = b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h"


class Terminal(LinuxDriver):
    """See the module. An app that runs on it has `action_quit`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._screen = _Screen(sys.__stdout__)
        self._file = self._screen  # type: ignore[assignment]
        self._aside: int | None = None  # where standard error was before
        self._before: dict[int, Any] = {}
        self._leaving = False

    def start_application_mode(self) -> None:
        """Take the terminal."""
        self._before = {number: signal.signal(number, self._leave) for number in _SIGNALS}
        if sys.__stderr__ is not None and sys.__stderr__.isatty():
            self._aside = os.dup(2)
            _send_to(_log_path(), 2)
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def stop_application_mode(self) -> None:
        """Give the terminal back."""
        super().stop_application_mode()
        if self._aside is not None:
            os.dup2(self._aside, 2)
            os.close(self._aside)
            self._aside = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _leave(self, number: int, _frame: object) -> None:
        """A signal came: leave as one who asked for it, or at once where that takes too long or it comes again."""
        if self._leaving:
            self._end(number)
        self._leaving = True
        last_resort = threading.Timer(LEAVE_WITHIN_S, self._end, (number,))
        last_resort.daemon = True
        last_resort.start()
        self._loop.call_soon_threadsafe(self._app.call_later, self._quit, number)

    async def _quit(self, number: int) -> None:
        await self._app.action_quit()
        self._app.exit(return_code=128 + number)

    def _end(self, number: int) -> None:
        """End the process now, with the terminal in order as far as it still takes anything."""
        with suppress(OSError, termios.error):
            if self.attrs_before is not None:
                termios.tcsetattr(self.fileno, termios.TCSANOW, self.attrs_before)
            os.set_blocking(self._screen.fileno(), False)
            os.write(self._screen.fileno(), _RESTORE)
        os._exit(128 + number)

    def _run_input_thread(self) -> None:
        """Read keys until the terminal is gone, which is no fault to be shown on it."""
        try:
            self.run_input_thread()
        except OSError:
            with suppress(RuntimeError):  # the app ended meanwhile
                asyncio.run_coroutine_threadsafe(self._quit(signal.SIGHUP), self._loop)


class _Screen:
    """A terminal that may go away: what it cannot take is lost, and no painter stops because of that."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())


def _log_path() -> str:
    """The log file, where there is one."""
    files = (h for h in logging.getLogger("specterm").handlers if isinstance(h, logging.FileHandler))
    return next((file.baseFilename for file in files), os.devnull)


def _send_to(path: str, descriptor: int) -> None:
    """Let what is written to `descriptor` go to the end of a file."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        file = os.open(os.devnull, os.O_WRONLY)
    os.dup2(file, descriptor)
    os.close(file)
