"""Adaptive length: how deep the next round's draft may be, so that the run is expected to emit most tokens a second.

The expected rate of rounds of depth g is (1 + share * E[accepted | g]) / (draft(g) + pass(1 + nodes(g))), with
acceptance by depth and seconds by width both learned as the run goes, from the calibrated costs onwards (Leviathan et
al. 2023, section 3, with measured costs and one acceptance for each depth). Depth 0 is naive decoding: the run falls
back to it when no depth is expected to pay, and tries drafts again after a number of rounds that doubles every time
they still do not pay.

The depth is chosen before anything is drafted and from earlier rounds only, so nothing sampled is ever dropped and the
output keeps its law: with fixed children even every token. With *sampled* children a round's random numbers depend on
where it begins, so there the same seed can give other tokens on another day, of the same distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from specterm.decoding.estimates import Acceptance, Curve, spaced
from specterm.events import Calibration

_EVIDENCE = 8  # drafted rounds before drafting may be given up, or taken up again
_ALONE = 2.0  # rounds without a draft that must have been seen by then: naive's cost is measured, not only foretold
_PROBE = 4  # drafted rounds after which a probe that does not pay is broken off
_GLIMPSE = 2  # likewise where drafts are far from paying; the first one says nothing of what drafts cost
_LONGEST_PROBE = 16  # rounds, where drafts are seldom found
_SHORTEST_PAUSE, _LONGEST_PAUSE = 16, 256  # rounds
_SETTLED = 64  # drafted rounds after which the next pause is a short one again
_LOOKED_AT = 4  # of the rounds of a pause every so many: what naive costs is known by then, and looking costs too
_WEIGHED = 8  # once there is evidence, the depths are weighed anew every so many rounds
_REMEMBERED = 0.1  # of what drafts were worth and cost before a pause
_LOSING, _PAYING = 0.98, 1.02  # of naive's rate: between the two nothing changes
_HOPELESS, _LOST = 0.85, 0.7  # less evidence is enough where drafts are far from paying
_STRAY = 16  # every so many rounds another length is tried, lest an old figure stand for ever
_CLOSE_CALL = 1.3  # naive is tried likewise where drafting is expected to gain less than this, by turns with those
_DOUBT = 3  # drafted rounds after which it is tried for the first time, if so: what it costs is only foretold by then
_NEAR = 1.1  # and each time where it is less than this
_BARE = 4  # rounds at a time: the first has caches that drafting has filled, and says little of naive's cost
_UNMEASURED = Calibration({1: 1.0}, (), 0)
_LEAST_DRAFT = 0.02  # of a one-token pass: the cost of a draft that nobody calibrated, to begin with


class _State(Enum):
    DRAFTING = auto()
    PAUSED = auto()
    PROBING = auto()


@dataclass(frozen=True, slots=True)
class RowDraft:
    """One row's part in a round: how deep it might draft, the nodes it drafted, and how many were accepted."""

    limit: int
    nodes: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Change:
    """Drafting was given up or taken up again: why, in numbers, and what can be done."""

    text: str
    advice: str


