"""Medusa heads and levels of MLP speculators in one call, and moving accepted slots, against the same by torch and
numpy."""

from functools import partial

import pytest
import torch

from specterm.config import ModelSpec
from specterm.decoding.drafters.host_beams import ranked_by_torch
from specterm.decoding.prefill import prefill
from specterm.kernels.machine import this_machine
from specterm.models.heads.medusa import MedusaHeads
from specterm.models.heads.mlp import MLPSpeculator
from specterm.models.loading import load_models
from specterm.models.runners.compiled_passes import CompiledPasses

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")


def made(layers: int, heads: int, vocab: int, token_ids=None) -> MedusaHeads:
    draw = torch.Generator().manual_seed(layers + vocab)
    weight, bias, judge = (
        torch.randn(shape, generator=draw) * 0.2
        for shape in ((layers, heads, 64, 64), (layers, heads, 64), (heads, vocab, 64))
    )
    medusa = MedusaHeads(weight, bias, judge, token_ids)
    medusa.pack(eight_bits=True)
    return medusa


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("layers", "heads", "vocab"), [(1, 4, 300), (2, 3, 77), (3, 1, 5)])
def test_the_tokens_of_all_heads_are_those_of_their_logits(rows, layers, heads, vocab):
    medusa = made(layers, heads, vocab)
    for seed in range(3):  # the same room each time
        states = torch.randn((rows, 64), generator=torch.Generator().manual_seed(seed))
        found = medusa.ranked(states, 10)
        wanted = ranked_by_torch(medusa(states).transpose(0, 1), 10)
        for own, other in zip(found, wanted, strict=True):
            assert len(own) == heads
            for (ids, chances), (tokens, probabilities) in zip(own, other, strict=True):
                assert ids == list(tokens)
                assert chances == pytest.approx(probabilities, rel=1e-4)


def test_a_truncated_vocabulary_is_told_by_the_targets_ids():
    names = torch.tensor([7, 90, 3, 41, 1000])
    states = torch.randn((1, 64), generator=torch.Generator().manual_seed(8))
    plain, named = made(1, 2, 5).ranked(states, 3), made(1, 2, 5, names).ranked(states, 3)
    for (ids, chances), (tokens, same) in zip(plain[0], named[0], strict=True):
        assert [int(names[i]) for i in ids] == tokens
        assert chances == same


def test_heads_that_are_not_packed_rank_nothing_themselves():
    heads = MedusaHeads(torch.zeros((1, 1, 64, 64)), torch.zeros((1, 1, 64)), torch.zeros((1, 9, 64)))
    assert heads.ranked(torch.zeros((1, 64)), 2) is None


@pytest.mark.parametrize("inner", [120, 64, 40])
@pytest.mark.parametrize("tied", [True, False])
def test_levels_of_a_speculator_are_those_of_torch(inner, tied, monkeypatch):
    draw, hidden, vocab = torch.Generator().manual_seed(inner), 96, 300

    def drawn(*shape):
        return torch.randn(shape, generator=draw) * shape[-1] ** -0.5

    alike = 1 if tied else 3
    speculator = MLPSpeculator(
        3, [drawn(vocab, inner) for _ in range(alike)], [drawn(inner, hidden), drawn(inner, inner)],
        [torch.stack([1 + drawn(inner), drawn(inner)]) for _ in range(alike)],
        [drawn(vocab, inner) for _ in range(alike)], scale_input=True,
    )  # fmt: skip
    speculator.pack(eight_bits=True)
    assert None not in speculator._compiled
    for shape in ((1,), (1, 3), (2, 2), (1, 3)):
        states = speculator.begin(torch.randn((*shape, hidden), generator=draw))
        for level in range(3):
            ids = torch.randint(vocab, shape, generator=draw)
            logits, following = speculator(states, ids, level)
            with monkeypatch.context() as plain:
                plain.setattr(speculator, "_compiled", [])
                wanted = speculator(states, ids, level)
            torch.testing.assert_close(logits, wanted[0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(following, wanted[1], atol=1e-5, rtol=1e-5)
            states = following


@pytest.mark.parametrize("row", [0, 2])
def test_accepted_slots_are_moved_as_by_numpy(row):
    runner = load_models(ModelSpec(device="cpu").checked()).target.runner
    assert isinstance(runner._few, CompiledPasses)
    runner.allocate(3, 64)
    prefill(runner, 0, torch.arange(9, 39))  # the first pass of all goes through torch
    cache, moved = runner.cache, []
    for move in (partial(runner._few.move, cache), None):
        for each in range(3):
            prefill(runner, each, torch.arange(9 + each, 39 + each))
        cache.compact((row,), (20,), torch.tensor([[0, 2, 5, 6, 6]]), move)
        moved.append([torch.cat(cache.slots(i, each, 30)) for i in range(runner.layers) for each in range(3)])
    for ours, theirs in zip(*moved, strict=True):
        assert torch.equal(ours, theirs)
    prefill(runner, row, torch.arange(9 + row, 39 + row))
    unmoved = torch.cat(cache.slots(0, row, 30))
    assert torch.equal(moved[0][row][:, [21, 22, 23]], unmoved[:, [22, 25, 26]])
