"""From a text file to batches of token blocks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from specterm.errors import ConfigError
from specterm.models.tokenizer import TextCodec
from specterm.training.mojibake import unscrambled

SEPARATOR = "<|endoftext|>"


def read_documents(path: Path) -> list[str]:
    """The documents of a text file, which `<|endoftext|>` separates, with scrambled characters put right.

    Raises:
        ConfigError: the file cannot be read, or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--text {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    text = unscrambled(text)
    documents = [document.strip("\n") for document in text.split(SEPARATOR) if document.strip()]
    if not documents:
        raise ConfigError(f"--text {path} is empty; give a file with text")
    return documents


class TokenBatches:
    """Batches of token blocks, int64 [tokens // length, length], without end: the documents in a new order each time
    round. Each batch has one of the given lengths, drawn by chance.

    `position` counts the documents read so far; a stream that begins there goes on with the next document.
    """

    def __init__(
        self,
        documents: list[str],
        codec: TextCodec,
        eos: int | None,
        *,
        tokens: int,
        lengths: Sequence[int],
        seed: int,
    ) -> None:
        """eos: the token that ends a document, if the model has one; tokens: of a batch, at least the longest length;
        lengths: one that stands there twice is drawn twice as often."""
        self.position = 0
        self._documents, self._codec, self._eos = documents, codec, eos
        self._tokens, self._lengths, self._seed = tokens, lengths, seed

    def __iter__(self) -> Iterator[Tensor]:
        draw, waiting = random.Random(self._seed + self.position), list[int]()
        while True:
            time_round, place = divmod(self.position, len(self._documents))
            order = list(range(len(self._documents)))
            random.Random(self._seed + time_round).shuffle(order)
            for index in order[place:]:
                waiting.extend(self._codec.encode(self._documents[index]))
                if self._eos is not None:
                    waiting.append(self._eos)
                self.position += 1
                while len(waiting) >= self._tokens:
                    length = draw.choice(self._lengths)
                    rows = self._tokens // length
                    yield torch.tensor(waiting[: rows * length]).view(rows, length)
                    del waiting[: rows * length]
