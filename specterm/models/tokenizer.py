"""Text to token ids and back, for every model.

A tokenizer.json is read with the `tokenizers` library alone, which is what transformers does with it too, only without
importing transformers. Folders without one, or whose configuration adds special tokens in its own way, go through
`AutoTokenizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from specterm.errors import ModelError, one_line
from specterm.models.folders import read_json

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


class _Backend(Protocol):
    """What specterm needs of a tokenizer; the `Tokenizer` of the tokenizers library has it."""

    def encode(self, sequence: str) -> Any: ...
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...
    def get_vocab(self) -> dict[str, int]: ...


class TextCodec:
    """The tokenizer of one model."""

    def __init__(self, backend: _Backend, config: dict[str, Any]) -> None:
        self._backend = backend
        self.config = config

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with the special tokens that the model expects around a prompt."""
        ids: list[int] = list(self._backend.encode(text).ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` without special tokens; an incomplete character shows as U+FFFD."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self._backend.get_vocab()

    @property
    def chat_template(self) -> bool:
        """Whether the model is made for conversations."""
        return bool(self.config.get("chat_template"))


class _Pretrained:
    """An `AutoTokenizer` with the face of a backend."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, sequence: str) -> Any:
        return _Encoded(self._tokenizer(sequence)["input_ids"])

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
