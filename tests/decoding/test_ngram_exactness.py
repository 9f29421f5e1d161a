"""The n-gram methods change no token: greedy and sampled output equal naive's, alone, in a batch, and with trees."""

import pytest
import torch
from feeding import chain
from harness import decode
from tiny_models import save_pair

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters.lookup import LookupDrafter
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.models.loading import load_models

METHODS = ["ngram", "nasd", "suffix"]
WIDTHS = [1, 4]
TEMPERATURES = [0.0, 0.9]
SEEDS = [3, 1, 4]
TOKENS = 24


@pytest.fixture(scope="module")
def builtin():
    return load_models(ModelSpec(dtype="float64").checked())


@pytest.fixture(scope="module")
def prompts(builtin):
    """Code, each prompt said twice so that there is something to look up."""
    return [builtin.codec.encode(request.prompt * 2) for request in gather(("code",), len(SEEDS))]


@pytest.fixture(scope="module")
def naive_ids(builtin, prompts):
    """What naive decoding says, by temperature."""
    return {
        temperature: decode(
            builtin.target.runner, prompts, warps=Warps(temperature), seeds=SEEDS, max_tokens=TOKENS, batch_size=3
        ).ids
        for temperature in TEMPERATURES
    }


def assert_mixed(run):
    """Drafts were made, kept and refused."""
    assert run.states.count("accepted") > 0
    assert run.states.count("rejected") > 0


def has_branches(run):
    return any(part.parents != tuple(range(-1, len(part.parents) - 1)) for part in run.rounds)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("method", METHODS)
def test_output_is_naives(builtin, prompts, naive_ids, method, width, temperature):
    for batch_size in (1, 3):
        drafted = decode(
            builtin.target.runner, prompts, method=method, warps=Warps(temperature), seeds=SEEDS, max_tokens=TOKENS,
            batch_size=batch_size, tree_width=width, record=Recording(probs=True),
        )  # fmt: skip
        assert drafted.ids == naive_ids[temperature]
        assert_mixed(drafted)
        assert has_branches(drafted) == (width > 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_sampled_row_does_not_depend_on_its_batch(builtin, prompts, method):
    """Not even through the session's memory, which the rows of a batch share."""
    target = builtin.target.runner
    run = lambda rows, size: decode(  # noqa: E731
        target, rows, method=method, warps=Warps(0.9), max_tokens=TOKENS, batch_size=size, draft_memory="session"
    )
    assert run(prompts, 1).ids == run(prompts, 3).ids == run(prompts[::-1], 2).ids[::-1]


@pytest.mark.parametrize("temperature", [pytest.param(0.5, marks=pytest.mark.full), 1.2])
def test_nasd_is_unbiased_at_any_temperature(builtin, temperature):
    """The published scheme draws again after a refusal; with the same random numbers it would differ from naive."""
    target, warps, seeds = builtin.target.runner, Warps(temperature), list(range(40))
    rows = [builtin.codec.encode("def area(width, height):\n    return width")] * len(seeds)
    naive = decode(target, rows, warps=warps, seeds=seeds, max_tokens=6, batch_size=20)
    nasd = decode(
        target, rows, method="nasd", warps=warps, seeds=seeds, max_tokens=6, batch_size=20, draft_memory="session"
    )
    assert nasd.ids == naive.ids
    assert len(set(naive.ids)) > 10
    corrected = [part for part in nasd.rounds if part.emitted[-1].origin == "correction"]
    assert len(corrected) > 10
    assert_mixed(nasd)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral-sliding", "gemma3"])
def test_trees_on_other_architectures(kind, tmp_path):
    """A random model repeats nothing of its own, but a repeated prompt with the session's memory is all matches."""
    folder, _ = save_pair(kind, tmp_path)
    target = load_models(ModelSpec(target=str(folder), drafts=(str(folder),), dtype="float64")).target.runner
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(1, 4096, (n,), generator=generator).tolist() for n in (7, 20, 1)]
    naive = decode(target, rows, max_tokens=30)
    memory = DraftMemory()
    runs = [
        decode(
            target, rows, method="nasd", max_tokens=30, batch_size=3, tree_width=3, draft_memory="session",
            memory=memory,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [run.ids for run in runs] == [naive.ids, naive.ids]
    assert len(runs[1].rounds) < len(runs[0].rounds) / 2
    assert runs[1].states.count("accepted") > 40
    assert has_branches(runs[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tokens", [0, 1, 2, 3])
def test_short_outputs_draft_nothing_that_cannot_be_used(builtin, method, tokens):
    decoded = decode(builtin.target.runner, [[5, 6, 5, 6, 5, 6]], method=method, max_tokens=tokens, tree_width=3)
    assert len(decoded.ids[0]) == tokens
    assert all(part.parents.count(-1) == len(part.parents) for part in decoded.rounds)  # depth one at most


@pytest.mark.parametrize("method", METHODS)
def test_a_drafter_is_told_the_likeliest_tokens_after_the_prompt(builtin, prompts, method, monkeypatch):
    told = []
    admit = LookupDrafter.admit
    monkeypatch.setattr(LookupDrafter, "admit", lambda self, given: told.append(given.top_ids) or admit(self, given))
    target = builtin.target.runner
    decode(target, prompts, method=method, max_tokens=2, batch_size=3)
    if method != "nasd":
        assert told == [None] * 3
        return
    expected = []
    for ids in prompts:
        logits = chain(target, [0], [0], [ids])[0, -1]
        expected.append(tuple(logits.topk(3).indices.tolist()))
    assert told == expected
