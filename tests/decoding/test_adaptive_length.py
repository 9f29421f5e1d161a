"""The controller of the draft length against a simulated machine: known acceptance, known costs, no clock."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specterm.decoding.adaptive import AdaptiveLength, RowDraft
from specterm.decoding.estimates import Acceptance, Curve, spaced
from specterm.events import Calibration

COSTS = Calibration({1: 1.0, 2: 1.1, 5: 1.3, 9: 1.5, 17: 2.0}, (0.15,), 64)


class Machine:
    """Rounds of a chain drafter: each token is accepted with chance `chance` after those before it; seconds are
    `slow` times the calibrated ones, with noise. A round has a draft with chance `found`."""

    def __init__(self, *, chance, gamma=8, rows=1, slow=1.0, step=0.15, found=1.0, seed=0, noise=0.1):
        self.chance, self.gamma, self.rows, self.slow, self.step, self.found = chance, gamma, rows, slow, step, found
        self.random, self.noise = random.Random(seed), noise
        self.length = AdaptiveLength(gamma, gamma, COSTS, drafts=1)
        self.changes = []
        self.tokens = self.seconds = 0.0
        self.depths = []

    def draft(self, depth):
        nodes = depth if self.random.random() < self.found else 0
        accepted = 0
        while accepted < nodes and self.random.random() < self.chance:
            accepted += 1
        return RowDraft(depth, nodes, accepted)

    def pass_s(self, width):
        return self.slow * (0.95 + 0.05 * width)

    def run(self, rounds, limits=None, fixed=None):
        for _ in range(rounds):
            open_rows = [self.gamma] * self.rows if limits is None else limits
            depth = self.length.choose(open_rows) if fixed is None else fixed
            self.depths.append(depth)
            rows = [self.draft(min(depth, limit)) for limit in open_rows]
            wobble = self.random.lognormvariate(0.0, self.noise)
            draft_s = self.slow * self.step * depth * wobble
            pass_s = self.pass_s(1 + max(row.nodes for row in rows)) * wobble
            self.tokens += sum(row.accepted + 1 for row in rows)
            self.seconds += draft_s + pass_s
            if fixed is None and (change := self.length.observe(depth, rows, draft_s, pass_s)):
                self.changes.append((len(self.depths), change))
        return self

    @property
    def rate(self):
        return self.tokens / self.seconds


def best_fixed(**machine):
    """The rate of the best fixed length, 0 among them."""
    return max(Machine(**machine, seed=9).run(2500, fixed=depth).rate for depth in range(machine.get("gamma", 8) + 1))


@pytest.mark.parametrize(
    "machine",
    [
        {"chance": 0.9},
        {"chance": 0.7},
        {"chance": 0.5},
        {"chance": 0.8, "slow": 3.0},
        {"chance": 0.8, "rows": 3},
        {"chance": 0.9, "step": 0.6},
        {"chance": 0.8, "step": 0.001, "found": 0.3},
        {"chance": 0.05},
        {"chance": 0.15},
        {"chance": 0.6, "step": 1.0},
    ],
    ids=str,
)
def test_it_comes_close_to_the_best_fixed_length(machine):
    assert Machine(**machine).run(2000).rate > 0.96 * best_fixed(**machine)


def test_the_length_follows_the_acceptance():
    def usual(chance):
        depths = Machine(chance=chance).run(400).depths[200:]
        return sorted(depths)[100]

    assert usual(0.95) == 8
    assert 1 <= usual(0.5) <= 3


def test_it_falls_back_says_so_once_and_probes_ever_more_seldom():
    machine = Machine(chance=0.0).run(1200)
    ((at, change),) = machine.changes
    assert at < 16
    assert "losing" in change.text
    assert "16 rounds" in change.advice
    pauses, pause = [], 0
    for depth in machine.depths[at:]:
        if depth == 0:
            pause += 1
        elif pause:
            pauses.append(pause)
            pause = 0
    assert pauses[:5] == [16, 32, 64, 128, 256]
    assert set(pauses[5:]) <= {256}
    assert 0 <= sum(depth > 0 for depth in machine.depths[at:]) - 4 * len(pauses) <= 4


def test_it_takes_drafting_up_again_when_acceptance_rises():
    machine = Machine(chance=0.0).run(100)
    assert [("losing" in change.text) for _, change in machine.changes] == [True]
    machine.chance = 0.9
    machine.run(300)
    assert [("pays again" in change.text) for _, change in machine.changes[1:]] == [True]
    assert sorted(machine.depths[-50:])[5] >= 4


def test_a_machine_slower_than_calibrated_is_no_reason_to_stop():
    assert not Machine(chance=0.8, slow=5.0).run(500).changes


@pytest.mark.parametrize("slow", [0.1, 10.0, 100.0])
def test_the_calibrated_height_does_not_matter(slow):
    machine = Machine(chance=0.8, slow=slow).run(300)
    assert not machine.changes
    assert machine.rate * slow > 0.93 * best_fixed(chance=0.8)


def test_a_dear_draft_is_given_up_however_well_it_guesses():
    machine = Machine(chance=0.8, step=2.0).run(200)
    assert "losing" in machine.changes[0][1].text
    assert machine.depths[-100:].count(0) > 80


def test_rounds_without_a_match_are_no_refusals():
    machine = Machine(chance=0.9, step=0.001, found=0.1).run(600)
    assert not machine.changes
    assert machine.depths.count(0) < 10


@given(
    st.integers(1, 20), st.lists(st.lists(st.integers(0, 25), min_size=1, max_size=3), min_size=1, max_size=60),
    st.floats(0.0, 1.0), st.floats(0.0, 3.0),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_it_never_goes_deeper_than_is_of_use(gamma, rounds, chance, step):
    machine = Machine(chance=chance, gamma=gamma, step=step)
    for limits in rounds:
        machine.run(1, limits=limits)
        assert 0 <= machine.depths[-1] <= min(gamma, max(limits))


def test_rounds_at_the_end_of_a_row_decide_nothing():
    machine = Machine(chance=0.9)
    machine.run(50, limits=[0])
    assert set(machine.depths) == {0}
    assert not machine.changes
    assert machine.run(1).depths[-1] > 0


def test_acceptance_of_depths_not_tried_follows_the_one_above():
    acceptance = Acceptance(4)
    for _ in range(60):
        acceptance.observe(2, 2, 2)
    one, two, three, four = (b - a for a, b in zip(acceptance.lengths(), acceptance.lengths()[1:]))
    assert one > 0.95
    assert two > 0.9
    assert three > 0.85
    for _ in range(60):
        acceptance.observe(4, 4, 2)
    assert acceptance.lengths()[4] == pytest.approx(2.0, abs=0.15)
    assert acceptance.share == pytest.approx(1.0)


@given(st.floats(0.3, 3.0), st.lists(st.sampled_from([1, 2, 4, 8]), min_size=60, max_size=80))
@settings(max_examples=50, deadline=None)
def test_curves_learn_a_common_factor_from_any_place(factor, places):
    curve = Curve(lambda x: 1.0 + 0.1 * x)
    for x in places:
        curve.observe(x, factor * (1.0 + 0.1 * x))
    for x in (1, 3, 16):
        assert curve.at(x) == pytest.approx(factor * (1.0 + 0.1 * x), rel=0.15)


def test_one_long_pause_is_no_cost():
    curve = Curve(lambda x: 1.0)
    for _ in range(40):
        curve.observe(4, 1.0)
    curve.observe(4, 1000.0)
    curve.observe(4, 0.0)
    assert curve.at(4) < 1.05


@given(st.integers(1, 300))
def test_sizes_rise_to_the_most(most):
    sizes = spaced(most)
    assert sizes == tuple(sorted(set(sizes)))
    assert (sizes[0], sizes[-1]) == (1, most)
    assert len(sizes) < 30
