"""Passes of a Llama model over a few tokens of a few rows by kernels of this machine; see `compiled.model`."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, c_int64
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specterm.decoding.host import warp_words
from specterm.decoding.ports import FINAL_NORM, Beam, Block, Gate
from specterm.decoding.sampling import Warps
from specterm.kernels.library import Kernel
from specterm.models.cache import SlotCache
from specterm.models.compiled.kernels import ModelKind, chain_kernel, forward_kernel, grow_kernel
from specterm.models.compiled.layers import PassWord
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.compiled.model import Front
from specterm.models.compiled.rows import Buffers, CompiledLayers, places, sight
from specterm.models.compiled.words import BeamWord, CallWord, ChainWord, ModelWord
from specterm.models.norm import RmsNorm
from specterm.models.row_layers import Layer, Sizes
from specterm.models.runners.rooms import BeamRoom, ChainRoom, double_bits, single_bits

_MOST_ROOMS = 8
"""For beams of different widths; a room has logits for each of its paths."""
UNNORMED = -2
"""The place of the hidden state in front of the final norm, to be tapped; see `FINAL_NORM`."""
_IDS, _LAYERS, _TAPS, _TAPPED, _TAP_AT, _STATES, _JUDGED, _PICKS, _LOGITS, _FEATURES = map(int, CallWord)
_READ_WIDTH = int(PassWord.READ_WIDTH)
_MOST, _LEAST, _CHOICE, _DRAWN, _SHARES, _WARPS, _KEY, _INDEX, _LAWS, _WIDTH, _ROOM = map(int, ChainWord)


class Call:
    """The words of passes over so many tokens, and what they have the addresses of."""

    def __init__(self, rows: int) -> None:
        self.words = np.zeros(len(CallWord), dtype=np.int64)
        self.at = self.words.ctypes.data
        self.picks = np.zeros(rows, dtype=np.int64)
        self.picks_at = self.picks.ctypes.data
        self.ids = np.zeros(1, dtype=np.int64)
        self.ids_at = self.ids.ctypes.data
        self.tapped: object = None  # whose memory the words have the addresses of, for longer than a pass


@dataclass(frozen=True, slots=True)
class HeadFront:
    """How heads begin: see `Front`. product: of "joined", with the token's embedding and the feature behind it.
    table_norm, feature_norm, residual_normed: of "beside"; the last: whether the residual stream is the normed
    feature."""

    kind: Front
    product: CompiledMatrix | None = None
    table_norm: RmsNorm | None = None
    feature_norm: RmsNorm | None = None
    residual_normed: bool = False


class CompiledPasses:
    """Passes of one model; not for two threads at once."""

    def __init__(
        self, sizes: Sizes, norms: Sequence[RmsNorm | None], layers: Sequence[Layer], table: Tensor,
        norm: RmsNorm | None, judge: CompiledMatrix, cos: Tensor, sin: Tensor, eps: float,
        front: HeadFront | None = None,
    ) -> None:  # fmt: skip
        """See `OneRow`; the layers `suit`. norm: the last one, in front of `judge`, which gives the logits. The first
        of `norms` may be None in heads, which have a `front`."""
        product = None if front is None else front.product
        further, width = [judge] if product is None else [judge, product], sizes.hidden * (1 if front is None else 2)
        self._layers = CompiledLayers(sizes, layers, norms, cos, sin, eps, width, further)
        self.machine, self.places_at = self._layers.machine, self._layers.places_at
        self._held = table, norm, judge, front  # whose memory the words have the addresses of
        self._hidden, self.vocab, self._count = sizes.hidden, judge.out, len(layers)
        self.max_positions = len(cos)
        self._reads = width if product is None else sizes.hidden  # what the first layer reads, without a norm
        kind = str(table.dtype).removeprefix("torch.")
        begins = None if front is None else (front.kind, judge.kind if product is None else product.kind)
        self.kind = ModelKind(sizes.head_dim, self._layers.kinds, judge.kind, kind, begins)
        self._forward = forward_kernel(self.machine, self.kind)
        self._chain: Kernel | None = None  # compiled when they are needed first
        self._grow: Kernel | None = None
        self._model = np.zeros(len(ModelWord), dtype=np.int64)
        words = {
            ModelWord.LAYERS: self._layers.described_at,
            ModelWord.TABLE: table.data_ptr(),
            ModelWord.TOKENS: len(table),
            ModelWord.NORM: 0 if norm is None else norm.address,
            ModelWord.HEAD: judge.panels.data_ptr(),
            ModelWord.VOCAB: judge.out,
        }
        if front is not None:
            words |= {
                ModelWord.FRONT: 0 if product is None else product.panels.data_ptr(),
                ModelWord.FRONT_BIAS: 0 if product is None or product.bias is None else product.bias.data_ptr(),
                ModelWord.TABLE_NORM: 0 if front.table_norm is None else front.table_norm.address,
                ModelWord.FEATURE_NORM: 0 if front.feature_norm is None else front.feature_norm.address,
                ModelWord.RESIDUAL_NORMED: int(front.residual_normed),
            }
        for word, value in words.items():
            self._model[word] = value
        self.model_at = self._model.ctypes.data
        self._calls: dict[tuple[int, int], Call] = {}
        self._room: ChainRoom | None = None
        self._beam_rooms: dict[tuple[int, ...], BeamRoom] = {}

    def takes(self, block: Block) -> bool:
        """Whether `forward` is for such a block."""
        return self._layers.takes(block)

    def _call(self, rows: int, width: int) -> Call:
        found = self._calls.get((rows, width))
        if found is None:
            found = self._calls[rows, width] = Call(rows)
        return found

    def step(self, cache: SlotCache, row: int, slot: int, token: int) -> Tensor:
        """See `OneRow`."""
        call, b = self._call(1, 1), self._layers.buffers(1, 1)
        self._layers.begin(cache, (row,), (slot,), b, None, None)
        call.ids[0] = token
        logits = torch.empty(self.vocab)
        self.ask(call, call.ids_at, self._count, 1, logits.data_ptr())
        self._forward(self.model_at, b.at, call.at)
        return logits

    @staticmethod
    def ask(call: Call, ids_at: int, layers: int, judged: int, logits_at: int) -> None:
        """Logits of the first `judged` tokens, and no states."""
        words = call.words
        words[_IDS], words[_LAYERS], words[_JUDGED], words[_LOGITS] = ids_at, layers, judged, logits_at
        words[_TAPS] = words[_PICKS] = 0

    def forward(
        self, cache: SlotCache, block: Block, layers: int, taps: Sequence[int], last: Sequence[int] | None,
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """See `OneRow`; features: those in front of the tokens of heads, float32 [B, T, hidden]."""
        rows, width = len(block.rows), block.width
        call, b = self._call(rows, width), self._layers.buffers(rows, width)
        begins = [start + block.first for start in block.starts]
        self._layers.begin(cache, block.rows, begins, b, places(block, self.max_positions), sight(block))
        ids = block.ids.contiguous()
        judged = width if last is None else 1
        logits, states = torch.empty((rows, judged, self.vocab)), None
        self.ask(call, ids.data_ptr(), layers, rows * judged, logits.data_ptr())
        words = call.words
        if last is not None:
            call.picks[:] = [row * width + own for row, own in enumerate(last)]
            words[_PICKS] = call.picks_at
        if taps:
            states = torch.empty((rows, width, len(taps) * self._hidden))
            tapped = _tapped(tuple(taps), layers, self._hidden)
            words[_TAPS], words[_STATES] = len(taps), states.data_ptr()
            words[_TAPPED], words[_TAP_AT] = tapped[0].ctypes.data, tapped[1].ctypes.data
        if features is not None:
            features = features.contiguous()
            words[_FEATURES], b.words[_READ_WIDTH] = features.data_ptr(), self._reads
        self._forward(self.model_at, b.at, call.at)
        return logits, states

    def greedy_chain(
        self,
        cache: SlotCache,
        layers: int,
        row: int,
        start: int,
        tokens: Sequence[int],
        most: int,
        least: float,
        choice: int,
    ) -> tuple[list[int], list[float], Tensor]:
        """See `Chains`; the first `layers` take part, and `cache` has room and all of them."""
        room = self._chain_room(most)
        words = room.words
        words[_LEAST] = single_bits(least)  # in the lower half; all machines with kernels have it first
        words[_WARPS] = 0
        count = self._chained(cache, layers, row, start, tokens, most, choice)
        return room.drawn[:count], room.shares[:count], room.logits

    def sampled_chain(
        self, cache: SlotCache, layers: int, row: int, start: int, tokens: Sequence[int], most: int, choice: int,
        warps: Warps,
        key: int, index: int, vocab_size: int,
    ) -> tuple[list[int], Tensor]:  # fmt: skip
        """Likewise."""
        room = self._chain_room(most)
        laws = room.laws_of(vocab_size)
        told, words = warp_words(warps), room.words
        words[_LEAST], words[_WARPS], words[_KEY], words[_INDEX] = 0, told.ctypes.data, key, index
        words[_LAWS], words[_WIDTH], words[_ROOM] = room.laws_at, vocab_size, room.scratch_at
        count = self._chained(cache, layers, row, start, tokens, most, choice)
        return room.drawn[:count], laws

    def beam(
        self, cache: SlotCache, layers: int, row: int, start: int, tokens: Sequence[int], ranks: int, depth: int,
        found: int, choice: int | None, gate: Gate | None, features: Tensor | None = None, tapped: int = FINAL_NORM,
        token_ids: Tensor | None = None,
    ) -> Beam:  # fmt: skip
        """See `Beams`; the first `layers` take part, and `cache` has room and all of them. choice: among so many
        tokens, None for all. Of heads: features in front of `tokens`, [T, hidden], which of their states the next ones
        are, and the target's ids of their tokens, int64, where they have their own."""
        choice = self.vocab if choice is None else choice
        ranks, found = min(ranks, choice), min(found, choice)
        size = layers, ranks, found
        room = self._beam_rooms.get(size)
        if room is None or room.depth < depth:
            if len(self._beam_rooms) >= _MOST_ROOMS:
                self._beam_rooms.clear()
            room = self.beam_room(layers, ranks, depth, found, None if features is None else tapped)
            self._beam_rooms[size] = room
        room.words[BeamWord.DEPTH] = depth
        passes, words, width = self._layers, room.words, len(tokens)
        call, b = self._call(1, width), passes.buffers(1, width)
        passes.begin(cache, (row,), (start,), b, None, None)
        ids = (c_int64 * width)(*tokens)
        self.ask(call, addressof(ids), layers, 1, room.logits.data_ptr())
        call.picks[0] = width - 1
        call.words[_PICKS] = call.picks_at
        states = None
        if features is not None:
            features, states = features.contiguous(), torch.empty((width, self._hidden))
            self._read_features(call, b, features.data_ptr(), states.data_ptr(), tapped)
            words[BeamWord.ROOT_STATE] = states.data_ptr() + 4 * (width - 1) * self._hidden
        words[BeamWord.FIRST_PASS], words[BeamWord.FIRST_CALL] = b.at, call.at
        offset = int(b.offsets[0])
        for own in room.level_buffers:
            own.offsets[0] = offset
            if features is not None:
                own.words[_READ_WIDTH] = self._reads
        words[BeamWord.CHOICE], words[BeamWord.ROOT] = choice, start + width - 1
        words[BeamWord.POSITIONS] = self.max_positions
        words[BeamWord.TOKEN_IDS] = 0 if token_ids is None else token_ids.data_ptr()
        words[BeamWord.WORTHS] = 0
        if gate is not None:
            room.worths[: len(gate.worths)] = list(gate.worths)
            words[BeamWord.WORTHS] = room.worths_at
            words[BeamWord.RIGHT], words[BeamWord.PATH] = double_bits(gate.right), double_bits(gate.path)
        if self._grow is None:
            self._grow = grow_kernel(self.machine, self.kind)
        self._grow(self.model_at, words)
        return room.read()

    def beam_room(self, layers: int, ranks: int, depth: int, found: int, tapped: int | None) -> BeamRoom:
        """With the passes over the nodes of a level, by how many they are. tapped: of heads."""
        room = BeamRoom(ranks, depth, found, self.vocab, self._hidden)
        for count in range(1, ranks + 1):
            call, b = Call(1), self._layers.buffers(1, count)
            self.ask(call, room.ids_at, layers, count, room.logits.data_ptr())
            if tapped is not None:
                self._read_features(call, b, room.features.data_ptr(), room.states.data_ptr(), tapped)
            room.passes[count], room.calls[count] = b.at, call.at
            room.level_buffers.append(b)
            room.level_calls.append(call)
        return room

    def _read_features(self, call: Call, b: Buffers, features_at: int, states_at: int, tapped: int) -> None:
        """A pass of heads reads features, and leaves the states `tapped`."""
        words, told = call.words, _tapped((tapped,), self._count, self._hidden)
        call.tapped = told
        words[_FEATURES], words[_STATES], words[_TAPS] = features_at, states_at, 1
        words[_TAPPED], words[_TAP_AT] = told[0].ctypes.data, told[1].ctypes.data
        b.words[_READ_WIDTH] = self._reads

    def made(self, width: int) -> Buffers:
        """For passes over `width` tokens of a row, see `over`."""
        return self._layers.made(1, width)

    def over(self, cache: SlotCache, row: int, b: Buffers) -> None:
        """See `CompiledLayers`."""
        self._layers.over(cache, row, b)

    def moving(self, cache: SlotCache, row: int) -> tuple[int, ...]:
        """See `CompiledLayers`."""
        return self._layers.moving(cache, row)

    def move(self, cache: SlotCache, row: int, moves: Sequence[tuple[int, int]]) -> None:
        """See `Move`; `cache` has all layers."""
        self._layers.move(cache, row, moves)

    def _chain_room(self, most: int) -> ChainRoom:
        if self._room is None or self._room.most < most:
            self._room = ChainRoom(most, self.vocab)
        return self._room

    def _chained(
        self, cache: SlotCache, layers: int, row: int, start: int, tokens: Sequence[int], most: int, choice: int
    ) -> int:
        """How many tokens there are, of the chain that the words in its room tell more of."""
        room, width = self._chain_room(most), len(tokens)
        passes, step_call, step = self._layers, self._call(1, 1), self._layers.buffers(1, 1)
        call, b = self._call(1, width), passes.buffers(1, width)
        passes.begin(cache, (row,), (start + width - 1,), step, None, None)
        if width > 1:
            passes.begin(cache, (row,), (start,), b, None, None)
        ids = (c_int64 * width)(*tokens)
        at = addressof(ids)
        self.ask(step_call, at, layers, 1, room.logits_at)
        if width > 1:
            self.ask(call, at, layers, 1, room.logits_at)
            call.picks[0] = width - 1
            call.words[_PICKS] = call.picks_at
        words = room.words
        words[_MOST], words[_CHOICE] = most, choice
        words[_DRAWN], words[_SHARES] = room.drawn_at, room.shares_at
        if self._chain is None:
            self._chain = chain_kernel(self.machine, self.kind)
        self._chain(self.model_at, b.at, call.at, step.at, step_call.at, words)
        return room.drawn[most]


@lru_cache
def _tapped(taps: tuple[int, ...], layers: int, hidden: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In front of which layers states are wanted, ascending, and where in a row of them each begins."""
    behind = {FINAL_NORM: layers, UNNORMED: layers + 1}
    layer_of = [behind.get(tap, tap) for tap in taps]
    order = sorted(range(len(taps)), key=layer_of.__getitem__)
    ordered = np.array([layer_of[i] for i in order], dtype=np.int64)
    return ordered, np.array([i * hidden for i in order], dtype=np.int64)
