"""Bad input: one line that names it, and the right exit code, before anything is loaded."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Never

import pytest

from specterm.cli import main
from specterm.errors import ExitCode


def test_what_is_wrong_with_the_targets_folder_is_said_before_the_draft_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for command in (["--prompt", "x"], ["--batch"]):
        assert (
            main([*command, "--method", "draft", "--target", str(tmp_path / "empty")], no_engine)
            == ExitCode.UNAVAILABLE
        )
        assert f"the folder {tmp_path / 'empty'} holds no model" in capsys.readouterr().err


def no_engine(monitored: bool) -> Never:
    raise AssertionError("bad input must be found before an engine is opened")


CASES = {
    "unknown option": (["--no-such"], "--no-such"),
    "unknown method": (["--prompt", "x", "--method", "magic"], "--method is 'magic'; it must be one of naive, draft"),
    "unknown method in a list": (["--batch", "--method", "naive,magic"], "--method is 'magic'"),
    "empty method": (["--prompt", "x", "--method", ""], "--method is ''"),
    "method twice": (["--batch", "--method", "naive,naive"], "--method names 'naive' twice"),
    "gamma 0": (["--prompt", "x", "--num-draft-tokens", "0"], "--num-draft-tokens is 0; it must be a whole number"),
    "gamma text": (["--prompt", "x", "--num-draft-tokens", "four"], "--num-draft-tokens is 'four'"),
    "gamma of naive": (
        ["--prompt", "x", "--method", "naive", "--num-draft-tokens", "4"],
        "--num-draft-tokens does not go with --method naive",
    ),
    "negative temperature": (["--prompt", "x", "--temperature", "-1"], "--temperature is -1; it must be"),
    "negative seed": (["--prompt", "x", "--seed", "-1"], "a whole number from 0 to 9223372036854775807"),
    "NaN temperature": (["--prompt", "x", "--temperature", "nan"], "--temperature is nan; it must be"),
    "infinite temperature": (["--prompt", "x", "--temperature", "inf"], "--temperature is inf; it must be"),
    "top-p": (["--prompt", "x", "--top-p", "1.5"], "--top-p is 1.5; it must be a number from 0 to 1"),
    "empty stop": (["--prompt", "x", "--stop", ""], "--stop is empty"),
    "acceptance": (["--prompt", "x", "--acceptance", "hope"], "--acceptance is 'hope'; it must be one of exact"),
    "dtype": (["--prompt", "x", "--dtype", "int3"], "--dtype is 'int3'; it must be one of auto"),
    "quantize": (["--prompt", "x", "--quantize", "2bit"], "--quantize is '2bit'"),
    "trace": (["--prompt", "x", "--trace", "all"], "trace is 'all'; it must be one of counts"),
    "empty out": (["--batch", "--out", ""], "--out is empty"),
    "no draft": (["--prompt", "x", "--target", "some/model"], "--method draft needs 1 draft model"),
    "no heads": (
        ["--prompt", "x", "--target", "some/model", "--method", "medusa"],
        "--method medusa needs heads of the target and none are named; add --medusa",
    ),
    "empty heads": (["--prompt", "x", "--medusa", " "], "--medusa is empty"),
    "max model length": (
        ["--prompt", "x", "--max-model-len", "one"],
        "--max-model-len is 'one'; it must be",
    ),
    "empty prompt": (["--prompt", ""], "--prompt is empty"),
    "prompt that is no text": (["--prompt", "caf\udce9"], "is not UTF-8 text"),
    "blank prompt": (["--prompt", " \n"], "--prompt is empty"),
    "prompt without a value": (["--prompt"], "'--prompt' requires an argument"),
    "prompt and batch": (["--prompt", "x", "--batch"], "--prompt and --batch are both given"),
    "json and plain": (["--prompt", "x", "--json", "--plain"], "--json and --plain are both given"),
    "plain with two methods": (["--prompt", "x", "--plain", "--method", "naive,draft"], "--plain prints one text"),
    "rejected without texts": (["--prompt", "x", "--show-rejected", "--trace", "counts"], "--show-rejected needs"),
    "plan without batch": (["plan.toml"], "'plan.toml' is not an option"),
    "batch option without batch": (["--prompt", "x", "--repeats", "2"], "--repeats goes with --batch only"),
    "prompt option with batch": (["--batch", "--plain"], "--plain does not go with --batch"),
    "text alone without a prompt": (["--plain"], "--plain goes with --prompt or --engine replay"),
    "record without a prompt": (["--record", "run.jsonl"], "--record goes with --prompt only"),
    "JSON of the workbench": (["--json"], "--json goes with --prompt, --batch, --verify, --doctor or --engine replay"),
    "missing plan": (["--batch", "missing.toml"], "the plan missing.toml cannot be read: No such file"),
    "missing prompts": (["--batch", "--prompts", "missing.jsonl"], "the prompts missing.jsonl cannot be read"),
    "unknown set": (["--batch", "--prompts", "poems"], "--prompts is 'poems'; it must be one of builtin"),
    "no repeats": (["--batch", "--repeats", "0"], "--repeats is 0; it must be at least 1"),
    "no prompts": (["--batch", "--num-prompts", "0"], "--num-prompts is 0; it must be at least 1"),
    "batch size": (["--batch", "--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
    "format": (["--batch", "--format", "pdf"], "--format is 'pdf'; it must be one of json, csv, md, html"),
    "out is a file": (["--batch", "--out", __file__], "which is a file; name a folder"),
    "out is below a file": (["--batch", "--out", f"{__file__}/x"], "which cannot be written"),
    "no terminal": ([], "no terminal: use --prompt or --batch"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, said = CASES[name]
    assert main(arguments, open_engine=no_engine) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("specterm: error: ")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("repeats = ", "not valid TOML"),
        ("repeat = 3", "unknown field `repeat`; known are model, methods"),
        ("[sampling]\nsede = 1", "unknown field `sede` in sampling; known are acceptance"),
        ("[model]\ndrafts = [1]", "model.drafts[0] is a whole number; it must be a text"),
        ("repeats = 'three'", "repeats is a text; it must be a whole number"),
        ("methods = ['magic']", "--method is 'magic'"),
        ("methods = 'naive'", "methods is a text; it must be a list"),
        ("[sampling]\ntemperature = -1", "--temperature is -1"),
        ("[[methods]]\nname = 'draft'\n[methods.parameters]\ngama = 3", "draft has no parameter 'gama'"),
    ],
)
def test_bad_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(text)
    assert main(["--batch", str(plan), "--dry-run", "--seed", "1"], open_engine=no_engine) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_closed_standard_input_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main([], open_engine=no_engine) == ExitCode.USAGE
    assert "no terminal" in capsys.readouterr().err


def test_a_full_disk_is_not_called_a_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    def full(monitored: bool) -> Never:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert main(["--prompt", "x"], open_engine=full) == ExitCode.RUN_FAILED
    err = capsys.readouterr().err
    assert err == "specterm: error: the output cannot be written: No space left on device; make room there\n"


def test_a_bad_environment_value_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SPECTERM_TEMPERATURE", "warm")
    assert main(["--prompt", "x"], open_engine=no_engine) == ExitCode.USAGE
    assert "--temperature is 'warm'" in capsys.readouterr().err


def test_a_typed_value_beats_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPECTERM_METHOD", "naive")
    monkeypatch.setenv("SPECTERM_NUM_DRAFT_TOKENS", "7")  # of no use to naive, which is no error
    assert main(["--batch", "--dry-run"]) == 0
    assert "methods   naive\n" in capsys.readouterr().out
    assert main(["--batch", "--dry-run", "--method", "draft"]) == 0
    assert "methods   draft gamma 7\n" in capsys.readouterr().out
    assert main(["--batch", "--dry-run", "--method", "draft", "--num-draft-tokens", "2"]) == 0
    assert "methods   draft gamma 2\n" in capsys.readouterr().out


def test_a_missing_model_folder(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--prompt", "x", "--target", "./no-such-folder", "--draft", "builtin", "--no-monitor"]
    assert main(arguments) == ExitCode.UNAVAILABLE
    err = capsys.readouterr().err
    assert "no-such-folder" in err
    assert err.count("\n") == 1


def test_a_fault_of_ours_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(monitored: bool) -> Never:
        raise RuntimeError("broken\nin two lines")

    assert main(["--prompt", "x"], open_engine=broken) == ExitCode.RUN_FAILED
    err = capsys.readouterr().err
    assert err.startswith("specterm: error: RuntimeError: broken in two lines")
    assert err.count("\n") == 1
    monkeypatch.setenv("SPECTERM_DEBUG", "1")
    with pytest.raises(RuntimeError):
        main(["--prompt", "x"], open_engine=broken)


def run(*arguments: str, given: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, timeout=60, env=environment, input=given)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    done = run("-c", "import sys, specterm.cli; print(*sys.modules)")
    loaded = set(done.stdout.split())
    assert "specterm.config" in loaded
    assert not loaded & {"typer", "torch", "transformers", "textual", "numpy", "pynvml", "psutil", "rich"}


def test_the_module_runs_and_returns_its_code() -> None:
    done = run("-m", "specterm", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("specterm ")
    done = run("-m", "specterm")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "specterm: error: no terminal: use --prompt or --batch\n"


def test_pipes_carry_utf8_whatever_the_locale() -> None:
    plain = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("-m", "specterm", "--method", "é", "--prompt", "x", **plain)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--method is 'é'" in done.stderr
    done = run("-m", "specterm", "--prompt", "-", given=b"caf\xe9", **plain)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "specterm: error: standard input is not utf-8 text (byte 3)\n"


def test_an_engine_that_does_not_end_cannot_hold_or_abort_the_process() -> None:
    script = """
import atexit, sys, threading, time
from specterm import cli
threading.Thread(target=time.sleep, args=(60,), daemon=True, name="specterm-engine").start()
atexit.register(print, "the interpreter ended by itself")
sys.argv = ["specterm", "--version"]
sys.exit(cli.main())
"""
    done = run("-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("specterm ")
    assert "by itself" not in done.stdout


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from specterm.options import options

    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [option.flag for option in options().values() if option.flag not in out] == []
