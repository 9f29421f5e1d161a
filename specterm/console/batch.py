"""`specterm --batch`: the headless sweep. Progress goes to standard error, the summary to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from specterm.bench.prompts import gather
from specterm.bench.summary import Summary
from specterm.bench.trials import Progress, run_trials
from specterm.config import PlanSpec
from specterm.console.figures_table import lossless_note
from specterm.console.stream import Narration
from specterm.console.visible import escaped, visible
from specterm.engine.job import Engine
from specterm.errors import ExitCode
from specterm.report.document import as_json, build_document
from specterm.report.figures import NOT_MEASURED, SUMMARY_KEYS
from specterm.report.tables import figure_text, matches_text, measured
from specterm.report.writing import prepare_folder, write_reports

_UNFOLDED_WIDTH = 1000  # where standard output is no terminal, no line is to be folded


def show_plan(plan: PlanSpec, stdout: IO[str]) -> ExitCode:
    """Say what a batch would run, without loading a model.

    Raises:
        ConfigError: the prompts cannot be read.
    """
    requests = gather(plan.prompts, plan.num_prompts)
    runs = len(plan.methods) * len(requests) * plan.repeats
    lines = [
        f"target    {plan.model.target}",
        f"drafts    {', '.join(plan.model.drafts) or 'none'}",
        f"methods   {'; '.join(method.label for method in plan.methods)}",
        f"prompts   {len(requests)} from {', '.join(plan.prompts)}",
        f"repeats   {plan.repeats}, after {plan.warmup} warm-up runs of each method",
        f"outputs   {runs}, {plan.batch_size} at a time, of at most {plan.sampling.max_tokens} tokens",
    ]
    stdout.write("\n".join(visible(line) for line in lines) + "\n")
    return ExitCode.OK


def run_batch(
    open_engine: Callable[[], AbstractContextManager[Engine]],
    plan: PlanSpec,
    folder: Path,
    *,
    as_json_document: bool = False,
) -> ExitCode:
    """Run `plan` and write its reports into `folder`; everything that can be wrong with the input is found first.

    Raises:
        SpectermError: prompts or folder are bad, or the models cannot be loaded.
    """
    requests = gather(plan.prompts, plan.num_prompts)
    prepare_folder(folder)
    narrator = Console(file=sys.stderr)
    with open_engine() as engine, _progress(narrator) as progress:
        trials = run_trials(engine, plan, requests, progress, Narration(narrator, stages=True).observe)
    document = build_document(trials)
    paths = write_reports(document, folder, plan.formats)
    if as_json_document:
        text = as_json(document)
        sys.stdout.write(escaped(text) if sys.stdout.isatty() else text)
    else:
        _print_summary(document.summary)
    for warning in document.warnings:
        narrator.print(Text(visible(f"specterm: warning: {warning}")), soft_wrap=True)
    written = ", ".join(str(path) for path in paths)
    narrator.print(Text(visible(f"specterm: wrote {written}")), soft_wrap=True)
    return trials.exit_code


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line a run elsewhere."""
    if not console.is_terminal:
        yield lambda at: console.print(Text(visible(f"[{at.done}/{at.total}] {at.doing}")), soft_wrap=True)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    # Two paints a second: every paint takes time from the engine that is being timed.
    with ProgressBar(*columns, console=console, refresh_per_second=2, transient=True) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda at: bar.update(task, completed=at.done, total=at.total, description=visible(at.doing))


def _print_summary(summary: list[Summary]) -> None:
    """The figures that decide, one column a configuration."""
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=_UNFOLDED_WIDTH)
    table = Table(box=None, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    for entry in summary:
        table.add_column(entry.configuration, justify="right")
    table.add_row("runs", *(str(entry.runs) for entry in summary))
    for column in measured(summary):
        if column.key in SUMMARY_KEYS:
            cells = [figure_text(column, entry.figures.get(column.key), entry.speedup) for entry in summary]
            table.add_row(column.heading, *cells)
    table.add_row("matches naive", *(matches_text(entry) for entry in summary))
    marks = {True: "yes", False: "NO", None: NOT_MEASURED}
    table.add_row("lossless", *(marks[entry.lossless] for entry in summary))
    console.print(table)
    console.print(lossless_note(summary), soft_wrap=True)
