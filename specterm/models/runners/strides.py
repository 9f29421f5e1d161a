"""Rounds of one row in one call; see `compiled.strides`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from ctypes import Array, addressof, c_byte, c_double, c_int64, memmove
from enum import IntEnum
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.host import ToldWarps
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, Warps, probabilities, purpose_key
from specterm.decoding.stride_ports import Ahead, Drafting, Grown, Lookup, Plan, Recorded, Step
from specterm.kernels.words import WalkWord
from specterm.models.cache import SlotCache
from specterm.models.compiled.kernels import stride_kernel
from specterm.models.compiled.strides import Record, record_size
from specterm.models.compiled.words import BeamWord, CallWord, ChainWord, DrafterWord, LookupWord, StrideWord, TreeWord
from specterm.models.runners.compiled_passes import Call, CompiledPasses
from specterm.models.runners.rooms import BeamRoom, ChainRoom, double_bits, single_bits

Computing: TypeAlias = tuple[CompiledPasses, SlotCache, int]
"""What computes, its cache, and how many layers take part."""
_KEYS = {
    WalkWord.TARGET_KEY: Purpose.TARGET,
    WalkWord.RATIO_KEY: Purpose.RATIO,
    WalkWord.RESIDUAL_KEY: Purpose.RESIDUAL,
}
_Word = TypeVar("_Word", bound=IntEnum)
# As plain numbers: members of enums are slow to index with.
_ROUNDS, _MOST, _DEPTH, _START, _INDEX, _ENDS, _END_COUNT, _RECORDS, _LOGITS_STEP = map(
    int,
    (
        StrideWord.ROUNDS,
        StrideWord.MOST,
        StrideWord.DEPTH,
        StrideWord.START,
        StrideWord.INDEX,
        StrideWord.ENDS,
        StrideWord.END_COUNT,
        StrideWord.RECORDS,
        StrideWord.LOGITS_STEP,
    ),
)
_WARPS, _PENDING, _BEGIN = int(WalkWord.WARPS), int(DrafterWord.PENDING), int(DrafterWord.START)
_LOGITS, _OF_WALK = int(CallWord.LOGITS), int(WalkWord.LOGITS)
_CHAIN_MOST, _LEAST, _CHAIN_WARPS, _KEY, _BEAM_DEPTH = map(
    int, (ChainWord.MOST, ChainWord.LEAST, ChainWord.WARPS, ChainWord.KEY, BeamWord.DEPTH)
)
_TOLD, _RATE = int(Record.REST), int(Record.RATE)
_MOST_WAYS = 8
"""In which drafts are made, that are remembered: each has room for logits."""


def compile_strides(target: CompiledPasses, drafts: Sequence[CompiledPasses]) -> None:
    """See `Strides.ready`."""
    stride_kernel(target.machine, target.kind, (), beams=False, tree=False, lookup=False)
    stride_kernel(target.machine, target.kind, (), beams=False, tree=False, lookup=True)
    for draft in drafts[:1]:
        stride_kernel(target.machine, target.kind, (draft.kind,), beams=False, tree=False, lookup=False)
    if len(drafts) > 1:
        kinds = tuple(draft.kind for draft in drafts)
        for beams in (False, True):
            stride_kernel(target.machine, target.kind, kinds, beams=beams, tree=True, lookup=False)


class CompiledStrides:
    """Strides of one target, whose drafts are made by certain models in a certain way; not for two threads at once, and
    only as long as all models are there."""

    def __init__(self, target: CompiledPasses, drafts: Sequence[Computing], drafting: Drafting) -> None:
        most, depth = drafting.most, drafting.depth
        kinds = tuple(draft[0].kind for draft in drafts)
        beams = drafting.width > 1
        lookup = drafting.lookup is not None
        self._kernel = stride_kernel(target.machine, target.kind, kinds, beams=beams, tree=drafting.tree, lookup=lookup)
        self._most, self._depth = most, depth  # at most
        self._words, self._walk, self._warps = _integers(len(StrideWord)), _integers(len(WalkWord)), ToldWarps()
        self._ids, self._path, self._records = _integers(most + 1), _integers(depth + 3), _integers(0)
        self._doubles = (c_double * 0).from_buffer(self._records)
        self._logits, self._room = torch.empty((1, most + 1, target.vocab)), torch.empty((2, target.vocab))
        self._kept = 1  # rounds of which there is room for logits
        self._pass = _Pass(target, most + 1, addressof(self._ids), self._logits.data_ptr())
        self._ends: tuple[tuple[int, ...], Array[c_int64]] = (), _integers(0)
        self._models = [
            _Drafter(draft, drafting, ahead, target.vocab) for draft, ahead in zip(drafts, drafting.models, strict=True)
        ]
        self._addresses = (c_int64 * len(drafts))(*[addressof(model.words) for model in self._models])
        self._tree = _Tree(drafting, len(drafts)) if drafting.tree else None
        self._lookup, self._text = _integers(len(LookupWord)), _integers(0)
        _tell(
            self._words,
            {
                StrideWord.INDEX_STEP: ROUND_STRIDE,
                StrideWord.MODEL: target.model_at,
                StrideWord.PASS: self._pass.buffers.at,
                StrideWord.CALL: self._pass.call.at,
                StrideWord.PLACES: target.places_at,
                StrideWord.IDS: addressof(self._ids),
                StrideWord.WALK: addressof(self._walk),
                StrideWord.DRAFTERS: addressof(self._addresses),
                StrideWord.TREE: 0 if self._tree is None else addressof(self._tree.words),
                StrideWord.LOOKUP: addressof(self._lookup),
            },
        )
        _tell(
            self._walk,
            {
                WalkWord.VOCAB: target.vocab,
                WalkWord.TOKENS: addressof(self._ids) + 8,
                WalkWord.PARENTS: 0 if self._tree is None else addressof(self._tree.above),
                WalkWord.LAWS: self._models[0].laws_at if self._models else 0,
                WalkWord.ROOM: self._room.data_ptr(),
                WalkWord.PATH: addressof(self._path),
            },
        )

    def suit(self, drafting: Drafting) -> bool:
        """Whether there is room for such drafts."""
        return drafting.most <= self._most and drafting.depth <= self._depth

    def run(
        self, target: Computing, drafts: Sequence[Computing], row: int, start: int, root: int, rounds: int,
        drafting: Drafting, warps: Warps, key: int, first: int, ends: tuple[int, ...], record: bool,
    ) -> list[Step]:  # fmt: skip
        """See `Strides`; the caches have room and all layers, and know that they are about to be written."""
        words, most, depth = self._words, drafting.most, drafting.depth
        size = record_size(most, depth, len(drafts), tree=drafting.tree)
        if self._pass.over(target, row) and self._tree is not None:
            self._tree.over(target, row)
        for model, draft, ahead in zip(self._models, drafts, drafting.models, strict=True):
            model.tell(draft, ahead, drafting, row, key)
        if self._tree is not None and drafting.plan is not None:
            self._tree.follow(drafting.plan, self._models)
        if drafting.lookup is not None:
            self._look_up(drafting.lookup, rounds * (1 + depth) + most)
        if len(self._records) < rounds * size:
            self._records = _integers(rounds * size)
            self._doubles = (c_double * (rounds * size)).from_buffer(self._records)
            words[_RECORDS] = addressof(self._records)
        self._keep_logits(rounds if record else 1)
        if self._ends[0] != ends:
            self._ends = ends, (c_int64 * len(ends))(*ends)
            words[_ENDS], words[_END_COUNT] = addressof(self._ends[1]), len(ends)
        words[_ROUNDS], words[_MOST], words[_DEPTH] = rounds, most, depth
        words[_START], words[_INDEX] = start, first * ROUND_STRIDE
        self._ids[0] = root
        self._walk[_WARPS] = self._warps.of(warps)
        if not warps.greedy:
            _tell(self._walk, {word: purpose_key(key, purpose) for word, purpose in _KEYS.items()})
        began = time.perf_counter()
        self._kernel(words)
        steps = self._steps(words[_ROUNDS], size, drafting, time.perf_counter() - began)
        return self._recorded(steps, size, drafting, warps) if record else steps

    def _keep_logits(self, rounds: int) -> None:
        """Of so many rounds, where that is more than one; or only of the last one."""
        if self._kept < rounds:
            self._kept, self._logits = rounds, torch.empty((rounds, *self._logits.shape[1:]))
        self._pass.call.words[_LOGITS] = self._walk[_OF_WALK] = self._logits.data_ptr()
        self._words[_LOGITS_STEP] = self._logits.nbytes // self._kept if rounds > 1 else 0

    def _look_up(self, lookup: Lookup, further: int) -> None:
        """The text, with room for so many tokens more."""
        (at, length), words = lookup.text.buffer_info(), self._lookup
        if len(self._text) < length + further:
            self._text = _integers(2 * (length + further))
            words[LookupWord.TEXT] = addressof(self._text)
        memmove(self._text, at, 8 * length)
        words[LookupWord.LENGTH], words[LookupWord.LONGEST], words[LookupWord.SHORTEST] = (
            length, lookup.longest, lookup.shortest
        )  # fmt: skip

    def _steps(self, rounds: int, size: int, drafting: Drafting, seconds: float) -> list[Step]:
        """Those of the last call, which took so many seconds; size: of a record."""
        records, most, end = self._records, drafting.most, size - len(drafting.models)
        # Where the processor's clock stood still nothing is known of the parts.
        tick = seconds / max(1, records[(rounds - 1) * size + Record.JUDGED] - records[Record.BEGUN])
        steps = []
        for at in range(0, rounds * size, size):
            count, kept, following, begun, drafted, verified, judged, levels, *_ = records[at : at + _TOLD]
            rest = at + _TOLD
            tokens = tuple(records[rest : rest + count]) if count else ()
            path: Sequence[int] = range(1, kept + 1)
            grown = None
            if self._tree is not None:
                above, told, nodes = rest + 2 * most, rest + 3 * most, rest + 4 * most
                path = records[nodes : nodes + kept]
                rate, promised = self._doubles[at + _RATE : at + _TOLD]
                grown = Grown(
                    tuple([parent - 1 for parent in records[above : above + count]]),
                    tuple(records[told : told + count]),
                    levels,
                    rate,
                    promised,
                    tuple(records[at + end : at + size]),
                )
            parts = max(0, drafted - begun), max(0, verified - drafted), max(0, judged - verified)
            steps.append(Step(tokens, path, following, tick * parts[0], tick * parts[1], tick * parts[2], grown))
        return steps

    def _recorded(self, steps: Sequence[Step], size: int, drafting: Drafting, warps: Warps) -> list[Step]:
        """The steps of the last call with what is recorded of them; size: of a record."""
        began = time.perf_counter()
        longest = 1 + max(len(step.tokens) for step in steps)
        above, tokens = [], []
        for step in steps:
            parents = range(-1, len(step.tokens) - 1) if step.grown is None else step.grown.parents
            last = step.path[-1] if step.path else 0
            above.append([*[parent + 1 for parent in parents], last])
            tokens.append([*step.tokens, step.next_token])
        found = iter(_probabilities_at(probabilities(self._logits[: len(steps), :longest], warps), above, tokens))
        recorded = []
        for number, step in enumerate(steps):
            count, rest = len(step.tokens), number * size + _TOLD + drafting.most
            *p, next_p = [next(found) for _ in range(count + 1)]
            chances = tuple(self._doubles[rest : rest + count]) if drafting.models else None
            fixed = step.grown is not None or drafting.warps.greedy
            said = (None, chances) if fixed else (chances, None)
            recorded.append(step._replace(recorded=Recorded(tuple(p), next_p, *said)))
        seconds = (time.perf_counter() - began) / len(steps)
        return [step._replace(sampling_s=step.sampling_s + seconds) for step in recorded]


class StridesByDraft:
    """Those of one target, by how drafts are made; they are made when they are needed first."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[tuple[Callable[[], CompiledPasses | None], ...], CompiledStrides]] = {}

    def of(self, target: Computing, drafts: Sequence[Computing], drafting: Drafting) -> CompiledStrides:
        """For `drafting` by these models."""
        how = drafting.width, drafting.tree, drafting.warps.greedy, drafting.lookup is None, drafting.plan is None
        models = zip(drafts, drafting.models, strict=True)
        key = (*how, *[(id(model), layers, ahead.widest) for (model, _, layers), ahead in models])
        held, made = self._made.get(key, ((), None))
        gone = any(own() is not draft[0] for own, draft in zip(held, drafts, strict=True)) if made else False
        if made is None or gone or not made.suit(drafting):
            if len(self._made) >= _MOST_WAYS:
                self._made.clear()
            # They have the addresses of the models, and are not to be what keeps those.
            held, made = tuple(weakref.ref(model) for model, *_ in drafts), CompiledStrides(target[0], drafts, drafting)
            self._made[key] = held, made
        return made


