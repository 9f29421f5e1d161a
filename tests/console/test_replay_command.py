"""`--record`, `--engine replay` and `--purge-history`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from console.test_commands import TEXT, opener, specterm
from history.stored_runs import one_run, store
from scripted_engine import ScriptedEngine

from specterm.cli import main
from specterm.errors import ExitCode
from specterm.history.archive import Archive


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECTERM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def replay(*arguments: str) -> int:
    return main(["--engine", "replay", *arguments], open_engine=opener(ScriptedEngine()))  # type: ignore[arg-type]


def test_a_recorded_run_replays_with_the_same_text_and_figures(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    assert specterm(ScriptedEngine(), "--prompt", "hello", "--json", "--record", "run.jsonl") == 0
    live = json.loads(capsys.readouterr().out)
    assert live["runs"][0]["metrics"]["accepted"] > 0
    assert replay("--recording", "run.jsonl", "--json") == 0
    assert json.loads(capsys.readouterr().out) == live
    assert replay("--recording", "run.jsonl", "--plain") == 0
    assert capsys.readouterr().out == TEXT
    assert replay("--recording", "run.jsonl", "--replay-speed", "0", "--show-rejected") == 0
    out = capsys.readouterr().out
    assert "the cat sat on" in out
    assert "62.5 %" in out
    assert "rejected" in out
    assert not data.exists()  # runs of --prompt are not stored


def test_a_stored_run_replays_by_its_number(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    store(data, one_run())
    assert replay("--recording", "1", "--plain") == 0
    assert capsys.readouterr().out == TEXT
    assert replay("--recording", "2", "--plain") == ExitCode.USAGE
    assert "there is no run 2 in" in capsys.readouterr().err


def test_an_interrupted_run_replays_what_there_is(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    store(data, one_run()[:4])
    assert replay("--recording", "1", "--plain") == 0
    out, err = capsys.readouterr()
    assert out
    assert TEXT.startswith(out)
    assert "this run was interrupted" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "magic"), "--engine is 'magic'; it must be one of local, replay"),
        (("--engine", "replay"), "--engine replay needs --recording"),
        (("--engine", "replay", "--recording", "nothing"), "the recording nothing cannot be read: No such file"),
        (("--engine", "replay", "--recording", "x", "--seed", "1"), "--seed does not go with --engine replay"),
        (("--engine", "replay", "--recording", "x", "--batch"), "--batch does not go with --engine replay"),
        (("--recording", "x", "--prompt", "x"), "--recording goes with --engine replay only"),
        (("--prompt", "x", "--method", "naive,draft", "--record", "f"), "--record holds one run and 2 methods are"),
        (("--prompt", "x", "--record", "."), "--record is '.', which cannot be written: Is a directory"),
        (("--batch", "--record", "f"), "--record does not go with --batch"),
        (("--yes",), "--yes goes with --purge-history only"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert specterm(ScriptedEngine(), *arguments) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bad_speed_is_named(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    store(data, one_run())
    for text in ("fast", "-1", "nan", "inf"):
        assert replay("--recording", "1", "--plain", "--replay-speed", text) == ExitCode.USAGE
        assert f"--replay-speed is '{text}'; it must be" in capsys.readouterr().err


def test_purging_asks_unless_told_not_to(
    capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--purge-history"]) == 0
    assert capsys.readouterr().out == f"there is no history in {data}\n"
    assert not data.exists()
    store(data, one_run(), one_run())
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["--purge-history"]) == ExitCode.USAGE
    assert "add --yes" in capsys.readouterr().err
    for answer, left in (("no\n", 2), ("\n", 2), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert main(["--purge-history"]) == 0
        assert f"delete all stored runs in {data / 'history.db'} (2)? [y/N]" in capsys.readouterr().err
        assert len(Archive(data).entries()) == left
    store(data, one_run())
    assert main(["--purge-history", "--yes"]) == 0
    assert capsys.readouterr().out == f"runs deleted from {data / 'history.db'}: 1\n"


class Terminal:
    """A terminal at which someone types one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line
