"""The workbench in a real terminal, left at any moment: soon, with the terminal as it was and no process behind."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal_session import GIVEN_BACK, TAKEN, TerminalSession

LONG = ["--max-tokens", "960", "--min-tokens", "960"]  # a short answer is over before "generating" is painted
WORKBENCH = ["-m", "specterm", *LONG, "--method", "draft"]
WITHIN_S = 2.0
SLACK_S = 6.0  # of a machine that runs other tests at the same time; the full matrix has none
QUIT, ENTER, MEASURE_KEYS = b"\x11", b"\r", b"\x1b[13~m\x1bOQ"  # F3, m, F2
PASTE = b"\x1b[200~%s\x1b[201~"


def loading(session: TerminalSession) -> None:
    session.until(TAKEN)
    session.until(b"loading")


def ready(session: TerminalSession) -> None:
    session.until(b"ready")


def prefill(session: TerminalSession) -> None:
    ready(session)
    session.send(PASTE % (b"one two three four five. " * 150))
    time.sleep(0.3)
    session.send(ENTER)


def streaming(session: TerminalSession) -> None:
    ready(session)
    session.send(b"Once upon a time" + ENTER)
    session.until(b"generating")


def measuring(session: TerminalSession) -> None:
    ready(session)
    session.send(MEASURE_KEYS)
    session.until(b"measuring")
    session.send(b"Once upon a time" + ENTER)
    time.sleep(0.3)  # the screen is painted too seldom to tell


def comparing(session: TerminalSession) -> None:
    ready(session)
    session.send(b"Once upon a time\x1b[20~")  # F9
    session.until(b"Measure")
    time.sleep(0.5)
    session.send(b"\x1b[20~")
    time.sleep(1.0)


def as_it_was(session: TerminalSession) -> None:
    end = bytes(session.output[session.output.rindex(TAKEN) :])
    assert GIVEN_BACK in end
    for mode in (b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?1003l", b"\x1b[?2004l", b"\x1b[?1004l"):
        assert end.rindex(mode) > 0
    assert end.rindex(b"\x1b[?7h") > end.rfind(b"\x1b[?7l")
    assert session.modes == session.modes_before
    assert b"Traceback" not in session.output


def leave(session: TerminalSession, how: int | bytes, within_s: float) -> None:
    children = session.children()
    began = time.monotonic()
    if isinstance(how, bytes):
        session.send(how)
    else:
        session.kill(how)
    assert session.ended(10) == (0 if isinstance(how, bytes) else 128 + how)
    assert time.monotonic() - began < within_s + 0.05  # which `ended` waits for the last bytes
    assert not [child for child in children if child.is_running()]
    as_it_was(session)


@pytest.mark.full
@pytest.mark.parametrize("stage", [loading, ready, prefill, streaming, measuring, comparing])
@pytest.mark.parametrize("how", [QUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_leaving_at_any_moment(tmp_path: Path, stage: Callable[[TerminalSession], None], how: int | bytes) -> None:
    with TerminalSession(WORKBENCH, tmp_path) as session:
        stage(session)
        leave(session, how, WITHIN_S)


def test_a_terminal_that_goes_away_ends_the_program(tmp_path: Path) -> None:
    with TerminalSession(WORKBENCH, tmp_path) as session:
        streaming(session)
        children = session.children()
        session.hang_up()
        assert session.ended(WITHIN_S + SLACK_S) == 128 + signal.SIGHUP
        assert not [child for child in children if child.is_running()]
    assert "Traceback" not in (tmp_path / "log" / "specterm.log").read_text()


def test_a_signal_while_loading_and_standard_error_in_a_file(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with TerminalSession(WORKBENCH, tmp_path, stderr=errors) as session:
        loading(session)
        leave(session, signal.SIGTERM, WITHIN_S + SLACK_S)
    assert errors.read_bytes() == b""


NOISY = f"""
import os, sys
from specterm.cli import main
from specterm.engine import preload
preload_torch = preload.preload_torch
def noisy():
    os.write(2, b"[W a library] \\x1b[2Jnoise on descriptor 2\\n")
    return preload_torch()
preload.preload_torch = noisy
sys.argv = {["specterm", *LONG]}
sys.exit(main())
"""


def test_leaving_a_run_and_what_libraries_write_to_standard_error(tmp_path: Path) -> None:
    with TerminalSession(["-c", NOISY], tmp_path) as session:
        streaming(session)
        leave(session, QUIT, WITHIN_S + SLACK_S)
        assert b"noise" not in session.output
    assert "noise on descriptor 2" in (tmp_path / "log" / "specterm.log").read_text()


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def test_a_full_disk_switches_the_history_off_and_nothing_else(tmp_path: Path) -> None:
    with TerminalSession(WORKBENCH, tmp_path, limits=small_files) as session:
        streaming(session)
        session.until_painted("SPECTERM_DATA_DIR")  # what to do about it
        again = session.until(b"final, live")  # "ready" may stand in the answer
        session.send(ENTER)
        session.until(b"generating", after=again)
        leave(session, QUIT, WITHIN_S + SLACK_S)


@pytest.mark.parametrize("seconds", [0.15, 0.3])
def test_an_interrupt_before_the_first_frame_is_no_traceback(tmp_path: Path, seconds: float) -> None:
    imports = tmp_path / "imports"
    for attempt in range(5):
        with TerminalSession(["-X", "importtime", "-m", "specterm"], tmp_path, stderr=imports) as session:
            end = time.monotonic() + 30
            while b"specterm.version" not in imports.read_bytes():  # Python itself has started
                assert time.monotonic() < end
                time.sleep(0.005)
            time.sleep(seconds / 2**attempt)
            session.send(b"\x03")
            if TAKEN in session.output:  # there it is a key
                continue
            code = session.ended(10)
            assert code in (-signal.SIGINT, 130)
            assert b"Traceback" not in imports.read_bytes()
            assert session.modes == session.modes_before
            return
    pytest.fail("the first frame always came first")
