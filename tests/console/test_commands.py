"""`--prompt` and `--batch` over a scripted engine, through the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine, word

from specterm.cli import main
from specterm.config import FORMATS
from specterm.engine.job import Engine
from specterm.errors import ExitCode
from specterm.metrics import METRICS

TEXT = "".join(word(token) for token in range(8))


def opener(engine: ScriptedEngine, asked: list[bool] | None = None) -> Callable[..., object]:
    @contextmanager
    def open_engine(monitored: bool) -> Iterator[Engine]:
        if asked is not None:
            asked.append(monitored)
        try:
            yield engine
        finally:
            engine.close()

    return open_engine


def specterm(engine: ScriptedEngine, *arguments: str) -> int:
    return main(arguments, open_engine=opener(engine))  # type: ignore[arg-type]


def test_plain_prints_the_text_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine()
    assert specterm(engine, "--prompt", "hello", "--plain") == 0
    assert capsys.readouterr() == (TEXT, "")
    assert engine.ran == [("draft gamma 4", ("prompt",), 0)]
    assert engine.closed


def test_a_pipe_gets_the_text_alone_and_the_figures_go_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert specterm(ScriptedEngine(), "--prompt", "hello") == 0
    out, err = capsys.readouterr()
    assert out == TEXT
    assert "62.5 %" in err
    assert "legend" not in err
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert specterm(ScriptedEngine(), "--prompt", "hello") == 0
    assert "legend" in capsys.readouterr().out


def test_json_prints_the_runs_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert specterm(ScriptedEngine(), "--prompt", "hello", "--json", "--method", "draft,naive") == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert list(data) == ["runs"]
    assert err == ""
    naive, draft = data["runs"]  # naive first, whatever the order of the names
    assert (naive["method"], draft["method"]) == ("naive", "draft")
    assert list(draft["metrics"]) == list(METRICS)
    assert draft["text"] == TEXT
    assert draft["token_ids"] == list(range(8))
    assert draft["lossless"] is True
    assert draft["metrics"]["speedup"] == pytest.approx(1.2 / 0.9)
    assert draft["matches_naive"] is None  # sampled: it need not match


def test_one_method_has_no_speedup(capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("naive", "draft"):
        assert specterm(ScriptedEngine(), "--prompt", "hello", "--json", "--method", method) == 0
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        assert run["metrics"]["speedup"] is None


def test_the_terminal_gets_text_legend_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine()
    arguments = ("--prompt", "hello", "--method", "naive,draft", "--temperature", "0", "--show-rejected")
    assert specterm(engine, *arguments) == 0
    out = capsys.readouterr().out
    assert out.count("the cat sat on a mat") == 2
    for part in ("legend:", "rejected", "1.33×", "62.5 %", "identical", "lossless", "Leviathan"):
        assert part in out
    # Two methods are compared, so each is warmed up first.
    assert [label for label, _, _ in engine.ran] == ["naive", "draft gamma 4"] * 2


def test_a_difference_that_must_not_be_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine({"naive": (1, 2), "draft": (1, 3)})
    arguments = ("--prompt", "x", "--json", "--method", "naive,draft", "--temperature", "0")
    assert specterm(engine, *arguments) == ExitCode.RUN_FAILED
    assert json.loads(capsys.readouterr().out)["runs"][1]["matches_naive"] == "different"


@pytest.mark.parametrize(
    ("method", "drafts", "told"),
    [
        ("draft", ("a", "b"), "note: draft model b is not used: --method draft takes 1; sequential and tree take"),
        ("naive,tree", ("a", "b"), ""),
        ("ngram", ("a", "b"), "note: draft models a, b are not used: --method ngram takes none; sequential and tree"),
        ("ngram", (), ""),
    ],
)  # fmt: skip
def test_a_draft_model_that_no_method_takes_is_told(
    method: str, drafts: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    named = [word for draft in drafts for word in ("--draft", draft)]
    for way in (("--prompt", "hello", "--json"), ("--batch", "--prompts", "stories", "--out", str(tmp_path))):
        assert specterm(ScriptedEngine(), *way, *named, "--method", method) == 0
        err = capsys.readouterr().err
        assert told in err
        assert ("not used" in err) is bool(told)


def test_standard_input_loses_its_last_newline_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts: list[str] = []

    class Listening(ScriptedEngine):
        def run(self, spec, requests):  # type: ignore[no-untyped-def]
            prompts.append(requests[0].prompt)
            return super().run(spec, requests)

    monkeypatch.setattr("sys.stdin", io.StringIO("def f(x):\n\n"))
    assert specterm(Listening(), "--prompt", "-", "--plain") == 0
    assert prompts == ["def f(x):\n"]
    assert capsys.readouterr().out == TEXT


def test_a_failed_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine(fail={"draft": "out of memory:\n use a smaller model"})
    assert specterm(engine, "--prompt", "x") == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err == "specterm: error: out of memory: use a smaller model\n"
    assert engine.closed


def test_ctrl_c_keeps_the_partial_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert specterm(ScriptedEngine(interrupt_at=0), "--prompt", "x", "--json") == ExitCode.INTERRUPTED
    out, err = capsys.readouterr()
    (run,) = json.loads(out)["runs"]
    assert (run["finish_reason"], run["text"]) == ("cancelled", "the ")
    assert err == "specterm: error: interrupted\n"


@pytest.mark.parametrize(("flags", "monitored"), [((), True), (("--no-monitor",), False)])
def test_the_monitor_can_be_left_out(flags: tuple[str, ...], monitored: bool) -> None:
    asked: list[bool] = []
    assert main(("--prompt", "x", "--plain", *flags), open_engine=opener(ScriptedEngine(), asked)) == 0  # type: ignore[arg-type]
    assert asked == [monitored]


def test_batch_writes_reports_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    arguments = ("--batch", "--out", str(out), "--num-prompts", "3", "--repeats", "2", "--temperature", "0")
    assert specterm(ScriptedEngine(), *arguments) == 0
    captured = capsys.readouterr()
    names = ["report.csv", "report.html", "report.json", "report.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    data = json.loads((out / "report.json").read_text())
    assert data["complete"] is True
    assert len(data["runs"]) == 2 * 3 * 2
    assert {run["domain"] for run in data["runs"]} == {"stories", "code", "arithmetic"}
    assert "draft gamma 4" in captured.out
    assert "1.33 [1.33, 1.33]" in captured.out
    assert "[0/14] naive: warm-up" in captured.err
    assert f"wrote {', '.join(str(out / f'report.{name}') for name in FORMATS)}" in captured.err


def test_batch_can_print_its_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--batch",
        "--out",
        str(tmp_path),
        "--num-prompts",
        "1",
        "--repeats",
        "1",
        "--json",
        "--format",
        "json",
    )
    assert specterm(ScriptedEngine(), *arguments) == 0
    assert capsys.readouterr().out == (tmp_path / "report.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_an_interrupted_batch_leaves_a_partial_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--batch", "--out", str(tmp_path), "--num-prompts", "2")
    assert specterm(ScriptedEngine(interrupt_at=3), *arguments) == ExitCode.INTERRUPTED
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["complete"] is False
    assert [run["finish_reason"] for run in data["runs"]] == ["length", "cancelled"]


def test_a_batch_with_a_failed_run_goes_on_and_returns_1(tmp_path: Path) -> None:
    arguments = ("--batch", "--out", str(tmp_path), "--num-prompts", "2", "--repeats", "1")
    assert specterm(ScriptedEngine(fail={"draft": "no"}), *arguments) == ExitCode.RUN_FAILED
    data = json.loads((tmp_path / "report.json").read_text())
    assert [run["method"] for run in data["runs"]] == ["naive", "naive"]
    assert data["failures"][0]["error"] == "no"


def test_a_plan_runs_and_a_typed_option_beats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'methods = ["naive", {name = "draft", parameters = {num_draft_tokens = 2}}]\n'
        'prompts = ["code"]\nnum_prompts = 2\nrepeats = 5\n[sampling]\nmax_tokens = 6\n'
    )
    monkeypatch.setenv("SPECTERM_MAX_TOKENS", "3")  # the plan says otherwise
    monkeypatch.setenv("SPECTERM_SEED", "7")  # the plan says nothing
    arguments = ("--batch", str(plan), "--out", str(tmp_path / "out"), "--repeats", "1")
    assert specterm(ScriptedEngine(), *arguments) == 0
    spec = json.loads((tmp_path / "out" / "report.json").read_text())["spec"]
    assert [m["name"] for m in spec["methods"]] == ["naive", "draft"]
    assert spec["methods"][1]["parameters"]["num_draft_tokens"] == 2
    assert (spec["repeats"], spec["num_prompts"], spec["prompts"]) == (1, 2, ["code"])
    assert (spec["sampling"]["max_tokens"], spec["sampling"]["seed"]) == (6, 7)
    assert "draft gamma 2" in capsys.readouterr().out


def test_dry_run_says_what_would_run_and_loads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = ScriptedEngine()
    out = tmp_path / "out"
    assert specterm(engine, "--batch", "--dry-run", "--out", str(out), "--num-prompts", "4") == 0
    said = capsys.readouterr().out
    assert "naive; draft gamma 4" in said
    assert "24, 1 at a time" in said  # 2 methods, 4 prompts, 3 repeats
    assert engine.ran == []
    assert not out.exists()
