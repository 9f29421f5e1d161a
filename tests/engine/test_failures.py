"""Whatever gives out in the engine: it is told in one line that says what to do, nothing of it stays, the next run is
as if nothing had happened."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import torch

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine.failure import explain
from specterm.engine.local import LocalEngine
from specterm.errors import ConfigError, DeviceError, ModelError
from specterm.events import Loaded, Round, RowFinished, RowStarted, RunFinished
from specterm.models.cache import SlotCache
from specterm.models.faults import is_device_failure, is_out_of_memory
from specterm.models.loading import load_models

TEXT = "The old lighthouse keeper climbed the stairs"
CUDA_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has")
BROKEN = torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronous")
FAULTS = [
    (CUDA_FULL, 3, "the device ran out of memory; free some"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 3, "out of memory"),
    (MemoryError(), 3, "this machine ran out of memory; free some"),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), 3, "the device failed: CUDA error: an ill"),
    (BROKEN, 3, "the device failed: CUDA error: device-side assert triggered"),
    (RuntimeError("shape mismatch\nmore"), 1, "RuntimeError: shape mismatch"),
    (KeyboardInterrupt(), 1, "KeyboardInterrupt"),
]
IDS = ["memory", "cublas", "host", "address", "assert", "bug", "interrupt"]


def run(engine: LocalEngine, tokens: int = 12, method: str = "draft", batch: int = 1) -> list:
    sampling = SamplingSpec(max_tokens=tokens, temperature=0.0)
    spec = RunSpec(method=MethodSpec(name=method), sampling=sampling, monitor=False, ignore_eos=True, batch_size=batch)
    return list(engine.run(spec, (Request(prompt=TEXT),) * batch))


@pytest.fixture(scope="module")
def right(engine) -> tuple[int, ...]:
    """What a run gives where nothing fails."""
    return ids(run(engine))


def ids(events: list) -> tuple[int, ...]:
    return next(event.token_ids for event in events if isinstance(event, RowFinished))


class Faulty:
    """Lets `passes` calls of the cache's method `where` through, then raises; knows the tensors of every cache that was
    made meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, passes: int, where: str) -> None:
        self.left, self.held = passes, []
        whole, buffer = getattr(SlotCache, where), SlotCache._buffer

        def failing(cache, *args):
            self.left -= 1
            if self.left < 0:
                raise type(error)(*error.args)  # a new one: the traceback holds frames
            return whole(cache, *args)

        def watched(cache, like):
            made = failing(cache, like) if where == "_buffer" else buffer(cache, like)
            self.held.append(weakref.ref(made))
            return made

        monkeypatch.setattr(SlotCache, "_buffer", watched)
        if where != "_buffer":
            monkeypatch.setattr(SlotCache, where, failing)

    def alive(self) -> int:
        return sum(reference() is not None for reference in self.held)


@pytest.mark.parametrize(("error", "exit_code", "told"), FAULTS, ids=IDS)
@pytest.mark.parametrize("passes", [0, 4], ids=["prefill", "round"])
def test_a_fault_in_the_middle_is_told_and_the_next_run_is_as_ever(
    engine, right, monkeypatch, caplog, error, exit_code, told, passes
):
    with monkeypatch.context() as patch:
        faulty = Faulty(patch, error, passes, "claim")
        events = run(engine)
        assert faulty.left < 0
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.reason, end.exit_code) == ("failed", exit_code)
    assert told in end.error
    assert len(end.error.splitlines()) == 1
    assert any(isinstance(event, Round) for event in events) == bool(passes)
    assert "the engine failed" in caplog.text
    assert ids(run(engine)) == right


@pytest.mark.parametrize(("method", "batch"), [("draft", 5), ("eagle", 6), ("tree", 7)])  # each grows the last one's
def test_out_of_memory_while_a_larger_cache_is_made_gives_every_cache_back(engine, right, monkeypatch, method, batch):
    run(engine, method=method)  # so that there is a cache to grow
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger("specterm.engine.failure"), "disabled", True)  # pytest keeps what is logged
        faulty = Faulty(patch, CUDA_FULL, 3, "_buffer")  # layer 0 has grown, layer 1 half
        events = run(engine, method=method, batch=batch)
        assert events[-1].exit_code == 3
        assert len(faulty.held) == 3
        assert faulty.alive() == 0
    assert not [o for o in gc.get_objects() if type(o) is SlotCache]
    assert ids(run(engine, method=method)) == right
    assert ids(run(engine, method=method, batch=batch)) == right


