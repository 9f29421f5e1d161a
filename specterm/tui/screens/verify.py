"""Proving, or refuting, that speculation leaves the output what it was: one line a check, as the checks are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from specterm.config import RunSpec
from specterm.tui.head_line import head_line
from specterm.tui.screens.sized import SizedScreen
from specterm.tui.verification import Verifying
from specterm.tui.widgets.key_hints import KeyHints
from specterm.tui.widgets.visible_text import visible
from specterm.verify.plan import VerifySpec
from specterm.verify.ports import Verifies
from specterm.verify.result import PROVED, CheckResult, Verification
from specterm.verify.words import result_line

_INTERVAL_S = 0.25  # every paint takes time from the engine
_INTRODUCTION = """\
Nothing is verified yet.

Greedy output is compared with that of naive decoding, token for token; sampled output seed for seed, or with the \
target's own law by a chi-square test. Every check adds a line here: ✓ passed, ✗ refuted, ? not tested, ~ measured \
(a lossy rule is).

Enter checks what the workbench runs; a checks every lossless rule with every method that the models \
allow, which takes longer."""
_SIGNS = {"different": ("✗", "verify--refuted"), "not_tested": ("?", "verify--open"), "measured": ("~", "verify--open")}


class _Results(Vertical):
    """The results: a sign each, and beside it the words, which wrap clear of it."""

    def __init__(self) -> None:
        super().__init__(id="verify-results")
        self._shown: tuple[CheckResult, ...] = ()

    def show(self, results: tuple[CheckResult, ...]) -> None:
        """Show these results; those that are shown already stay as they are."""
        kept = len(self._shown)
        if results[:kept] != self._shown:
            self.remove_children()
            kept = 0
        self.mount_all(_row(result) for result in results[kept:])
        self._shown = results


def _row(result: CheckResult) -> Horizontal:
    sign, style = _SIGNS.get(result.result, ("✓", "verify--proved"))
    words = Static(visible(result_line(result)), classes="verify--words", markup=False)
    return Horizontal(Static(sign, classes=style), words, classes="verify--result")


class VerifyScreen(SizedScreen[None]):
    """Verifies what `spec`, a checked one, runs: its method and rule, or every lossless pair that its models allow."""

    CSS_PATH = "verify.tcss"
    HELP = """\
## Verify

**Enter** verifies the method and the rule of the workbench, **a** every lossless rule with every method that the models
allow, as `--verify` does. Greedy output is compared with naive's, and the target itself is asked about every token of
it. Sampled output is compared seed for seed where the text fixes the drafts; else the first speculated tokens of many
rows are held against the target's own law, by a chi-square test. A lossy rule is only measured. **✓** passed,
**✗** refuted, **?** not tested, **~** measured. **Escape** stops within a second or two, and then goes back.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="verify.stop", tooltip="Stop, and keep what was found"),
        Binding("escape", "back", "Back", id="verify.back", tooltip="Go back to the workbench"),
        Binding("enter", "verify(False)", "This method", id="verify.one", tooltip="Verify this method and rule"),
        Binding("a", "verify(True)", "All", id="verify.all", tooltip="Verify every lossless method and rule"),
    ]

    def __init__(self, engine: Verifies, spec: RunSpec, verify: Callable[..., Verification] | None = None) -> None:
        super().__init__()
        self._engine, self._spec, self._run = engine, spec, verify
        self._verifying: Verifying | None = None

    def compose(self) -> ComposeResult:
        yield Static("specterm needs a terminal of at least 60 x 18", id="too-small")
        yield Static("", id="verify-head", markup=False)
        with VerticalScroll(id="verify-body"):
            yield Static(_INTRODUCTION, id="verify-introduction", markup=False)
            yield _Results()
        yield KeyHints()

    def on_mount(self) -> None:
        self._results = self.query_one(_Results)
        self._timer = self.set_interval(_INTERVAL_S, self._poll, pause=True)
        method, rule = self._spec.method.label, self._spec.sampling.acceptance
        self._head(f"Enter: {method} / {rule} · a: every lossless rule with every method")
        self.query_one("#verify-body").focus()

    def on_unmount(self) -> None:
        if self._verifying is not None:
            self._verifying.cancel()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """One verification at a time, which Escape stops before it leaves."""
        if action == "stop":
            return self._busy and self._verifying is not None and not self._verifying.cancelled
        return action not in ("verify", "back") or not self._busy

    @property
    def _busy(self) -> bool:
        verifying = self._verifying
        return verifying is not None and not verifying.standing.ended and not self._worker.is_finished

    def action_verify(self, everything: bool) -> None:
        """Begin."""
        spec = self._spec
        asked = VerifySpec(model=spec.model, sampling=msgspec.structs.replace(spec.sampling, stop=()))
        if not everything:
            rules = (spec.sampling.acceptance,)
            asked = msgspec.structs.replace(asked, methods=(spec.method,), rules=rules)
        run = {} if self._run is None else {"verify": self._run}
        self._verifying = Verifying(self._engine, asked, **run)
        self._worker = self.run_worker(self._verifying.run, thread=True, exit_on_error=False)
        self._timer.resume()
        self.query_one("#verify-introduction").display = False
        self._poll()
        self.refresh_bindings()

    def action_stop(self) -> None:
        """Stop what goes on."""
        assert self._verifying is not None
        self._verifying.cancel()
        self._poll()
        self.refresh_bindings()

    def action_back(self) -> None:
        """Go back to the workbench."""
        self.app.pop_screen()

    def _poll(self) -> None:
        """Show how it stands."""
        assert self._verifying is not None
        standing, body = self._verifying.standing, self.query_one("#verify-body", VerticalScroll)
        follow = body.is_vertical_scroll_end
        self._results.show(standing.results)
        if follow:
            body.scroll_end(animate=False)
        if not self._busy:
            self._timer.pause()
            self._head(_summary(standing.verification, standing.error or self._fault))
            self.refresh_bindings()
        elif self._verifying.cancelled:
            self._head("stopping")
        elif (at := standing.progress) is None:
            self._head("loading the models · Escape stops")
        else:
            self._head(f"{at.done + 1} of {at.total} · {at.doing} {at.share:.0%} · Escape stops")

    @property
    def _fault(self) -> str:
        return str(self._worker.error) if self._worker.error else ""

    def _head(self, text: str) -> None:
        self.query_one("#verify-head", Static).update(head_line("Verify", text))


def _summary(found: Verification | None, error: str) -> str:
    """What it comes to, on one line."""
    if found is None:
        return f"not verified: {error}"
    parts = [f"{found.count(*PROVED)} passed", f"{found.count('different')} FAILED"]
    parts += [f"{count} {word}" for kind, word in (("not_tested", "not tested"), ("measured", "measured"))
              if (count := found.count(kind))]  # type: ignore[arg-type]  # fmt: skip
    if found.models is not None:
        parts.append(f"{found.models.target} in {found.models.dtype}")
    if found.interrupted:
        parts.append("stopped")
    return " · ".join(parts)