class AdaptiveLength:
    """Chooses the depth of each round for the whole batch; knows no clock, only the seconds that it is told."""

    def __init__(self, most_depth: int, most_nodes: int, costs: Calibration | None = None, drafts: int = 0) -> None:
        """most_depth, most_nodes: of the drafter's trees, at least 1. drafts: how many of the calibrated draft models
        take a step for every level."""
        costs = _UNMEASURED if costs is None else costs
        step, least = sum(costs.draft_step_s[:drafts]), _LEAST_DRAFT * costs.forward_s(1)
        self._most = most_depth
        self._acceptance = Acceptance(most_depth)
        self._draft_s = Curve(lambda depth: depth * step + least)
        self._pass_s = Curve(lambda width: costs.forward_s(width))
        self._nodes = Curve(lambda depth: max(1.0, depth * most_nodes / most_depth))
        self._idle_s = Curve(lambda _: least)  # what the drafter takes in a round without drafts
        self._rows = 1
        self._state = _State.DRAFTING
        self._rounds = 0  # asked for a depth while drafting
        self._evidence = 0  # drafted rounds in this state
        self._left = 0  # rounds of the pause or the probe
        self._pause = _SHORTEST_PAUSE
        self._bare = 0  # rounds without drafts that are still to come, to see what naive costs
        self._idle = False  # the last round had no drafts: the next draft makes up for it first
        self._weigh()

    def choose(self, limits: Sequence[int]) -> int:
        """The depth of the next round, 0 for none at all; `limits` is how deep a draft can be of use to each row."""
        most = min(self._most, max(limits))
        if not most or self._state is _State.PAUSED:
            return 0
        self._rows = len(limits)
        best = max((depth for depth in spaced(most) if depth in self._rates), key=self._rates.__getitem__)
        if self._state is _State.PROBING:
            return best
        self._rounds += 1
        if self._bare:
            self._bare -= 1
            return 0
        if self._losing:  # in doubt: see what naive costs before giving up
            return 0
        if self._evidence == _DOUBT and not self._pass_s.seen(1) and self._gain() < _CLOSE_CALL:
            self._bare = _BARE - 1
            return 0
        return self._stray(best, most) if self._rounds % _STRAY == 0 else best

    def further(self, most: int) -> int:
        """For how many more rounds, at most so many, the depth that was chosen last is sure to be chosen again."""
        match self._state:
            case _State.PAUSED:
                return min(most, self._left - 1)
            case _State.DRAFTING if self._bare:
                return min(most, self._bare)
            case _State.DRAFTING if self._idle:  # the last of the bare rounds says nothing of the next
                return 0
            case _State.DRAFTING if self._rounds % _STRAY and not self._losing and self._evidence >= _EVIDENCE:
                until = self._rounds - self._rounds % -_WEIGHED  # the round behind which they are weighed
                return min(most, until - self._rounds - (until % _STRAY == 0)) if until > self._rounds else 0
        return 0

    def observe(self, depth: int, rows: Sequence[RowDraft], draft_s: float, pass_s: float) -> Change | None:
        """What a round of `depth` came to: seconds of drafting (with the drafter's learning) and of all the rest."""
        if self._state is _State.PAUSED and self._left > 1 and self._left % _LOOKED_AT:
            self._left, self._idle = self._left - 1, True
            return None
        drafting = [row for row in rows if row.limit]
        widest = max(row.nodes for row in rows)
        if drafting or self._idle or self._state is _State.PAUSED:
            self._pass_s.observe(1 + widest, pass_s)
        for row in drafting:
            self._acceptance.observe(row.limit, row.nodes, row.accepted)
        if not drafting:
            self._idle_s.observe(1, draft_s)
        elif widest:
            deepest = max(row.limit for row in drafting)
            self._nodes.observe(deepest, widest)
            if not self._idle:
                self._draft_s.observe(deepest, draft_s)
        self._idle = not drafting
        settled = self._state is _State.DRAFTING and self._evidence >= _EVIDENCE
        if self._state is not _State.PAUSED and (not settled or self._rounds % _WEIGHED == 0):
            self._weigh()
        return self._step(depth, drafted=widest > 0)

    def _step(self, depth: int, *, drafted: bool) -> Change | None:
        """On to the next state."""
        self._evidence += drafted
        match self._state:
            case _State.DRAFTING:
                if self._evidence == _SETTLED:
                    self._pause = _SHORTEST_PAUSE
                if self._losing and self._pass_s.seen(1) >= _ALONE:
                    return self._give_up()
            case _State.PAUSED:
                self._left -= 1
                if self._left <= 0:
                    self._enter(_State.PROBING, _LONGEST_PROBE)
                    self._acceptance.fade(_REMEMBERED)
                    self._draft_s.fade(_REMEMBERED)
                    self._weigh()
            case _State.PROBING if depth:
                self._left -= 1
                pays, over = self._gain() > _PAYING, self._left <= 0
                if pays and (over or self._evidence >= _EVIDENCE):
                    return self._take_up()
                enough = _GLIMPSE if self._gain() < _HOPELESS else _PROBE
                if not pays and (over or self._evidence >= enough):
                    self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                    self._enter(_State.PAUSED, self._pause)
        return None

    def _enter(self, state: _State, rounds: int = 0) -> None:
        self._state, self._left, self._evidence = state, rounds, 0

    def _give_up(self) -> Change:
        why, gain = self._why(), self._gain()
        if gain < _HOPELESS:  # the farther drafts are from paying, the later they are tried again
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._enter(_State.PAUSED, self._pause)
        return Change(
            f"speculation is losing: {why}; decoding goes on without drafts",
            f"they are tried again after {self._pause} rounds; a cheaper draft or a closer one would pay sooner",
        )

    def _take_up(self) -> Change:
        self._enter(_State.DRAFTING)
        return Change(f"speculation pays again: {self._why()}", "drafting goes on")

    def _why(self) -> str:
        kept = 1.0 + self._acceptance.share * self._acceptance.lengths()[self._best]
        even = self._seconds(self._best) / self._seconds(0)
        return f"{kept:.2f} tokens a round at length {self._best}, where {even:.2f} break even"

    def _weigh(self) -> None:
        """Expected tokens a second of one row, by depth (0: naive), and the best depth to draft."""
        kept, share = self._acceptance.lengths(), self._acceptance.share
        self._rates = {d: (1.0 + share * kept[d]) / self._seconds(d) for d in (0, *spaced(self._most))}
        self._best = max(spaced(self._most), key=self._rates.__getitem__)

    def _gain(self) -> float:
        """The rate of the best depth over naive's."""
        return self._rates[self._best] / self._rates[0]

    @property
    def _losing(self) -> bool:
        gain = self._gain()
        enough = _EVIDENCE if gain >= _HOPELESS else _EVIDENCE // 2 if gain >= _LOST else _EVIDENCE // 4
        return gain < _LOSING and self._evidence >= enough

    def _stray(self, best: int, most: int) -> int:
        """A length beside the best one, by turns deeper, shallower and, where it is a close call, none."""
        turn = self._rounds // _STRAY % 3
        if self._gain() < (_CLOSE_CALL if turn == 2 else _NEAR) and self._pass_s.seen(1) < _ALONE:
            self._bare = _BARE - 1
            return 0
        if turn == 2:
            return best
        return min(most, best + 1) if turn == 1 else max(1, best - 1)

    def _seconds(self, depth: int) -> float:
        """Expected seconds of a round of the batch."""
        alone = self._pass_s.at(1)
        if not depth:
            return alone + (self._idle_s.at(1) if self._idle_s.weight else 0.0)
        any_draft = 1.0 - (1.0 - self._acceptance.share) ** self._rows
        width = 1.0 + self._nodes.at(depth)
        low = int(width)
        judged = self._pass_s.at(low)
        if width > low:
            judged += (width - low) * (self._pass_s.at(low + 1) - judged)
        return self._draft_s.at(depth) + any_draft * judged + (1.0 - any_draft) * alone
