"""From a text file to batches of token blocks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from specterm.errors import ConfigError
from specterm.models.tokenizer import TextCodec
from specterm.training.mojibake import unscrambled

SEPARATOR = "<|endoftext|>"


def read_documents(path: Path, option: str = "--text") -> list[str]:
    """The documents of a text file, which `<|endoftext|>` separates, with scrambled characters put right.

    option: what an error calls the file.

    Raises:
        ConfigError: the file cannot be read, or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    text = unscrambled(text)
    documents = [document.strip("\n") for document in text.split(SEPARATOR) if document.strip()]
    if not documents:
        raise ConfigError(f"{option} {path} is empty; give a file with text")
    return documents


class TokenBatches:
    """Batches of token blocks, int64 [tokens // length, length], without end: a document of each text in turn, those of
    a text in a new order each time round. Each batch has one of the given lengths, drawn by chance.

    `position` counts the documents read so far; a stream that begins there goes on with the next document.
    """

    def __init__(
        self,
        texts: Sequence[list[str]],
        codec: TextCodec,
        eos: int | None,
        *,
        tokens: int,
        lengths: Sequence[int],
        seed: int,
    ) -> None:
        """texts: the documents of each; eos: the token that ends a document, if the model has one; tokens: of a batch,
        at least the longest length; lengths: one that stands there twice is drawn twice as often."""
        self.position = 0
        self._texts, self._codec, self._eos = texts, codec, eos
        self._tokens, self._lengths, self._seed = tokens, lengths, seed

    def __iter__(self) -> Iterator[Tensor]:
        draw, waiting = random.Random(self._seed + self.position), list[int]()
        orders = [_Order(len(documents), f"{self._seed} {number}") for number, documents in enumerate(self._texts)]
        while True:
            turn, text = divmod(self.position, len(self._texts))
            waiting.extend(self._codec.encode(self._texts[text][orders[text].at(turn)]))
            if self._eos is not None:
                waiting.append(self._eos)
            self.position += 1
            while len(waiting) >= self._tokens:
                length = draw.choice(self._lengths)
                rows = self._tokens // length
                yield torch.tensor(waiting[: rows * length]).view(rows, length)
                del waiting[: rows * length]


class Repeated:
    """Each batch of `batches` `times` times: `at_a_time` of them, each time round in a new order, then the next ones.

    `position` is that of `batches`: a stream that begins there goes on with the next ones.
    """

    def __init__(self, batches: TokenBatches, times: int, at_a_time: int, seed: int) -> None:
        self._batches, self._times, self._at_a_time, self._seed = batches, times, at_a_time, seed

    @property
    def position(self) -> int:
        """Documents read so far."""
        return self._batches.position

    @position.setter
    def position(self, documents: int) -> None:
        self._batches.position = documents

    def __iter__(self) -> Iterator[Tensor]:
        draw, stream = random.Random(self._seed + self.position), iter(self._batches)
        while True:
            own = list(itertools.islice(stream, self._at_a_time))
            for _ in range(self._times):
                yield from draw.sample(own, len(own))


class _Order:
    """The numbers from 0 to below `count`, each time round in an order of its own."""

    def __init__(self, count: int, seed: str) -> None:
        self._count, self._seed, self._time_round = count, seed, -1
        self._numbers: list[int] = []

    def at(self, turn: int) -> int:
        time_round, place = divmod(turn, self._count)
        if time_round != self._time_round:
            self._time_round, self._numbers = time_round, list(range(self._count))
            random.Random(f"{self._seed} {time_round}").shuffle(self._numbers)
        return self._numbers[place]
