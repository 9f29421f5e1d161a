"""Trials: order, seeds, failures, interrupts, comparison."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_engine import ENVIRONMENT, ScriptedEngine

from specterm.bench.summary import summarise
from specterm.bench.trials import Progress, Trial, Trials, run_trials
from specterm.config import MethodSpec, PlanSpec, Request, SamplingSpec
from specterm.engine.job import Job
from specterm.errors import ConfigError, ExitCode, ModelError
from specterm.events import Notice, RunFinished
from specterm.metrics import row_results

REQUESTS = (Request(prompt="a", prompt_id="a", domain="x"), Request(prompt="b", prompt_id="b", domain="y"))
LABELS = ("naive", "draft gamma 4")


def trials(engine: ScriptedEngine, **changes: Any) -> Trials:
    sampling = SamplingSpec(temperature=0.0, seed=10)
    plan = PlanSpec(**{"sampling": sampling, "repeats": 2, "warmup": 1, **changes}).checked()
    return run_trials(engine, plan, REQUESTS, lambda progress: None)


def test_warm_up_comes_first_and_methods_are_interleaved() -> None:
    engine = ScriptedEngine()
    got = trials(engine)
    assert [label for label, _, _ in engine.ran[:2]] == list(LABELS)
    timed = engine.ran[2:]
    assert [(names, repeat) for _, names, repeat in timed[::2]] == [
        (("a",), 0), (("b",), 0), (("a",), 1), (("b",), 1)
    ]  # fmt: skip
    # Each pair of runs is one prompt with both methods, and who goes first changes.
    assert [label for label, _, _ in timed] == [*LABELS, *LABELS[::-1], *LABELS, *LABELS[::-1]]
    assert len(got.results) == 8
    assert got.complete
    assert got.exit_code == ExitCode.OK


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_method_goes_first_equally_often(count: int) -> None:
    methods = tuple(MethodSpec(name="draft", parameters={"num_draft_tokens": gamma}) for gamma in range(1, count + 1))
    engine = ScriptedEngine()
    trials(engine, methods=methods, repeats=3, warmup=0)
    first = [label for label, _, _ in engine.ran[::count]]
    assert {label: first.count(label) for label in first} == {method.checked().label: 6 // count for method in methods}


def test_seeds_domains_and_environment() -> None:
    got = trials(ScriptedEngine())
    assert {(r.repeat, r.seed) for r in got.results} == {(0, 10), (1, 11)}
    assert {(r.prompt_id, r.domain) for r in got.results} == {("a", "x"), ("b", "y")}
    assert got.environment == ENVIRONMENT
    assert got.models is not None


def test_the_conversation_of_a_plan_is_that_of_every_run() -> None:
    plan = PlanSpec(chat=True, chat_template="{{ messages }}", system="Be kind.").checked()
    runs = [plan.run_spec(method) for method in plan.methods]
    assert [(run.chat, run.chat_template, run.system) for run in runs] == [(True, "{{ messages }}", "Be kind.")] * 2
    with pytest.raises(ConfigError, match="set chat = true"):
        PlanSpec(system="Be kind.").checked()


def test_results_are_compared_with_naive_of_the_same_prompt_and_repeat() -> None:
    got = trials(ScriptedEngine())
    assert {(r.method, r.matches_naive) for r in got.results} == {("naive", None), ("draft", "identical")}
    # 8 tokens: naive 0.5 + 7 x 0.1 s, draft 0.5 + 2 x 0.2 s (4 kept, then 1 kept).
    speedups = [r.metrics["speedup"] for r in got.results if r.method == "draft"]
    assert speedups == pytest.approx([1.2 / 0.9] * 4)
    naive, draft = summarise(got.plan, got.results)
    assert draft.speedup is not None
    assert (draft.speedup.n, draft.speedup.ratio) == (2, pytest.approx(1.2 / 0.9))
    assert naive.speedup is not None
    assert naive.speedup.ratio == 1
    assert set(draft.domains) == {"x", "y"}
    assert draft.domains["x"].runs == 2
    assert draft.matches_naive == {"identical": 4}


@pytest.mark.parametrize(
    ("shortfall", "match", "code"), [(0.0005, "near_tie", ExitCode.OK), (5.0, "different", ExitCode.RUN_FAILED)]
)
def test_a_difference_asks_the_target(shortfall: float, match: str, code: ExitCode) -> None:
    engine = ScriptedEngine({"naive": (1, 2, 3, 4), "draft": (1, 2, 9, 4)}, shortfall=shortfall)
    got = trials(engine)
    assert {r.matches_naive for r in got.results if r.method == "draft"} == {match}
    assert set(engine.asked) == {(1, 2, 3, 1, 2, 9, 4)}  # the prompt, then the output in doubt
    assert got.exit_code == code


def test_without_naive_there_is_no_speedup() -> None:
    got = trials(ScriptedEngine(), methods=(MethodSpec(name="draft"),))
    assert {(r.metrics["speedup"], r.matches_naive) for r in got.results} == {(None, None)}
    assert summarise(got.plan, got.results)[0].speedup is None


def test_a_failed_run_is_recorded_and_the_others_go_on() -> None:
    got = trials(ScriptedEngine(fail={"draft": "out of memory; use a smaller model"}), warmup=0)
    assert [(f.configuration, f.prompt_ids, f.error) for f in got.failures][:1] == [
        ("draft gamma 4", ("a",), "out of memory; use a smaller model")
    ]
    assert len(got.failures) == 4
    assert {r.method for r in got.results} == {"naive"}
    assert got.complete
    assert got.exit_code == ExitCode.RUN_FAILED
    draft = summarise(got.plan, got.results)[1]
    assert (draft.runs, draft.speedup, draft.figures["latency_s"]) == (0, None, None)


def test_an_interrupt_keeps_what_there_is() -> None:
    engine = ScriptedEngine(interrupt_at=4)  # two warm-ups, both methods of the first prompt, then this one
    got = trials(engine)
    assert len(engine.ran) == 5
    assert (got.complete, got.interrupted, got.exit_code) == (False, True, ExitCode.INTERRUPTED)
    assert [r.finish_reason for r in got.results] == ["length", "length", "cancelled"]
    assert [entry.runs for entry in summarise(got.plan, got.results)] == [1, 1]


def test_an_interrupt_between_two_runs_keeps_what_there_is_too() -> None:
    def at_the_third(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    got = run_trials(ScriptedEngine(), PlanSpec(repeats=1, warmup=0).checked(), REQUESTS, at_the_third)
    assert (got.complete, got.exit_code, len(got.results)) == (False, ExitCode.INTERRUPTED, 2)


def test_models_that_do_not_load_end_the_batch() -> None:
    with pytest.raises(ModelError, match="no such folder"):
        trials(ScriptedEngine(load_error="no such folder"))


def test_progress_and_notices() -> None:
    seen: list[Progress] = []
    notice = Notice(0.0, "warning", "the GPU is throttled", "let it cool down")
    plan = PlanSpec(repeats=1, warmup=0).checked()
    got = run_trials(ScriptedEngine(notices=(notice, notice)), plan, REQUESTS, seen.append)
    assert [(p.done, p.total) for p in seen] == [(n, 4) for n in range(5)]
    assert got.notices == [notice]


def test_every_timed_run_is_kept_with_its_events() -> None:
    kept: list[Trial] = []
    plan = PlanSpec(sampling=SamplingSpec(temperature=0.0), repeats=2, warmup=1).checked()
    got = run_trials(ScriptedEngine(), plan, REQUESTS, lambda progress: None, keep=kept.append)
    assert [(t.configuration, t.repeat) for t in kept] == [(r.configuration, r.repeat) for r in got.results]
    assert [row_results(t.events)[0].token_ids for t in kept] == [r.token_ids for r in got.results]


def test_a_job_that_is_cancelled_from_outside_ends_the_trials() -> None:
    jobs: list[Job] = []

    def begin(job: Job) -> None:
        jobs.append(job)
        if len(jobs) == 4:  # the load, a run of each method, this one
            job.drain()
            job.cancel()
            job.put(RunFinished(0.1, "cancelled"))

    plan = PlanSpec(repeats=2, warmup=0).checked()
    got = run_trials(ScriptedEngine(), plan, REQUESTS, lambda progress: None, begin=begin)
    assert (got.complete, got.interrupted, len(jobs), len(got.results)) == (False, True, 4, 2)
