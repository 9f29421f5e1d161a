"""Learned memory in a batch: what a configuration may remember, and from whom."""

from __future__ import annotations

import pytest

from specterm.bench.trials import run_trials
from specterm.config import MethodSpec, ModelSpec, PlanSpec, Request, RunSpec, SamplingSpec
from specterm.console.prompt import Output, run_prompt
from specterm.engine.local import LocalEngine
from specterm.errors import ExitCode

METHODS = ("ngram", "nasd", "suffix")
TEXT = "Once upon a time there was a small dog"


class Noting:
    """An engine that notes the specs that it is given."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self.specs: list[RunSpec] = []

    def load(self, model):
        return self._engine.load(model)

    def run(self, spec, requests):
        self.specs.append(spec)
        return self._engine.run(spec, requests)

    def close(self):
        self._engine.close()


@pytest.fixture(scope="module")
def engine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specterm.engine.session.calibrate", lambda models: None)
        made = LocalEngine()
        yield made
        made.close()


def accepted(engine, *specs: MethodSpec, warmup: int = 1) -> dict[str, list[int]]:
    """Accepted draft tokens of each configuration, by repeat of one prompt."""
    plan = PlanSpec(
        model=ModelSpec(dtype="float32"),
        methods=specs,
        sampling=SamplingSpec(temperature=0.0, max_tokens=30),
        repeats=3,
        warmup=warmup,
        monitor=False,
    ).checked()
    trials = run_trials(engine, plan, (Request(prompt=TEXT, prompt_id="p"),), lambda progress: None)
    assert trials.exit_code == ExitCode.OK
    assert len({result.token_ids for result in trials.results}) == 1
    return {
        method.label: [r.metrics["accepted"] for r in trials.results if r.configuration == method.label]
        for method in plan.methods
    }


@pytest.mark.parametrize("scope", ["none", "prompt", "session"])
def test_only_a_session_accepts_more_when_a_prompt_is_repeated(engine, scope):
    specs = [MethodSpec(name=name, parameters={"draft_memory": scope}) for name in METHODS]
    for first, second, third in accepted(engine, *specs).values():
        if scope == "session":
            assert min(second, third) > max(15, 2 * first)
        else:
            assert first == second == third


def test_configurations_and_batches_do_not_learn_from_one_another(engine):
    session = {"draft_memory": "session"}
    pair = [MethodSpec(name="ngram", parameters={**session, "num_draft_tokens": gamma}) for gamma in (4, 6)]
    four, six = accepted(engine, *pair).values()
    assert [four] == list(accepted(engine, pair[0], warmup=0).values())  # nor from the warm-up
    assert [six] == list(accepted(engine, pair[1]).values())
    assert four[0] < four[1]


def test_a_warm_up_on_the_console_teaches_nothing(engine, capsys):
    import sys

    noting = Noting(engine)
    spec = RunSpec(
        model=ModelSpec(dtype="float32"),
        method=MethodSpec(name="ngram", parameters={"draft_memory": "session"}),
        sampling=SamplingSpec(temperature=0.0, max_tokens=5),
        monitor=False,
    ).checked()
    run_prompt(noting, [spec], TEXT, Output("plain", sys.stdout, sys.stderr), warmup=1)
    assert [given.fresh_memory for given in noting.specs] == [True, False]
    assert capsys.readouterr().out
