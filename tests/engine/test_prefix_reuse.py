"""A prefix that a model has seen is not prefilled again, by the target or by what drafts, and nothing else changes."""

import random
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest
from chat_models import chat_pair

from specterm.config import Message, MethodSpec, Request, RunSpec, SamplingSpec
from specterm.decoding.drafters import build_drafter
from specterm.engine.local import LocalEngine
from specterm.events import Notice, Prefilled, Round, RowFinished, RowStarted, RunFinished

LONG = "Once upon a time there was a little dog who lived in a small house near the sea. "


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    model = chat_pair(tmp_path_factory.mktemp("reuse"))
    engine = LocalEngine()
    yield engine, model
    engine.close()


@pytest.fixture(scope="module")
def everything(pair):
    """All that can draft, in two engines: one to reuse what it has, one that never does."""
    model = pair[1]
    heads = dict.fromkeys(("medusa", "eagle", "eagle3", "mlp"), "builtin")
    model = msgspec.structs.replace(model, drafts=(*model.drafts, "builtin/draft-b"), **heads)
    engines = LocalEngine(), LocalEngine()
    yield [(engine, model) for engine in engines]
    for engine in engines:
        engine.close()


def run(pair, prompt: str, *, turns=(), method="naive", parameters=None, temperature=0.0, tokens=24, **options) -> list:
    engine, model = pair
    count = options.pop("rows", 1)
    spec = RunSpec(
        model=options.pop("model", model),
        method=MethodSpec(name=method, parameters=parameters or {}),
        sampling=SamplingSpec(max_tokens=tokens, temperature=temperature, seed=3),
        monitor=False,
        batch_size=count,
        **{"reuse_prefix": True, "chat": True, **options},
    )
    requests = [Request(prompt=prompt + "!" * i, turns=turns) for i in range(count)]
    events = list(engine.run(spec, tuple(requests)))
    assert events[-1].reason == "done", events[-1]
    return events


def only(events, kind):
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def ids(events) -> tuple[int, ...]:
    return only(events, RowFinished).token_ids


def drafted(events) -> list:
    """Everything that was proposed and what became of it, round by round."""
    return [[replace(part, sources=None) for part in event.rows] for event in events if isinstance(event, Round)]


def answered(prompt: str, events) -> tuple[Message, ...]:
    return Message("user", prompt), Message("assistant", only(events, RowFinished).text)


TREE = {"tree_nodes": 6}  # a number that is not measured, so that the drafts are the same
METHODS = {
    "naive": ({}, None),
    "draft": ({}, 1),
    "ngram": ({}, None),
    "sequential": ({}, 2),
    "tree": (TREE, 2),
    "early-exit": ({}, 0),
    "medusa": (TREE, 0),
    "mlp": (TREE, 0),
    "eagle": (TREE, 1),
    "eagle3": (TREE, 1),
}  # with the caches of their own that they have


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("method", METHODS)
def test_a_conversation_is_the_same_with_and_without(everything, method: str, temperature: float):
    reusing, fresh = everything
    parameters, caches = METHODS[method]
    how = {"method": method, "parameters": parameters, "temperature": temperature, "tokens": 32}
    turns: tuple[Message, ...] = ()
    states: set[str] = set()
    for number, prompt in enumerate((LONG, "And then?", "What did the cat say? " * 3)):
        reused = run(reusing, prompt, turns=turns, **how)
        told = only(reused, Prefilled)
        assert 0 <= told.reused_tokens < told.prompt_tokens
        assert (None if told.drafts_reused is None else len(told.drafts_reused)) == caches
        if number:  # all that was said before, but for what the answer's last round left unsettled
            for count in (told.reused_tokens, *(told.drafts_reused or ())):
                assert only(before, Prefilled).prompt_tokens - 1 <= count < told.prompt_tokens  # noqa: F821  (see below)
        whole = run(fresh, prompt, turns=turns, reuse_prefix=False, **how)
        assert (only(whole, Prefilled).reused_tokens, only(whole, Prefilled).drafts_reused) == (0, None)
        assert ids(whole) == ids(reused)
        assert drafted(whole) == drafted(reused)
        states |= {state for e in reused if isinstance(e, Round) for part in e.rows for state in part.states}
        before = reused
        turns = (*turns, *answered(prompt, before))
    if method != "naive":
        assert {"accepted", "rejected"} <= states


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)])
def test_whatever_came_before_every_draft_is_that_of_a_fresh_cache(everything, seed: int):
    """Longer, shorter, equal and forked prompts, in runs of any method, some of them cancelled or of several rows."""
    draws = random.Random(seed)
    reusing, fresh = everything
    used = dict.fromkeys(METHODS, 0)
    prompts = [LONG, LONG * 2, LONG + "But the cat", LONG[:40], "And then the cat sat on the", LONG * 3]
    for step in range(24):
        method = draws.choice(["draft", "tree", "eagle", "eagle3", "draft", "eagle", *METHODS])
        parameters, _ = METHODS[method]
        prompt, temperature = draws.choice(prompts), draws.choice([0.0, 0.8])
        how = {"method": method, "parameters": parameters, "temperature": temperature, "tokens": 12}
        if draws.random() < 0.15:
            cancel(reusing, prompt, method, draws.randrange(3))
            continue
        how["rows"] = draws.choice([1, 1, 1, 2])
        reused, whole = run(reusing, prompt, **how), run(fresh, prompt, reuse_prefix=False, **how)
        assert drafted(reused) == drafted(whole), (step, method, prompt)
        told = [event for event in reused if isinstance(event, Prefilled)]
        assert all(event.reused_tokens == 0 for event in told[1:])
        used[method] += sum(event.reused_tokens for event in told)
        for event in told[:1]:
            assert all(0 <= own <= event.prompt_tokens for own in event.drafts_reused or ())
    assert all(used[method] for method in ("draft", "tree", "eagle", "eagle3")), used