class _Pass:
    """A model's pass over a few tokens of a row, of which up to so many take part."""

    def __init__(self, model: CompiledPasses, widest: int, ids_at: int, logits_at: int) -> None:
        self.buffers, self.call = model.made(widest), Call(1)
        self._where = ids_at, logits_at
        self._over: tuple[Callable[[], SlotCache | None], int, int] = lambda: None, 0, 0

    def over(self, computing: Computing, row: int, *, last: bool = False) -> bool:
        """It is over a row of this cache, and logits are wanted after all tokens or after the `last` one; whether it
        was over another."""
        model, cache, layers = computing
        held, generation, own = self._over
        if held() is cache and generation == cache.generation and own == row:
            return False
        model.over(cache, row, self.buffers)
        ids_at, logits_at = self._where
        model.ask(self.call, ids_at, layers, 1, logits_at)
        if last:
            self.call.words[CallWord.PICKS] = self.call.picks_at
        self._over = weakref.ref(cache), cache.generation, row
        return True


class _Drafter:
    """A model that drafts."""

    def __init__(self, computing: Computing, drafting: Drafting, ahead: Ahead, vocab: int) -> None:
        model, _, layers = computing
        width, depth = drafting.width, drafting.depth
        self.words, self._ids = _integers(len(DrafterWord)), _integers(ahead.widest)
        self._chain = ChainRoom(depth, model.vocab) if width == 1 else None
        self.beam = None if self._chain is not None else model.beam_room(layers, width, depth, width, None)
        logits_at = (self._chain or self.beam).logits.data_ptr()  # type: ignore[union-attr]  # there is one of them
        self._pass = _Pass(model, ahead.widest, addressof(self._ids), logits_at)
        self._step = _Pass(model, 1, addressof(self._ids), logits_at)
        self._warps, self.laws_at = ToldWarps(), 0
        _tell(
            self.words,
            {
                DrafterWord.MODEL: model.model_at,
                DrafterWord.PASS: self._pass.buffers.at,
                DrafterWord.CALL: self._pass.call.at,
                DrafterWord.STEP: self._step.buffers.at,
                DrafterWord.STEP_CALL: self._step.call.at,
                DrafterWord.PLACES: model.places_at,
                DrafterWord.IDS: addressof(self._ids),
                DrafterWord.SHARED: int(ahead.shared),
            },
        )
        choice = min(vocab, model.vocab)
        if self._chain is not None:
            self._of_chains(self._chain, drafting, vocab, choice)
        elif self.beam is not None:
            self._of_beams(self.beam, drafting, choice, model.max_positions)

    def _of_chains(self, room: ChainRoom, drafting: Drafting, vocab: int, choice: int) -> None:
        self.words[DrafterWord.WORDS] = addressof(room.words)
        if not drafting.warps.greedy:
            room.laws_of(vocab)
            self.laws_at = room.laws_at
        _tell(
            room.words,
            {
                ChainWord.CHOICE: choice,
                ChainWord.DRAWN: room.drawn_at,
                ChainWord.SHARES: room.shares_at,
                ChainWord.LAWS: room.laws_at,
                ChainWord.WIDTH: vocab,
                ChainWord.ROOM: room.scratch_at,
            },
        )

    def _of_beams(self, room: BeamRoom, drafting: Drafting, choice: int, positions: int) -> None:
        self.words[DrafterWord.WORDS] = addressof(room.words)
        _tell(
            room.words,
            {
                BeamWord.CHOICE: choice,
                BeamWord.POSITIONS: positions,
                BeamWord.FIRST_PASS: self._pass.buffers.at,
                BeamWord.FIRST_CALL: self._pass.call.at,
                BeamWord.TOKEN_IDS: 0,
                BeamWord.WORTHS: 0,
            },
        )

    def tell(self, computing: Computing, ahead: Ahead, drafting: Drafting, row: int, key: int) -> None:
        """What the next stride's drafts begin with."""
        self._pass.over(computing, row, last=True)
        for place, token in enumerate(ahead.pending):
            self._ids[place] = token
        self.words[_PENDING], self.words[_BEGIN] = len(ahead.pending), ahead.start
        if self.beam is not None:
            self.beam.words[_BEAM_DEPTH] = drafting.depth
            offset = int(self._pass.buffers.offsets[0])
            for own in self.beam.level_buffers:
                own.offsets[0] = offset
        elif self._chain is not None:
            self._step.over(computing, row)
            words, greedy = self._chain.words, drafting.warps.greedy
            words[_CHAIN_MOST], words[_LEAST], words[_CHAIN_WARPS] = drafting.depth, single_bits(drafting.least), 0
            if not greedy:
                words[_CHAIN_WARPS], words[_KEY] = self._warps.of(drafting.warps), purpose_key(key, Purpose.DRAFT)


