"""A comparison on the built-in models, as the compare screen runs it, with few tokens."""

from __future__ import annotations

from pathlib import Path

import msgspec
from chat_models import chat_pair

from specterm.config import MethodSpec, Request, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.events import RowFinished
from specterm.tui.conversation import Conversation
from specterm.tui.lanes import comparison
from specterm.tui.measurement import Measurement
from specterm.tui.race import heats

LANES = tuple(MethodSpec(name=name) for name in ("naive", "ngram", "draft", "tree"))


def test_naive_ngram_draft_and_tree_race_to_the_same_text() -> None:
    spec = RunSpec(sampling=SamplingSpec(temperature=0.0, max_tokens=24)).checked()
    own = Request(prompt="Once upon a time there was a cat. The cat")
    plan, requests = comparison(spec, LANES, own, None, None, 2, 0)
    engine = LocalEngine()
    try:
        measurement = Measurement(engine, plan, requests)
        measurement.run()
    finally:
        engine.close()
    document = measurement.standing.document
    assert document is not None
    assert document.complete
    assert {r.matches_naive for r in document.runs if r.method != "naive"} == {"identical"}
    assert all(entry.speedup is not None and entry.speedup.n == 2 for entry in measurement.standing.summary)
    for name in ("ngram", "draft", "tree"):
        # A tree's budget follows the clock, and a small one may hold nothing that is refused.
        for count in ("drafted", "accepted", *(["rejected"] if name != "tree" else [])):
            assert sum(r.metrics[count] for r in document.runs if r.method == name) > 0, (name, count)  # type: ignore[misc]
    (heat,) = heats([method.label for method in plan.methods], plan.methods[0].label, measurement.recorded)
    laps = [lap for lap in heat.laps if lap is not None]
    assert len(laps) == 4
    assert {"".join(token.text for token in lap.tokens) for lap in laps} == {laps[0].around[0]}
    assert [lap.difference for lap in laps] == [None] * 4
    throughput = {(r.configuration, r.repeat): r.metrics["throughput_tok_s"] for r in document.runs}
    for method, lap in zip(plan.methods, laps, strict=True):  # what is replayed is what was measured
        speed = throughput[method.label, heat.repeat]
        assert isinstance(speed, float)
        assert abs(len(lap.tokens) / lap.seconds - speed) < 0.01 * speed


def test_a_turn_is_compared_as_the_workbench_runs_it(tmp_path: Path) -> None:
    sampling = SamplingSpec(temperature=0.7, max_tokens=24, seed=1)
    workbench = RunSpec(model=chat_pair(tmp_path), sampling=sampling, chat=True, reuse_prefix=True).checked()
    conversation, engine = Conversation(workbench), LocalEngine()
    conversation.system = "A story for children."

    def said(method: MethodSpec, text: str, turn: int) -> str:
        spec, request = conversation.ask(msgspec.structs.replace(workbench, method=method).checked(), text, turn)
        events = list(engine.run(spec, (request,)))
        for event in events:
            conversation.observe(event, of_run=True)
        return next(event.text for event in events if isinstance(event, RowFinished))

    try:
        for event in engine.load(workbench.model):
            conversation.observe(event, of_run=False)
        said(LANES[0], "Tell me about a cat.", 0)
        question = "And what did the cat find?"
        spec, own = conversation.run_of(workbench, question, 1)
        measurement = Measurement(engine, *comparison(spec, LANES[:3], own, None, None, 1, 0))
        measurement.run()
        written = {method.name: said(method, question, 1) for method in LANES[:3]}
    finally:
        engine.close()
    document = measurement.standing.document
    assert document is not None
    assert {run.method: run.text for run in document.runs} == written
    assert len(set(written.values())) == 2  # a draft model draws its drafts, the text of which is another one
    for count in ("drafted", "accepted", "rejected"):
        assert sum(run.metrics[count] for run in document.runs if run.method != "naive") > 0  # type: ignore[misc]


def test_the_prompts_of_a_set_are_no_turns() -> None:
    spec = RunSpec(chat=True, system="Be kind.").checked()
    plan, requests = comparison(spec, LANES, Request(prompt="And then?"), "stories", 2, 1, 0)
    assert (plan.chat, plan.system, len(requests)) == (False, "", 2)
