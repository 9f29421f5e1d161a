"""The screen's own cost, in a real terminal of 160 x 48 in full colour: a fast stream, and a very long log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal_session import ROOT, TerminalSession

UI_SHARE = 0.40
LAG_S = 0.030
PAGE_S = 0.050
RESIZE_S = 0.5


def measured(folder: Path, seconds: float, tokens: int) -> dict[str, float]:
    figures = folder / "figures.json"
    script = ROOT / "tests" / "benchmarks" / "streaming_workbench.py"
    with TerminalSession([str(script), str(seconds), str(tokens), str(figures)], folder) as session:
        assert session.ended(seconds + 240) == 0, session.output[-4000:].decode()
        assert len(session.output) > 10_000
    found: dict[str, float] = json.loads(figures.read_text())
    print(found)
    return found


def check(found: dict[str, float], leeway: float = 1.0) -> None:
    assert found["ui_share"] < leeway * UI_SHARE, found
    assert found["own_lag_p95_s"] < leeway * LAG_S, found
    assert found["page_s"] < leeway * PAGE_S, found
    assert found["resize_s"] < leeway * RESIZE_S, found


def test_a_fast_stream_leaves_the_screen_time(tmp_path: Path) -> None:
    found = measured(tmp_path, 4, 50_000)
    # A machine that does other things is slower, by its processor's threads and caches, in processor time too.
    assert found["tokens_per_s"] > 500
    check(found, leeway=8.0)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_minute_of_a_fast_stream_and_a_million_tokens(tmp_path: Path) -> None:
    found = measured(tmp_path, 60, 1_000_000)
    assert found["tokens_per_s"] > 1900, found
    check(found)
    assert found["tokens"] >= 1_000_000
    assert found["bytes_per_token_end"] < max(1.5 * found["bytes_per_token_middle"], 400), found
