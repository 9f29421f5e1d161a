"""What chains and beams in one call are told in words, and where they leave what they find."""

from __future__ import annotations

import struct
from ctypes import addressof, c_byte, c_double, c_float, c_int64

import torch
from torch import Tensor

from specterm.decoding.ports import Beam
from specterm.models.compiled.rows import Buffers
from specterm.models.compiled.words import BeamWord, ChainWord


class ChainRoom:
    """What chains of up to `most` tokens are told, and what they leave until the next one."""

    def __init__(self, most: int, vocab: int) -> None:
        self.most = most
        self.words = (c_int64 * len(ChainWord))()
        self.drawn, self.shares = (c_int64 * (most + 1))(), (c_float * most)()
        self.drawn_at, self.shares_at = addressof(self.drawn), addressof(self.shares)
        self.logits = torch.empty((most, vocab))
        self.logits_at = self.logits.data_ptr()
        self._scratch = torch.empty(vocab)
        self.scratch_at = self._scratch.data_ptr()
        self._laws = torch.zeros((0, 0))
        self.laws_at = 0

    def laws_of(self, vocab_size: int) -> Tensor:
        """Room for the laws of all tokens over the target's vocabulary; what lies beyond the model's own stays 0."""
        if self._laws.shape[1] != vocab_size:
            self._laws = torch.zeros((self.most, vocab_size))
            self.laws_at = self._laws.data_ptr()
        return self._laws


class BeamRoom:
    """What beams of so many ranks and levels are told, and what they leave until the next one."""

    def __init__(self, ranks: int, depth: int, found: int, vocab: int, hidden: int) -> None:
        most = 1 + ranks * depth
        self.ranks, self.depth, self.found = ranks, depth, found
        self.words = (c_int64 * len(BeamWord))()
        self.passes, self.calls = (c_int64 * (ranks + 1))(), (c_int64 * (ranks + 1))()
        self.level_buffers: list[Buffers] = []
        self.level_calls: list[object] = []  # whose memory `calls` has the addresses of
        self.worths, self.levels = (c_double * depth)(), (c_int64 * (1 + 2 * depth))()
        self.tokens, self.shares = (c_int64 * (depth * ranks * found))(), (c_float * (depth * ranks * found))()
        self.chosen = (c_int64 * (depth * ranks))()
        self.ids = (c_int64 * ranks)()
        self.logits, self.states, self.features = (torch.empty((ranks, each)) for each in (vocab, hidden, hidden))
        self._scratch = [(c_int64 * size)() for size in (ranks * ranks, *[ranks] * 5)]
        self._seen, self._packed = (c_byte * (most * most))(), (c_byte * (ranks * most))()
        candidates, scores, next_scores, nodes, next_nodes, positions = self._scratch
        for word, value in (
            (BeamWord.DEPTH, depth), (BeamWord.RANKS, ranks), (BeamWord.FOUND, found), (BeamWord.SEEN_STEP, most),
            (BeamWord.HIDDEN, hidden), (BeamWord.LOGITS, self.logits.data_ptr()),
            (BeamWord.STATES, self.states.data_ptr()), (BeamWord.FEATURES, self.features.data_ptr()),
        ):  # fmt: skip
            self.words[word] = value
        for word, array in (
            (BeamWord.PASSES, self.passes), (BeamWord.CALLS, self.calls), (BeamWord.IDS, self.ids),
            (BeamWord.LEVELS, self.levels), (BeamWord.TOKENS, self.tokens), (BeamWord.SHARES, self.shares),
            (BeamWord.CHOSEN, self.chosen), (BeamWord.CANDIDATES, candidates), (BeamWord.PATH_SCORES, scores),
            (BeamWord.NEXT_SCORES, next_scores), (BeamWord.PATH_NODES, nodes), (BeamWord.NEXT_NODES, next_nodes),
            (BeamWord.PLACES, positions), (BeamWord.SEEN, self._seen), (BeamWord.PACKED, self._packed),
        ):  # fmt: skip
            self.words[word] = addressof(array)
        self.worths_at, self.ids_at = addressof(self.worths), addressof(self.ids)

    def read(self) -> Beam:
        """What the last one has left."""
        step, found = self.ranks * self.found, self.found
        paths, chosen, tokens, shares = [], [], [], []
        for level in range(self.levels[0]):
            above, following = self.levels[1 + 2 * level], self.levels[2 + 2 * level]
            paths.append(above)
            chosen.append(self.chosen[level * self.ranks : level * self.ranks + following])
            tokens.append(self.tokens[level * step : level * step + above * found])
            shares.append(self.shares[level * step : level * step + above * found])
        return Beam(self.ranks, self.found, paths, chosen, tokens, shares)


def single_bits(value: float) -> int:
    """Of the nearest float32, as an integer."""
    return int.from_bytes(struct.pack("<f", value), "little")


def double_bits(value: float) -> int:
    """Of a float64, as a signed integer."""
    return int.from_bytes(struct.pack("<d", value), "little", signed=True)
