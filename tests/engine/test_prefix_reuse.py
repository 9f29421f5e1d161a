"""A prefix that the target has seen is not prefilled again, and nothing else changes."""

import pytest
from chat_models import chat_pair

from specterm.config import Message, MethodSpec, Request, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.events import Prefilled, Round, RowFinished, RowStarted, RunFinished

LONG = "Once upon a time there was a little dog who lived in a small house near the sea. "


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    model = chat_pair(tmp_path_factory.mktemp("reuse"))
    engine = LocalEngine()
    yield engine, model
    engine.close()


def run(pair, prompt: str, *, turns=(), method="naive", parameters=None, temperature=0.0, tokens=24, **options) -> list:
    engine, model = pair
    spec = RunSpec(
        model=options.pop("model", model),
        method=MethodSpec(name=method, parameters=parameters or {}),
        sampling=SamplingSpec(max_tokens=tokens, temperature=temperature, seed=3),
        monitor=False,
        **{"reuse_prefix": True, "chat": True, **options},
    )
    events = list(engine.run(spec, (Request(prompt=prompt, turns=turns),)))
    assert events[-1].reason == "done", events[-1]
    return events


def only(events, kind):
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def ids(events) -> tuple[int, ...]:
    return only(events, RowFinished).token_ids


def answered(prompt: str, events) -> tuple[Message, ...]:
    return Message("user", prompt), Message("assistant", only(events, RowFinished).text)


METHODS = ("naive", "draft", "ngram", "sequential", "tree", "early-exit")


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("method", METHODS)
def test_a_conversation_is_the_same_with_and_without(pair, method: str, temperature: float):
    how = {"method": method, "temperature": temperature}
    turns: tuple[Message, ...] = ()
    for number, prompt in enumerate((LONG, "And then?", "What did the cat say? " * 3)):
        reused = run(pair, prompt, turns=turns, **how)
        count = only(reused, Prefilled).reused_tokens
        assert 0 <= count < only(reused, Prefilled).prompt_tokens
        if number:  # all that was said before, but for what the answer's last round left unsettled
            assert count > only(before, Prefilled).prompt_tokens - 1  # noqa: F821  (set by the first turn)
        run(pair, "x", reuse_prefix=False)  # leaves nothing of use behind
        whole = run(pair, prompt, turns=turns, reuse_prefix=False, **how)
        assert only(whole, Prefilled).reused_tokens == 0
        assert ids(whole) == ids(reused)
        before = run(pair, prompt, turns=turns, **how)
        assert ids(before) == ids(whole)
        turns = (*turns, *answered(prompt, before))
    if method != "naive":
        states = {state for e in before if isinstance(e, Round) for part in e.rows for state in part.states}
        assert "rejected" in states


def test_a_repeated_prompt_is_reused_but_for_its_last_token_and_edits_as_far_as_they_agree(pair):
    run(pair, LONG * 2)
    again = only(run(pair, LONG * 2), Prefilled)
    assert again.reused_tokens == again.prompt_tokens - 1
    first = only(run(pair, LONG * 2), RowStarted).prompt_ids
    edited = run(pair, LONG + "But the cat")
    other = only(edited, RowStarted).prompt_ids
    common = next(i for i, (a, b) in enumerate(zip(first, other)) if a != b)
    assert only(edited, Prefilled).reused_tokens == common > 10


def test_the_cache_grows_with_the_conversation_and_keeps_what_is_in_it(pair):
    run(pair, "x", tokens=2)
    prompt, text = LONG, ""
    for _ in range(4):
        text += prompt
        seen = run(pair, text, tokens=4)
    count = only(seen, Prefilled)
    assert count.prompt_tokens > 64
    assert count.reused_tokens > count.prompt_tokens * 0.6
    run(pair, "x", reuse_prefix=False)
    assert ids(run(pair, text, tokens=4, reuse_prefix=False)) == ids(seen)


def test_whatever_writes_over_the_prefix_ends_it(pair):
    engine, model = pair
    run(pair, LONG)
    engine.shortfalls([5, 6, 7, 8, 9, 10], 2, SamplingSpec())
    assert only(run(pair, LONG), Prefilled).reused_tokens == 0
    assert only(run(pair, LONG), Prefilled).reused_tokens > 0
    run(pair, "something else", reuse_prefix=False)
    assert only(run(pair, LONG), Prefilled).reused_tokens <= 1
    list(engine.load(type(model)(target="builtin", dtype="float32")))
    assert only(run(pair, LONG), Prefilled).reused_tokens == 0


def test_a_cancelled_run_leaves_what_it_settled(pair):
    engine, model = pair
    spec = RunSpec(
        model=model, method=MethodSpec(name="draft"), sampling=SamplingSpec(max_tokens=200, temperature=0.0),
        monitor=False, reuse_prefix=True, ignore_eos=True,
    )  # fmt: skip
    job = engine.run(spec, (Request(prompt=LONG),))
    for event in job:
        if isinstance(event, Round) and event.index == 3:
            job.cancel()
        if isinstance(event, RunFinished):
            assert event.reason == "cancelled"
    again = run(pair, LONG, method="draft", chat=False)
    assert only(again, Prefilled).reused_tokens == only(again, Prefilled).prompt_tokens - 1
    assert ids(again) == ids(run(pair, LONG, method="draft", chat=False, reuse_prefix=False))


def test_heads_that_need_every_hidden_state_reuse_nothing(pair):
    model = type(pair[1])(target=pair[1].target, medusa="builtin", dtype="float32")
    run(pair, LONG, method="medusa", model=model)
    assert only(run(pair, LONG, method="medusa", model=model), Prefilled).reused_tokens == 0
