"""A program in a terminal of its own: what it writes there byte for byte, keys and signals to it, and how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

TAKEN, GIVEN_BACK = b"\x1b[?1049h", b"\x1b[?1049l"
_STEERING = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")
ROOT = Path(__file__).parents[1]


def surroundings(folder: Path) -> dict[str, str]:
    """An environment in which specterm keeps everything in `folder`, in a terminal of full colour."""
    # COLUMNS and LINES, which pytest's workers have, would stand above the terminal's own size.
    foreign = ("SPECTERM_", "NO_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    places = {f"SPECTERM_{name}_DIR": str(folder / name.lower()) for name in ("DATA", "STATE", "LOG")}
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return {**kept, **places, **terminal, "SPECTERM_CONFIG": os.devnull}


class TerminalSession:
    """See the module. `arguments` are Python's. Leaving the block kills the program where it still runs."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        size: tuple[int, int] = (160, 48),
        stderr: Path | None = None,
        limits: Callable[[], None] = lambda: None,
    ) -> None:
        ours, theirs = pty.openpty()  # both ends are held, so that the terminal's modes can be read after the end
        self._ours, self._theirs = ours, theirs
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.modes_before = termios.tcgetattr(theirs)

        def prepare() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            limits()

        with contextlib.ExitStack() as files:
            errors = theirs if stderr is None else files.enter_context(stderr.open("wb"))
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=theirs,
                stdout=theirs,
                stderr=errors,
                env=surroundings(folder),
                start_new_session=True,
                preexec_fn=prepare,
            )
        self.output = bytearray()
        self._hung_up = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> TerminalSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self.hang_up()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while not self._hung_up:  # a read that waits would hold the terminal open
                if select.select([self._ours], [], [], 0.05)[0]:
                    self.output += os.read(self._ours, 65536)

    def until(self, text: bytes, seconds: float = 30, after: int = 0) -> int:
        """Wait until `text` stands in the output behind byte `after`; returns where it ends."""
        end = time.monotonic() + seconds
        while (at := self.output.find(text, after)) < 0:
            assert self._process.poll() is None, f"it ended without {text!r}: {bytes(self.output[-2000:])!r}"
            assert time.monotonic() < end, f"no {text!r} in {seconds} s: {bytes(self.output[-2000:])!r}"
            time.sleep(0.01)
        return at + len(text)

    def until_painted(self, word: str, seconds: float = 30) -> None:
        """Wait until `word`, which no line breaks, has been painted by whatever steps."""
        end = time.monotonic() + seconds
        while word not in _STEERING.sub(b"", bytes(self.output)).decode(errors="replace"):
            assert self._process.poll() is None
            assert time.monotonic() < end, f"no {word!r} in {seconds} s: {bytes(self.output[-2000:])!r}"
            time.sleep(0.1)

    def send(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def kill(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def children(self) -> list[psutil.Process]:
        """The processes that it has started and that run now."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def processor_s(self) -> float:
        """Seconds of processor time that it has used, in all threads."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def hang_up(self) -> None:
        """Take the terminal away."""
        if not self._hung_up:
            self._hung_up = True
            self._reader.join()
            os.close(self._theirs)
            os.close(self._ours)

    @property
    def modes(self) -> list[object]:
        """The terminal's modes now: see `termios.tcgetattr`."""
        return termios.tcgetattr(self._theirs)

    def ended(self, seconds: float) -> int | None:
        """Its exit code (negative for a signal), None where it still runs after that long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            time.sleep(0.05)  # for the last bytes
        return self._process.poll()
