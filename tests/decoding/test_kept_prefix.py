"""What caches keep of a text from run to run, in double precision: drafts are those of caches that saw nothing."""

from functools import partial

import pytest
import torch
from feature_models import InformedEagle, PlainEagle
from feeding import random_ids
from harness import decode
from tiny_models import save_pair

from specterm.config import ModelSpec
from specterm.decoding.kept_prefix import shared
from specterm.decoding.ports import Block
from specterm.decoding.sampling import Warps
from specterm.decoding.tree import Topology
from specterm.events import Prefilled
from specterm.models.loading import load_models

TEXT = random_ids(60, 5)
# Longer, equal, shorter, forked early and late, and one of which nothing is known.
PROMPTS = [
    TEXT[:30],
    TEXT,
    TEXT,
    TEXT[:20],
    [*TEXT[:12], *random_ids(9, 6)],
    [*TEXT[:25], 7, 7],
    random_ids(8, 7),
    TEXT,
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two loaded pairs of the same weights."""
    target, draft = save_pair("llama", tmp_path_factory.mktemp("kept"), noise=0.05)
    spec = ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64")
    return [load_models(spec) for _ in range(2)]


def told(decoded):
    (event,) = [event for event in decoded.events if isinstance(event, Prefilled)]
    return event


@pytest.mark.parametrize("own_context", [40, 256])
@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.4, top_p=0.8)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("method", ["draft", "eagle", "plain eagle"])
def test_drafts_do_not_depend_on_what_was_kept(models, method, warps, own_context, monkeypatch):
    """The drafting model's context may be shorter than a prompt, too."""
    runs = []
    for loaded, reuse in zip(models, (True, False)):
        target, draft = loaded.target.runner, loaded.drafts[0].runner
        monkeypatch.setattr(draft, "max_positions", own_context)
        target.release()
        draft.release()
        eagle = InformedEagle(draft)
        if method == "plain eagle":
            eagle = PlainEagle(target.vocab_size, target.hidden_size, max_positions=own_context)
        name, options = method.split()[-1], {"heads": {"eagle": eagle}, "warps": warps, "max_tokens": 12}
        runs.append(partial(decode, target, method=name, drafts=(draft,), reuse=reuse, **options))
    reused, of_drafts, states = [], [], set()
    for prompt in PROMPTS:
        kept, fresh = (run([prompt]) for run in runs)
        assert kept.rounds == fresh.rounds
        states.update(kept.states)
        reused.append(told(kept).reused_tokens)
        of_drafts.append(told(kept).drafts_reused[0])
    assert "rejected" in states
    assert "accepted" in states or method == "plain eagle"
    pairs = method != "draft"
    if own_context > 60:
        assert of_drafts == [0, 30 - pairs, 60 - pairs, 20 - pairs, 12 - pairs, 12 - pairs, 0, 0]
        assert reused == [0, 30 - pairs, 59, 19, 12 - pairs, 12 - pairs, 0, 0]
    else:  # a draft model has what it has room for, an EAGLE model nothing of a prompt that is too long
        assert of_drafts == [0, *([29, 0, 0] if pairs else [30, 40, 20]), 12 - pairs, 12 - pairs, 0, 0]


def test_a_batch_keeps_its_first_row(models):
    target, draft = models[0].target.runner, models[0].drafts[0].runner
    prompts = [TEXT[:21], TEXT[:40], TEXT[:33]]
    run = partial(decode, target, prompts, method="draft", drafts=(draft,), max_tokens=8)
    alone = run()
    assert {"accepted", "rejected"} <= set(alone.states)
    run(batch_size=2)
    found = run(batch_size=2, reuse=True)
    assert found.ids == alone.ids
    counts = {e.row: (e.reused_tokens, e.drafts_reused) for e in found.events if isinstance(e, Prefilled)}
    assert counts[0] == (20, (21,))
    assert counts[1] == (0, None)


def test_what_two_texts_share():
    assert shared((1, 2, 3), [1, 2, 4, 5]) == 2
    assert shared((1, 2, 3), [1, 2, 3]) == shared((1, 2, 3, 4), [1, 2, 3]) == 3
    assert shared((), [1]) == shared([1], ()) == shared([2], [1]) == 0
    assert shared([(1, 2), (2, 3)], ((1, 2), (2, 4))) == 1


def test_a_slot_that_is_written_to_is_kept_no_more(models):
    runner = models[0].target.runner
    decode(runner, [TEXT[:10]], max_tokens=2)
    runner.keep(range(10))
    runner.forward(block(runner, 1, 3))
    assert runner.kept() == tuple(range(10))  # another row
    runner.allocate(2, 700)
    assert runner.kept() == tuple(range(10))  # more room
    runner.forward(block(runner, 0, 7))
    assert runner.kept() == tuple(range(7))
    runner.release()
    assert runner.kept() == ()


def block(runner, row, start):
    runner.allocate(2, 64)
    return Block((row,), (start,), torch.tensor([[5]]), Topology.of_chain(0, runner.device))
