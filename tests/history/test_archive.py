"""Lists, searches, deletion, migration and export of stored runs."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
from history.stored_runs import TEXT, one_run, store

from specterm.config import MethodSpec, RunSpec
from specterm.errors import ConfigError
from specterm.events import RunFinished
from specterm.history import database
from specterm.history.archive import Archive
from specterm.history.database import FILE_NAME, MIGRATIONS, HistoryError
from specterm.history.export import FORMATS, export
from specterm.history.query import Query
from specterm.metrics import row_results
from specterm.recording import read_recording

NAIVE = RunSpec(method=MethodSpec(name="naive")).checked()


def prompts(archive: Archive, line: str) -> list[str]:
    return [entry.prompt for entry in archive.entries(Query.parse(line))]


@pytest.fixture(params=["fts5", "plain"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    if request.param == "plain":
        monkeypatch.setattr(database, "_TEXTS", ("CREATE VIRTUAL TABLE texts USING nosuchmodule()", database._TEXTS[1]))
    return Archive(tmp_path)


def test_search_finds_prompts_and_outputs(archive: Archive, tmp_path: Path) -> None:
    store(tmp_path, one_run(), one_run(), prompts=["Once upon a 100% time", 'He said "no" 100 times'])
    store(tmp_path, one_run("naïve ÉTÉ", NAIVE), prompts=["naïve ÉTÉ"], spec=NAIVE)
    failed = [one_run()[0], RunFinished(0.1, "failed", "out of memory", 3)]
    store(tmp_path, failed, prompts=["too long"])
    assert prompts(archive, "") == ["too long", "naïve ÉTÉ", 'He said "no" 100 times', "Once upon a 100% time"]
    assert prompts(archive, "UPON") == ["Once upon a 100% time"]
    assert prompts(archive, '"no"') == ['He said "no" 100 times']
    assert prompts(archive, "0%") == ["Once upon a 100% time"]
    assert len(prompts(archive, "CAT SAT on")) == 3
    assert prompts(archive, "dog") == []
    assert prompts(archive, "method:naive") == ["naïve ÉTÉ"]
    assert prompts(archive, "state:fail") == ["too long"]
    assert prompts(archive, "state:nonsense") == []
    assert prompts(archive, "method:draft said") == ['He said "no" 100 times']
    assert prompts(archive, "model:builtin_") == []
    assert archive.standing(Query.parse("cat")).matching == 3
    assert archive.standing().runs == 4


def test_a_deleted_run_is_gone_from_disk_and_from_the_search(archive: Archive, tmp_path: Path) -> None:
    store(tmp_path, one_run("xyzzy secret"), one_run("kept"), prompts=["xyzzy secret", "kept"])
    secret = archive.entries(Query("xyzzy"))[0]
    archive.delete([secret.id])
    assert archive.entries(Query("xyzzy")) == []
    assert [entry.prompt for entry in archive.entries()] == ["kept"]
    with pytest.raises(ConfigError, match=f"there is no run {secret.id}"):
        archive.events(secret.id)
    assert archive.purge() == 1
    assert archive.entries() == []
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"xyzzy secret" not in stored
    assert b"kept" not in stored


def test_purging_takes_damaged_histories_too(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(HistoryError, match="was damaged"):
        Archive(tmp_path).standing()
    assert len(list(tmp_path.glob(f"{FILE_NAME}.corrupt*"))) == 1
    assert Archive(tmp_path).purge() == 0
    assert not list(tmp_path.glob(f"{FILE_NAME}.corrupt*"))


def test_ten_thousand_runs_are_listed_page_by_page_and_fast(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert archive.entries() == []
    figures = msgspec.json.encode({"output_tokens": 7}).decode()
    with sqlite3.connect(archive.path) as connection:
        connection.executemany(
            "INSERT INTO runs (started_at, reason, method, models, prompt, spec, measured, pid, figures) "
            "VALUES (?, 'done', 'naive', 'builtin', ?, '{}', 0, 1, ?)",
            ((float(n), f"prompt {n}", figures) for n in range(10_000)),
        )
        connection.execute("INSERT INTO texts (rowid, prompt, output) SELECT id, prompt, 'some output' FROM runs")
    connection.close()
    started = time.thread_time()
    page = archive.entries(limit=100)
    found = archive.entries(Query("prompt 77"), limit=100)
    standing = archive.standing()
    assert time.thread_time() - started < 0.5
    assert [entry.prompt for entry in page[:2]] == ["prompt 9999", "prompt 9998"]
    assert len(found) == 100  # of 77, 770 to 779, 7700 to 7799
    assert standing.runs == 10_000
    seen = [entry.id for entry in page]
    while page:
        page = archive.entries(before=page[-1].id, limit=1000)
        seen += [entry.id for entry in page]
    assert seen == list(range(10_000, 0, -1))


def test_an_older_schema_is_brought_up_to_date_and_a_newer_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, one_run())
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, ("ALTER TABLE runs ADD COLUMN tags TEXT",)))
    archive = Archive(tmp_path)
    assert [entry.prompt for entry in archive.entries()] == ["hello"]
    with sqlite3.connect(archive.path) as connection:
        assert connection.execute("SELECT tags FROM runs").fetchall() == [(None,)]
    connection.close()
    monkeypatch.setattr(database, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(HistoryError, match="has version 3 and this specterm knows 2; update specterm"):
        archive.entries()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path, one_run())
    monkeypatch.setattr(
        database, "MIGRATIONS", (*MIGRATIONS, ("ALTER TABLE runs ADD COLUMN tags TEXT", "ALTER TABLE nothing"))
    )
    with pytest.raises(HistoryError, match="cannot be used"):
        Archive(tmp_path).entries()
    monkeypatch.setattr(database, "MIGRATIONS", MIGRATIONS)
    assert len(Archive(tmp_path).entries()) == 1


def test_export_writes_every_format(tmp_path: Path) -> None:
    events = one_run("say ```hi``` | <b>")
    store(tmp_path, events, prompts=["say ```hi``` | <b>"])
    archive = Archive(tmp_path)
    (entry,) = archive.entries()
    for suffix in FORMATS:
        export(archive, entry.id, tmp_path / f"run.{suffix}")
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["runs"] == json.loads(msgspec.json.encode(row_results(events)))
    assert (told["complete"], told["state"], told["spec"]["method"]["name"]) == (True, "done", "draft")
    assert (tmp_path / "run.txt").read_text() == f"say ```hi``` | <b>{TEXT}\n"
    markdown = (tmp_path / "run.md").read_text()
    assert "````text\nsay ```hi``` | <b>\n````" in markdown
    assert "| draft acceptance rate | 62.5 % |" in markdown
    assert read_recording(tmp_path / "run.jsonl") == events
    with pytest.raises(ConfigError, match=r"'run.pdf' has no known format; end the name in .json, .md, .txt, .jsonl"):
        export(archive, entry.id, tmp_path / "run.pdf")
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        export(archive, entry.id, tmp_path / "missing" / "run.md")


def test_a_run_that_never_began_can_be_exported(tmp_path: Path) -> None:
    store(tmp_path, [RunFinished(0.0, "failed", "there is no such model", 3)])
    archive = Archive(tmp_path)
    (entry,) = archive.entries()
    for suffix in FORMATS:
        export(archive, entry.id, tmp_path / f"run.{suffix}")
    assert json.loads((tmp_path / "run.json").read_text())["runs"] == []
