"""The cursor over wrapped lines, wide and combining characters, hidden tokens and several rows."""

import time

from hypothesis import given
from hypothesis import strategies as st
from tui.fake_engine import round_of

from specterm.events import EmittedToken, Prefilled, Round, RowFinished, RowStarted
from specterm.tui.run_record import RunRecord
from specterm.tui.transcript import Transcript, node_index
from specterm.tui.widgets.token_cursor import TokenCursor
from specterm.tui.widgets.token_store import MAX_PIECE_CELLS, State, TokenStore

Token = tuple[str, State]


def filled(tokens: list[Token], width: int = 40) -> TokenStore:
    """Each token its own part."""
    store = TokenStore(width)
    store.append("the prompt:", State.PROMPT)
    for part, (text, state) in enumerate(tokens):
        store.append(text, state, part)
    store.extend_lines()
    return store


def last(store: TokenStore) -> TokenCursor:
    cursor = TokenCursor.near_line(store, store.line_count)
    assert cursor is not None
    return cursor


def walked(cursor: TokenCursor, step: int) -> list[int]:
    """The parts that the cursor comes through."""
    parts = [cursor.token[0]]
    while cursor.by_token(step):
        parts.append(cursor.token[0])
    return parts


def marked_text(store: TokenStore, cursor: TokenCursor) -> str:
    return "".join(text for line in cursor.lines for piece, _, text in store.shown(line) if piece in cursor.marked)


PLAIN = State.PLAIN


def test_every_token_is_reached_and_the_prompt_is_none() -> None:
    store = filled([(" one", PLAIN), ("\n\n", PLAIN), ("two", PLAIN), (" a very long token of many words", PLAIN)])
    cursor = last(store)
    assert walked(cursor, -1) == [3, 2, 1, 0]
    assert walked(cursor, 1) == [0, 1, 2, 3]
    assert marked_text(store, cursor) == " a very long token of many words"


def test_without_a_token_there_is_no_cursor() -> None:
    assert TokenCursor.near_line(filled([]), 0) is None
    assert TokenCursor.near_line(TokenStore(), 0) is None
    assert TokenCursor.near_line(filled([(" x", State.REJECTED)]), 0) is None


def test_refused_tokens_are_passed_over_until_they_are_shown() -> None:
    store = filled([(" a", State.ACCEPTED), (" x", State.REJECTED), (" y", State.DRAFT), (" b", State.CORRECTION)])
    cursor = last(store)
    assert walked(cursor, -1) == [3, 0]
    store.rewrap(40, show_rejected=True)
    assert walked(cursor, 1) == [0, 1, 2, 3]
    cursor.by_token(-1)
    assert cursor.token[0] == 2
    store.rewrap(40, show_rejected=False)
    assert cursor.settle()
    assert cursor.token[0] == 3


def test_lines_are_walked_in_one_column_over_empty_ones() -> None:
    # 0123456789
    # aaa bbb cc
    #
    # dd
    # eee fff gg
    text = ["aaa", " bbb", " cc", "\n", "\n", "dd", "\n", "eee", " fff", " gg"]
    store = TokenStore(20)
    for part, piece in enumerate(text):
        store.append(piece, PLAIN, part)
    store.extend_lines()
    cursor = last(store)
    cursor.at(0, 8)
    seen = [cursor.token[0]]
    while cursor.by_line(1):
        seen.append(cursor.token[0])
    assert [text[part] for part in seen] == [" cc", "\n", "\n", " gg"]
    assert not cursor.by_line(1)
    cursor.at(3, 1)
    assert text[cursor.token[0]] == "eee"
    cursor.by_line(-1)
    assert text[cursor.token[0]] == "dd"


def test_a_click_on_the_second_half_of_a_wide_character_is_on_it() -> None:
    store = TokenStore(20)
    for part, text in enumerate(("的", "猫", " x")):
        store.append(text, PLAIN, part)
    store.extend_lines()
    cursor = last(store)
    for x, part in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (19, 2)):
        assert cursor.at(0, x)
        assert cursor.token[0] == part, x


