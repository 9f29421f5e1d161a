"""Rounds that are done in one call against the same rounds one by one: tokens, trees, what is kept of each, and what is
left for the next prompt."""

import random
from array import array
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from harness import decode
from random_llama import config_of, random_weights

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.drafters.budget import CalibratedBudget
from specterm.decoding.drafters.multi_draft import MultiDraft
from specterm.decoding.drafters.prefix import DraftPrefix
from specterm.decoding.drafters.side_by_side import InTurn
from specterm.decoding.ports import Admission, ProposeRow, Recording
from specterm.decoding.prefill import prefill
from specterm.decoding.processing import Processing
from specterm.decoding.sampling import Warps
from specterm.decoding.stride_ports import Drafting, Lookup
from specterm.events import Calibration, Prefilled, Round, RowFinished, RowStarted
from specterm.kernels.machine import Machine, this_machine
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.loading import load_models
from specterm.models.runners.llama import LlamaRunner

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
CPU = torch.device("cpu")
SIZE = {"hidden_size": 128, "layers": 3, "heads": 2, "kv_heads": 1, "intermediate_size": 192, "vocab_size": 300}
PROMPTS = [[1, 2, 3, 4, 5], [17, 17, 17, 9, 8, 7, 17, 17], [250]]
LESSER = [Machine("x86-64-v4", 16, 6), Machine("x86-64-v3", 8, 3)]
COSTS = Calibration({1: 1e-4, 2: 1.1e-4, 5: 1.3e-4, 9: 1.5e-4, 17: 2e-4}, (1e-5, 1.5e-5), 64)
GREEDY = Warps(0.0)
WARPS = [GREEDY, Warps(0.8), Warps(1.0, top_p=0.8), Warps(1.2, top_k=5), Warps(1.0, min_p=0.05)]
WAYS = {
    "naive": ("naive", 0, {}),
    "draft": ("draft", 1, {"num_draft_tokens": 3}),
    "draft, while it is sure": ("draft", 1, {"num_draft_tokens": 4, "draft_confidence": 0.01}),
    "draft, at a temperature of its own": ("draft", 1, {"num_draft_tokens": 2, "draft_temperature": 0.5}),
    "sequential": ("sequential", 2, {"num_draft_tokens": 3}),
    "tree of 2": ("tree", 2, {"tree_width": 2, "tree_depth": 3, "tree_nodes": 7}),
    "tree of 3": ("tree", 2, {"tree_width": 3, "tree_depth": 2, "tree_nodes": 24}),
    "tree of one draft": ("tree", 1, {"tree_width": 3, "tree_depth": 4, "tree_nodes": 11}),
    "tree of chains": ("tree", 2, {"tree_width": 1, "tree_depth": 3, "tree_nodes": 5}),
    "early exit": ("early-exit", 0, {"exit_layer": 1, "num_draft_tokens": 3}),
    "early exit, tree": ("early-exit", 0, {"exit_layer": 2, "num_draft_tokens": 3, "tree_width": 2, "tree_nodes": 6}),
    "ngram": ("ngram", 0, {"num_draft_tokens": 4, "draft_memory": "prompt"}),
    "ngram of the output": ("ngram", 0, {"num_draft_tokens": 4, "draft_memory": "none", "ngram_min": 2}),
    "ngram of one": ("ngram", 0, {"num_draft_tokens": 3, "draft_memory": "prompt", "ngram_min": 1, "ngram_max": 1}),
}
FEW = ["naive", "draft", "sequential", "tree of 2", "early exit", "early exit, tree", "ngram"]
"""One of each kind."""


@pytest.fixture(autouse=True)
def _long_strides(monkeypatch):
    """As long as they may be, however slow this machine is."""
    monkeypatch.setattr("specterm.decoding.striding._LASTS_S", 60.0)


