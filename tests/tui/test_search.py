"""Searching the stream: what is found, how it is marked, and that a long text does not hold up the screen."""

import random
import re
import time

import pytest
from textual.widgets import Input, Static
from tui.screens import settle, workbench

from specterm.tui.text_search import STRETCH, TextSearch
from specterm.tui.widgets.search_bar import SearchBar
from specterm.tui.widgets.token_log import TokenLog
from specterm.tui.widgets.token_store import State, TokenStore


def found(store: TokenStore, query: str) -> list[str]:
    """Each place as the text it covers."""
    search = TextSearch(store, query)
    while not search.done:
        search.advance()
    texts = dict(store.texts(range(store.piece_count)))
    places = []
    for _, first, begin, last, end in search.in_pieces(range(store.piece_count)):
        pieces = [texts.get(piece, "") for piece in range(first, last + 1)]
        pieces[-1] = pieces[-1][:end]
        pieces[0] = pieces[0][begin:]
        places.append("".join(pieces))
    return places


def test_a_match_reaches_over_pieces_lines_and_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    pieces = ["".join(rng.choice("abA\n ") for _ in range(rng.randint(1, 3))) for _ in range(400)]
    text = "".join(pieces)
    for stretch in (1, 2, 7, 1000):
        monkeypatch.setattr("specterm.tui.text_search.STRETCH", stretch)
        store = TokenStore(20)
        for piece in pieces:
            store.append(piece, State.PLAIN)
        for query in ("ab", "aa", "a\nb", "b a", "A", "abab"):
            flags = 0 if query != query.lower() else re.IGNORECASE
            expected = re.findall(re.escape(query), text, flags)
            assert found(store, query) == expected, (stretch, query)
    assert expected


def test_hidden_tokens_are_searched_only_while_they_are_shown() -> None:
    store = TokenStore()
    for text, state in (("one", State.PLAIN), (" two", State.REJECTED), (" three", State.CORRECTION)):
        store.append(text, state)
    assert found(store, "one three") == ["one three"]
    assert found(store, "two") == []
    store.rewrap(80, True)
    assert found(store, "two") == ["two"]


def test_a_stretch_of_a_million_tokens_is_read_quickly() -> None:
    store = TokenStore()
    for number in range(1_000_000):
        store.append(" word" if number % 1000 else " needle", State.ACCEPTED)
    search = TextSearch(store, "needle")
    longest = 0.0
    while not search.done:
        start = time.process_time()
        search.advance()
        longest = max(longest, time.process_time() - start)
    assert len(search) == 1000
    assert longest < 0.05
    assert STRETCH < 1_000_000


def count(pilot: object) -> str:
    return str(pilot.app.query_one("#search-count", Static).render())  # type: ignore[attr-defined]


async def test_slash_searches_and_n_goes_on() -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.press("f3", "slash", *"lily")
        await settle(pilot)
        bar = app.query_one(SearchBar)
        assert bar.display
        assert bar.query_one(Input).value == "lily"
        assert count(pilot) == "1 of 2"
        await pilot.press("enter", "n")
        assert app.focused is app.query_one(TokenLog)
        assert count(pilot) == "2 of 2"
        await pilot.press("n")
        assert count(pilot) == "1 of 2"
        await pilot.press("N")
        assert count(pilot) == "2 of 2"
        log = app.query_one(TokenLog)
        marked = [
            (segment.text, bool(segment.style.underline))
            for y in range(log.size.height)
            for segment in log.render_line(y)
            if segment.style and segment.style.reverse
        ]
        assert marked == [("Lily", False), ("Lily", True)]
        await pilot.press("escape")
        assert not bar.display
        assert all(not (segment.style and segment.style.reverse) for y in range(5) for segment in log.render_line(y))


async def test_what_is_not_there_is_said_and_new_text_is_searched_too() -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f3", "slash", *"Lily")
        await settle(pilot)
        assert count(pilot) == "not found"
        await pilot.press("f2", "enter")
        await settle(pilot)
        assert count(pilot) == "1 of 2"
        await pilot.press("f3", "c")
        await settle(pilot)
        assert count(pilot) == "not found"
