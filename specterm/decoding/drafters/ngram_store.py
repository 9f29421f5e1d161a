"""A learned n-gram store in a file: MessagePack, written whole and then renamed, so a reader never sees half of one.

It holds pieces of prompts, so only its owner may read it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.errors import ConfigError

_FORMAT = "specterm n-gram store"
_VERSION = 1


class _Context(msgspec.Struct, array_like=True, frozen=True):
    """A context, and the tokens that followed it with their counts; the best come last."""

    context: tuple[int, ...]
    tokens: tuple[int, ...]
    counts: tuple[int, ...]


class _Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. Contexts stand in the order in which they were last learned from."""

    format: str
    version: int
    vocab_size: int
    contexts: list[_Context]


def save_store(index: NgramIndex, path: Path, vocab_size: int) -> None:
    """Write what `index` knows to `path`, in place of what was there.

    Raises:
        ConfigError: the file cannot be written.
    """
    contexts = []
    for context, followers in index.items():
        best = followers.ranked[::-1]
        tokens = (*(token for token in followers.counts if token not in best), *best)
        contexts.append(_Context(context, tokens, tuple(followers.counts[token] for token in tokens)))
    data = msgspec.msgpack.encode(_Store(_FORMAT, _VERSION, vocab_size, contexts))
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            partial = Path(file.name)
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def load_store(index: NgramIndex, path: Path, vocab_size: int) -> None:
    """Learn what stands in `path`, as far as the index's orders and capacity go; nothing where there is no file.

    Raises:
        ConfigError: the file cannot be read, is no store, or was learned with another vocabulary.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"--ngram-store {path} cannot be read: {error.strerror or error}") from None
    advice = "name another file, or remove this one"
    try:
        store = msgspec.msgpack.decode(data, type=_Store)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigError(f"--ngram-store {path} is not an n-gram store; {advice}") from None
    if (store.format, store.version) != (_FORMAT, _VERSION):
        raise ConfigError(f"--ngram-store {path} is no {_FORMAT} of version {_VERSION}; {advice}")
    if store.vocab_size != vocab_size:
        raise ConfigError(
            f"--ngram-store {path} was learned with {store.vocab_size} tokens and the target has {vocab_size}; {advice}"
        )
    for entry in store.contexts:
        numbers = (*entry.context, *entry.tokens)
        counted = len(entry.tokens) == len(entry.counts) and all(count > 0 for count in entry.counts)
        if not counted or not all(0 <= token < vocab_size for token in numbers):
            raise ConfigError(f"--ngram-store {path} is damaged; {advice}")
        if len(entry.context) in index.orders:
            for token, count in zip(entry.tokens, entry.counts, strict=True):
                index.add(entry.context, token, count)


def check_writable(path: Path) -> None:
    """See that `path` can be written, before a run that would end with it.

    Raises:
        ConfigError: it cannot.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"--ngram-store {path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise ConfigError(f"--ngram-store {path} is a folder; name a file in it")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--ngram-store {path} cannot be written: the folder {path.parent} is read-only")


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"--ngram-store {path} cannot be written: {error.strerror or error}")
