"""What strides rest on: how long the adaptive length stays what it is, and the time that was not marked."""

import random
import time

import pytest
import torch

from specterm.decoding.adaptive import AdaptiveLength, RowDraft
from specterm.decoding.timing import PhaseTimer
from specterm.events import Calibration

COSTS = Calibration({1: 1.0, 2: 1.1, 5: 1.3, 9: 1.5, 17: 2.0}, (0.15,), 64)


class History:
    """Rounds of a drafter whose luck and costs change now and then; what was promised of each is kept."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.most = self.chance.choice((1, 2, 4, 8, 20))
        self.length = AdaptiveLength(self.most, self.most, COSTS, drafts=1)
        self.promised, self.seen = [], set()
        self.another()

    def another(self):
        self.luck, self.found = self.chance.choice((0.0, 0.3, 0.6, 0.9)), self.chance.choice((0.1, 0.7, 1.0))
        self.step_s, self.pass_s = self.chance.choice((0.01, 0.15, 0.5)), self.chance.choice((0.0, 0.02, 0.2))

    def round(self, limit):
        depth = self.length.choose([limit])
        before, bare = self.length._state, self.length._bare
        if self.promised:
            assert depth == self.promised.pop()
            self.seen.add((before.name, "bare" if not depth else "drafts"))
        else:
            further = self.length.further(self.chance.choice((0, 1, 2, 3, 11)))
            assert 0 <= further <= 11
            self.promised = [depth] * further
            self.seen.add("bare rounds" if bare else "asked")
        nodes, accepted = (depth if self.chance.random() < self.found else 0), 0
        while accepted < nodes and self.chance.random() < self.luck:
            accepted += 1
        wobble = self.chance.lognormvariate(0.0, 0.15)
        draft_s, pass_s = self.step_s * depth * wobble, (1.0 + self.pass_s * nodes) * wobble
        self.length.observe(depth, [RowDraft(depth, nodes, accepted)], draft_s, pass_s)


def test_no_depth_is_promised_that_is_not_chosen():
    """In whatever state: settled or not, in pauses and probes, with rounds that look at naive's cost, and strays."""
    seen = set()
    for seed in range(60):
        history = History(seed)
        for number in range(1500):
            if number % 300 == 299:
                history.another()
            history.round(limit=history.most + 40)
        seen |= history.seen
    assert {("DRAFTING", "drafts"), ("DRAFTING", "bare"), ("PAUSED", "bare"), "bare rounds", "asked"} <= seen


def test_no_depth_is_promised_that_the_end_of_a_row_allows_no_more():
    """As long as the longest draft is of use in each of the rounds, which strides see to."""
    for seed in range(40):
        history = History(seed)
        for _ in range(30):
            left = history.chance.randrange(1, 120)
            while left > history.most:
                history.round(left)
                left -= 1 if not history.promised else history.chance.randrange(1, 3)
            history.promised.clear()


def test_rounds_that_were_not_marked_and_marked_ones_add_up():
    before_it, timer, behind_it = time.perf_counter(), PhaseTimer(torch.device("cpu")), time.perf_counter()
    for _ in range(3):
        timer.start()
        time.sleep(0.001)
        timer.mark("draft")
        time.sleep(0.001)
        timer.mark("other")
        time.sleep(0.003)
        before, passed = timer.totals(), timer.unmarked()
        assert passed >= 0.003
        for share in (0.25, 0.75):  # of two rounds
            parts = {"other": 0.1 * passed * share, "draft": 0.2 * passed * share, "verify": 0.7 * passed * share}
            timer.passed(parts)
            assert timer.elapsed() == pytest.approx(passed * share)
            assert {phase: timer.spent(phase) for phase in parts} == pytest.approx(parts)
        gained = {phase: seconds - before[phase] for phase, seconds in timer.totals().items()}
        assert sum(gained.values()) == pytest.approx(passed)
        assert gained["verify"] == pytest.approx(0.7 * passed)
    least = time.perf_counter() - behind_it
    timer.mark("wait")
    assert least <= sum(timer.totals().values()) <= time.perf_counter() - before_it
