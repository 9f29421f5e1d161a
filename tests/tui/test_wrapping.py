"""The token store and its wrapping: nothing lost, nothing too wide, and quick at a million tokens."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from specterm.tui.safe_lines import SafeLines
from specterm.tui.widgets.token_store import HIDDEN_STATES, MAX_PIECE_CELLS, State, TokenStore
from specterm.tui.widgets.visible_text import TAB, UNSAFE, visible, visible_lines

CHARACTERS = st.one_of(
    st.sampled_from(
        " \n\t\r\x1b\x00\x9b\x7f\u202e\u2067\u061c的猫é\u0301\u0e33\ufe0f❤👍👩\u200d🏽\u200b\xad🇩🇪\udcff\ud83d"
    ),
    st.characters(),
    st.characters(min_codepoint=32, max_codepoint=126),
)
TOKENS = st.lists(st.tuples(st.text(CHARACTERS, max_size=24), st.sampled_from(State)), max_size=40)
WIDTHS = st.integers(MAX_PIECE_CELLS, 60)


def shown(store: TokenStore) -> str:
    return "".join(store.line_text(line) + store.separator(line) for line in range(store.line_count))


def expected(tokens: list[tuple[str, State]], with_rejected: bool) -> str:
    parts = []
    for text, state in tokens:
        if state not in HIDDEN_STATES:
            parts.append("\n".join(visible_lines(text)))
        elif with_rejected:
            parts.append(visible(text))
    return "".join(parts)


def filled(tokens: list[tuple[str, State]], width: int) -> TokenStore:
    store = TokenStore(width)
    for index, (text, state) in enumerate(tokens):
        store.append(text, state, index)
        if index % 3 == 0:
            store.extend_lines()
    store.extend_lines()
    return store


@given(TOKENS, WIDTHS)
def test_the_lines_joined_are_the_text_shown(tokens: list[tuple[str, State]], width: int) -> None:
    assert shown(filled(tokens, width)) == expected(tokens, with_rejected=False)


@given(TOKENS, WIDTHS, WIDTHS)
def test_with_rejected_tokens_every_text_is_there(tokens: list[tuple[str, State]], width: int, other: int) -> None:
    store = filled(tokens, width)
    store.rewrap(other, show_rejected=True)
    assert shown(store) == expected(tokens, with_rejected=True)


@given(TOKENS, WIDTHS, st.booleans())
def test_no_line_is_wider_than_the_pane(tokens: list[tuple[str, State]], width: int, rejected: bool) -> None:
    store = filled(tokens, width)
    store.rewrap(width, rejected)
    assert all(cell_len(store.line_text(line)) <= width for line in range(store.line_count))


@given(TOKENS, WIDTHS, st.booleans())
def test_wrapping_as_tokens_come_equals_wrapping_them_at_once(
    tokens: list[tuple[str, State]], width: int, rejected: bool
) -> None:
    step, whole = TokenStore(width), TokenStore(width)
    step.rewrap(width, rejected)
    for text, state in tokens:
        step.append(text, state)
        step.extend_lines()
        whole.append(text, state)
    whole.rewrap(width, rejected)
    assert [step.line_text(n) for n in range(step.line_count)] == [whole.line_text(n) for n in range(whole.line_count)]


def test_words_of_several_tokens_stay_together() -> None:
    store = filled([(text, State.PLAIN) for text in ("it was", " a", " strange", "ly", " quiet", " day")], 16)
    assert [store.line_text(line) for line in range(store.line_count)] == ["it was a", "strangely quiet", "day"]


def test_a_long_text_wraps_between_its_words() -> None:
    store = filled([("a text longer than any single token would be", State.PROMPT)], 20)
    lines = ["a text longer than", "any single token", "would be"]
    assert [store.line_text(line) for line in range(store.line_count)] == lines


def test_wide_characters_wrap_by_cells() -> None:
    store = filled([("的" * 20, State.PLAIN)], 17)
    assert [store.line_text(line) for line in range(store.line_count)] == ["的" * 8, "的" * 8, "的" * 4]


@pytest.mark.parametrize("unit", ["x", "的", "e\u0301", "👩\u200d🚀", "\u200b", "\x1b[2J", "\u202e", "\udcff", "אב"])
def test_a_line_of_a_hundred_thousand_characters_wraps(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    store = filled([(text, State.PLAIN)], 50)
    assert time.process_time() - started < 5
    assert shown(store) == visible(text)
    assert all(cell_len(store.line_text(line)) <= 50 for line in range(store.line_count))


def test_runs_of_one_state_are_merged_and_keep_their_state() -> None:
    store = filled([("a", State.ACCEPTED), ("b", State.ACCEPTED), ("c", State.CORRECTION)], 20)
    assert list(store.spans(0)) == [("ab", State.ACCEPTED), ("c", State.CORRECTION)]


def test_control_characters_are_made_visible() -> None:
    assert visible("\x1b[2J\x07\x7f\x9b\u202e") == "␛[2J␇␡[U+009B][U+202E]"
    assert visible("a\tb") == f"a{TAB}b"
    assert visible_lines("a\r\nb\n") == ["a", "b", ""]


@given(st.text(CHARACTERS))
def test_nothing_that_moves_the_cursor_is_shown(text: str) -> None:
    assert not re.search("[\x00-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]", visible(text))


@given(st.lists(st.text(CHARACTERS, max_size=12), max_size=6))
def test_no_painted_line_steers_and_none_changes_its_width(texts: list[str]) -> None:
    painted = SafeLines().apply([Segment(text) for text in texts], Color(0, 0, 0))
    joined = "".join(segment.text for segment in painted)
    assert not UNSAFE.search(joined)
    assert [segment.cell_length for segment in painted] == [cell_len(text) for text in texts]


def test_a_million_tokens_wrap_in_half_a_second_and_scroll_at_once() -> None:
    store = TokenStore(100)
    words = [f" word{n % 977}" for n in range(1000)]
    for n in range(1_000_000):
        store.append(words[n % 1000], State.ACCEPTED, n)
    store.extend_lines()
    seconds = []
    for width in (60, 80, 100, 60, 80, 100):  # the best of them, for the machine may be shared
        started = time.process_time()
        store.rewrap(width, show_rejected=False)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.5
    started = time.process_time()
    store.append(" more", State.PLAIN)
    first = store.extend_lines()
    page = [store.line_text(line) for line in range(first - 50, first)]
    assert time.process_time() - started < 0.05
    assert len(page) == 50
