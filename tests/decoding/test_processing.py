"""Penalties, bias and least length are those of each node's hypothetical prefix: seed for seed a draft changes nothing.

The reference is plain: one token at a time, and Hugging Face's own repetition penalty.
"""

import pytest
import torch
from feeding import chain
from harness import decode
from tiny_models import save_pair
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from specterm.config import ModelSpec, SamplingSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.processing import LogitsProcessor, Processing
from specterm.decoding.sampling import Warps
from specterm.decoding.tree import DraftTree, Topology
from specterm.engine.session import Session
from specterm.errors import ConfigError
from specterm.models.loading import load_models

PROCESSINGS = {
    "repetition": Processing(repetition=1.3),
    "presence": Processing(presence=1.5),
    "frequency": Processing(frequency=0.7),
    "all": Processing(1.2, 0.4, 0.5, ((7, 2.0), (11, -3.0)), 5),
}
CPU = torch.device("cpu")
TOKENS = 20


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(dtype="float32").checked())


@pytest.fixture(scope="module")
def prompts(models):
    """Texts that repeat themselves, so that there is something to penalize, and to look up."""
    texts = ("one two three one two three one two", "She said that she said that she", "1, 2, 3, 4, 1, 2, 3, 4, 1,")
    return [models.codec.encode(text) for text in texts]


def plainly(processing: Processing, logits: torch.Tensor, prompt: list[int], output: list[int]) -> torch.Tensor:
    """The logits [V] after prompt and output."""
    found = logits.clone()
    for token, bias in processing.bias:
        found[token] += bias
    if processing.repetition != 1.0:
        ids = torch.tensor([prompt + output])
        found = RepetitionPenaltyLogitsProcessor(processing.repetition)(ids, found.unsqueeze(0))[0]
    for token in set(output):
        found[token] -= processing.frequency * output.count(token) + processing.presence
    return found


def check_every_node(processing: Processing) -> None:
    vocab = 12
    parents, tokens = (-1, -1, 0, 0, 2), (3, 5, 3, 9, 3)
    rows = [([1, 3, 3], [5, 5]), ([9], [2])]
    process = LogitsProcessor(processing, 4, vocab, (0, 4), CPU)
    for slot, (prompt, output) in zip((3, 1), rows):
        process.admit(slot, [8, 8])  # whoever had the slot before
        process.emitted(slot, [6])
        process.admit(slot, prompt)
        process.emitted(slot, output)
    tree = DraftTree(Topology.of_parents(torch.tensor([parents]), 3), torch.tensor([tokens, tokens[::-1]]), (5, 5))
    logits = torch.randn(2, 6, vocab, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = process(logits, (3, 1), tree)
    assert not torch.allclose(found, logits)
    for row, (prompt, output) in enumerate(rows):
        paths: list[list[int]] = [[]]
        for parent, token in zip(parents, tree.tokens[row].tolist()):
            paths.append([*paths[parent + 1], token])
        for node, path in enumerate(paths):
            expected = plainly(processing, logits[row, node], prompt, output + path)
            if len(output + path) < processing.min_tokens:
                expected[[0, 4]] = float("-inf")
            assert torch.allclose(found[row, node], expected), (row, node)


@pytest.mark.parametrize("name", PROCESSINGS)
def test_every_node_has_its_own_prefix(name):
    check_every_node(PROCESSINGS[name])


@pytest.mark.parametrize("name", PROCESSINGS)
def test_penalties_of_the_root_alone_are_caught(monkeypatch, name):
    """The trap: penalties computed once for a round, and not on the hypothetical prefix of each node."""
    nothing = lambda tree: torch.zeros(len(tree.tokens), tree.topology.size, tree.nodes)  # noqa: E731
    monkeypatch.setattr("specterm.decoding.processing._on_path", nothing)
    with pytest.raises(AssertionError):
        check_every_node(PROCESSINGS[name])


@pytest.mark.parametrize("name", ["repetition", "all"])
def test_naive_decoding_follows_the_plain_reference(models, prompts, name):
    processing, runner = PROCESSINGS[name], models.target.runner
    ids = decode(runner, prompts[:1], processing=processing, max_tokens=16).ids[0]
    runner.allocate(1, 128)
    output: list[int] = []
    for token in ids:
        logits = chain(runner, [0], [0], [[*prompts[0], *output]])[0, -1]
        assert int(plainly(processing, logits, prompts[0], output).argmax()) == token
        output.append(token)
    assert ids != decode(runner, prompts[:1], max_tokens=16).ids[0]


METHODS = {
    "greedy chain": ("draft", {"draft_temperature": 0.0}),
    "tree": ("tree", {"tree_width": 3, "tree_nodes": 12}),
    "n-gram": ("ngram", {"tree_width": 2, "ngram_min": 1}),
}


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.8, top_p=0.95)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["repetition", "all"])
def test_a_draft_changes_nothing(models, prompts, name, method, warps):
    processing, runner = PROCESSINGS[name], models.target.runner
    naive = decode(runner, prompts, warps=warps, processing=processing, max_tokens=TOKENS)
    called, parameters = METHODS[method]
    drafted = decode(
        runner, prompts, method=called, drafts=[] if called == "ngram" else [models.drafts[0].runner],
        warps=warps, processing=processing, max_tokens=TOKENS, batch_size=2, **parameters,
    )  # fmt: skip
    assert drafted.ids == naive.ids
    # A greedy n-gram is what the penalties forbid.
    kept = set() if called == "ngram" and warps.greedy else {"accepted"}
    assert kept | {"rejected"} <= set(drafted.states)


