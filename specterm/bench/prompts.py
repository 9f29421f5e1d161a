"""Where the prompts of a batch come from: the built-in sets and a person's own files.

A `.txt` file has one prompt a line. A `.jsonl` file has one record a line, a `.json` file one array of records. What is
read of a record is the first of these that it has:

=================  =================================================================================
`prompt`           HumanEval, and the built-in sets
`turns`            Spec-Bench, MT-Bench, EAGLE: the first turn
`question`         GSM8K, as "Question: ...\\nAnswer:"
`conversations`    ShareGPT: the first human turn
`text`             plain text
=================  =================================================================================

The prompt's id is its `id`, `prompt_id`, `task_id` or `question_id`, else file and number; its domain `domain` or
`category`, else the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from specterm.catalogue.models import BUILTIN
from specterm.config import Request
from specterm.errors import ConfigError

SETS = ("stories", "code", "arithmetic")
SUFFIXES = (".txt", ".json", ".jsonl")
_ID_KEYS = ("id", "prompt_id", "task_id", "question_id")
_HUMAN = ("human", "user")


def gather(sources: Sequence[str], limit: int | None = None) -> tuple[Request, ...]:
    """The prompts of all `sources` (names of built-in sets, or files), at most `limit`.

    A limit is met by taking the first prompt of each domain, then the second, and so on, so that a short run still
    sees every domain. Ids are made unique.

    Raises:
        ConfigError: a source is no set and no readable file of prompts; the text names file and line.
    """
    requests: list[Request] = []
    for source in sources:
        requests += _built_in(SETS if source == BUILTIN else (source,)) if source in (BUILTIN, *SETS) else _file(source)
    seen: dict[str, int] = {}
    unique: list[Request] = []
    for request in requests:
        seen[request.prompt_id] = seen.get(request.prompt_id, 0) + 1
        again = seen[request.prompt_id]
        name = request.prompt_id if again == 1 else f"{request.prompt_id}#{again}"
        unique.append(msgspec.structs.replace(request, prompt_id=name))
    return tuple(unique if limit is None else _spread(unique, limit))


def _spread(requests: Sequence[Request], limit: int) -> list[Request]:
    counts: dict[str | None, int] = {}
    ranks: list[tuple[int, int]] = []
    for index, request in enumerate(requests):
        counts[request.domain] = counts.get(request.domain, 0) + 1
        ranks.append((counts[request.domain], index))
    chosen = sorted(index for _, index in sorted(ranks)[:limit])
    return [requests[index] for index in chosen]


def _built_in(names: Iterable[str]) -> list[Request]:
    folder = resources.files("specterm.bench") / "sets"
    found: list[Request] = []
    for name in names:
        file = f"{name}.jsonl"
        found += _records(_lines((folder / file).read_text(encoding="utf-8"), file), name)
    return found


def _file(source: str) -> list[Request]:
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"--prompts is {source!r}; it must be one of {', '.join((BUILTIN, *SETS))}, or a .txt, .json or .jsonl file"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"the prompts {source} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the prompts {source} are not UTF-8 text (byte {error.start})") from None
    match path.suffix.lower():
        case ".txt":
            lines = enumerate(text.split("\n"), 1)
            found = [
                Request(prompt=line, prompt_id=f"{path.stem}-{number}", domain=path.stem)
                for number, line in lines
                if line.strip()
            ]
        case ".jsonl":
            found = _records(_lines(text, source), path.stem)
        case _:
            found = _records(_array(text, source), path.stem)
    if not found:
        raise ConfigError(f"the prompts {source} are empty; write at least one prompt into the file")
    return found


def _lines(text: str, source: str) -> list[tuple[str, Any]]:
    """(place, record) of each line that is not blank. Only a newline ends a line: JSON text may hold U+2028."""
    found: list[tuple[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{source}, line {number}"
            found.append((place, _decoded(line, place)))
    return found


def _array(text: str, source: str) -> list[tuple[str, Any]]:
    data = _decoded(text, source)
    if not isinstance(data, list):
        raise ConfigError(f"the prompts {source} hold no list; a .json file holds one array of records")
    return [(f"{source}, record {number}", record) for number, record in enumerate(data, 1)]


def _decoded(text: str, place: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the prompts {place}: not valid JSON: {error}") from None


def _records(records: Sequence[tuple[str, Any]], stem: str) -> list[Request]:
    requests: list[Request] = []
    for number, (place, record) in enumerate(records, 1):
        prompt = record if isinstance(record, str) else _prompt(record) if isinstance(record, dict) else None
        if prompt is None or not prompt.strip():
            raise ConfigError(
                f"the prompts {place}: no prompt; a record needs prompt, turns, question, conversations or text"
            )
        keys: Mapping[str, Any] = record if isinstance(record, dict) else {}
        name = next((str(keys[key]) for key in _ID_KEYS if keys.get(key) is not None), f"{stem}-{number}")
        domain = keys.get("domain") or keys.get("category") or stem
        requests.append(Request(prompt=prompt, prompt_id=name, domain=str(domain)))
    return requests


def _prompt(record: Mapping[str, Any]) -> str | None:
    """The prompt of a record; None where it has none."""
    turns = record.get("turns")
    turns = turns if isinstance(turns, list) else []
    talk = record.get("conversations")
    talk = [turn for turn in talk if isinstance(turn, dict)] if isinstance(talk, list) else []
    question = record.get("question")
    candidates = (
        record.get("prompt"),
        turns[0] if turns else None,
        f"Question: {question}\nAnswer:" if isinstance(question, str) and question.strip() else None,
        next((turn.get("value") for turn in talk if turn.get("from") in _HUMAN), None),
        record.get("text"),
    )
    return next((text for text in candidates if isinstance(text, str)), None)
