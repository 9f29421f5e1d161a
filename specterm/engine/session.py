"""Loaded models and the runs on them: everything of the local engine that needs torch. Used by one thread only."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from specterm.catalogue import METHODS
from specterm.config import ModelSpec, Request, RunSpec, SamplingSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.drafters import build_drafter
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup, adaptive_length
from specterm.decoding.loop import DecodeLoop, Settings
from specterm.decoding.ports import Block, Recording
from specterm.decoding.prefill import prefill
from specterm.decoding.processing import LogitsProcessor, Processing
from specterm.decoding.row import Prompt
from specterm.decoding.sampling import Warps, row_key
from specterm.decoding.tree import DraftTree, Topology
from specterm.engine.calibration import calibrate
from specterm.errors import ConfigError
from specterm.events import Calibration, Event, Loaded, LoadProgress
from specterm.models.loading import LoadedModels, load_models

_TEACHER_CHUNK = 256


class Session:
    """The models that are loaded now, and runs on them."""

    def __init__(self) -> None:
        self._spec: ModelSpec | None = None
        self._models: LoadedModels | None = None
        self._memories: dict[str, DraftMemory] = {}
        self._calibration: Calibration | None = None

    def load(self, spec: ModelSpec, emit: Callable[[Event], None]) -> None:
        """Make the models of `spec` ready, unless they are; emits progress, then `Loaded`.

        Raises:
            SpectermError: see `load_models`. The models that were loaded before are gone then.
        """
        started = time.perf_counter()
        spec = spec.checked()
        if spec != self._spec or self._models is None:
            self._memories.clear()  # they hold for one pair
            if self._models is not None:  # room for the new ones
                self._spec = self._models = None
                gc.unfreeze()
                gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            models = load_models(spec, lambda stage: emit(LoadProgress(time.perf_counter() - started, stage, None)))
            emit(LoadProgress(time.perf_counter() - started, "measuring", None))
            self._calibration = calibrate(models)
            self._models, self._spec = models, spec
            gc.collect()
            gc.freeze()
        drafts = tuple(draft.info for draft in self._models.drafts)
        emit(Loaded(time.perf_counter() - started, self._models.target.info, drafts, self._calibration))

    def prompts(self, spec: RunSpec, requests: Sequence[Request]) -> list[Prompt]:
        """The requests as token ids.

        Raises:
            ConfigError: a prompt is empty or longer than the context.
        """
        models = self._loaded()
        limit = models.target.info.max_positions
        prompts = []
        for row, request in enumerate(requests):
            ids = tuple(models.codec.encode(request.prompt))
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

    def run(
        self, spec: RunSpec, prompts: Sequence[Prompt], clock: Callable[[], float], cancelled: Callable[[], bool]
    ) -> Iterator[Event]:
        """Decode; the models of `spec` are loaded."""
        models, sampling = self._loaded(), spec.sampling
        warps = Warps(sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.filter_value)
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
        drafter = build_drafter(spec.method.name, setup)
        settings = Settings(
            warps=warps,
            max_tokens=sampling.max_tokens,
            context=models.target.info.max_positions,
            eos=frozenset() if spec.ignore_eos else models.target.eos,
            stop=sampling.stop,
            batch_size=spec.batch_size,
            record=record,
            processing=self._processing(sampling),
        )
        loop = DecodeLoop(
            models.target.runner, drafter, RULES[sampling.acceptance](**sampling.rule_parameters),
            models.codec, settings,
            clock=clock, cancelled=cancelled, adaptive=adaptive_length(setup, drafter),
        )  # fmt: skip
        try:
            yield from loop.run(prompts)
        finally:
            drafter.close()

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