def test_memory_that_runs_out_while_loading_keeps_the_models_that_are_there(engine, right, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("specterm.models.loading.LlamaRunner", lambda *_args, **_options: torch.empty(10**15))
        events = list(engine.load(ModelSpec(target="builtin/draft", drafts=())))
    assert events[-1].exit_code == 3
    assert "builtin/draft does not fit into the memory of cpu; try --quantize 4bit" in events[-1].error
    assert "--device" not in events[-1].error
    assert [e.target.name for e in events if isinstance(e, Loaded)] == ["builtin"]
    assert ids(run(engine)) == right


def test_a_device_that_no_longer_answers_is_lost_until_a_new_process(monkeypatch):
    asked = []

    def answer():
        asked.append(True)
        raise BROKEN.with_traceback(None)

    engine = LocalEngine()
    try:
        list(engine.load(ModelSpec()))
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_initialized", lambda: True)
            patch.setattr(torch.cuda, "synchronize", answer)
            faulty = Faulty(patch, BROKEN, 4, "claim")
            first = run(engine)
            assert faulty.left < 0
        assert asked == [True]
        later = run(engine)
        loading = list(engine.load(ModelSpec(target="builtin/draft", drafts=())))
    finally:
        engine.close()
    assert [type(event) for event in later] == [type(event) for event in loading] == [RunFinished]
    assert any(isinstance(event, RowStarted) for event in first)
    for end in (first[-1], later[-1], loading[-1]):
        assert end.exit_code == 3
        assert "this process has lost it: CUDA error: device-side assert triggered; leave specterm and" in end.error
        assert len(end.error.splitlines()) == 1


def test_a_fault_in_putting_things_in_order_does_not_end_the_engine(engine, right, monkeypatch):
    with monkeypatch.context() as patch:
        Faulty(patch, CUDA_FULL, 0, "claim")
        patch.setattr("specterm.models.runners.llama.LlamaRunner.release", lambda runner: 1 / 0)
        assert run(engine)[-1].error == "ZeroDivisionError: division by zero"
    assert ids(run(engine)) == right


def test_a_device_that_still_answers_is_not_called_lost(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    failure = explain(torch.AcceleratorError("CUDA error: invalid argument"))
    assert (failure.text, failure.device_lost) == ("the device failed: CUDA error: invalid argument", False)


def test_bad_input_leaves_what_was_learned_alone():
    assert not explain(ConfigError("--batch-size is 0")).unexpected
    assert not explain(ModelError("there is no ./none")).unexpected
    error = DeviceError("it does not fit")
    error.__cause__ = CUDA_FULL
    assert explain(error).unexpected


def test_what_torch_really_raises_is_recognised():
    with pytest.raises(RuntimeError) as full:
        torch.empty(10**15)
    assert is_out_of_memory(full.value)
    assert "this machine ran out of memory" in explain(full.value).text
    with pytest.raises(RuntimeError) as shapes:
        torch.zeros(2) @ torch.zeros(3)
    assert not is_out_of_memory(shapes.value)
    assert not is_device_failure(shapes.value)


def test_a_prompt_about_memory_is_no_fault_of_memory():
    assert not is_out_of_memory(ValueError("the prompt 'CUDA out of memory' is too long"))
    assert not is_device_failure(ConfigError("CUDA error"))


def test_loading_in_the_headless_way_says_it_too(monkeypatch):
    monkeypatch.setattr("specterm.models.loading.LlamaRunner", lambda *_args, **_options: torch.empty(10**15))
    with pytest.raises(DeviceError, match="does not fit into the memory of cpu"):
        load_models(ModelSpec(drafts=()).checked(), lambda stage, fraction: None)
