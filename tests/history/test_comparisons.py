"""Comparisons in the history: stored as they are measured, and read back as they were."""

import json
from pathlib import Path

import pytest
from history.stored_runs import one_run, store, until
from scripted_engine import ScriptedEngine

from specterm.bench.trials import Trial, Trials, run_trials
from specterm.cli import main
from specterm.config import MethodSpec, PlanSpec, Request, SamplingSpec
from specterm.errors import ConfigError, ExitCode
from specterm.history.archive import Archive, HistoryError
from specterm.history.export import export
from specterm.history.query import Query
from specterm.history.recorder import Recorder
from specterm.recording import recorded
from specterm.report.document import build_document

PLAN = PlanSpec(
    methods=(MethodSpec(name="naive"), MethodSpec(name="draft")), sampling=SamplingSpec(temperature=0.0), repeats=2
).checked()
REQUESTS = (Request(prompt="tell me", prompt_id="a"), Request(prompt="count", prompt_id="b"))


def measure(folder: Path, *, finish: bool = True) -> tuple[Trials, list[Trial]]:
    """Measure and store; without `finish` the process is as good as killed after the last trial."""
    kept: list[Trial] = []
    problems: list[str] = []
    recorder = Recorder(folder, problems.append)
    recording = recorder.begin_comparison(PLAN, REQUESTS)

    def keep(trial: Trial) -> None:
        kept.append(trial)
        recording.keep(trial.events)
        stored = Archive(folder).comparison(1).trials
        assert len(stored) == len(kept)  # on disk before the next one is timed

    trials = run_trials(ScriptedEngine(), PLAN, REQUESTS, lambda _: None, keep=keep)
    if finish:
        recording.finish(build_document(trials))
    recorder.close(30)
    assert problems == []
    return trials, kept


def test_a_comparison_comes_back_as_it_was(tmp_path: Path) -> None:
    trials, kept = measure(tmp_path)
    (entry,) = Archive(tmp_path).entries()
    assert (entry.kind, entry.state, entry.measured) == ("comparison", "done", True)
    assert entry.method == "compare naive | draft gamma 4"
    assert entry.verdict.startswith("deploy draft gamma 4: 1.33x")
    found = Archive(tmp_path).comparison(entry.id)
    assert found.document == build_document(trials)
    assert found.document.summary[1].matches_naive == {"identical": 4}
    assert found.plan == PLAN
    assert len(found.trials) == 8
    for stored, trial in zip(found.trials, kept):
        assert (stored.configuration, stored.repeat) == (trial.configuration, trial.repeat)
        assert stored.events == tuple(event for event in trial.events if recorded(event))


def test_one_that_was_killed_keeps_its_trials(tmp_path: Path) -> None:
    measure(tmp_path, finish=False)
    archive = Archive(tmp_path)
    (entry,) = archive.entries()
    assert (entry.state, entry.verdict) == ("running", "")  # this process still lives
    found = archive.comparison(entry.id)
    assert len(found.trials) == 8
    assert not found.document.complete
    assert found.document.summary[1].speedup is not None
    assert found.document.summary[1].matches_naive == {}


def test_failed_and_stopped_ones_are_told_apart(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, print, batch_s=0.01)
    recorder.begin_comparison(PLAN, REQUESTS).finish(None)
    recorder.begin_comparison(PLAN, REQUESTS).finish(build_document(Trials(PLAN)))
    recorder.close(30)
    assert [entry.state for entry in Archive(tmp_path).entries()] == ["cancelled", "failed"]


def test_runs_and_comparisons_are_searched_deleted_and_purged_alike(tmp_path: Path) -> None:
    measure(tmp_path)
    store(tmp_path, one_run(), prompts=["hello"])
    archive = Archive(tmp_path)
    assert [e.kind for e in archive.entries()] == ["run", "comparison"]
    assert [e.kind for e in archive.entries(Query.parse("method:compare tell me"))] == ["comparison"]
    assert archive.delete([1]) == {"tell me\n\ncount"}
    with pytest.raises(ConfigError, match="there is no run 1"):
        archive.comparison(1)
    assert archive.purge() == 1


def test_a_comparison_is_exported_as_its_report(tmp_path: Path) -> None:
    trials, _ = measure(tmp_path)
    archive = Archive(tmp_path)
    export(archive, 1, tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["deployment"]["configuration"] == "draft gamma 4"
    assert len(told["runs"]) == len(trials.results) == 8
    export(archive, 1, tmp_path / "report.md")
    assert "## What to deploy" in (tmp_path / "report.md").read_text()
    with pytest.raises(ConfigError, match=r"'report.txt' has no known format; end the name in .json, .csv, .md, .html"):
        export(archive, 1, tmp_path / "report.txt")


def test_one_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    measure(tmp_path)
    archive = Archive(tmp_path)
    with archive._open() as connection:
        connection.execute("UPDATE runs SET report = ?", (b"nothing",))
    with pytest.raises(HistoryError, match="comparison 1 cannot be read by this specterm"):
        archive.comparison(1)


def test_the_oldest_go_beyond_the_limit(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, print, limit=3, batch_s=0.0)
    for number in range(5):
        recording = recorder.begin(PLAN.run_spec(PLAN.methods[0]), f"prompt {number}")
        for event in one_run():
            recording.observe(event)
    recorder.begin_comparison(PLAN, REQUESTS)
    recorder.close(30)
    archive = Archive(tmp_path)
    until(lambda: archive.standing().runs == 3)
    assert [e.prompt for e in archive.entries()] == ["tell me\n\ncount", "prompt 4", "prompt 3"]
    assert b"prompt 0" not in archive.path.read_bytes()
    with archive._open() as connection:
        assert connection.execute("SELECT count(*) FROM chunks WHERE run < 4").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM texts").fetchone() == (3,)


def test_a_prompt_goes_with_its_last_run(tmp_path: Path) -> None:
    store(tmp_path, one_run(), one_run(), one_run(), prompts=["twice", "twice", "once"])
    archive = Archive(tmp_path)
    assert archive.delete([1, 3]) == {"once"}
    assert archive.delete([2]) == {"twice"}


def test_a_comparison_is_no_run_to_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(tmp_path)
    monkeypatch.setenv("SPECTERM_DATA_DIR", str(tmp_path))
    assert main(["--engine", "replay", "--recording", "1", "--plain"]) == ExitCode.USAGE
    assert "--recording is 1, which is a comparison" in capsys.readouterr().err
