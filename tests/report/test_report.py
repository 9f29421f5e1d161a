"""The report: one golden file a format (`UPDATE_GOLDEN=1 pytest tests/report` writes them anew), and its files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from scripted_engine import ScriptedEngine

from specterm.bench.trials import run_trials
from specterm.config import PlanSpec, Request, SamplingSpec
from specterm.errors import ConfigError
from specterm.events import Notice
from specterm.metrics import METRICS
from specterm.report import writing
from specterm.report.document import Document, as_json, build_document
from specterm.report.figures import COLUMNS, Column
from specterm.report.markdown import as_markdown, table
from specterm.report.writing import WRITERS, prepare_folder, write_reports

GOLDEN = Path(__file__).parent / "golden"
RUN_KEYS = {
    "method", "acceptance", "lossless", "matches_naive", "prompt_id", "repeat", "seed", "text", "token_ids",
    "finish_reason", "metrics",
}  # fmt: skip


def document(engine: ScriptedEngine | None = None, **changes: object) -> Document:
    plan = PlanSpec(**{"sampling": SamplingSpec(temperature=0.0), "repeats": 2, **changes}).checked()
    requests = (Request(prompt="a", prompt_id="a", domain="x"), Request(prompt="b", prompt_id="b", domain="y"))
    notice = Notice(0.0, "warning", "the GPU | is <hot>", "let it cool down")
    return build_document(run_trials(engine or ScriptedEngine(notices=(notice,)), plan, requests, lambda _: None))


@pytest.mark.parametrize(("suffix", "write"), WRITERS.items())
def test_golden(suffix: str, write: Callable[[Document], str]) -> None:
    text, file = write(document()), GOLDEN / f"report.{suffix}"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8", newline="\n")
    assert text == file.read_text(encoding="utf-8")


def test_the_json_has_the_keys_that_scripts_rely_on() -> None:
    data = json.loads(as_json(document()))
    top = {"schema_version", "complete", "environment", "spec", "runs", "summary", "warnings"}
    assert top <= set(data)
    assert len(data["runs"]) == 8
    for run in data["runs"]:
        assert set(run) >= RUN_KEYS
        assert list(run["metrics"]) == list(METRICS)
    assert [entry["configuration"] for entry in data["summary"]] == ["naive", "draft gamma 4"]
    figure = data["summary"][1]["figures"]["throughput_tok_s"]
    assert set(figure) == {"n", "mean", "std", "median", "low", "high"}
    assert set(data["summary"][1]["speedup"]) == {"n", "ratio", "low", "high"}
    assert data["summary"][0]["figures"]["energy_j"] is None  # not measured is null


def test_a_document_survives_a_round_trip() -> None:
    made = document()
    assert msgspec.json.decode(as_json(made), type=Document) == msgspec.json.decode(
        msgspec.json.encode(made), type=Document
    )


def test_an_interrupted_batch_says_so() -> None:
    made = document(ScriptedEngine(interrupt_at=3))
    assert json.loads(as_json(made))["complete"] is False
    text = as_markdown(made)
    assert text.startswith("# specterm report (incomplete)\n")
    assert "The batch was interrupted" in text


def test_failures_and_differences_are_warned_of() -> None:
    failed = document(ScriptedEngine(fail={"draft": "out of memory"}), repeats=1, warmup=0)
    assert "draft gamma 4, a, repeat 1: out of memory" in failed.warnings
    assert "out of memory" in as_markdown(failed)
    different = document(ScriptedEngine({"naive": (1, 2), "draft": (1, 3)}))
    assert "draft gamma 4: 4 of 4 outputs differ from naive's, and must not." in different.warnings


def test_loops_are_warned_of() -> None:
    looping = document(ScriptedEngine({"naive": (1,) * 40, "draft": (1,) * 40}))
    assert any("4-grams are repeated" in warning for warning in looping.warnings)


def test_every_column_is_a_figure() -> None:
    assert {column.key for column in COLUMNS} <= set(METRICS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (0.0, "0.00 s"),
        (1.234, "1.23 s"),
        (0.0123, "0.012 s"),
        (1234.5, "1,234.50 s"),
        ([1.0, 2.0], "1.00 2.00 s"),
    ],
)
def test_figures_in_words(value: float | list[float] | None, text: str) -> None:
    assert Column("x", "x", "s").text(value) == text


def test_a_spread_has_the_decimals_of_its_mean() -> None:
    column = Column("x", "x", "ms", 1e3, 1)
    assert column.spread(0.0123, 0.00012) == "12.3 ± 0.1"
    assert column.spread(0.0123, None) == "12.3"
    assert column.spread(None, None) == "n/a"


def test_cells_cannot_break_a_table() -> None:
    assert table(["a"], [["x|y\n<b>"]]).splitlines()[2] == "| x\\|y &lt;b> |"


def test_reports_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "folder"
    prepare_folder(folder)
    assert list(folder.iterdir()) == []
    made = document()
    paths = write_reports(made, folder, ("json", "md"))
    assert [path.name for path in paths] == ["report.json", "report.md"]
    assert paths[0].read_text(encoding="utf-8") == as_json(made)
    if os.name == "posix":
        assert stat.S_IMODE(paths[0].stat().st_mode) == 0o644

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(ConfigError, match=r"report\.json cannot be written: No space left"):
        write_reports(made, folder, ("json",))
    assert sorted(path.name for path in folder.iterdir()) == ["report.json", "report.md"]
    assert paths[0].read_text(encoding="utf-8") == as_json(made)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match="which is a file"):
        prepare_folder(file)
    with pytest.raises(ConfigError, match="cannot be written"):
        prepare_folder(file / "below")
