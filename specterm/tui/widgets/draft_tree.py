"""A round's draft tree in box characters: the accepted path is the trunk, what was not taken branches off to its right.

A trunk keeps its column, so that a chain of 64 tokens is as wide as one of 4. The mark before each token says its state
without colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import set_cell_size
from rich.style import Style
from rich.text import Text

from specterm.events import EmittedToken, RowRound
from specterm.tui.run_record import accepted_path
from specterm.tui.widgets.token_store import State
from specterm.tui.widgets.visible_text import visible

MARKS = {"accepted": "✓", "rejected": "✗", "unused": "·", "cut": "✂"}
STATES = {"accepted": State.ACCEPTED, "rejected": State.REJECTED, "unused": State.DRAFT, "cut": State.DRAFT}
OWN_STATES = {"plain": State.PLAIN, "correction": State.CORRECTION, "bonus": State.BONUS}
_LEAST_TEXT = 6  # cells
_OWN = -2

Styles = Mapping[State, Style]


def probability(value: float | None, digits: int = 2) -> str:
    """A probability; one that is not zero never reads as zero."""
    if value is None:
        return "not recorded"
    if 0 < value < 0.5 * 10**-digits:
        return f"<{10**-digits:.{digits}f}"
    return f"{value:.{digits}f}"


def quoted(text: str) -> str:
    """Model text, safe to show, in quotes: its spaces count."""
    return f'"{visible(text)}"'


def node_text(row: RowRound, node: int) -> str:
    """What a node says, or its token id where texts were not recorded."""
    return f"token {row.tokens[node]}" if row.texts is None else quoted(row.texts[node])


def drafter_letters(mask: int) -> str:
    """One letter for each drafter of a bit mask, from A."""
    return "".join(chr(ord("A") + bit) for bit in range(mask.bit_length()) if mask >> bit & 1)


def tree_lines(
    row: RowRound,
    root: EmittedToken | None,
    letters: int,
    styles: Styles,
    faint: Style,
    width: int,
    chosen: int | None,
) -> list[Text]:
    """The tree of a round, one line a node, each at most `width` cells.

    `root` is the token above it, where it is known; `letters`: how many drafters to name at each node, by a
    letter each; `chosen` is
    the node to mark, `len(row.tokens)` for the target's own token.
    """
    top = Text("● " + (quoted(root.text) if root is not None else "root"), faint, no_wrap=True)
    top.truncate(width, overflow="ellipsis")
    lines = [top]
    own = row.emitted[-1] if row.emitted and row.emitted[-1].origin != "accepted" else None
    path = accepted_path(row)
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(row.parents):
        children.setdefault(parent, []).append(node)
    if own is not None:
        children.setdefault(path[-1] if path else -1, []).append(_OWN)
    on_path = {*path, _OWN}
    for prefix, node in _branches(children, on_path, -1, ""):
        if node == _OWN:
            assert own is not None
            style = styles[OWN_STATES[own.origin]]
            line = _line(f"{prefix}+ ", quoted(own.text), _numbers(own.p), style, faint, width)
            picked = chosen == len(row.tokens)
        else:
            state = row.states[node]
            style = styles[STATES[state]] + Style(bold=node in on_path or None)
            right = _numbers(_at(row.p, node), _at(row.q, node), _at(row.confidence, node))
            if letters and row.sources is not None:
                right += " " + drafter_letters(row.sources[node]).ljust(letters)
            line = _line(f"{prefix}{MARKS[state]} ", node_text(row, node), right, style, faint, width)
            picked = chosen == node
        if picked:
            line.stylize(Style(reverse=True))
        lines.append(line)
    return lines


def _branches(
    children: Mapping[int, Sequence[int]], on_path: set[int], node: int, prefix: str
) -> Iterator[tuple[str, int]]:
    """Everything below a node with what to draw before it: side branches first, then the trunk in the same column."""
    while below := children.get(node, ()):
        ended = node in on_path or node == -1  # then only the path goes on in this column
        trunk = next((child for child in below if child in on_path), None if ended else below[0])
        sides = [child for child in below if child != trunk]
        for side in sides:
            last = trunk is None and side == sides[-1]
            yield prefix + ("└─" if last else "├─"), side
            yield from _branches(children, on_path, side, prefix + ("  " if last else "│ "))
        if trunk is None:
            return
        yield prefix, trunk
        node = trunk


def _at(values: Sequence[float | None] | None, node: int) -> float | None:
    return None if values is None else values[node]


def _numbers(p: float | None, q: float | None = None, confidence: float | None = None) -> str:
    told = (("p", p), ("q", q), ("c", confidence))
    return " ".join(f"{name} {probability(value)}" for name, value in told if value is not None)


def _line(left: str, text: str, right: str, style: Style, faint: Style, width: int) -> Text:
    """Branches and mark, the token, and its numbers at the right edge; without room the numbers go first."""
    if len(left) + _LEAST_TEXT + 1 + len(right) > width:
        right = ""
    room = max(1, width - len(left) - (len(right) + 1 if right else 0))
    token = Text(text, style, no_wrap=True)
    token.truncate(room, overflow="ellipsis")
    line = Text(no_wrap=True).append(left[:-2], faint).append(left[-2:], style + Style(strike=False))
    line.append_text(token)
    if right:
        line.append(set_cell_size("", width - line.cell_len - len(right)) + right, faint)
    line.truncate(width)
    return line
