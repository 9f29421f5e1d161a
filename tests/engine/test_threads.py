"""How many of torch's threads decode: all of them, or one where waking the others does not pay."""

import msgspec
import pytest
import torch

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine import calibration, session

DRAFT = ModelSpec(target="builtin/draft", drafts=(), dtype="float32")


@pytest.fixture
def threads():
    """A session on a machine of which torch uses two cores."""
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    yield session.Session()
    torch.set_num_threads(usual)


def costing(monkeypatch, seconds):
    """Passes take `seconds` by the number of threads."""

    def measured(runner, widths, context):
        return dict.fromkeys(widths, seconds[torch.get_num_threads()])

    monkeypatch.setattr(calibration, "_forward_s", measured)


@pytest.mark.parametrize(
    ("seconds", "chosen"), [({2: 0.004, 1: 0.002}, 1), ({2: 0.002, 1: 0.003}, 2), ({2: 0.2}, 2)],
    ids=["waking costs more", "all are faster", "a large model"],
)  # fmt: skip
def test_as_many_threads_decode_as_measure_fastest(threads, seconds, chosen, monkeypatch):
    costing(monkeypatch, seconds)
    events = []
    threads.load(DRAFT, events.append)
    costs = events[-1].calibration
    assert costs.threads == chosen == torch.get_num_threads()
    assert costs.target_forward_s[1] == seconds[chosen]


def test_threads_that_were_asked_for_are_not_measured(threads, monkeypatch):
    monkeypatch.setattr(session.os, "cpu_count", lambda: 4)
    costing(monkeypatch, {2: 0.004, 1: 0.002})
    events = []
    threads.load(msgspec.structs.replace(DRAFT, threads=2), events.append)
    assert events[-1].calibration.threads == 2 == torch.get_num_threads()


def test_a_prompt_is_read_on_all_threads_and_decoded_on_one(threads, monkeypatch):
    costing(monkeypatch, {2: 0.004, 1: 0.002})
    threads.load(DRAFT, lambda event: None)
    used = []
    runner = threads._loaded().target.runner
    forward, stride = runner.forward, runner.stride

    def noted(block, last=None):
        used.append((block.width, torch.get_num_threads()))
        return forward(block, last)

    def strode(*told):
        steps = stride(*told)
        used.extend((1 + len(step.tokens), torch.get_num_threads()) for step in steps or ())
        return steps

    monkeypatch.setattr(runner, "forward", noted)
    monkeypatch.setattr(runner, "stride", strode)
    spec = RunSpec(model=DRAFT, method=MethodSpec(name="ngram"), sampling=SamplingSpec(max_tokens=12)).checked()
    prompts = threads.prompts(spec, [Request(prompt="One day, one day, one day, one day,")])
    for _ in threads.run(spec, prompts, lambda: 0.0, lambda: False):
        pass
    (prompt, *rounds) = used
    assert prompt == (len(prompts[0].ids), 2)
    assert {count for _, count in rounds} == {1}
    assert torch.get_num_threads() == 1
