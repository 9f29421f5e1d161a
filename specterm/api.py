"""The Python interface: models held open, runs on them as events or as results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from specterm.config import MethodSpec, ModelSpec, Request, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine
from specterm.errors import ConfigError, failure
from specterm.events import Event, RunFinished
from specterm.metrics import RowResult, row_results
from specterm.telemetry.monitor import Monitor

_SAMPLING = set(SamplingSpec.__struct_fields__)


class Workbench:
    """A target and its drafts, loaded at first use. Close it, or use it in a `with` statement."""

    def __init__(self, target: str = "builtin", draft: str | Sequence[str] = (), **model: Any) -> None:
        """`target` and `draft` are a built-in name, a folder or a hub id; `model` are other fields of `ModelSpec`.

        Raises:
            ConfigError: a value is bad.
        """
        drafts = (draft,) if isinstance(draft, str) else tuple(draft)
        try:
            self.model = ModelSpec(target=target, drafts=drafts, **model).checked()
        except TypeError as error:
            raise ConfigError(str(error)) from None
        self._monitor = Monitor()
        self._engine = LocalEngine(self._monitor)

    def stream(
        self,
        prompts: str | Sequence[str],
        method: str = "draft",
        *,
        batch_size: int = 1,
        trace: str = "probs",
        **options: Any,
    ) -> Iterator[Event]:
        """Decode one or more prompts and yield the events as they happen; leaving the loop cancels the run.

        `options` are parameters of the method and sampling options, by their names in the catalogue
        (`num_draft_tokens=4`, `temperature=0`, `max_tokens=200`, `stop=("END",)`).

        Raises:
            ConfigError: an option is unknown or bad.
            SpectermError: a model could not be loaded, or the run failed.
        """
        texts = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        sampling = {name: options.pop(name) for name in list(options) if name in _SAMPLING}
        if isinstance(sampling.get("stop"), str):
            sampling["stop"] = (sampling["stop"],)
        spec = RunSpec(
            model=self.model,
            method=MethodSpec(name=method, parameters=options),
            sampling=SamplingSpec(**sampling),
            batch_size=batch_size,
            trace=trace,
        ).checked()
        job = self._engine.run(spec, tuple(Request(prompt=t, prompt_id=str(i)) for i, t in enumerate(texts)))
        try:
            for event in job:
                yield event
                if isinstance(event, RunFinished) and event.reason == "failed":
                    raise failure(event.error, event.exit_code)
        finally:
            job.cancel()

    def run(self, prompts: str | Sequence[str], method: str = "draft", **options: Any) -> list[RowResult]:
        """Decode one or more prompts; returns text, tokens and figures of each. Options as for `stream`.

        Raises:
            SpectermError: as `stream`.
        """
        return row_results(list(self.stream(prompts, method, **{"trace": "counts", **options})))

    def close(self) -> None:
        """Cancel what runs, and end the engine's and the monitor's threads."""
        self._engine.close()
        self._monitor.stop()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
