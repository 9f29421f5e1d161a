"""What reaches a real terminal while every text from outside tries to steer it."""

from __future__ import annotations

import re
import time
from pathlib import Path

from terminal_session import ROOT, TerminalSession

# Cursor, attributes, modes, key protocol, queries, the pointer, a bell: what Textual writes. Titles, erasing, C1 and
# reordering are not.
OURS = re.compile(rb"\x1b\[[0-9;]*[mH]|\x1b\[[?>=<]?[0-9;]*[hlu]|\x1b\[\?[0-9]+\$p|\x1b\]22;[a-z-]+\x07")
FOREIGN = re.compile("[\x00-\x06\x08\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
PLACES = ("asked", "stage", "target", "notice", "advice", "prompt", "accepted", "rejected", "own", "failure", "reading")
DEVICES = b"\x1b[15~"
KEYS = (b"\x1bOS", DEVICES, b"\x1b[17~", b"\x1bOR", b"i", b"\x1b[D", b"\x1b[18~", b"\x1b", b"\x1b[24~", b"\x1b")


def test_no_text_from_outside_steers_the_terminal(tmp_path: Path) -> None:
    with TerminalSession([str(ROOT / "tests" / "tui" / "poisoned_workbench.py")], tmp_path) as session:
        for place in (b"ready", b"notice", b"advice"):
            session.until(place)
        session.send(b"\x12\r")  # show rejected tokens, generate
        session.until(b"own")
        for key in KEYS:  # settings, devices, figures, stream, its inspector, models
            session.send(key)
            if key == DEVICES:
                session.until(b"reading")
            time.sleep(0.15)
        session.send(b"\x1bOQ\r")
        session.until(b"failure")
        for place in PLACES:
            session.until(place.encode())
        session.send(b"\x11")
        assert session.ended(10) == 0
        output = bytes(session.output)
    assert b"Traceback" not in output
    assert not [place for place in PLACES if place.encode() not in output]
    painted = OURS.sub(b"", output).decode()
    found = FOREIGN.search(painted)
    assert found is None, painted[max(0, found.start() - 80) : found.end() + 20]
    assert "␛" in painted
