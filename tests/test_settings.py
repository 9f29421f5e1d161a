"""The configuration file: every option of the help, read strictly, below the environment and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from specterm.cli import main
from specterm.errors import ConfigError, ExitCode
from specterm.options import options
from specterm.settings import read_settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("SPECTERM_CONFIG", str(path))
    monkeypatch.setenv("SPECTERM_STATE_DIR", str(tmp_path / "state"))
    return path


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["--batch", "--dry-run", *arguments]) == ExitCode.OK
    return capsys.readouterr().out


def test_command_line_over_environment_over_file_over_default(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "at most 100 tokens" in dry_run(capsys)
    config.write_text('max-tokens = 12\nmethod = "naive,draft,tree"\nno-monitor = true\nprompts = ["code"]\n')
    out = dry_run(capsys)
    assert "at most 12 tokens" in out
    assert "tree" in out
    assert "from code" in out
    monkeypatch.setenv("SPECTERM_MAX_TOKENS", "13")
    assert "at most 13 tokens" in dry_run(capsys)
    assert "at most 14 tokens" in dry_run(capsys, "--max-tokens", "14")


def test_a_plan_beats_the_file(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("max_tokens = 12\nrepeats = 7\n")
    plan = tmp_path / "plan.toml"
    plan.write_text("repeats = 2\n[sampling]\nseed = 1\n")
    out = dry_run(capsys, str(plan))
    assert "repeats   2," in out
    assert "at most 12 tokens" in out


BAD = {
    "temperature = 'warm'": "temperature is 'warm'; it must be a number from 0",
    "no-monitor = 'yes'": "no-monitor is 'yes'; it must be true or false",
    "num_draft_tokens = 0": "num_draft_tokens is 0; it must be a whole number",
    "seed = true": "seed is True; it must be a whole number",
    "stop = 3": "stop is 3; it must be a list of texts",
    "target = 3": "target is 3; it must be a text",
    "dtype = 'int3'": "dtype is 'int3'; it must be one of auto, float32",
    "acceptance = 'hope'": "acceptance is 'hope'; it must be one of exact",
    "engine = 'steam'": "engine is 'steam'; it must be one of local",
    "method = 'magic'": "method is 'magic'; it must be one of naive",
    "repeats = 0": "repeats is 0; it must be at least 1",
    "prompt = 'x'": "prompt is a command; give --prompt on the command line",
    "tempersture = 1": "tempersture is unknown; it must be an option of specterm --help",
    "top-p = 0.5\ntop_p = 0.4": "stands there twice",
    "theme = 3": "theme is 3; it must be the name of a theme",
    "keymap = 'x'": "keymap is 'x'; it must be a table",
    "[keymap]\napp.quit = 'x'": "quote an id that has a dot",
    "[keymap]\n'app.quit' = ','": "it must be keys with commas",
    "temperature = ": "is not valid TOML",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_named_and_the_rest_counts(
    text: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(text + "\n" if "[keymap]" in text else text + "\nmin-p = 0.25\n")
    found = read_settings(config)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"the configuration {config}")
    assert BAD[text] in found.problems[0]
    if "valid TOML" not in BAD[text] and "[keymap]" not in text:
        assert found.options["min_p"] == "0.25"
    assert main(["--prompt", "x"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert err == f"specterm: error: {found.problems[0]}\n"
    assert main(["--version"]) == ExitCode.OK


def test_a_target_alone_is_no_problem(config: Path) -> None:
    config.write_text('target = "some/model"\n')
    assert read_settings(config).problems == ()


def test_the_help_names_the_variable_of_every_option(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    missing = [o.name for o in options().values() if o.variable and f"[env var: {o.variable}]" not in out]
    assert missing == []
    assert "SPECTERM_PROMPT]" not in out


def test_paths_say_where_everything_lies(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--paths"]) == 0
    out = capsys.readouterr().out
    assert f"config  {config}\n" in out
    assert f"state   {config.parent / 'state'}\n" in out
    assert [line.split()[0] for line in out.splitlines()] == [
        "config",
        "themes",
        "prompts",
        "data",
        "state",
        "log",
        "cache",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", shell]) == 0
    out = capsys.readouterr().out
    assert "_SPECTERM_COMPLETE" in out
    assert f"complete_{shell}" in out


def test_an_unknown_shell_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "cmd"]) == ExitCode.USAGE
    assert "--completion is 'cmd'; it must be one of bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "offered"), [("specterm --method e", "eagle"), ("specterm --temp", "--temperature")])
def test_the_parser_answers_a_shell_that_asks(
    words: str, offered: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_SPECTERM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert offered in capsys.readouterr().out.split()


def test_refuse_problems_raises_the_first(config: Path) -> None:
    config.write_text("no = 1\n")
    with pytest.raises(ConfigError, match="no is unknown"):
        read_settings(config).refuse_problems()


@pytest.mark.parametrize("value", ["0", '"many"', "1.5"])
def test_a_bad_limit_of_the_history_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text("history-limit = 50\n")
    assert read_settings(path).options == {"history_limit": "50"}
    path.write_text(f"history-limit = {value}\n")
    (problem,) = read_settings(path).problems
    assert "history-limit" in problem
    assert "it must be a whole number from 1 to" in problem