def test_no_end_comes_before_the_least_length(models, prompts):
    """Every second token ends the row; with a least length the row ends just behind it."""
    runner, ends = models.target.runner, tuple(range(0, models.target.runner.vocab_size, 2))
    short = decode(runner, prompts, eos=ends, warps=Warps(1.0), max_tokens=TOKENS)
    least = Processing(min_tokens=10)
    for method in ({}, {"method": "draft", "drafts": [models.drafts[0].runner], "draft_temperature": 0.0}):
        long = decode(runner, prompts, eos=ends, warps=Warps(1.0), max_tokens=TOKENS, processing=least, **method)
        assert min(map(len, short.ids)) < 10 <= min(map(len, long.ids))
        assert all(token % 2 for ids in long.ids for token in ids[:10])
        assert {finished.reason for finished in long.finished.values()} == {"eos"}


def test_teacher_forcing_applies_the_penalties(tmp_path):
    target, draft = save_pair("llama", tmp_path, noise=0.02)
    session = Session()
    session.load(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"), lambda event: None)
    sampling = SamplingSpec(temperature=0.0, repetition_penalty=1.3, frequency_penalty=0.5, logit_bias=("9:1.5",))
    prompt, processing = [5, 9, 33], Processing(1.3, 0.0, 0.5, ((9, 1.5),))
    ids = decode(session._loaded().target.runner, [prompt], processing=processing, max_tokens=20).ids[0]
    assert session.shortfalls([*prompt, *ids], 3, sampling) == pytest.approx([0.0] * 20, abs=1e-9)
    assert max(session.shortfalls([*prompt, *ids], 3, SamplingSpec())) > 0.0


@pytest.mark.parametrize("text", ["13", "a:1", "-1:2", "3:nan", "3:"])
def test_a_bad_bias_is_refused(text):
    with pytest.raises(ConfigError, match="--logit-bias is"):
        SamplingSpec(logit_bias=(text,)).checked()


def test_a_least_length_above_the_greatest_is_refused():
    with pytest.raises(ConfigError, match="--min-tokens is 9; it must be at most --max-tokens"):
        SamplingSpec(min_tokens=9, max_tokens=8).checked()


@pytest.mark.parametrize("name", RULES)
def test_every_rule_decodes_with_penalties(models, prompts, name):
    decoded = decode(
        models.target.runner, prompts, method="draft", drafts=[models.drafts[0].runner], warps=Warps(1.0),
        processing=PROCESSINGS["all"], max_tokens=TOKENS, rule=RULES[name](),
    )  # fmt: skip
    assert [len(ids) for ids in decoded.ids] == [TOKENS] * 3
    assert {"accepted", "rejected"} <= set(decoded.states)
