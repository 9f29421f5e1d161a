"""Drafts and EAGLE heads that grow a beam in one call, and the same level by level."""

import torch

from specterm.config import ModelSpec
from specterm.decoding.drafters.beams import of_paths, scratch_forward, within
from specterm.decoding.drafters.host_beams import grow_on_host
from specterm.decoding.ports import Block
from specterm.decoding.prefill import chunks, prefill
from specterm.decoding.tree import Topology
from specterm.models.loading import load_models

CPU = torch.device("cpu")
SCRATCH = 5 * 4
KINDS = ["8bit", "none", "eagle", "eagle3"]


class Draft:
    """A draft model whose cache row 1 has `length` tokens."""

    def __init__(self, runner, length):
        self.runner, self.length, self.token_ids = runner, length, None
        runner.allocate(2, runner.max_positions + SCRATCH)
        prefill(runner, 1, torch.arange(length) % 4000 + 5)

    def forward(self, tokens, start=None):
        """Logits after the tokens."""
        start = self.length if start is None else start
        block = Block((1,), (start,), torch.tensor([tokens]), Topology.of_chain(len(tokens) - 1, CPU))
        return self.runner.forward(block)

    def stepwise(self, tokens, width, depth, vocab=4096, shown=0, paths=None):
        logits = within(self.forward(tokens)[:, -1], vocab)
        forward_level = scratch_forward(self.runner, (1,), (self.length + len(tokens) - 1,), vocab)
        return grow_on_host(logits, forward_level, width, depth, None, paths, None, shown)

    def beam(self, tokens, width, depth, vocab=4096, shown=0, gate=None):
        return self.runner.beam(1, self.length, tokens, width, depth, max(width, shown), vocab, gate)


class Heads(Draft):
    """EAGLE heads likewise; the features are drawn."""

    def __init__(self, heads, length):
        self.heads, self.length, self.token_ids = heads, length, heads.token_ids
        random = torch.Generator().manual_seed(3)
        self.features = torch.randn((1, heads.max_positions + SCRATCH, heads.hidden_size), generator=random)
        heads.allocate(2, heads.max_positions + SCRATCH)
        for block in chunks(1, torch.arange(length) % 4000 + 5, 0, CPU):
            heads.forward(block, self.features[:, block.starts[0] : block.starts[0] + block.width])

    def forward(self, tokens, start=None):
        return self._with_states(tokens, start)[0]

    def _with_states(self, tokens, start=None):
        start = self.length if start is None else start
        block = Block((1,), (start,), torch.tensor([tokens]), Topology.of_chain(len(tokens) - 1, CPU))
        return self.heads.forward(block, self.features[:, start : start + len(tokens)])

    def stepwise(self, tokens, width, depth, vocab=None, shown=0, paths=None):
        logits, states = self._with_states(tokens)
        states = states[:, -1:]

        def forward_level(step):
            nonlocal states
            block = step.block((1,), (self.length + len(tokens) - 1,))
            found, states = self.heads.forward(block, of_paths(states, step.went_on))
            return found

        return grow_on_host(logits[:, -1], forward_level, width, depth, None, paths, self.token_ids, shown)

    def beam(self, tokens, width, depth, vocab=None, shown=0, gate=None):
        features = self.features[0, self.length : self.length + len(tokens)]
        return self.heads.beam(1, self.length, tokens, features, width, depth, max(width, shown), gate)


def made(kind, length):
    """A draft whose weights are held so, or heads of this kind."""
    if kind in ("eagle", "eagle3"):
        return Heads(load_models(ModelSpec(device="cpu").checked()).heads[kind], length)
    return Draft(load_models(ModelSpec(device="cpu", draft_quantize=kind).checked()).drafts[0].runner, length)
