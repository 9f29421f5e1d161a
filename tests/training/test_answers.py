"""Text in the target's own words, for drafts and heads to learn from."""

import pytest

from specterm.api import Workbench
from specterm.training.__main__ import main
from specterm.training.corpus import read_documents

BEGINNINGS = ["Once upon a time, there was a", "def read(path):\n    with open(path) as"]


@pytest.fixture
def command(tmp_path):
    (tmp_path / "text.txt").write_text("<|endoftext|>\n".join(BEGINNINGS))
    return ["answers", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "answers.txt")]


def test_the_target_goes_on_from_the_beginnings_of_documents(command, tmp_path, capsys):
    short = ["--minutes", "0.0001", "--max-tokens", "6"]
    assert main([*command, *short]) == 0
    answers = read_documents(tmp_path / "answers.txt")
    assert len(answers) == 64
    assert {beginning for beginning in BEGINNINGS for own in answers if own.startswith(beginning)} == set(BEGINNINGS)
    with Workbench() as workbench:  # the first of a run are greedy
        wanted = [row.text for row in workbench.run(BEGINNINGS, "naive", temperature=0.0, max_tokens=6)]
    wholes = [beginning + text for beginning, text in zip(BEGINNINGS, wanted, strict=True)]
    assert set(wholes) <= set(answers)

    assert main([*command, *short, "--seed", "0"]) == 0  # more of them, not the same again
    more = read_documents(tmp_path / "answers.txt")
    assert len(more) == 128
    assert more[:64] == answers
    assert "128 answers" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--minutes", "--max-tokens", "--batch-size"])
def test_a_bad_value_is_refused(command, capsys, option):
    assert main([*command, option, "0"]) == 2
    assert f"{option} is 0" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_not_gone_on_with(command, tmp_path, capsys):
    (tmp_path / "answers.txt").write_bytes(b"\xff\xfe\x80")
    assert main(command) == 2
    assert "answers.txt cannot be gone on with" in capsys.readouterr().err
