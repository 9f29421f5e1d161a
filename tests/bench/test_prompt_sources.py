"""Prompt sets and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specterm.bench.prompts import SETS, gather
from specterm.errors import ConfigError


@pytest.mark.parametrize("name", SETS)
def test_built_in_sets(name: str) -> None:
    requests = gather((name,))
    assert len(requests) >= 8
    assert {request.domain for request in requests} == {name}
    assert len({request.prompt for request in requests}) == len(requests)


def test_builtin_is_all_sets_with_unique_ids() -> None:
    requests = gather(("builtin",))
    assert {request.domain for request in requests} == set(SETS)
    assert len({request.prompt_id for request in requests}) == len(requests) == sum(len(gather((s,))) for s in SETS)


def test_a_limit_spreads_over_domains() -> None:
    assert [r.domain for r in gather(("builtin",), 6)] == ["stories"] * 2 + ["code"] * 2 + ["arithmetic"] * 2
    assert len(gather(("stories",), 1000)) == len(gather(("stories",)))


RECORDS = {
    "spec-bench": ({"question_id": 81, "category": "writing", "turns": ["One", "Two"]}, "One", "81", "writing"),
    "humaneval": ({"task_id": "HumanEval/0", "prompt": "def f():"}, "def f():", "HumanEval/0", "data"),
    "gsm8k": ({"question": "1 + 1?", "answer": "2"}, "Question: 1 + 1?\nAnswer:", "data-1", "data"),
    "sharegpt": (
        {"conversations": [{"from": "system", "value": "no"}, {"from": "human", "value": "Hi"}]}, "Hi", "data-1", "data"
    ),
    "text": ({"id": 0, "text": "Some text"}, "Some text", "0", "data"),
    "category without a name": ({"category": "", "turns": ["T"], "id": "a"}, "T", "a", "data"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("name", RECORDS)
def test_formats(tmp_path: Path, name: str, suffix: str) -> None:
    record, prompt, prompt_id, domain = RECORDS[name]
    file = tmp_path / f"data.{suffix}"
    file.write_text(json.dumps([record] if suffix == "json" else record, indent=None), encoding="utf-8")
    (request,) = gather((str(file),))
    assert (request.prompt, request.prompt_id, request.domain) == (prompt, prompt_id, domain)


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes("\ufefffirst\r\n\r\nsecond\u2028still second\n".encode())
    assert [(r.prompt_id, r.prompt) for r in gather((str(file),))] == [
        ("mine-1", "first"),
        ("mine-3", "second\u2028still second"),
    ]


def test_the_same_file_twice_gets_ids_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("one\n")
    assert [r.prompt_id for r in gather((str(file), str(file)))] == ["mine-1", "mine-1#2"]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("no-such-set", None, "'no-such-set'; it must be one of builtin, stories"),
        ("missing.jsonl", None, "missing.jsonl cannot be read: No such file"),
        ("empty.txt", "\n \n", "empty.txt are empty"),
        ("empty.jsonl", "", "empty.jsonl are empty"),
        ("empty.json", "[]", "empty.json are empty"),
        ("broken.jsonl", '{"prompt": "a"}\n{"prompt": \n', "broken.jsonl, line 2: not valid JSON"),
        ("nothing.jsonl", '{"answer": 3}', "nothing.jsonl, line 1: no prompt"),
        ("blank.jsonl", '{"prompt": "  "}', "blank.jsonl, line 1: no prompt"),
        ("object.json", '{"prompt": "a"}', "object.json hold no list"),
        ("number.json", '["a", 3]', "number.json, record 2: no prompt"),
        ("latin.txt", b"caf\xe9", "latin.txt are not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, file: str, content: str | bytes | None, said: str) -> None:
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        gather((str(path) if "." in file else file,))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
