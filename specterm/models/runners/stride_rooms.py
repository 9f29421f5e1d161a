"""Where strides compute, and what they are told in words; see `compiled.strides`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import Array, addressof, c_byte, c_double, c_int64
from enum import IntEnum
from typing import TypeAlias, TypeVar

from specterm.decoding.host import ToldWarps
from specterm.decoding.sampling import Purpose, purpose_key
from specterm.decoding.stride_ports import Ahead, Drafting, Plan
from specterm.models.cache import SlotCache
from specterm.models.compiled.words import BeamWord, CallWord, ChainWord, DrafterWord, TreeWord
from specterm.models.runners.compiled_passes import Call, CompiledPasses
from specterm.models.runners.rooms import BeamRoom, ChainRoom, double_bits, single_bits

Computing: TypeAlias = tuple[CompiledPasses, SlotCache, int]
"""What computes, its cache, and how many layers take part."""
Word = TypeVar("Word", bound=IntEnum)
# As plain numbers: members of enums are slow to index with.
_PENDING, _BEGIN = int(DrafterWord.PENDING), int(DrafterWord.START)
_CHAIN_MOST, _LEAST, _CHAIN_WARPS, _KEY, _BEAM_DEPTH = map(
    int, (ChainWord.MOST, ChainWord.LEAST, ChainWord.WARPS, ChainWord.KEY, BeamWord.DEPTH)
)


class PassRoom:
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


class DrafterRoom:
    """A model that drafts."""

    def __init__(self, computing: Computing, drafting: Drafting, ahead: Ahead, vocab: int) -> None:
        model, _, layers = computing
        width, depth = drafting.width, drafting.depth
        self.words, self._ids = integers(len(DrafterWord)), integers(ahead.widest)
        self._chain = ChainRoom(depth, model.vocab) if width == 1 else None
        self.beam = None if self._chain is not None else model.beam_room(layers, width, depth, width, None)
        logits_at = (self._chain or self.beam).logits.data_ptr()  # type: ignore[union-attr]  # there is one of them
        self._pass = PassRoom(model, ahead.widest, addressof(self._ids), logits_at)
        self._step = PassRoom(model, 1, addressof(self._ids), logits_at)
        self._warps, self.laws_at = ToldWarps(), 0
        tell(
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
        tell(
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
        tell(
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

    def begin(self, computing: Computing, ahead: Ahead, drafting: Drafting, row: int, key: int) -> None:
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


class TreeRoom:
    """What the drafters' candidates become."""

    def __init__(self, drafting: Drafting, drafters: int) -> None:
        width, depth, most = drafting.width, drafting.depth, drafting.most
        every = drafters * (width + (depth - 1) * width * width)
        self.words, self.above = integers(len(TreeWord)), integers(most + 1)
        self._arrays = {
            TreeWord.TOKENS: integers(every),
            TreeWord.PARENTS: integers(every),
            TreeWord.DEPTHS: integers(every),
            TreeWord.CONFIDENCES: integers(every),
            TreeWord.SCORES: integers(every),
            TreeWord.SOURCES: integers(every),
            TreeWord.NODES: integers(width * width),
            TreeWord.NEXT_NODES: integers(width * width),
            TreeWord.ORDER: integers(most),
            TreeWord.PLACE: integers(every),
            TreeWord.ABOVE: self.above,
            TreeWord.POSITIONS: integers(most + 1),
            TreeWord.MOVES: integers(2 * depth),
            TreeWord.CACHE: integers(6),
        }
        self._seen = (c_byte * ((most + 1) ** 2))()
        self._plan: Plan | None = None
        self._figures: list[Array[c_int64] | Array[c_double]] = []  # whose addresses the words have
        tell(self.words, {word: addressof(array) for word, array in self._arrays.items()})
        self.words[TreeWord.SEEN] = addressof(self._seen)

    def over(self, computing: Computing, row: int) -> None:
        """The nodes that are kept are those of a row of this cache."""
        model, cache, _ = computing
        for place, value in enumerate(model.moving(cache, row)):
            self._arrays[TreeWord.CACHE][place] = value

    def follow(self, plan: Plan, models: Sequence[DrafterRoom]) -> None:
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
        tell(self.words, {word: addressof(array) for word, array in tables.items()})
        self.words[TreeWord.SIZE_COUNT] = len(plan.sizes)
        self.words[TreeWord.RIGHT] = double_bits(plan.right)
        for model in models:
            if model.beam is not None:
                words = model.beam.words
                words[BeamWord.RIGHT], words[BeamWord.PATH] = double_bits(plan.right), double_bits(plan.path)


def integers(count: int) -> Array[c_int64]:
    """So many, all 0."""
    return (c_int64 * count)()


def tell(words: Array[c_int64], values: Mapping[Word, int]) -> None:
    """Write each value in the place of its word."""
    for word, value in values.items():
        words[word] = value
