"""What the writer leaves behind, whatever happens to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from history.stored_runs import SPEC, TEXT, one_run, store, until

from specterm.events import LoadProgress, Notice
from specterm.history import database
from specterm.history.archive import Archive
from specterm.history.database import FILE_NAME, HistoryError
from specterm.history.query import Query
from specterm.history.recorder import Recorder
from specterm.metrics import LiveFigures, row_results


def test_a_run_comes_back_with_its_events_and_figures(tmp_path: Path) -> None:
    events = one_run()
    store(tmp_path / "data", [LoadProgress(0.0, "loading", None), *events])
    archive = Archive(tmp_path / "data")
    (entry,) = archive.entries()
    assert archive.events(entry.id) == events
    assert (entry.state, entry.method, entry.models, entry.prompt) == ("done", "draft gamma 4", "builtin", "hello")
    live = LiveFigures()
    for event in events:
        live.observe(event)
    assert entry.figures == live.figures
    assert entry.figures["drafted"] > 0
    assert entry.figures["accepted"] > 0
    assert entry.figures["rejected"] > 0
    assert row_results(archive.events(entry.id)) == row_results(events)


def test_the_folder_and_the_files_are_the_users_alone(tmp_path: Path) -> None:
    store(tmp_path / "data", one_run())
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_nothing_is_made_before_the_first_run(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", lambda text: None)
    recorder.close()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from history.stored_runs import SPEC, one_run
from specterm.history.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), print, batch_s=0.01)
recording = recorder.begin(SPEC, "a prompt that survives")
for event in one_run("a prompt that survives")[:-2]:
    recording.observe(event)
print("fed", flush=True)
time.sleep(60)
"""


def child(script: str, folder: Path) -> subprocess.Popen[str]:
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})


