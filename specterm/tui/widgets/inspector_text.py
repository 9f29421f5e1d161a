"""What there is to say about one token: where it came from, how it was judged, and the draft that it was part of."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from specterm.events import Candidate, EmittedToken, RowRound
from specterm.tui.run_record import MAX_DETAIL_BYTES, RunRecord, accepted_path, depths
from specterm.tui.transcript import node_index
from specterm.tui.widgets.draft_tree import (
    MARKS,
    OWN_STATES,
    STATES,
    Styles,
    drafter_letters,
    node_text,
    probability,
    quoted,
    tree_lines,
)
from specterm.tui.widgets.history_graph import bar
from specterm.tui.widgets.token_store import State

NOT_RECORDED = "not recorded"
_ORIGINS = {
    "accepted": "accepted: drafted, and kept by the target",
    "rejected": "rejected: drafted, and refused by the target",
    "unused": "not judged: drafted behind a refused token, or on a branch that was not taken",
    "cut": "cut: accepted, but behind the end of the output",
    "correction": "correction: the target's own token where the draft was refused",
    "bonus": "bonus: the target's own token after a draft that was kept whole",
    "plain": "plain: this round had no draft",
}
_LABEL = 12  # cells of a label
_NAME = 14  # cells of an alternative


@dataclass(frozen=True)
class Look:
    """The styles of the pane, resolved."""

    states: Styles
    label: Style
    value: Style
    head: Style
    bar: Style


class TokenReport:
    """The lines about the token at `index` (see `node_index`) of part `number` of a record."""

    def __init__(self, record: RunRecord, number: int, index: int, look: Look, width: int) -> None:
        self._record, self._number, self._look, self._width = record, number, look, width
        self._part, self._facts = record.part(number), record.facts(number)
        self._lines: list[Text] = []
        detail = record.detail(number)
        if isinstance(detail, RowRound):
            self._tell_round(detail, index)
        else:
            self._tell_prefill(detail)

    @property
    def lines(self) -> list[Text]:
        """One `Text` a line, each at most as wide as the pane."""
        return self._lines

    # Parts of the report

    def _tell_prefill(self, token: EmittedToken | None) -> None:
        if token is not None:
            self._title(quoted(token.text), token.id, State.PLAIN)
        if self._part.round is None:
            self._sentence("plain: the first token, drawn by the prefill; it belongs to no round")
        if token is None:
            self._sentence(self._part.told())
            self._sentence(
                f"The detail is gone: the last {MAX_DETAIL_BYTES // 2**20} MiB of rounds are kept. Older ones have "
                "their counts only."
            )
            return
        self._place(None, 0)
        self._pair("p", probability(token.p, 4), "the target's")

    def _tell_round(self, row: RowRound, index: int) -> None:
        path = accepted_path(row)
        node = node_index(index) if index < 0 else path[index] if index < len(path) else None
        if node is None:
            token = row.emitted[index]
            self._title(quoted(token.text), token.id, OWN_STATES[token.origin])
            self._sentence(_ORIGINS[token.origin])
            self._place(len(path) + 1 if row.tokens else None, self._part.depth)
            self._judge_own(row, token)
            parent = path[-1] if path else -1
        else:
            self._title(node_text(row, node), row.tokens[node], STATES[row.states[node]])
            self._sentence(_ORIGINS[row.states[node]])
            self._place(depths(row.parents)[node], self._part.depth)
            self._judge_node(row, node)
            parent = row.parents[node]
        self._tell_refused(row, parent, node)
        self._tell_alternatives(row, parent, row.emitted[index].id if node is None else row.tokens[node])
        self._tell_tree(row, len(row.tokens) if node is None else node)

    def _title(self, text: str, token_id: int, state: State) -> None:
        name = f"id {token_id}"
        title = Text(no_wrap=True).append(text, self._look.states[state])
        title.truncate(max(4, self._width - len(name) - 2), overflow="ellipsis")
        title.append(name.rjust(self._width - title.cell_len), self._look.label)
        self._lines.append(title)

    def _place(self, depth: int | None, deepest: int) -> None:
        part = self._part
        if part.round is not None:
            row = f", row {part.row}" if part.row else ""
            self._pair("round", f"{part.round} of {part.rounds}{row}", f"{1000 * part.seconds:.1f} ms")
        if depth is not None:
            if depth > deepest:
                self._pair("depth", f"{depth}", f"behind the draft of {deepest}")
            else:
                self._pair("depth", f"{depth} of {deepest}", "in the draft")

    def _judge_own(self, row: RowRound, token: EmittedToken) -> None:
        how = "the target's"
        if token.origin == "correction" and row.q is not None and self._facts.ratio_test:
            how = "the target's; drawn from max(p - q, 0)"
        self._pair("p", probability(token.p, 4), how)

    def _judge_node(self, row: RowRound, node: int) -> None:
        for place, name in enumerate(self._drafters(row, node)):
            self._pair("" if place else "drafted by", name, "")
        p = None if row.p is None else row.p[node]
        q = None if row.q is None else row.q[node]
        confidence = None if row.confidence is None else row.confidence[node]
        self._pair("p", probability(p, 4), "the target's")
        if q is not None:
            self._pair("q", probability(q, 4), "the drafter's; drawn from it")
        elif p is None:
            self._pair("q", NOT_RECORDED, "")
        else:
            self._pair("q", "1", "a fixed child")
            self._pair("confidence", probability(confidence, 4), "the drafter's own")
        if p is not None and self._facts.ratio_test:
            self._pair("kept with", *self._chance(row, node, p, q))

    def _chance(self, row: RowRound, node: int, p: float, q: float | None) -> tuple[str, str]:
        if self._facts.greedy and q is None:
            return probability(p), "greedy: the likeliest or none"
        if q is None:
            return probability(p, 4), "= min(1, p/1)"
        if any(parent == row.parents[node] for parent in row.parents[:node]):
            return NOT_RECORDED, "judged after its siblings"
        return (probability(min(1.0, p / q), 4) if q > 0 else NOT_RECORDED), "= min(1, p/q)"

    def _drafters(self, row: RowRound, node: int) -> list[str]:
        if row.sources is None:
            return [NOT_RECORDED]
        names = self._facts.drafters
        bits = [bit for bit in range(row.sources[node].bit_length()) if row.sources[node] >> bit & 1]
        return [names[bit] if bit < len(names) else f"drafter {bit + 1}" for bit in bits]

    def _tell_refused(self, row: RowRound, parent: int, node: int | None) -> None:
        refused = [
            other
            for other, above in enumerate(row.parents)
            if above == parent and row.states[other] == "rejected" and other != node
        ]
        if not refused:
            return
        self._head("Refused in this place")
        for other in refused:
            line = Text(f"{MARKS['rejected']} ", no_wrap=True)
            line.append(node_text(row, other), self._look.states[State.REJECTED])
            p = None if row.p is None else row.p[other]
            q = None if row.q is None else row.q[other]
            confidence = None if row.confidence is None else row.confidence[other]
            for name, value in (("p", p), ("q", q), ("c", confidence)):
                if value is not None or (name == "p" and row.q is None):
                    line.append(f"  {name} {probability(value)}", self._look.label)
            line.truncate(self._width, overflow="ellipsis")
            self._lines.append(line)

    def _tell_alternatives(self, row: RowRound, parent: int, token: int) -> None:
        self._head("Most likely in this place")
        if row.alternatives is None:
            self._sentence(f"{NOT_RECORDED}; with a they are, from the next run on")
            return
        found = row.alternatives[parent + 1]
        self._candidates("target", found.target, token)
        drafter = found.drafter
        if drafter is None and (branches := self._branches(row, parent)):
            self._candidates("drafter (branches)", branches, token)
        else:
            self._candidates("drafter", drafter, token)

    @staticmethod
    def _branches(row: RowRound, parent: int) -> list[Candidate]:
        """What was drafted in one place, by the drafter's own score: a tree is the best of its alternatives."""
        if row.confidence is None or row.texts is None:
            return []
        branches = [
            Candidate(row.tokens[node], row.texts[node], score)
            for node, (above, score) in enumerate(zip(row.parents, row.confidence, strict=True))
            if above == parent and score is not None
        ]
        return sorted(branches, key=lambda branch: -branch.probability)

    def _candidates(self, who: str, candidates: Sequence[Candidate] | None, token: int) -> None:
        if candidates is None:
            self._pair(who, NOT_RECORDED, "")
            return
        self._lines.append(Text(who, self._look.label))
        cells = max(4, self._width - _NAME - 9)
        for candidate in candidates:
            line = Text("▸ " if candidate.id == token else "  ", self._look.value, no_wrap=True)
            name = Text(quoted(candidate.text), self._look.value)
            name.truncate(_NAME, overflow="ellipsis", pad=True)
            line.append_text(name).append(bar(candidate.probability, cells), self._look.bar)
            line.append(probability(candidate.probability, 3).rjust(7), self._look.label)
            line.truncate(self._width)
            self._lines.append(line)

    def _tell_tree(self, row: RowRound, chosen: int) -> None:
        if not row.tokens:
            return
        self._head(f"Draft · {self._part.accepted} of {self._part.drafted} accepted")
        drafters = max(row.sources).bit_length() if row.sources is not None else 1
        letters = drafters if drafters > 1 else 0  # one alone needs no naming
        look = self._look
        root = self._record.root(self._number)
        self._lines += tree_lines(row, root, letters, look.states, look.label, self._width, chosen)
        self._sentence("  ".join(f"{mark} {word}" for word, mark in (*MARKS.items(), ("the target's own", "+"))))
        if row.p is None:
            self._sentence(f"p, q and texts {NOT_RECORDED} at trace level counts")
        if letters:
            for bit, name in enumerate(self._facts.drafters):
                self._sentence(f"{drafter_letters(1 << bit)} {name}")

    # Lines

    def _head(self, text: str) -> None:
        head = Text(text, self._look.head, no_wrap=True)
        head.truncate(self._width, overflow="ellipsis")
        self._lines += [Text(), head]

    def _pair(self, label: str, value: str, meaning: str) -> None:
        line = Text(label.ljust(_LABEL), self._look.label, no_wrap=True).append(value, self._look.value)
        if meaning and line.cell_len + 2 + len(meaning) <= self._width:
            line.append(f"  {meaning}", self._look.label)
        line.truncate(self._width, overflow="ellipsis")
        self._lines.append(line)

    def _sentence(self, text: str) -> None:
        self._lines += [Text(line, self._look.label) for line in textwrap.wrap(text, self._width)]
