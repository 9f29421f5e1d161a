"""`specterm --verify` on the terminal: a line a check, then what it comes to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from specterm.catalogue import RULES
from specterm.console.stream import Narration
from specterm.console.visible import visible
from specterm.engine.job import Engine
from specterm.errors import ConfigError, ExitCode
from specterm.verify.law import DISTANCE, FALSE_ALARM, POWER
from specterm.verify.plan import VerifySpec
from specterm.verify.ports import Verifies
from specterm.verify.result import PROVED, CheckResult, Models, Verification
from specterm.verify.run import Progress, verify
from specterm.verify.words import result_line, result_word

_STYLES = {"different": "bold red", "not_tested": "yellow", "measured": "cyan", "near_tie": "yellow"}


def run_verify(
    open_engine: Callable[[], AbstractContextManager[Engine]], spec: VerifySpec, *, as_json: bool = False
) -> ExitCode:
    """Verify, and say what came of it: RUN_FAILED where a lossless rule is refuted or nothing could be tested.

    Raises:
        SpectermError: what is asked for cannot be, or the models cannot be loaded.
    """
    narrator, output = Console(file=sys.stderr), Console(file=sys.stdout)
    with open_engine() as engine:
        if not isinstance(engine, Verifies):
            raise ConfigError("--verify needs models of this machine; it does not go with this --engine")
        with _progress(narrator) as tell:
            keep = (lambda result: None) if as_json else lambda result: _print_result(output, result)
            found = verify(engine, spec, tell, keep, Narration(narrator, stages=True).observe)
    if as_json:
        sys.stdout.write(as_document(found) + "\n")
    else:
        _print_end(output, found)
    return found.exit_code


def as_document(found: Verification) -> str:
    """A verification as one JSON object."""
    document = {
        "schema_version": 1,
        "complete": found.complete,
        "false_alarm_rate": FALSE_ALARM,
        "power": POWER,
        "total_variation": DISTANCE,
        "models": found.models,
        "verified": found.exit_code == ExitCode.OK and found.complete,
        "checks": found.results,
    }
    return msgspec.json.encode(document).decode()


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere a line a check is enough, and those are the results."""
    if not console.is_terminal:
        yield lambda at: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with ProgressBar(*columns, console=console, refresh_per_second=4, transient=True) as bar:
        task = bar.add_task("loading", total=None)

        def tell(at: Progress) -> None:
            share = f" {at.share:.0%}" if at.share else ""
            bar.update(task, completed=at.done, total=at.total, description=visible(at.doing) + share)

        yield tell


def _print_result(console: Console, result: CheckResult) -> None:
    line = Text(visible(result_line(result)))
    line.stylize(_STYLES.get(result.result, "green"), 0, len(result_word(result)))
    console.print(line, soft_wrap=True)
    console.file.flush()


def _models_line(models: Models) -> str:
    """Which models were verified, each with what it was used for."""
    parts = [f"target {models.target}", *(f"draft {name}" for name in models.drafts)]
    parts += [f"{kind} head {name}" for kind, name in models.heads.items()]
    return f"{', '.join(parts)}; {models.dtype} on {models.device}"


def _print_end(console: Console, found: Verification) -> None:
    console.print()
    if found.models is not None:
        console.print(Text(visible(_models_line(found.models))), soft_wrap=True)
    for name in sorted({(name, r.lossless) for r in found.results for name in r.acceptance}):
        rule, lossless = RULES[name[0]], name[1]
        mark = "lossless" if lossless else "NOT lossless"
        console.print(Text(f"{rule.title}: {mark}. {rule.reason(lossless)}", "dim"), soft_wrap=True)
    if any(result.check == "law" for result in found.results):
        console.print(
            f"laws: all tests together refute what is true once in {1 / FALSE_ALARM:.0f} commands; each sees a total "
            f"variation of {DISTANCE} with probability {POWER}",
            soft_wrap=True,
        )
    refuted, proved, untested = found.count("different"), found.count(*PROVED), found.count("not_tested")
    parts = [f"{proved} passed", f"{refuted} FAILED"] + [f"{untested} not tested"] * bool(untested)
    parts += [f"{found.count('measured')} measured"] * bool(found.count("measured"))
    parts += ["interrupted"] * found.interrupted
    console.print(Text(", ".join(parts), "bold red" if refuted else "bold"))
