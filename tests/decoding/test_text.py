"""Text as it grows: pieces add up, split characters and stop strings are held until they are settled."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from specterm.decoding.text import TextStream
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.tokenizer import load_codec

CODEC = load_codec(BUILTIN_FOLDER / "target")


class Bytes:
    """One token a byte: every character of more than one byte is split."""

    def decode(self, ids):
        return bytes(ids).decode("utf-8", errors="replace")

    def piece(self, token):
        return chr(token) if token < 128 else None


def stream_of(text: str, stop=(), prompt: str = ""):
    stream = TextStream(Bytes(), prompt.encode(), stop)
    pieces = []
    for byte in text.encode():
        pieces.append(stream.push(byte))
        if stream.stopped:
            break
    return stream, pieces


@given(st.text(max_size=80), st.text(max_size=10))
@settings(max_examples=200, deadline=None)
def test_pieces_add_up_and_never_show_half_a_character(text, prompt):
    stream, pieces = stream_of(text, prompt=prompt)
    assert "".join(pieces) + stream.finish() == text == stream.text
    assert stream.kept_tokens() == len(text.encode())
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(pieces)


@given(
    st.text(alphabet="ab\n€", max_size=40),
    st.lists(st.text(alphabet="ab\n€", min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_stop_strings_are_in_neither_text_nor_tokens(text, stops):
    stream, pieces = stream_of(text, stops)
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    # The first stop string to be complete wins; of several that end together, the one that began first.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert stream.stopped == bool(found)
    released = "".join(pieces) + stream.finish()
    if found:
        first_end = min(ends)
        assert released == text[: min(text[:first_end].find(s) for s in stops if s in text[:first_end])]
        assert stream.kept_tokens() == len(released.encode())
    else:
        assert released == text
    assert not any(stop in released for stop in stops)


def test_a_split_character_belongs_to_its_last_token():
    _, pieces = stream_of("a🙂b")
    assert pieces == ["a", "", "", "", "🙂", "b"]


def test_bytes_that_never_become_characters_are_shown_at_last():
    stream = TextStream(Bytes(), b"")
    pieces = [stream.push(0x80) for _ in range(200)]
    assert "".join(pieces).count("\ufffd") >= 100
    assert len("".join(pieces) + stream.finish()) == 200


@pytest.mark.parametrize(
    "text", ["Once upon a time, there was a café.", "naïve 漢字 🙂🙂 done", "tabs\tand\n\nlines  "]
)
def test_builtin_tokenizer_streams_what_it_decodes(text):
    ids = CODEC.encode(text)
    stream = TextStream(CODEC, [])
    assert "".join(stream.push(i) for i in ids) + stream.finish() == CODEC.decode(ids)


class WithoutPieces:
    """The built-in tokenizer, when it knows nothing of single tokens."""

    def decode(self, ids):
        return CODEC.decode(ids)

    def piece(self, token):
        return None


@given(st.lists(st.integers(0, max(CODEC.vocabulary().values())), max_size=60), st.sampled_from([(), (" the", "\n")]))
@example(ids=[0, 1, 95], stop=())  # a special token behind half a character
@settings(max_examples=200, deadline=None)
def test_known_pieces_change_nothing(ids, stop):
    assert sum(CODEC.piece(token) is not None for token in CODEC.vocabulary().values()) > 3500
    streams = [TextStream(codec, ids[:3], stop) for codec in (CODEC, WithoutPieces())]
    for place, token in enumerate(ids):
        for path in (ids[:1], ids[place : place + 3], ids[: place + 1]):
            assert streams[0].ahead(path) == streams[1].ahead(path)
        assert streams[0].push(token) == streams[1].push(token)
        if streams[0].stopped:
            break
    assert streams[0].finish() == streams[1].finish()
    assert streams[0].kept_tokens() == streams[1].kept_tokens()


def test_text_ahead_is_what_the_token_would_add():
    ids = CODEC.encode(" The little dog ran home 🙂.")
    stream = TextStream(CODEC, CODEC.encode("Once"))
    for n, token in enumerate(ids):
        ahead = [stream.ahead(ids[n : n + k]) for k in range(1, len(ids) - n + 1)]
        assert "".join(ahead) == CODEC.decode(ids)[len(stream.text) :]
        stream.push(token)
