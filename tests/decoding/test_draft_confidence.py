"""A greedy draft ends where the draft model gives the whole of it too little; nothing else changes."""

from itertools import accumulate
from operator import mul

import pytest
from harness import decode

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.models.loading import load_models

TOKENS, GAMMA, LEAST = 32, 6, 0.4


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin",), dtype="float32"))


def drafted(models, least, warps=Warps(0.0), record=Recording(probs=True), **options):
    prompts = [models.target.codec.encode(request.prompt) for request in gather(("builtin",), 3)]
    return decode(
        models.target.runner, prompts, method="draft", drafts=[models.drafts[0].runner], warps=warps, record=record,
        max_tokens=TOKENS, num_draft_tokens=GAMMA, draft_confidence=least, **options,
    )  # fmt: skip


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.7)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_where_a_draft_ends(models, warps, batch_size):
    """It ends with the token that is one too many, in a batch as alone; recorded or not; the output stays."""
    options = {} if warps.greedy else {"draft_temperature": 0.0}
    whole, cut = (drafted(models, least, warps, batch_size=batch_size, **options) for least in (0.0, LEAST))
    assert cut.ids == whole.ids
    ends = 0
    for row, ids in enumerate(cut.ids):
        left = len(ids) - 1
        for part in (part for part in cut.rounds if part.row == row):
            chances = list(accumulate(part.confidence or (), mul))
            assert all(chance >= LEAST * (1 - 1e-5) for chance in chances[:-1])
            if len(chances) < min(GAMMA, left - 1):
                assert chances[-1] < LEAST
                ends += 1
            left -= len(part.emitted)
    assert ends > 5
    assert {"accepted", "rejected"} <= set(cut.states)
    assert len(cut.states) < len(whole.states)
    unrecorded = drafted(models, LEAST, warps, Recording(), batch_size=batch_size, **options)
    assert [part.tokens for part in unrecorded.rounds] == [part.tokens for part in cut.rounds]


def test_sampled_drafts_have_their_full_length(models):
    """A length that depends on what was drawn would bias the output."""
    whole, cut = (drafted(models, least, Warps(0.7)) for least in (0.0, 1.0))
    assert {"accepted", "rejected"} <= set(cut.states)
    assert [part.tokens for part in cut.rounds] == [part.tokens for part in whole.rounds]