def test_a_combining_mark_is_a_token_and_marks_the_cell_that_it_is_drawn_into() -> None:
    store = TokenStore(20)
    for part, text in enumerate((" caf", "e", "\u0301", " au")):
        store.append(text, State(part), part)
    store.extend_lines()
    cursor = last(store)
    assert walked(cursor, -1) == [3, 2, 1, 0]
    cursor.by_token(1)
    assert marked_text(store, cursor) == "e\u0301"
    cursor.by_token(1)
    assert cursor.token[0] == 2
    assert marked_text(store, cursor) == "e\u0301"


def test_rounds_without_shown_text_are_passed_over() -> None:
    store = TokenStore(20)
    for part, text in ((0, "a"), (1, "b"), (1, "c"), (4, "d")):  # 2 and 3 emitted no text
        store.append(text, PLAIN, part, ord(text))
    store.extend_lines()
    cursor = last(store)
    assert cursor.by_part(-1, 5)
    assert cursor.token == (1, ord("b"))
    assert cursor.by_part(1, 5)
    assert cursor.token == (4, ord("d"))
    assert not cursor.by_part(1, 5)
    assert not cursor.to_part(2)
    assert cursor.to_end(-1)
    assert cursor.token == (0, ord("a"))
    assert cursor.to_end(1)
    assert cursor.token == (4, ord("d"))


def test_tokens_of_interleaved_rows_are_walked_row_by_row() -> None:
    store, record = TokenStore(40), RunRecord()
    transcript = Transcript(store, record)
    both = [round_of(n, ["a"], ["x"], f"{n}", row=row).rows[0] for n in (0, 1) for row in (0, 1)]
    for row in (0, 1):
        transcript.observe(RowStarted(0.0, row, row, "p", 0, 0, f"[{row}]", (1,), 0.0, 0.0))
        transcript.observe(Prefilled(0.1, row, 1, 0, 0.1, None, EmittedToken(1, "f", "plain")))
    for n in (0, 1):
        transcript.observe(Round(0.2, n, 0.1, 0.1, 0.0, None, tuple(both[2 * n : 2 * n + 2])))
    for row in (1, 0):
        transcript.observe(RowFinished(0.3, row, "length", "", ()))
    store.rewrap(40, show_rejected=True)
    cursor = last(store)
    assert cursor.to_end(-1)
    walk = [cursor.token]
    while cursor.by_token(1):
        walk.append(cursor.token)
    told = [(record.part(part).row, record.part(part).round, index) for part, index in walk]
    one_row = [(None, 0), (1, 0), (1, node_index(1)), (1, 1), (2, 0), (2, node_index(1)), (2, 1)]
    assert told == [(row, number, index) for row in (0, 1) for number, index in one_row]


TOKENS = st.lists(
    st.tuples(st.text(st.sampled_from(" ab\n的e\u0301❤\ufe0f👍"), min_size=1, max_size=20), st.sampled_from(State)),
    max_size=30,
)


@given(TOKENS, st.integers(MAX_PIECE_CELLS, 40), st.booleans())
def test_however_lines_wrap_walking_there_and_back_sees_the_same_tokens(
    tokens: list[Token], width: int, rejected: bool
) -> None:
    store = filled(tokens, width)
    store.rewrap(width, rejected)
    cursor = TokenCursor.near_line(store, 0)
    shown = [part for part, (_, state) in enumerate(tokens) if rejected or state not in (State.REJECTED, State.DRAFT)]
    if cursor is None:
        assert not shown
        return
    cursor.to_end(-1)
    assert walked(cursor, 1) == shown
    assert walked(cursor, -1) == shown[::-1]
    for line in range(store.line_count):
        for piece, x, cells in store.cells(line):
            if cells and store.selectable(piece):
                assert cursor.at(line, x)
                assert cursor.pieces == store.token_pieces(piece)


def test_in_a_million_tokens_every_move_is_at_once() -> None:
    store = TokenStore(100)
    for n in range(1_000_000):
        store.append(" word", State.ACCEPTED, n // 4, n % 4)
    store.extend_lines()
    cursor = last(store)
    started = time.process_time()
    for _ in range(20):
        cursor.by_token(-1)
        cursor.by_line(-1)
        cursor.by_part(-1, 250_000)
    cursor.to_end(-1)
    cursor.to_part(123_456)
    assert cursor.token == (123_456, 0)
    assert time.process_time() - started < 0.05
