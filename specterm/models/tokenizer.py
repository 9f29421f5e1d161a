"""Text to token ids and back, for every model.

A tokenizer.json is read with the `tokenizers` library alone, which is what transformers does with it too, only without
importing transformers. Folders without one, or whose configuration adds special tokens in its own way, go through
`AutoTokenizer`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from specterm.config import Message
from specterm.errors import ConfigError, ModelError, one_line
from specterm.models.chat_template import render
from specterm.models.folders import read_json

_INCOMPLETE = "\ufffd"
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


class _Backend(Protocol):
    """What specterm needs of a tokenizer; the `Tokenizer` of the tokenizers library has it."""

    def encode(self, sequence: str, *, add_special_tokens: bool = True) -> Any: ...
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...
    def get_vocab(self) -> dict[str, int]: ...
    def get_added_tokens_decoder(self) -> dict[int, Any]: ...

    encode_special_tokens: bool


class TextCodec:
    """The tokenizer of one model."""

    def __init__(self, backend: _Backend, config: dict[str, Any]) -> None:
        self._backend = backend
        self.config = config
        self._of_bytes = type(getattr(backend, "decoder", None)).__name__ == "ByteLevel"
        self._pieces: dict[int, str | None] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with the special tokens that the model expects around a prompt."""
        ids: list[int] = list(self._backend.encode(text).ids)
        return ids

    def encode_chat(self, messages: Sequence[Message], template: str | None, name: str) -> list[int]:
        """The ids of a conversation, up to where the model is to answer, by `template` or else the model's own.

        A special token that a message spells out stays text: only the template's are control tokens.

        Raises:
            ConfigError: there is no template, or it cannot be used for this; `name` is the model's, for the text.
        """
        template = template or self.template
        if template is None:
            raise ConfigError(f"{name} has no chat template; add --chat-template FILE, or leave out the system prompt")
        special = self._special
        pattern = re.compile("|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)))
        if not special or not any(pattern.search(message.content) for message in messages):
            text = render(template, messages, self._variables, name)
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        mark = _unused_character(template, messages)
        spelt = [
            Message(m.role, pattern.sub(lambda found: found[0][0] + mark + found[0][1:], m.content)) for m in messages
        ]
        text = render(template, spelt, self._variables, name)
        ids: list[int] = []
        for piece in re.split(f"({pattern.pattern})", text):
            ids += [special[piece]] if piece in special else self._plain(piece.replace(mark, ""))
        return ids

    def _plain(self, text: str) -> list[int]:
        """The ids of `text` with no special token among them."""
        self._backend.encode_special_tokens = True
        try:
            return list(self._backend.encode(text, add_special_tokens=False).ids)
        finally:
            self._backend.encode_special_tokens = False

    @property
    def _special(self) -> dict[str, int]:
        added = self._backend.get_added_tokens_decoder()
        return {token.content: index for index, token in added.items() if token.special and token.content}

    @property
    def _variables(self) -> dict[str, Any]:
        """The special tokens by the names that templates have for them."""
        found = {key: value for key, value in self.config.items() if key.endswith("_token") and value is not None}
        return {k: v["content"] if isinstance(v, dict) else v for k, v in found.items() if isinstance(v, (str, dict))}

    def end_ids(self) -> frozenset[int]:
        """What ends a turn by the tokenizer's own account, which config.json of a chat model often leaves out."""
        token = self._variables.get("eos_token")
        index = None if token is None else self.vocabulary().get(token)
        return frozenset() if index is None else frozenset((index,))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens; an incomplete character shows as U+FFFD."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def piece(self, token: int) -> str | None:
        """What a token adds to any text whose last character is complete, where it is made of whole characters and the
        decoder puts bytes together; None otherwise."""
        if token not in self._pieces:
            text = self.decode([token]) if self._of_bytes else _INCOMPLETE
            self._pieces[token] = None if _INCOMPLETE in text else text
        return self._pieces[token]

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self._backend.get_vocab()

    @property
    def template(self) -> str | None:
        """The model's chat template; of several, the default one."""
        found = self.config.get("chat_template")
        if isinstance(found, list):
            named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
            found = named.get("default")
        return found if isinstance(found, str) and found else None


class _Pretrained:
    """An `AutoTokenizer` with the face of a backend."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.encode_special_tokens = False

    def encode(self, sequence: str, *, add_special_tokens: bool = True) -> Any:
        encoded = self._tokenizer(
            sequence, add_special_tokens=add_special_tokens, split_special_tokens=self.encode_special_tokens
        )
        return _Encoded(encoded["input_ids"])

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        added: dict[int, Any] = self._tokenizer.added_tokens_decoder
        return added

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return text

    def get_vocab(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary


class _Encoded:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


def _unused_character(template: str, messages: Sequence[Message]) -> str:
    """A character of the private use area that occurs nowhere."""
    used = set(template).union(*(message.content for message in messages))
    return next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in used)


def has_tokenizer(folder: Path) -> bool:
    """Whether a vocabulary lies in `folder`; a draft may come without."""
    return any((folder / name).is_file() for name in _VOCABULARIES)


def load_codec(folder: Path, trust_remote_code: bool = False) -> TextCodec:
    """The tokenizer in `folder`.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    config = _tokenizer_config(folder)
    path = folder / "tokenizer.json"
    if path.is_file() and not (config.get("add_bos_token") or config.get("add_eos_token")):
        from tokenizers import Tokenizer

        try:
            return TextCodec(Tokenizer.from_file(str(path)), config)
        except Exception as error:  # the library raises plain Exception
            raise ModelError(f"the tokenizer {path} cannot be read: {one_line(error)}") from None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # tokenizers raise whatever they meet, some of it plain Exception
        why = one_line(error) if has_tokenizer(folder) else "it holds no tokenizer.json"
        raise ModelError(f"no tokenizer could be loaded from {folder}: {why}") from None
    return TextCodec(_Pretrained(tokenizer), config)


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with the chat template where it is a file of its own; empty where there is none."""
    config: dict[str, Any] = {}
    path = folder / "tokenizer_config.json"
    if path.is_file():
        config = read_json(path)
    template = folder / "chat_template.jinja"
    if template.is_file() and "chat_template" not in config:
        config["chat_template"] = template.read_text(encoding="utf-8")
    return config