@cache
def model(layers, upper=0.5, context=512, dtype=torch.float32, eight_bits=False, **sizes):
    """The first layers of one and the same model; with `upper` what those from the second on add is scaled."""
    read = random_weights(CPU, dtype, 1, upper)
    config = config_of("tiny") | {name: size for name, size in (SIZE | sizes).items() if name != "layers"}
    config |= {"num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1}
    with patch("specterm.models.runners.llama.quickest", lambda *_: CompiledMatrix):
        return LlamaRunner(read, config, CPU, torch.float32, context, eight_bits=eight_bits)


def trio(**options):
    """A target and two unlike drafts of it."""
    return SimpleNamespace(target=model(3, **options), drafts=[model(1), model(2, 0.4)])


@contextmanager
def strides(on=True):
    """The rounds of each call; with `on` false there are none, and rounds are done one by one."""
    whole, lengths = LlamaRunner.stride, []

    def counted(*args):
        steps = whole(*args) if on else None
        lengths.append(0 if steps is None else len(steps))
        return steps

    with patch.object(LlamaRunner, "stride", counted):
        yield lengths


def recorded(decoded):
    """The probabilities of every round, and where there are none."""
    parts = [(part.p, part.q, part.confidence, *[token.p for token in part.emitted]) for part in decoded.rounds]
    flat = [each if isinstance(each, tuple) else (each,) for part in parts for each in part]
    return (
        [len(each) for each in flat],
        [x for each in flat for x in each if x is not None],
        [each == (None,) for each in flat],
    )


def told(decoded):
    """What is told of every round, but for times."""
    emitted = [[(token.id, token.text, token.origin) for token in part.emitted] for part in decoded.rounds]
    trees = [(part.row, part.tokens, part.parents, part.states, part.sources, part.texts) for part in decoded.rounds]
    ends = [(end.reason, end.text, end.token_ids) for end in decoded.finished.values()]
    return emitted, trees, ends


def run(models, way, prompts=PROMPTS, **options):
    method, drafts, parameters = WAYS[way]
    if "length" in options:
        options |= {"length": options["length"]()}
    return decode(models.target, prompts, method=method, drafts=models.drafts[:drafts], **(parameters | options))


def both(models, way, prompts=PROMPTS, **options):
    """With strides, which is asserted to be the same as without; and how long they were."""
    every = models.target, *models.drafts
    with strides() as lengths:
        strode = run(models, way, prompts, **options)
    left = [list(each.kept()) for each in every]
    with strides(on=False) as none:
        alone = run(models, way, prompts, **options)
    assert told(strode) == told(alone)
    assert left == [list(each.kept()) for each in every]
    assert not any(none)
    return strode, lengths


@pytest.mark.parametrize("warps", WARPS, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_strides_are_rounds_one_by_one(way, warps):
    decoded, lengths = both(trio(), way, PROMPTS[:2], warps=warps, max_tokens=50)
    assert max(lengths) > 4
    assert sum(lengths) > 0.6 * len(decoded.rounds)
    if warps.greedy and way != "naive":
        assert {"accepted", "rejected"} <= set(decoded.states)


@pytest.mark.parametrize("warps", WARPS, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_probabilities_are_recorded_as_of_rounds_one_by_one(way, warps):
    models = trio()
    strode, lengths = both(models, way, PROMPTS[:2], warps=warps, max_tokens=40, record=Recording(probs=True))
    with strides(on=False):
        alone = run(models, way, PROMPTS[:2], warps=warps, max_tokens=40, record=Recording(probs=True))
    assert max(lengths) > 4
    sizes, numbers, missing = recorded(strode)
    other_sizes, other_numbers, other_missing = recorded(alone)
    assert (sizes, missing) == (other_sizes, other_missing)
    assert numbers == pytest.approx(other_numbers, rel=1e-5, abs=1e-9)
    assert all(0.0 <= x <= 1.00001 for x in numbers)
    assert len(set(numbers)) > 10


@pytest.mark.parametrize("way", FEW)
def test_in_16_and_8_bits(way):
    """In tiles, where there are any."""
    drafts = [model(1, eight_bits=True), model(2, 0.4, dtype=torch.bfloat16)]
    models = SimpleNamespace(target=model(3, dtype=torch.bfloat16), drafts=drafts)
    for warps in (GREEDY, Warps(0.8, top_p=0.9)):
        assert max(both(models, way, PROMPTS[:2], warps=warps)[1]) > 4


@pytest.fixture(scope="module")
def built_in():
    models = load_models(ModelSpec(device="cpu", drafts=("builtin", "builtin/draft-b")).checked())
    prompts = [models.codec.encode(request.prompt) for request in gather(("builtin",), 1)]
    return SimpleNamespace(target=models.target.runner, drafts=[draft.runner for draft in models.drafts]), prompts


@pytest.mark.parametrize("way", WAYS)
def test_on_the_built_in_models(way, built_in):
    """Whose drafts are in 8 bits, and are often right."""
    models, prompts = built_in
    for warps in (GREEDY, Warps(0.7, top_p=0.9)):
        options = {"exit_layer": 1} if way.startswith("early") else {}
        decoded, lengths = both(models, way, prompts, warps=warps, max_tokens=40, **options)
        assert max(lengths) > 4
        if WAYS[way][1] and warps.greedy:
            assert decoded.states.count("accepted") > 10


@pytest.mark.parametrize("machine", LESSER, ids=["avx512", "avx2"])
def test_as_if_on_lesser_processors(machine, monkeypatch):
    if not this_machine().cpu.startswith("x86-64") or this_machine().lanes < machine.lanes:
        pytest.skip("this processor lacks their instructions")
    for module in ("matrix", "rows"):
        monkeypatch.setattr(f"specterm.models.compiled.{module}.this_machine", lambda: machine)
    whole = model.__wrapped__  # those that are remembered are of this machine
    models = SimpleNamespace(target=whole(3), drafts=[whole(1), whole(2, 0.4)])
    for way in FEW:
        for warps in (GREEDY, Warps(0.8, top_p=0.9)):
            assert max(both(models, way, PROMPTS[:2], warps=warps)[1]) > 4


def test_drafts_of_another_vocabulary():
    """They propose nothing that the target does not know."""
    for vocab in (200, 333):
        models = SimpleNamespace(target=trio().target, drafts=[model(1, vocab_size=vocab), model(2, vocab_size=vocab)])
        for way in ("draft", "sequential", "tree of 2"):
            for warps in (GREEDY, Warps(1.0)):
                assert max(both(models, way, warps=warps)[1]) > 4


# How a row ends


@pytest.mark.parametrize("way", FEW)
def test_max_tokens_is_met_exactly(way):
    for tokens in (1, 2, 3, 4, 5, 13, 14, 15, 16, 31):
        decoded, _ = both(trio(), way, max_tokens=tokens)
        assert {len(ids) for ids in decoded.ids} == {tokens}


@pytest.mark.parametrize("way", FEW)
def test_the_context_is_met_exactly(way):
    models = trio(context=50)
    for prompt in (PROMPTS[0], [3] * 20, [3] * 47, [3] * 49):
        decoded, _ = both(models, way, [prompt], max_tokens=100)
        assert decoded.finished[0].reason == "context"
        assert len(prompt) + len(decoded.ids[0]) == 51


@pytest.mark.parametrize("way", ["draft", "draft, while it is sure", "sequential", "tree of 2", "tree of chains"])
def test_contexts_of_drafts_that_are_shorter_than_the_targets(way):
    """Prompts end well before, near and behind their end."""
    models = SimpleNamespace(target=trio().target, drafts=[model(1, context=40), model(2, 0.4, context=48)])
    prompts = [PROMPTS[0], list(range(36)), list(range(40)), list(range(41)), list(range(70))]
    for warps in (GREEDY, Warps(0.8)):
        decoded, lengths = both(models, way, prompts, warps=warps, max_tokens=80)
        assert {len(ids) for ids in decoded.ids} == {80}
        assert max(lengths) > 4


@pytest.mark.parametrize("way", [way for way in FEW if way != "naive"])
def test_a_stride_ends_with_an_end_of_sequence(way):
    """Be it the target's own token, or an accepted one, in front of others that are cut off."""
    models, prompts = trio(), PROMPTS[:1]
    if way == "ngram":  # it drafts what was there before, so the loop that the text ends in is in the prompt already
        prompts = [[*prompts[0], *run(models, "naive", prompts, max_tokens=100).ids[0]]]
    whole = run(models, way, prompts, max_tokens=100)
    seen, ends = {whole.ids[0][0]}, {}
    for part in whole.rounds:
        for place, token in enumerate(part.emitted):
            kind = "own" if token.origin != "accepted" else "cut" if place < len(part.emitted) - 2 else "accepted"
            if token.id not in seen:
                ends.setdefault(kind, token.id)
            seen.add(token.id)
    assert {"own", "cut"} <= set(ends)
    for kind, end in ends.items():
        decoded, lengths = both(models, way, prompts, eos=[299, end], max_tokens=100)
        assert decoded.finished[0].reason == "eos"
        assert decoded.ids[0] == whole.ids[0][: whole.ids[0].index(end) + 1]
        assert ("cut" in decoded.rounds[-1].states) == (kind == "cut")
        assert sum(lengths) <= len(decoded.rounds)  # none was done in vain


# One prompt after the other


@pytest.mark.parametrize("way", FEW)
def test_the_next_prompt_reuses_what_strides_left(way):
    models, other = trio(), SimpleNamespace(target=model.__wrapped__(3), drafts=trio().drafts)
    first = run(models, way, PROMPTS[1:2], max_tokens=40)
    text = [*PROMPTS[1], *first.ids[0]]
    assert list(models.target.kept()) == text[: len(models.target.kept())]
    assert len(models.target.kept()) > len(PROMPTS[1]) + 30
    again, fresh = [*text, 5, 6], run(other, way, [[*text, 5, 6]], max_tokens=40)
    with strides() as lengths:
        reused = run(models, way, [again], max_tokens=40, reuse=True)
    assert max(lengths) > 4
    (filled,) = [event for event in reused.events if isinstance(event, Prefilled)]
    assert filled.reused_tokens > len(PROMPTS[1]) + 30
    if WAYS[way][1]:
        assert all(own > len(PROMPTS[1]) for own in filled.drafts_reused)
    assert reused.ids == fresh.ids
    assert [part.tokens for part in reused.rounds] == [part.tokens for part in fresh.rounds]


@pytest.mark.parametrize("way", FEW)
def test_the_last_row_of_a_batch_strides(way):
    """Wherever it is in the cache, and not before."""
    prompts = [PROMPTS[0], PROMPTS[1]]
    models = trio()
    whole = run(models, way, prompts, max_tokens=60)
    for row in (0, 1):
        ids = whole.ids[row]
        end = next(token for token in ids[8:] if token not in whole.ids[1 - row] and ids.index(token) >= 8)
        with strides() as lengths:
            decoded = run(models, way, prompts, max_tokens=60, batch_size=2, eos=[end])
        assert decoded.ids == both(models, way, prompts, max_tokens=60, batch_size=2, eos=[end])[0].ids
        together = sum(len(event.rows) == 2 for event in decoded.events if isinstance(event, Round))
        assert together > 2
        assert sum(lengths) <= len(decoded.rounds) - 2 * together
        assert max(lengths) > 4


@pytest.mark.parametrize("way", FEW)
def test_a_cache_that_has_grown_in_between(way):
    models = SimpleNamespace(target=model.__wrapped__(3), drafts=[model.__wrapped__(1), model.__wrapped__(2, 0.4)])
    for tokens in (10, 150, 30):
        both(models, way, PROMPTS[:2], max_tokens=tokens)


def test_many_ways_on_one_target():
    """One after the other, and back again: nothing of one way stays in another."""
    models = trio()
    wanted = {way: told(run(models, way)) for way in WAYS}
    for way in [*reversed(WAYS), *WAYS]:
        assert told(run(models, way)) == wanted[way], way


def test_a_fixed_number_of_nodes_after_a_calibrated_one():
    """As many as the costs could have chosen at most: these have no say in it any more."""
    models = trio()
    for way, nodes in (("tree of 2", 20), ("early exit, tree", 10)):
        run(models, way, costs=COSTS, tree_nodes=None)
        decoded, _ = both(models, way, tree_nodes=nodes)
        assert max(len(part.tokens) for part in decoded.rounds) == nodes


# What is looked up, and what becomes a tree


def looked_up(text, longest, shortest, most):
    """What followed the longest end the last time, and so on."""
    drafted = []
    while len(drafted) < most:
        whole = [*text, *drafted]
        found = (
            text[place]
            for size in range(longest, shortest - 1, -1)
            for place in range(len(text) - 1, size - 1, -1)
            if size <= len(whole) and text[place - size : place] == whole[-size:]
        )
        token = next(found, None)
        if token is None:
            break
        drafted.append(token)
    return tuple(drafted)


def test_what_is_looked_up_followed_the_longest_end_the_last_time():
    target, chance = model(1, vocab_size=4), random.Random(5)
    target.allocate(1, 512)
    prefill(target, 0, torch.tensor([1, 2, 3]))
    found = set()
    for _ in range(400):
        text = [chance.randrange(chance.choice((1, 2, 4))) for _ in range(chance.randrange(1, 40))]
        shortest = chance.randrange(1, 4)
        longest, most = shortest + chance.randrange(4), chance.randrange(1, 6)
        drafting = Drafting(depth=most, most=most, lookup=Lookup(array("q", text), longest, shortest))
        warps = Warps(chance.choice((0.0, 1.0)))
        steps = target.stride(0, len(text) - 1, text[-1], 4, drafting, warps, chance.getrandbits(60), 0, (), False)
        assert len(steps) == 4
        for step in steps:
            assert step.tokens == looked_up(text, longest, shortest, most)
            text += [*step.tokens[: len(step.path)], step.next_token]
            found.add((len(step.tokens), len(step.path)))
    assert {(0, 0), (1, 1), (5, 5), (5, 0)} <= found


class Unclocked(CalibratedBudget):
    """One that does not learn what drafting took, so that a tree is all that there is to compare."""

    def begin(self, drafters=1):
        super().begin(drafters)
        self._began = None


def budget_of(seed, most, levels):
    """One with a past."""
    chance = random.Random(seed)
    node_s, draft_s = 10 ** chance.uniform(-7.0, 0.0), 10 ** chance.uniform(-3.0, 0.5)
    costs = Calibration({1: 1.0, 2: 1.0 + node_s, 10: 1.0 + 12 * node_s}, (), 64)
    budget = Unclocked(costs, draft_s, most, levels, clock=lambda: 0.0)
    for _ in range(chance.randrange(20)):
        budget.learn(chance.uniform(0.0, 1.0), chance.randrange(4))
    return budget


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_plan_chooses_what_the_budget_chooses(width):
    """Levels, paths, nodes, and what they promise: as many as 8 nodes, all of whose numbers are weighed."""
    models, depth, sizes, levels = trio(), 3, set(), set()
    target, drafts = models.target, models.drafts
    target.allocate(1, 128)
    prompt = torch.tensor(PROMPTS[1])
    prefill(target, 0, prompt)
    for seed in range(60):
        most, root = random.Random(seed).randrange(1, 9), seed % 300

        def drafter(seed=seed, most=most, root=root):
            prefixes = [DraftPrefix(draft, widest=depth + 1) for draft in drafts]
            budget = budget_of(seed, most, depth * 2)
            made = MultiDraft(drafts, prefixes, 300, width, depth, budget, Recording(), InTurn())
            made.open(1, 100)
            made.admit(Admission(0, prompt, root))
            return made

        alone = drafter()
        tree = alone.propose([ProposeRow(0, depth, 0, 0)])
        drafting = drafter().drafting(0, depth)
        (step,) = target.stride(0, len(prompt), root, 1, drafting, GREEDY, 0, 0, (), False)
        assert step.tokens == tuple(tree.tokens[0].tolist())
        assert step.grown.parents == tuple(parent - 1 for parent in tree.topology.parents[0, 1:].tolist())
        assert step.grown.levels == alone._budget._levels
        assert step.grown.promised == pytest.approx(alone._promised[0], rel=1e-5)
        sizes.add(len(step.tokens))
        levels.add(step.grown.levels)
    assert {1, 2, 3, 4} <= sizes
    assert max(sizes) == (6 if width == 1 else 8)
    assert levels == ({6} if width == 1 else {2, 3, 4, 5, 6})


@pytest.mark.parametrize("way", ["tree of 2", "tree of 3", "tree of one draft", "tree of chains", "early exit, tree"])
def test_calibrated_budgets_change_no_token(way):
    models = trio()
    naive = run(models, "naive", max_tokens=100).ids
    with strides() as lengths:
        decoded = run(models, way, costs=COSTS, tree_nodes=None, max_tokens=100)
    assert decoded.ids == naive
    assert max(lengths) > 4
    assert "accepted" in decoded.states


@pytest.mark.parametrize("way", ["draft", "sequential", "tree of 2", "early exit", "early exit, tree", "ngram"])
def test_adaptive_lengths_change_no_token(way):
    models = trio()
    naive = run(models, "naive", max_tokens=400).ids
    with strides() as lengths:
        decoded = run(models, way, costs=COSTS, adaptive=True, max_tokens=400)
    assert decoded.ids == naive
    assert max(lengths) > 2
    assert any(part.tokens for part in decoded.rounds)


class Waves:
    """An adaptive length that goes up and down, and is sure of what it says."""

    def __init__(self):
        self._next = cycle([0] * 9 + [1] * 3 + [3] * 5 + [0] * 2 + [2] * 2)
        self._depths = [next(self._next) for _ in range(40)]

    def choose(self, limits):
        self._last = self._depths.pop(0)
        self._depths.append(next(self._next))
        return min(self._last, max(limits))

    def further(self, most):
        return next(rounds for rounds, depth in enumerate(self._depths) if depth != self._last or rounds == most)

    def observe(self, *told):
        return None


@pytest.mark.parametrize("way", [way for way in FEW if way != "naive"])
def test_lengths_that_go_up_and_down(way):
    """After rounds without drafts more is pending than a draft leaves."""
    decoded, lengths = both(trio(), way, length=Waves, max_tokens=100)
    assert max(lengths) > 4
    assert len({len(part.tokens) for part in decoded.rounds}) > 2


# Where rounds are done one by one


@pytest.mark.parametrize(
    "options",
    [
        {"stop": ("7 ",)},
        {"record": Recording(alternatives=2)},
        {"processing": Processing(repetition=1.3)},
        {"processing": Processing(min_tokens=3), "eos": [299]},
        {"rule": RULES["typical"](), "warps": Warps(0.8)},
        {"warps": Warps(1.0, filter_value=-100.0)},
    ],
    ids=["stop", "alternatives", "penalty", "least length", "typical rule", "filter value"],
)
def test_there_are_no_strides(options):
    for way in FEW:
        if "rule" not in options or way in ("draft", "naive"):
            _, lengths = both(trio(), way, PROMPTS[:1], max_tokens=20, **options)
            assert not any(lengths)


def test_drafters_that_run_side_by_side_do_not_stride():
    """Threads gain more."""
    costs = Calibration({1: 1e-4, 2: 1.1e-4}, (1e-5, 1.5e-5), 64, drafts_together_s=1e-5)
    _, lengths = both(trio(), "sequential", costs=costs)
    assert max(lengths) == 1  # where there is no draft


@pytest.mark.parametrize("way", FEW)
def test_rounds_that_take_long_are_not_done_together(way, monkeypatch):
    monkeypatch.setattr("specterm.decoding.striding._LASTS_S", 1e-6)
    _, lengths = both(trio(), way, PROMPTS[:1])
    assert max(lengths) == 1


# Times


@pytest.mark.parametrize("way", FEW)
def test_the_times_of_rounds_lie_in_their_call_and_add_up(way):
    decoded = run(trio(), way, max_tokens=80)
    start, end, last = {}, {}, 0.0
    for event in decoded.events:
        assert event.time >= last - 1e-6
        last = event.time
        if isinstance(event, RowStarted):
            start[event.row] = event.time
        if isinstance(event, RowFinished):
            end[event.row] = event.time
    for row, shares in ((row, finished.shares) for row, finished in decoded.finished.items()):
        rounds = [event for event in decoded.events if isinstance(event, Round) and event.rows[0].row == row]
        assert start[row] < rounds[0].time
        assert rounds[-1].time <= end[row]
        assert all(min(event.draft_s, event.other_s) >= 0 < event.verify_s for event in rounds)
        assert sum(event.verify_s for event in rounds) == pytest.approx(shares.verify_s)
        assert sum(event.draft_s for event in rounds) == pytest.approx(shares.draft_s)
        assert sum(event.sampling_s for event in rounds) == pytest.approx(shares.sampling_s)
        parts = sum(event.draft_s + event.verify_s + event.sampling_s + event.other_s for event in rounds)
        assert parts + shares.prefill_s <= end[row] - start[row] + 1e-3
