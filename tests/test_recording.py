"""Events on disk come back as they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specterm.errors import ConfigError
from specterm.events import Event, LoadProgress, Notice, RunFinished
from specterm.recording import RecordingFile, as_line, header, pack, read_recording, unpack

KINDS = [kind for kind in get_args(Event) if kind is not LoadProgress]
PRIMITIVES = {
    str: st.text(max_size=6),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type; numbers and text as JSON and MessagePack can hold them."""
    if kind is Any:
        return st.one_of(*PRIMITIVES.values())
    if dataclasses.is_dataclass(kind):
        return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})
    arguments = get_args(kind)
    match get_origin(kind):
        case None:
            return PRIMITIVES[kind]
        case origin if origin is Literal:
            return st.sampled_from(arguments)
        case origin if origin is dict:
            return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
        case origin if origin is tuple and arguments[-1] is ...:
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
    return st.one_of(*map(values, arguments))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_kind_of_event_comes_back(kind: type, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    events = data.draw(st.lists(values(kind), min_size=1, max_size=2))
    assert unpack(pack(events)) == events
    path = tmp_path_factory.mktemp("recording") / "run.jsonl"
    with RecordingFile(path) as file:
        file.observe(LoadProgress(0.0, "loading", None))
        for event in events:
            file.observe(event)
    assert read_recording(path) == events


END = RunFinished(1.0, "done")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    notice = Notice(0.5, "info", "line\u2028break\x85 and \r\n newline")
    whole = header() + as_line(notice) + as_line(END)
    assert read_recording(written(tmp_path / "run", whole)) == [notice, END]
    assert read_recording(written(tmp_path / "run", whole[:-5])) == [notice]
    assert read_recording(written(tmp_path / "run", header())) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no recording"),
        (b"hello\n", "is no recording"),
        (b"\xff\xfe\n", "is no recording"),
        (b'{"specterm_recording": 99}\n', "has format 99 and this specterm reads 1"),
        (header() + b"{}\n" + as_line(END), "is damaged in line 2"),
        (header() + b'{"Nothing": {}}\n' + as_line(END), "is damaged in line 2"),
        (header() + b'{"RunFinished": {"time": "late"}}\n' + as_line(END), "is damaged in line 2"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_recording(written(tmp_path / "run", content))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing cannot be read: No such file"):
        read_recording(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"--record is .* cannot be written: Is a directory"):
        RecordingFile(tmp_path)


def test_a_damaged_chunk_says_so() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        unpack(pack([END])[:-4])
