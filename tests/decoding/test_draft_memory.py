"""What is remembered between runs: scopes, fresh runs, and the store's file."""

import os

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.decoding.drafters import DRAFTERS
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.ngram_index import NgramIndex
from specterm.decoding.drafters.ngram_store import load_store, save_store
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, ProposeRow, Recording
from specterm.decoding.sampling import Warps
from specterm.engine.session import Session
from specterm.errors import ConfigError
from specterm.events import Round, RowFinished

METHODS = ["ngram", "nasd", "suffix"]
PROMPT = "Once upon a time there was a small dog"
MODEL = ModelSpec(dtype="float32").checked()


@pytest.fixture(autouse=True, scope="module")
def uncalibrated():
    """Loading without the measurements, which nothing here asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specterm.engine.session.calibrate", lambda models: None)
        yield


def loaded() -> Session:
    made = Session()
    made.load(MODEL, lambda event: None)
    return made


@pytest.fixture(scope="module")
def session(uncalibrated):
    return loaded()


def run(session, method, fresh=False, **parameters):
    """Greedy output, and how many draft tokens were kept."""
    spec = RunSpec(
        model=MODEL,
        method=MethodSpec(name=method, parameters=parameters),
        sampling=SamplingSpec(temperature=0.0, max_tokens=30),
        fresh_memory=fresh,
    ).checked()
    events = list(session.run(spec, session.prompts(spec, [Request(prompt=PROMPT)]), lambda: 0.0, lambda: False))
    output = next(e.token_ids for e in events if isinstance(e, RowFinished))
    states = [state for e in events if isinstance(e, Round) for part in e.rows for state in part.states]
    return output, states.count("accepted")


@pytest.mark.parametrize("method", METHODS)
def test_only_a_session_profits_from_a_repeated_prompt(session, method):
    for scope in ("none", "prompt"):
        assert run(session, method, draft_memory=scope) == run(session, method, draft_memory=scope)
    before, first = run(session, method, draft_memory="session")
    after, second = run(session, method, draft_memory="session")
    assert after == before
    assert second > 2 * first
    assert second > 15


@pytest.mark.parametrize("method", METHODS)
def test_a_fresh_run_neither_uses_nor_leaves_memory(session, method):
    _, first = run(session, method, fresh=True, draft_memory="session")
    _, again = run(session, method, fresh=True, draft_memory="session")
    assert again == first
    run(session, method, draft_memory="session")
    _, remembering = run(session, method, draft_memory="session", num_draft_tokens=6)  # kept at any gamma
    _, fresh = run(session, method, fresh=True, draft_memory="session")
    assert fresh == first < remembering


def test_memory_goes_with_the_models():
    session = loaded()
    _, first = run(session, "nasd", draft_memory="session")
    _, second = run(session, "nasd", draft_memory="session")
    session.load(msgspec.structs.replace(MODEL, max_model_len=512), lambda event: None)
    _, reloaded = run(session, "nasd", draft_memory="session")
    assert reloaded == first < second


def test_a_store_outlives_its_session(session, tmp_path):
    file = tmp_path / "store.bin"
    kept = {"draft_memory": "session", "ngram_store": str(file)}
    before, first = run(session, "nasd", **kept)
    assert file.is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["store.bin"]  # nothing half-written is left
    another = loaded()
    after, second = run(another, "nasd", **kept)
    assert after == before
    assert second > 2 * first
    written = file.read_bytes()
    _, fresh = run(another, "nasd", fresh=True, **kept)
    assert fresh == second  # a fresh run begins with what is in the file,
    assert file.read_bytes() == written  # and leaves it alone


entries = st.dictionaries(
    st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple),
    st.lists(st.integers(0, 99), min_size=1, max_size=20),
    max_size=10,
)


@given(entries)
def test_a_store_reads_back_as_it_was(tmp_path_factory, entries):
    index = NgramIndex(range(1, 5), "frequency", 10**6)
    for context, tokens in entries.items():
        for token in tokens:
            index.add(context, token)
    file = tmp_path_factory.mktemp("store") / "store"
    save_store(index, file, 100)
    again = NgramIndex(range(1, 5), "frequency", 10**6)
    load_store(again, file, 100)
    known = lambda index: [(context, f.ranked, f.counts, f.total) for context, f in index.items()]  # noqa: E731
    assert known(again) == known(index)
    assert len(again) == len(index)


def test_a_smaller_store_takes_what_was_learned_last(tmp_path):
    index = NgramIndex([1, 2], "frequency", 100)
    for token in range(20):
        index.add((token,), token + 1)
        index.add((token, token), token + 1)
    save_store(index, tmp_path / "store", 100)
    small = NgramIndex([1], "frequency", 5)
    load_store(small, tmp_path / "store", 100)
    assert [context for context, _ in small.items()] == [(15,), (16,), (17,), (18,), (19,)]


def store(**changes):
    whole = {
        "format": "specterm n-gram store", "version": 1, "vocab_size": 100, "contexts": [[[1, 2], [3], [4]]], **changes
    }  # fmt: skip
    return msgspec.msgpack.encode(whole)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not an n-gram store"),
        (b"not msgpack at all", "is not an n-gram store"),
        (store()[:-1], "is not an n-gram store"),
        (store(format="something else"), "of version 1"),
        (store(version=2), "of version 1"),
        (store(vocab_size=99), "learned with 99 tokens and the target has 100"),
        (store(contexts=[[[1], [100], [1]]]), "is damaged"),
        (store(contexts=[[[-1], [3], [1]]]), "is damaged"),
        (store(contexts=[[[1], [3], [0]]]), "is damaged"),
        (store(contexts=[[[1], [3, 4], [1]]]), "is damaged"),
        (store(contexts=[[["a"], [3], [1]]]), "is not an n-gram store"),
    ],
)
def test_a_bad_store_is_named(tmp_path, data, says):
    file = tmp_path / "bad.store"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=says) as caught:
        load_store(NgramIndex([1, 2], "frequency", 10), file, 100)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


class Target:
    device = torch.device("cpu")
    vocab_size = 100


def nasd(file, memory):
    spec = MethodSpec(name="nasd", parameters={"ngram_store": str(file), "draft_memory": "session"}).checked()
    return DRAFTERS["nasd"](DraftSetup(Target(), (), Warps(0.0), Recording(), spec.parameters, memory))


def test_a_store_that_cannot_be_kept_is_refused_before_the_run(tmp_path):
    for file, says in ((tmp_path / "missing" / "store", "there is no folder"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=says):
            nasd(file, DraftMemory()).open(1, 100)
    bad = tmp_path / "bad"
    bad.write_bytes(b"text")
    drafter = nasd(bad, DraftMemory())
    with pytest.raises(ConfigError, match="is not an n-gram store"):
        drafter.open(1, 100)
    drafter.close()
    assert bad.read_bytes() == b"text"  # a file that is no store is not overwritten


def test_a_failed_write_leaves_the_old_store(tmp_path, monkeypatch):
    file = tmp_path / "store"
    memory = DraftMemory()
    first = nasd(file, memory)
    first.open(1, 100)
    first.admit(Admission(0, torch.tensor([1, 2, 1]), 2))
    assert first.propose([ProposeRow(0, 4, 1, 0)]).nodes == 4
    first.close()
    written = file.read_bytes()
    second = nasd(file, memory)
    second.open(1, 100)
    second.admit(Admission(0, torch.tensor([5, 6, 7]), 8))
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ConfigError, match=r"store cannot be written: No space left on device"):
        second.close()
    assert file.read_bytes() == written
    assert list(tmp_path.iterdir()) == [file]