def test_a_killed_process_leaves_an_interrupted_run(tmp_path: Path) -> None:
    process = child(KILLED, tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "fed\n"
        archive = Archive(tmp_path)
        until(lambda: bool(archive.entries()) and archive.entries()[0].figures.get("output_tokens") == 8)
        assert archive.entries()[0].state == "running"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    (entry,) = archive.entries()
    assert entry.state == "interrupted"
    assert archive.events(entry.id) == one_run("a prompt that survives")[:-2]
    assert [e.id for e in archive.entries(Query(text="prompt that surv"))] == [entry.id]
    assert [e.id for e in archive.entries(Query(text="cat sat"))] == [entry.id]
    assert [e.id for e in archive.entries(Query(state="interrupted"))] == [entry.id]
    assert archive.entries(Query(state="running")) == []
    (result,) = row_results(archive.events(entry.id))
    assert (result.text, result.finish_reason) == (TEXT, "error")


BUSY = """
import sys
from pathlib import Path
from history.stored_runs import one_run, store
for number in range(20):
    store(Path(sys.argv[1]), one_run(f"theirs {number}"), prompts=[f"theirs {number}"])
"""


def test_two_processes_store_at_once(tmp_path: Path) -> None:
    process = child(BUSY, tmp_path)
    for number in range(20):
        store(tmp_path, one_run(f"ours {number}"), prompts=[f"ours {number}"])
    assert process.wait(60) == 0
    assert process.stdout is not None
    process.stdout.close()
    archive = Archive(tmp_path)
    prompts = {entry.prompt for entry in archive.entries()}
    assert prompts == {f"{whose} {number}" for whose in ("ours", "theirs") for number in range(20)}
    assert all(entry.state == "done" for entry in archive.entries())


def test_a_history_that_another_program_begins_just_now_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    plain = sqlite3.connect(tmp_path / FILE_NAME, 30.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):  # SQLite alone does not wait
        plain.execute("PRAGMA journal_mode = WAL")
    plain.close()
    release = threading.Timer(0.2, other.rollback)
    release.start()
    with closing(database.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    release.join()
    other.close()


def test_a_corrupt_file_is_moved_aside_and_said(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database, and never was one; not a bit of it" * 100)
    said: list[str] = []
    recorder = Recorder(tmp_path, said.append, batch_s=0.01)
    recording = recorder.begin(SPEC, "hello")
    for event in one_run():
        recording.observe(event)
    recorder.close(30)
    (aside,) = tmp_path.glob(f"{FILE_NAME}.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")
    assert said == [f"the run history was damaged and is now {aside}; a new one is begun"]
    assert [entry.state for entry in Archive(tmp_path).entries()] == ["done"]


def test_damage_deep_in_the_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    for number in range(20):
        store(tmp_path, one_run(f"run {number}"))
    archive = Archive(tmp_path)
    path = archive.path
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"x" * (len(content) - 4096 * 2)  # the schema on page 1 stays
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="was damaged and is now") as raised:
        archive.entries()
    (aside,) = tmp_path.glob(f"{FILE_NAME}.corrupt-*")
    assert str(aside) in str(raised.value)
    assert archive.entries() == []
    store(tmp_path, one_run())
    assert len(archive.entries()) == 1


class FailingConnection(sqlite3.Connection):
    """Fails at the second chunk, as a full disk would."""

    chunks = 0
    error = sqlite3.SQLITE_FULL

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql.startswith("INSERT INTO chunks"):
            self.chunks += 1
            if self.chunks == 2:
                error = sqlite3.OperationalError("it failed")
                error.sqlite_errorcode = self.error
                raise error
        return super().execute(sql, *values)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_FULL, "there is no room for the history in"),
        (sqlite3.SQLITE_IOERR, "see whether its disk is full"),
        (sqlite3.SQLITE_READONLY, "give yourself the right to write there"),
        (sqlite3.SQLITE_IOERR | (3 << 8), "cannot be written"),
        (sqlite3.SQLITE_BUSY, "is held by another program"),
    ],
)
def test_a_failure_is_said_once_and_switches_the_history_off(tmp_path: Path, code: int, words: str) -> None:
    def connect(path: Path) -> sqlite3.Connection:
        database.connect(path).close()
        made = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=FailingConnection)
        made.error = code
        return made

    said: list[str] = []
    recorder = Recorder(tmp_path, said.append, batch_s=0.01, connect=connect)
    archive = Archive(tmp_path)
    first, second = (recorder.begin(SPEC, prompt) for prompt in ("first", "second"))
    for event in one_run():
        first.observe(event)
    until(lambda: (tmp_path / FILE_NAME).exists() and "done" in {entry.state for entry in archive.entries()})
    for event in one_run():
        second.observe(event)
        second.observe(Notice(0.0, "info", "more"))
    until(lambda: bool(said))
    recorder.begin(SPEC, "third").observe(one_run()[0])
    recorder.close(30)
    assert len(said) == 1
    assert words in said[0]
    assert said[0].endswith("Runs are no longer stored in this session")
    assert {entry.prompt: entry.state for entry in archive.entries()}["first"] == "done"
    assert "third" not in {entry.prompt for entry in archive.entries()}


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    recorder = Recorder(tmp_path / "file", said.append, batch_s=0.01)
    recorder.begin(SPEC, "hello").observe(one_run()[0])
    recorder.close(30)
    assert len(said) == 1
    assert "File exists" in said[0]
    assert "SPECTERM_DATA_DIR" in said[0]


def test_a_text_that_is_no_unicode_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    said: list[str] = []
    recorder = Recorder(tmp_path, said.append, batch_s=0.01)
    recorder.begin(SPEC, "hello").observe(Notice(0.0, "info", "\udce9"))
    recorder.close(30)
    assert len(said) == 1
    assert "surrogates not allowed" in said[0]


def test_a_run_that_is_deleted_while_it_is_recorded_stays_deleted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, print, batch_s=0.01)
    archive = Archive(tmp_path)
    recording = recorder.begin(SPEC, "hello")
    events = one_run()
    recording.observe(events[0])
    until(lambda: (tmp_path / FILE_NAME).exists() and bool(archive.entries()))
    assert archive.purge() == 1
    for event in events[1:]:
        recording.observe(event)
    recorder.close(30)
    assert archive.entries() == []
    with sqlite3.connect(archive.path) as connection:
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (0,)
    connection.close()


def test_switched_off_nothing_is_stored_until_it_is_on_again(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.set_recording(False)
    store(tmp_path, one_run("secret"), prompts=["secret"])
    assert archive.entries() == []
    assert not archive.standing().recording
    archive.set_recording(True)
    store(tmp_path, one_run(), prompts=["hello"])
    assert [entry.prompt for entry in archive.entries()] == ["hello"]