class _Tree:
    """What the drafters' candidates become."""

    def __init__(self, drafting: Drafting, drafters: int) -> None:
        width, depth, most = drafting.width, drafting.depth, drafting.most
        every = drafters * (width + (depth - 1) * width * width)
        self.words, self.above = _integers(len(TreeWord)), _integers(most + 1)
        self._arrays = {
            TreeWord.TOKENS: _integers(every),
            TreeWord.PARENTS: _integers(every),
            TreeWord.DEPTHS: _integers(every),
            TreeWord.CONFIDENCES: _integers(every),
            TreeWord.SCORES: _integers(every),
            TreeWord.SOURCES: _integers(every),
            TreeWord.NODES: _integers(width * width),
            TreeWord.NEXT_NODES: _integers(width * width),
            TreeWord.ORDER: _integers(most),
            TreeWord.PLACE: _integers(every),
            TreeWord.ABOVE: self.above,
            TreeWord.POSITIONS: _integers(most + 1),
            TreeWord.MOVES: _integers(2 * depth),
            TreeWord.CACHE: _integers(6),
        }
        self._seen = (c_byte * ((most + 1) ** 2))()
        self._plan: Plan | None = None
        self._figures: list[Array[c_int64] | Array[c_double]] = []  # whose addresses the words have
        _tell(self.words, {word: addressof(array) for word, array in self._arrays.items()})
        self.words[TreeWord.SEEN] = addressof(self._seen)

    def over(self, computing: Computing, row: int) -> None:
        """The nodes that are kept are those of a row of this cache."""
        model, cache, _ = computing
        for place, value in enumerate(model.moving(cache, row)):
            self._arrays[TreeWord.CACHE][place] = value

    def follow(self, plan: Plan, models: Sequence[_Drafter]) -> None:
        """Decide as it says."""
        if plan is self._plan:
            return
        self._plan = plan
        tables: dict[TreeWord, Array[c_int64] | Array[c_double]] = {
            TreeWord.SIZES: (c_int64 * len(plan.sizes))(*plan.sizes),
            TreeWord.PASS_S: (c_double * len(plan.sizes))(*plan.pass_s),
            TreeWord.DRAFT_S: (c_double * len(plan.draft_s))(*plan.draft_s),
            TreeWord.WORTHS: (c_double * len(plan.worths))(*plan.worths),
        }
        self._figures = list(tables.values())
        _tell(self.words, {word: addressof(array) for word, array in tables.items()})
        self.words[TreeWord.SIZE_COUNT] = len(plan.sizes)
        self.words[TreeWord.RIGHT] = double_bits(plan.right)
        for model in models:
            if model.beam is not None:
                words = model.beam.words
                words[BeamWord.RIGHT], words[BeamWord.PATH] = double_bits(plan.right), double_bits(plan.path)


def _probabilities_at(probs: Tensor, nodes: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> list[float]:
    """probs[r, n, t], one after the other, of the nodes n and tokens t of each round r."""
    rounds = [number for number, own in enumerate(nodes) for _ in own]
    where = rounds, [node for own in nodes for node in own], [token for own in tokens for token in own]
    found: list[float] = probs.numpy()[tuple(np.array(place) for place in where)].tolist()
    return found


def _integers(count: int) -> Array[c_int64]:
    return (c_int64 * count)()


def _tell(words: Array[c_int64], values: Mapping[_Word, int]) -> None:
    for word, value in values.items():
        words[word] = value