def cancel(pair, prompt: str, method: str, rounds: int) -> None:
    """Cancel a run after some rounds; what it settled stays."""
    engine, model = pair
    spec = RunSpec(
        model=model, method=MethodSpec(name=method), sampling=SamplingSpec(max_tokens=200, temperature=0.0),
        monitor=False, reuse_prefix=True, chat=True, ignore_eos=True,
    )  # fmt: skip
    job = engine.run(spec, (Request(prompt=prompt),))
    for event in job:
        if (isinstance(event, Round) and event.index == rounds) or (isinstance(event, RowStarted) and not rounds):
            job.cancel()
        if isinstance(event, RunFinished):
            assert event.reason == "cancelled"


def test_a_repeated_prompt_is_reused_but_for_its_last_token_and_edits_as_far_as_they_agree(everything):
    pair = everything[0]
    for method in ("draft", "eagle"):
        run(pair, LONG * 2, method=method)
        again = only(run(pair, LONG * 2, method=method), Prefilled)
        assert again.reused_tokens == again.prompt_tokens - 1
        assert again.drafts_reused == (again.prompt_tokens - (method == "eagle"),)  # the last pair ends with the root
        first = only(run(pair, LONG * 2, method=method), RowStarted).prompt_ids
        edited = run(pair, LONG + "But the cat", method=method)
        other = only(edited, RowStarted).prompt_ids
        common = next(i for i, (a, b) in enumerate(zip(first, other)) if a != b)
        kept = common - (method == "eagle")
        assert (only(edited, Prefilled).reused_tokens, only(edited, Prefilled).drafts_reused) == (kept, (kept,))
        assert common > 10


def test_each_cache_has_its_own_memory_of_the_text(everything):
    """What another method wrote to the target's cache is of no use to a draft that has not seen it."""
    pair = everything[0]
    run(pair, LONG, method="eagle")
    run(pair, "x", method="draft")
    run(pair, LONG * 2, method="naive")
    told = only(run(pair, LONG * 2, method="draft"), Prefilled)
    assert told.reused_tokens == told.prompt_tokens - 1
    assert told.drafts_reused[0] < 10
    told = only(run(pair, LONG * 2, method="eagle"), Prefilled)  # the target computes what the head has no features of
    assert 10 < told.reused_tokens == told.drafts_reused[0] < told.prompt_tokens - 10


def test_the_cache_grows_with_the_conversation_and_keeps_what_is_in_it(everything):
    pair = everything[0]
    for method in ("draft", "eagle3"):
        how = {"method": method, "parameters": METHODS[method][0]}
        run(pair, "x", tokens=2, **how)
        text = ""
        for _ in range(4):
            text += LONG
            seen = run(pair, text, tokens=4, **how)
        count = only(seen, Prefilled)
        assert count.prompt_tokens > 64
        assert min(count.reused_tokens, *count.drafts_reused) > count.prompt_tokens * 0.6
        run(pair, "x", reuse_prefix=False, **how)
        assert drafted(run(pair, text, tokens=4, reuse_prefix=False, **how)) == drafted(seen)


def test_whatever_writes_over_the_prefix_ends_it(pair):
    engine, model = pair
    run(pair, LONG)
    engine.shortfalls([5, 6, 7, 8, 9, 10], 2, SamplingSpec())
    assert only(run(pair, LONG), Prefilled).reused_tokens == 0
    assert only(run(pair, LONG), Prefilled).reused_tokens > 0
    run(pair, "something else", reuse_prefix=False)
    assert only(run(pair, LONG), Prefilled).reused_tokens == 3  # the template begins alike
    list(engine.load(type(model)(target="builtin", dtype="float32")))
    told = only(run(pair, LONG, method="draft"), Prefilled)
    assert (told.reused_tokens, told.drafts_reused) == (0, (0,))


def test_a_cancelled_run_leaves_what_it_settled(pair):
    cancel(pair, LONG, "draft", 3)
    again = run(pair, LONG, method="draft")
    told = only(again, Prefilled)
    assert (told.reused_tokens, told.drafts_reused) == (told.prompt_tokens - 1, (told.prompt_tokens,))
    assert drafted(again) == drafted(run(pair, LONG, method="draft", reuse_prefix=False))


def test_a_drafter_that_cannot_recall_is_given_every_hidden_state_and_that_is_told(everything, monkeypatch):
    pair, how = everything[0], {"method": "eagle", "parameters": TREE}
    usual = run(pair, LONG, **how)
    names = ("max_nodes", "max_depth", "needs", "open", "admit", "propose", "catch_up", "release", "close")

    def forgetful(method, setup):
        drafter = build_drafter(method, setup)
        return SimpleNamespace(**{name: getattr(drafter, name) for name in names})

    monkeypatch.setattr("specterm.engine.session.build_drafter", forgetful)
    events = run(pair, LONG, **how)
    assert (only(events, Prefilled).reused_tokens, only(events, Prefilled).drafts_reused) == (0, None)
    assert drafted(events) == drafted(usual)
    assert only(events, Notice).text == "eagle reads hidden states of the whole prompt, so nothing of it is reused"
    assert not [event for event in usual if isinstance(event, Notice)]
