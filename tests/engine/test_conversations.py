"""Conversations through the engine: which tokens a turn becomes, and that every method answers as naive does."""

from pathlib import Path

import pytest
from chat_models import chat_pair

from specterm.config import Message, MethodSpec, Request, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.events import Loaded, Round, RowFinished, RowStarted, RunFinished, RunStarted

TURNS = (Message("user", "Tell me of a dog."), Message("assistant", " Once there was a dog."))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    model = chat_pair(tmp_path_factory.mktemp("chat"))
    engine = LocalEngine()
    yield engine, model
    engine.close()


def run(pair, *, method: str = "naive", turns=TURNS, **options) -> list:
    engine, model = pair
    sampling = SamplingSpec(max_tokens=24, temperature=options.pop("temperature", 0.0))
    spec = RunSpec(model=model, method=MethodSpec(name=method), sampling=sampling, monitor=False, **options)
    return list(engine.run(spec, (Request(prompt="And then?", turns=turns),)))


def only(events, kind):
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def test_a_turn_goes_through_the_template_with_what_was_said(pair):
    events = run(pair, chat=True, system="Be kind.")
    assert only(events, Loaded).target.chat_template
    assert only(events, RunStarted).spec["chat"] is True
    started = only(events, RowStarted)
    assert started.prompt == "And then?"
    codec = _codec(pair)
    assert codec.decode(started.prompt_ids) == (
        "Be kind.\n\nUser: Tell me of a dog.\nStory: Once there was a dog.\nUser: And then?\nStory:"
    )
    raw = only(run(pair, turns=()), RowStarted)
    assert codec.decode(raw.prompt_ids) == "And then?"


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("method", ["draft", "ngram"])
def test_every_method_answers_as_naive_does(pair, method: str, temperature: float):
    naive = run(pair, chat=True, temperature=temperature)
    events = run(pair, chat=True, method=method, temperature=temperature)
    if temperature == 0 or method == "ngram":  # sampled children follow the law, not the seed
        assert only(events, RowFinished).token_ids == only(naive, RowFinished).token_ids
    states = [state for e in events if isinstance(e, Round) for part in e.rows for state in part.states]
    assert only(events, RowFinished).token_ids
    if method == "draft":
        assert "accepted" in states
        assert "rejected" in states or temperature == 0  # what is likeliest it may foretell to the end


def test_a_template_of_ones_own_wins_and_what_it_refuses_is_told(pair):
    events = run(pair, chat=True, chat_template="{{ messages | length }}")
    assert _codec(pair).decode(only(events, RowStarted).prompt_ids) == "3"
    failed = only(run(pair, chat=True, chat_template="{{ raise_exception('no') }}"), RunFinished)
    assert failed.error.endswith("refuses this conversation: no")
    assert failed.exit_code == 2


def test_a_model_without_a_template_completes_and_takes_no_system_prompt():
    engine = LocalEngine()
    try:
        spec = RunSpec(method=MethodSpec(name="naive"), sampling=SamplingSpec(max_tokens=2), monitor=False, chat=True)
        plain = list(engine.run(spec, (Request(prompt="Once"),)))
        assert only(plain, RowFinished).token_ids
        assert only(plain, RunStarted).spec["chat"] is False  # what was done, not what was asked for
        spec = RunSpec(method=MethodSpec(name="naive"), monitor=False, chat=True, system="Be kind.")
        refused = only(list(engine.run(spec, (Request(prompt="Once"),))), RunFinished)
        assert "builtin has no chat template" in refused.error
    finally:
        engine.close()


def _codec(pair):
    from specterm.models.tokenizer import load_codec

    return load_codec(Path(pair[1].target))
