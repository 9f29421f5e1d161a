"""A comparison on the built-in models, as the compare screen runs it, with few tokens."""

from __future__ import annotations

from specterm.config import MethodSpec, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.tui.lanes import comparison
from specterm.tui.measurement import Measurement
from specterm.tui.race import heats

LANES = tuple(MethodSpec(name=name) for name in ("naive", "ngram", "draft", "tree"))


def test_naive_ngram_draft_and_tree_race_to_the_same_text() -> None:
    spec = RunSpec(sampling=SamplingSpec(temperature=0.0, max_tokens=24)).checked()
    plan, requests = comparison(spec, LANES, "Once upon a time there was a cat. The cat", None, None, 2, 0)
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
