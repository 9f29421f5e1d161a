"""Rounds of one row in one call; see `compiled.strides`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from ctypes import Array, addressof, c_int64
from enum import IntEnum
from typing import TypeAlias, TypeVar

import torch

from specterm.decoding.host import ToldWarps
from specterm.decoding.ports import Ahead, Step
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, Warps, purpose_key
from specterm.kernels.words import WalkWord
from specterm.models.cache import SlotCache
from specterm.models.compiled.kernels import stride_kernel
from specterm.models.compiled.strides import BEGUN, JUDGED, TOKENS
from specterm.models.compiled.words import CallWord, ChainWord, StrideWord
from specterm.models.runners.compiled_passes import Call, CompiledPasses
from specterm.models.runners.rooms import ChainRoom, single_bits

Computing: TypeAlias = tuple[CompiledPasses, SlotCache, int]
"""What computes, its cache, and how many layers take part."""
# As plain numbers: members of enums are slow to index with.
_ROUNDS, _MOST, _START, _INDEX, _ENDS, _END_COUNT, _RECORDS, _PENDING, _DRAFT_START = map(
    int,
    (
        StrideWord.ROUNDS,
        StrideWord.MOST,
        StrideWord.START,
        StrideWord.INDEX,
        StrideWord.ENDS,
        StrideWord.END_COUNT,
        StrideWord.RECORDS,
        StrideWord.PENDING,
        StrideWord.DRAFT_START,
    ),
)
_LAWS, _WARPS = int(WalkWord.LAWS), int(WalkWord.WARPS)
_CHAIN_MOST, _LEAST, _CHAIN_WARPS, _CHAIN_KEY, _CHAIN_LAWS = map(
    int, (ChainWord.MOST, ChainWord.LEAST, ChainWord.WARPS, ChainWord.KEY, ChainWord.LAWS)
)
_Word = TypeVar("_Word", bound=IntEnum)
_KEYS = {
    WalkWord.TARGET_KEY: Purpose.TARGET,
    WalkWord.RATIO_KEY: Purpose.RATIO,
    WalkWord.RESIDUAL_KEY: Purpose.RESIDUAL,
}


class CompiledStrides:
    """Strides of one target, whose drafts, if any, are chains of up to `most` tokens of one model; not for two threads
    at once, and only as long as both are there."""

    def __init__(self, target: CompiledPasses, draft: CompiledPasses | None, most: int) -> None:
        self.most = most
        self._kernel = stride_kernel(target.machine, target.kind, None if draft is None else draft.kind)
        self._words, self._walk, self._warps = _integers(len(StrideWord)), _integers(len(WalkWord)), ToldWarps()
        self._ids, self._path, self._records = _integers(most + 1), _integers(most + 3), _integers(0)
        self._logits, self._room = torch.empty((most + 1, target.vocab)), torch.empty((2, target.vocab))
        self._passes = _Passes(target, most + 1, addressof(self._ids), self._logits.data_ptr(), whole=True)
        self._ends: tuple[tuple[int, ...], Array[c_int64]] = (), _integers(0)
        _tell(
            self._words,
            {
                StrideWord.INDEX_STEP: ROUND_STRIDE,
                StrideWord.MODEL: target.model_at,
                StrideWord.PASSES: addressof(self._passes.passes),
                StrideWord.CALLS: addressof(self._passes.calls),
                StrideWord.PLACES: target.places_at,
                StrideWord.IDS: addressof(self._ids),
                StrideWord.WALK: addressof(self._walk),
                StrideWord.PATH: addressof(self._path),
            },
        )
        _tell(
            self._walk,
            {
                WalkWord.LOGITS: self._logits.data_ptr(),
                WalkWord.VOCAB: target.vocab,
                WalkWord.ROOM: self._room.data_ptr(),
                WalkWord.PATH: addressof(self._path),
            },
        )
        self._chains = None if draft is None else _Chains(draft, most, target.vocab, self._words)
        if self._chains is not None:
            self._walk[WalkWord.TOKENS] = self._chains.room.drawn_at

    def run(
        self, target: Computing, draft: Computing | None, row: int, start: int, root: int, rounds: int, ahead: Ahead,
        warps: Warps, key: int, first: int, ends: tuple[int, ...],
    ) -> list[Step]:  # fmt: skip
        """See `Strides`; the caches have room and all layers, and know that they are about to be written."""
        words, walk, size = self._words, self._walk, TOKENS + ahead.most
        self._passes.over(target, row)
        walk[_LAWS] = 0 if draft is None or self._chains is None else self._chains.tell(draft, ahead, row, key)
        if len(self._records) < rounds * size:
            self._records = _integers(rounds * size)
            words[_RECORDS] = addressof(self._records)
        if self._ends[0] != ends:
            self._ends = ends, (c_int64 * len(ends))(*ends)
            words[_ENDS], words[_END_COUNT] = addressof(self._ends[1]), len(ends)
        words[_ROUNDS], words[_MOST], words[_START], words[_INDEX] = rounds, ahead.most, start, first * ROUND_STRIDE
        self._ids[0] = root
        walk[_WARPS] = self._warps.of(warps)
        if not warps.greedy:
            _tell(walk, {word: purpose_key(key, purpose) for word, purpose in _KEYS.items()})
        began = time.perf_counter()
        self._kernel(words)
        return self._steps(words[_ROUNDS], size, time.perf_counter() - began)

    def _steps(self, rounds: int, size: int, seconds: float) -> list[Step]:
        """Those of the last call, which took so many seconds."""
        records = self._records
        tick = seconds / (records[(rounds - 1) * size + JUDGED] - records[BEGUN])
        steps = []
        for at in range(0, rounds * size, size):
            count, kept, following, begun, drafted, verified, judged = records[at : at + TOKENS]
            tokens = tuple(records[at + TOKENS : at + TOKENS + count]) if count else ()
            draft_s, verify_s = tick * (drafted - begun), tick * (verified - drafted)
            steps.append(Step(tokens, kept, following, draft_s, verify_s, tick * (judged - verified)))
        return steps


class _Passes:
    """Passes of one model over one token of a row, two, ..., which are told once what stays the same."""

    def __init__(self, model: CompiledPasses, widest: int, ids_at: int, logits_at: int, *, whole: bool) -> None:
        """whole: logits are wanted after all tokens, otherwise after the last one."""
        self.passes, self.calls = _integers(widest + 1), _integers(widest + 1)
        self._buffers = [model.made(width) for width in range(1, widest + 1)]
        self._told = [Call(1) for _ in self._buffers]
        self._where = ids_at, logits_at, whole
        self._over: tuple[Callable[[], SlotCache | None], int, int] = lambda: None, 0, 0
        for width, (b, call) in enumerate(zip(self._buffers, self._told, strict=True), start=1):
            self.passes[width], self.calls[width] = b.at, call.at

    def over(self, computing: Computing, row: int) -> None:
        """They are about to be taken, over a row of this cache."""
        model, cache, layers = computing
        held, generation, own = self._over
        if held() is cache and generation == cache.generation and own == row:
            return
        ids_at, logits_at, whole = self._where
        for width, (b, call) in enumerate(zip(self._buffers, self._told, strict=True), start=1):
            model.over(cache, row, b)
            model.ask(call, ids_at, layers, width if whole else 1, logits_at)
            if not whole and width > 1:
                call.picks[0], call.words[CallWord.PICKS] = width - 1, call.picks_at
        self._over = weakref.ref(cache), cache.generation, row


class _Chains:
    """What the draft model of strides is told."""

    def __init__(self, draft: CompiledPasses, most: int, vocab: int, words: Array[c_int64]) -> None:
        self.room = room = ChainRoom(most, draft.vocab)
        self._words, self._vocab, self._ids, self._warps = words, vocab, _integers(2), ToldWarps()
        self._passes = _Passes(draft, 2, addressof(self._ids), room.logits_at, whole=False)
        _tell(
            words,
            {
                StrideWord.DRAWN: room.drawn_at,
                StrideWord.DRAFT: draft.model_at,
                StrideWord.DRAFT_PASSES: addressof(self._passes.passes),
                StrideWord.DRAFT_CALLS: addressof(self._passes.calls),
                StrideWord.DRAFT_PLACES: draft.places_at,
                StrideWord.DRAFT_IDS: addressof(self._ids),
                StrideWord.DRAFT_LOGITS: room.logits_at,
                StrideWord.CHAIN: addressof(room.words),
            },
        )
        _tell(
            room.words,
            {
                ChainWord.CHOICE: min(vocab, draft.vocab),
                ChainWord.DRAWN: room.drawn_at,
                ChainWord.SHARES: room.shares_at,
                ChainWord.WIDTH: vocab,
                ChainWord.ROOM: room.scratch_at,
            },
        )

    def tell(self, draft: Computing, ahead: Ahead, row: int, key: int) -> int:
        """What the next stride's chains are; where their laws will be, 0 for greedy ones."""
        room, words = self.room, self._words
        self._passes.over(draft, row)
        for place, token in enumerate(ahead.pending):
            self._ids[place] = token
        words[_PENDING], words[_DRAFT_START] = len(ahead.pending), ahead.start
        room.words[_CHAIN_MOST], room.words[_LEAST] = ahead.most, single_bits(ahead.least)
        if ahead.warps.greedy:
            room.words[_CHAIN_WARPS] = 0
            return 0
        room.laws_of(self._vocab)
        room.words[_CHAIN_WARPS] = self._warps.of(ahead.warps)
        room.words[_CHAIN_KEY], room.words[_CHAIN_LAWS] = purpose_key(key, Purpose.DRAFT), room.laws_at
        return room.laws_at


def _integers(count: int) -> Array[c_int64]:
    return (c_int64 * count)()


def _tell(words: Array[c_int64], values: Mapping[_Word, int]) -> None:
    for word, value in values.items():
        words[word] = value
