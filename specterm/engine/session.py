"""Loaded models and the runs on them: everything of the local engine that needs torch. Used by one thread only."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from specterm.catalogue import HEADS, METHODS
from specterm.config import Message, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.drafters import build_drafter
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup, adaptive_length
from specterm.decoding.loop import DecodeLoop, Settings
from specterm.decoding.ports import Block, RecallsPrompts, Recording
from specterm.decoding.prefill import prefill
from specterm.decoding.processing import LogitsProcessor, Processing
from specterm.decoding.row import Prompt
from specterm.decoding.sampling import row_key
from specterm.decoding.stride_ports import Strides
from specterm.decoding.tree import DraftTree, Topology
from specterm.engine.calibration import calibrate, calibrate_quickest
from specterm.engine.draws import Draws, TextModels, warps_of
from specterm.errors import Cancelled, ConfigError
from specterm.events import Calibration, Event, Loaded, LoadProgress, Notice
from specterm.models.devices import has_room
from specterm.models.heads.feature_heads import FeatureHeads
from specterm.models.loading import LoadedModels, find_models, read_models
from specterm.models.progress import Report

_TEACHER_CHUNK = 256


class _Told:
    """A `Report` as events, one at most for each hundredth of a load; ends the load when it is cancelled."""

    def __init__(self, emit: Callable[[Event], None], cancelled: Callable[[], bool], started: float) -> None:
        self._emit, self._cancelled, self._started = emit, cancelled, started
        self._last: tuple[str, int] = ("", 0)

    def __call__(self, stage: str, fraction: float | None) -> None:
        if self._cancelled():
            raise Cancelled
        told = (stage, -1 if fraction is None else int(100 * fraction))
        if told != self._last:
            self._last = told
            self._emit(LoadProgress(time.perf_counter() - self._started, stage, fraction))


class Session:
    """The models that are loaded now, and runs on them."""

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()  # where nobody says how many
        self._spec: ModelSpec | None = None
        self._models: LoadedModels | None = None
        self._memories: dict[str, DraftMemory] = {}
        self._calibration: Calibration | None = None
        self._text_models: TextModels | None = None  # of the last prompt that rows were drawn for

    def load(
        self, spec: ModelSpec, emit: Callable[[Event], None], cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Make the models of `spec` ready, unless they are; emits progress, then `Loaded`.

        Where this fails, and there was room to keep the models that were loaded before, `Loaded` tells of those.

        Raises:
            SpectermError: see `load_models`.
            Cancelled: `cancelled` became true between two tensors.
        """
        started = time.perf_counter()
        spec = spec.checked()
        try:
            if spec != self._spec or self._models is None:
                self._replace(spec, _Told(emit, cancelled, started))
        finally:
            if self._models is not None:
                emit(self._told(time.perf_counter() - started))

    def _replace(self, spec: ModelSpec, report: Report) -> None:
        """Load the models of `spec` in the place of those that are loaded; these go first if there is no room."""
        if spec.threads is not None and spec.threads > (most := os.cpu_count() or spec.threads):
            raise ConfigError(f"--threads is {spec.threads}; this machine has {most} processors: give at most {most}")
        found = find_models(spec, report)
        if self._models is not None:
            gc.unfreeze()
            if not has_room(found.device, found.weight_bytes):
                self._spec = self._models = self._text_models = None
            gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        torch.set_num_threads(spec.threads or self._threads)  # loading measures what is fastest with so many
        try:
            models = read_models(found, report)
            report("measuring costs", None)
            calibration = calibrate_quickest(models) if spec.threads is None else calibrate(models)
            if isinstance(models.target.runner, Strides):
                models.target.runner.ready([draft.runner for draft in models.drafts])
            report("ready", 1.0)  # the last chance to cancel
            self._calibration = calibration
            self._models, self._spec = models, spec
            self._text_models = None
            self._memories.clear()  # they hold for one pair
        finally:
            if self._calibration is not None:
                torch.set_num_threads(self._calibration.threads or self._threads)
            gc.collect()
            gc.freeze()

    def _told(self, seconds: float) -> Loaded:
        models = self._loaded()
        target, *drafts = (
            dataclasses.replace(m.info, kv_token_bytes=m.runner.kv_token_bytes())
            for m in (models.target, *models.drafts)
        )
        heads = {} if self._spec is None else self._spec.heads()
        runner = models.target.runner
        shared = {runner.head_weight().data_ptr(), runner.embedding_weight().data_ptr()}
        weights = [w for module in models.heads.values() for w in module.parameters() if w.data_ptr() not in shared]
        packed = sum(module.packed_bytes for module in models.heads.values())
        weight_bytes = packed + sum(weight.numel() * weight.element_size() for weight in weights)
        return Loaded(seconds, target, tuple(drafts), self._calibration, heads, weight_bytes)

    def put_in_order(self) -> None:
        """After a run or a load that failed halfway: forget what it may have left half done, and give back the memory
        that it took. The models stay loaded."""
        if self._models is not None:
            for runner in (self._models.target.runner, *(draft.runner for draft in self._models.drafts)):
                runner.release()
            for module in self._models.heads.values():
                if isinstance(module, FeatureHeads):
                    module.release()
        self._memories.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def in_conversation(self, spec: RunSpec) -> bool:
        """Whether the prompts of a run go through a chat template."""
        return spec.chat and (spec.chat_template is not None or self._loaded().codec.template is not None)

    def prompts(self, spec: RunSpec, requests: Sequence[Request]) -> list[Prompt]:
        """The requests as token ids.

        Raises:
            ConfigError: a prompt is empty or longer than the context.
        """
        models = self._loaded()
        limit = models.target.info.max_positions
        prompts = []
        for row, request in enumerate(requests):
            ids = self._ids(spec, request)
            if not request.prompt or not ids:
                raise ConfigError(f"the prompt {request.prompt_id!r} is empty; give at least one token")
            if len(ids) > limit:
                raise ConfigError(
                    f"the prompt {request.prompt_id!r} has {len(ids)} tokens and {models.target.info.name} takes "
                    f"{limit}; shorten it"
                )
            seed = spec.sampling.seed if request.seed is None else request.seed
            prompts.append(
                Prompt(
                    row,
                    request.prompt_id,
                    request.repeat,
                    seed,
                    row_key(seed, ids),
                    request.prompt,
                    ids,
                    request.arrival_s,
                )
            )
        return prompts

    def _ids(self, spec: RunSpec, request: Request) -> tuple[int, ...]:
        """The tokens of a request: through the chat template in a conversation, else as they stand."""
        models = self._loaded()
        if not spec.chat or not (self.in_conversation(spec) or spec.system or request.turns):
            return tuple(models.codec.encode(request.prompt))
        system = (Message("system", spec.system),) if spec.system else ()
        messages = (*system, *request.turns, Message("user", request.prompt))
        return tuple(models.codec.encode_chat(messages, spec.chat_template, models.target.info.name))

    def run(
        self, spec: RunSpec, prompts: Sequence[Prompt], clock: Callable[[], float], cancelled: Callable[[], bool]
    ) -> Iterator[Event]:
        """Decode; the models of `spec` are loaded."""
        models, sampling = self._loaded(), spec.sampling
        if self._text_models is not None:
            self._text_models.lose_cache()
        warps = warps_of(sampling)
        record = Recording(
            probs=spec.trace != "counts", alternatives=spec.num_alternatives if spec.trace == "alternatives" else 0
        )
        uses = METHODS[spec.method.name].max_drafts
        drafts = tuple(draft.runner for draft in models.drafts[:uses])
        setup = DraftSetup(
            models.target.runner,
            drafts,
            warps,
            record,
            spec.method.parameters,
            self._memory(spec),
            self._calibration,
            models.heads,
        )
        settings = Settings(
            warps=warps,
            max_tokens=sampling.max_tokens,
            context=models.target.info.max_positions,
            eos=self._ends(spec),
            stop=sampling.stop,
            batch_size=spec.batch_size,
            record=record,
            processing=self._processing(sampling),
            prefill_threads=spec.model.threads or self._threads,
        )
        drafter = build_drafter(spec.method.name, setup)
        try:
            loop = DecodeLoop(
                models.target.runner, drafter, RULES[sampling.acceptance](**sampling.rule_parameters),
                models.codec, settings,
                clock=clock, cancelled=cancelled, adaptive=adaptive_length(setup, drafter),
                reuse=spec.reuse_prefix,
            )  # fmt: skip
            yield from loop.run(prompts)
            if spec.reuse_prefix and drafter.needs.taps and not isinstance(drafter, RecallsPrompts):
                unkept = f"{spec.method.name} reads hidden states of the whole prompt, so nothing of it is reused"
                yield Notice(clock(), "info", unkept)
            kind = METHODS[spec.method.name].heads
            remarks = [(model.info.name, model.runner.remark()) for model in (models.target, *models.drafts[:uses])]
            if isinstance(heads := models.heads.get(kind), FeatureHeads):
                remarks.append((HEADS[kind], heads.remark()))
            for name, remark in remarks:
                if remark is not None:
                    yield Notice(clock(), "warning", f"{name}: {remark}", "what was measured is slower for it")
        finally:
            drafter.close()

    def _ends(self, spec: RunSpec) -> frozenset[int]:
        """The tokens that end a row."""
        models = self._loaded()
        if spec.ignore_eos:
            return frozenset()
        return models.target.eos | models.codec.end_ids() if self.in_conversation(spec) else models.target.eos

    def _memory(self, spec: RunSpec) -> DraftMemory:
        """What the drafter of a run may use and add to."""
        if not spec.fresh_memory:
            return self._memories.setdefault(spec.memory, DraftMemory())
        if not spec.memory:
            return DraftMemory(lasting=False)
        self._memories[spec.memory] = DraftMemory()
        return self._memories[spec.memory]

    def shortfalls(self, ids: Sequence[int], start: int, sampling: SamplingSpec) -> list[float]:
        """Teacher forcing: how far the logit of each of ids[start:] lies below the target's highest there, 0 where it
        is the highest; bias and penalties of `sampling` are applied. The whole sequence is fed to the target as it
        stands; ids[:start] is the prompt, 1 <= start <= len(ids)."""
        target = self._loaded().target
        runner, device = target.runner, target.runner.device
        if self._text_models is not None:
            self._text_models.lose_cache()
        runner.allocate(1, len(ids) + 1)
        process = LogitsProcessor(self._processing(sampling), 1, runner.vocab_size, tuple(target.eos), device)
        process.admit(0, ids[:start])
        if start > 1:
            prefill(runner, 0, torch.tensor(ids[: start - 1], dtype=torch.int64))
        found: list[float] = []
        for begin in range(start - 1, len(ids) - 1, _TEACHER_CHUNK):
            part = torch.tensor([ids[begin : min(begin + _TEACHER_CHUNK, len(ids) - 1)]], device=device)
            width = part.shape[1]
            chain = DraftTree(Topology.of_chain(width - 1, device), part[:, 1:], (width - 1,))
            logits = process(runner.forward(Block((0,), (begin,), part, chain.topology)), (0,), chain)[0].double()
            following = ids[begin + 1 : begin + 1 + width]
            process.emitted(0, following)
            chosen = logits.gather(1, torch.tensor(following, device=device).unsqueeze(1)).squeeze(1)
            found.extend((logits.amax(dim=-1) - chosen).tolist())
        return found

    def draws(
        self,
        spec: RunSpec,
        prompt: str,
        seeds: Sequence[int],
        first: int | None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Draws:
        """Decode `prompt` once a seed with the loaded models, rows that say the same sharing their forward passes; see
        `TextModels.draws`."""
        return self._texts(prompt).draws(spec, self._processing(spec.sampling), seeds, first, cancelled)

    def beginnings(
        self, sampling: SamplingSpec, prompt: str, first: int | None, longest: int, count: int
    ) -> tuple[int, dict[tuple[int, ...], float]]:
        """See `TextModels.beginnings`."""
        return self._texts(prompt).beginnings(sampling, self._processing(sampling), first, longest, count)

    def log_likelihoods(
        self, sampling: SamplingSpec, prompt: str, first: int, outputs: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """See `TextModels.log_likelihoods`; bias and penalties are those of `sampling`."""
        return self._texts(prompt).log_likelihoods(self._processing(sampling), first, outputs)

    def _texts(self, prompt: str) -> TextModels:
        models = self._loaded()
        ids = tuple(models.codec.encode(prompt))
        if self._text_models is None or self._text_models.prompt != ids:
            self._text_models = TextModels(models, ids)
        return self._text_models

    def _processing(self, sampling: SamplingSpec) -> Processing:
        """What is done to the target's logits.

        Raises:
            ConfigError: a biased token is not in the vocabulary.
        """
        size = self._loaded().target.runner.vocab_size
        for token, _ in sampling.biases():
            if token >= size:
                raise ConfigError(f"--logit-bias names token {token}; the target's tokens are 0 to {size - 1}")
        return Processing(
            sampling.repetition_penalty,
            sampling.presence_penalty,
            sampling.frequency_penalty,
            sampling.biases(),
            sampling.min_tokens,
        )

    def _loaded(self) -> LoadedModels:
        assert self._models is not None, "load() comes first"
        return self._models
