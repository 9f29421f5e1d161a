"""The text as it arrives: coloured, plain, and safe."""

from __future__ import annotations

import io
import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scripted_engine import run_events, word

from specterm.config import MethodSpec, Request, RunSpec
from specterm.console.stream import STYLES, ColouredStream, Narration, PlainStream, legend
from specterm.console.visible import escaped, visible
from specterm.events import EmittedToken, Event, LoadProgress, Notice, Prefilled, Round, RowFinished, RowRound

SPEC = RunSpec(method=MethodSpec(name="draft", parameters={"num_draft_tokens": 2})).checked()
TEXT = "".join(word(token) for token in range(6))


def events() -> list[Event]:
    """Token 0 plain; 1 and 2 accepted with bonus 3; 4 and 5 refused and corrected one by one."""
    return list(run_events(SPEC, Request(prompt="x"), range(6), (2, 0)))


def coloured(*, rejected: bool = False, color_system: str | None = "truecolor", no_color: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=color_system is not None, color_system=color_system, width=40, no_color=no_color
    )  # type: ignore[arg-type]
    stream = ColouredStream(console, rejected=rejected)
    for event in events():
        stream.observe(event)
    return file.getvalue()


def test_each_origin_has_its_style() -> None:
    text = coloured()
    assert text.startswith("\x1b[3mthe \x1b[0m")  # plain
    assert "\x1b[32mcat \x1b[0m" in text
    assert "\x1b[4;36mon \x1b[0m" in text
    assert "\x1b[1;33ma \x1b[0m" in text
    assert text.endswith("\n")


def test_rejected_tokens_stand_before_their_correction() -> None:
    text = coloured(rejected=True)
    # Token 5 ("mat ") was drafted where the target says 4 ("a ").
    assert "\x1b[2;9;31mmat \x1b[0m\x1b[1;33ma \x1b[0m" in text
    assert "\x1b[2;9;31m" not in coloured()


def test_without_colours_the_attributes_stay() -> None:
    text = coloured(no_color=True)
    assert "\x1b[4mon \x1b[0m" in text
    assert "\x1b[1ma \x1b[0m" in text
    assert text.startswith("\x1b[3mthe \x1b[0m")
    assert set(re.findall(r"\x1b\[([0-9;]*)m", text)) == {"0", "1", "3", "4"}


def test_a_pipe_gets_the_text_alone() -> None:
    assert coloured(color_system=None) == TEXT + "\n"


def test_every_state_differs_in_more_than_colour() -> None:
    colours = {"green", "yellow", "cyan", "red"}
    attributes = {state: frozenset(style.split()) - colours for state, style in STYLES.items()}
    assert len(set(attributes.values())) == len(STYLES) == 5
    assert all(state in legend(rejected=True).plain for state in STYLES)
    assert "rejected" not in legend(rejected=False).plain


def test_plain_is_exactly_the_output() -> None:
    file = io.StringIO()
    stream = PlainStream(file)
    seen = []
    for event in events():
        stream.observe(event)
        seen.append(file.getvalue())
    assert seen[-1] == TEXT
    assert len(set(seen)) == 5  # it grows with the prefill and with every round


def test_plain_ends_the_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: True)
    stream = PlainStream(file)
    for event in events():
        stream.observe(event)
    assert file.getvalue() == TEXT + "\n"


def test_plain_steers_no_terminal_and_changes_nothing_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    event = Prefilled(0.0, 0, 1, 0, 0.0, None, EmittedToken(0, "\x1b]0;x\x07\x9b2J\u202e\ta\n", "plain"))
    pipe, terminal = io.StringIO(), io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    for file in (pipe, terminal):
        PlainStream(file).observe(event)
    assert pipe.getvalue() == "\x1b]0;x\x07\x9b2J\u202e\ta\n"
    assert terminal.getvalue() == "␛]0;x␇<U+009B>2J<U+202E>\ta\n"


@given(st.text())
def test_json_for_a_terminal_is_the_same_json(text: str) -> None:
    whole = msgspec.json.encode({"text": text.encode("utf-8", "replace").decode()}).decode()
    shown = escaped(whole)
    assert json.loads(shown) == json.loads(whole)
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\n", "a\tb\n"),
        ("\x1b]0;gone\x07", "␛]0;gone␇"),
        ("\r\x7f", "␍␡"),
        ("\x9b31m", "<U+009B>31m"),
        ("\u202eabc", "<U+202E>abc"),
        ("日本 é 👍🏽", "日本 é 👍🏽"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_what_is_visible_cannot_steer_a_terminal(text: str) -> None:
    shown = visible(text)
    assert all(char in "\n\t" or (ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0) for char in shown)
    shown.encode("utf-8")


def test_model_text_reaches_no_terminal_unchecked() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None)
    token = EmittedToken(0, "\x1b[2J[bold]x[/bold]", "plain")
    ColouredStream(console).observe(Prefilled(0.0, 0, 1, 0, 0.0, None, token))
    assert file.getvalue() == "␛[2J[bold]x[/bold]"


def test_narration_speaks_of_notices_and_stages() -> None:
    file = io.StringIO()
    narration = Narration(Console(file=file, force_terminal=True, color_system=None, width=200), stages=True)
    for event in (
        LoadProgress(0.0, "reading weights", 0.1),
        LoadProgress(0.1, "reading weights", 0.9),
        Notice(0.2, "info", "speculation pays again"),
        Notice(0.3, "warning", "8 bits on a CPU are slow", "use --quantize none"),
    ):
        narration.observe(event)
    assert file.getvalue() == (
        "reading weights\nspecterm: note: speculation pays again\n"
        "specterm: warning: 8 bits on a CPU are slow; use --quantize none\n"
    )


def test_narration_breaks_no_line_of_the_output() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=200)
    narration, stream = Narration(console, stages=True), ColouredStream(console)
    for event in (
        Prefilled(0.0, 0, 1, 0, 0.0, None, EmittedToken(0, "Once upon", "plain")),
        Notice(0.1, "info", "speculation is losing", "try another draft"),
        Round(0.2, 0, 0.0, 0.1, 0.0, None, (RowRound(0, (), (), (), (EmittedToken(0, " a time", "plain"),)),)),
        RowFinished(0.3, 0, "length", "Once upon a time", (0, 1)),
    ):
        stream.observe(event)
        narration.observe(event)
    assert file.getvalue() == "Once upon a time\nspecterm: note: speculation is losing; try another draft\n"
