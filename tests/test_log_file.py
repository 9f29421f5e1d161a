"""The log: private, bounded, one line an entry, and silent about prompts."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Never

import pytest

from specterm import log_file
from specterm.cli import main
from specterm.errors import ConfigError, ExitCode
from specterm.log_file import start_log, stop_log


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    stop_log()


def test_the_log_is_private_and_one_line_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "below" / "specterm.log"
    start_log(path, "info")
    logging.getLogger("specterm.engine").info("two\nlines \x1b[1m")
    logging.getLogger("specterm.engine").debug("unseen")
    text = path.read_text()
    assert text.endswith("INFO specterm.engine: two\\nlines \\x1b[1m\n")
    assert text.count("\n") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 2000)
    start_log(tmp_path / "specterm.log", "info")
    for number in range(300):
        logging.getLogger("specterm").info("entry %d", number)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 1 + log_file.OLDER_FILES
    assert max(sizes) <= 2000


def test_off_and_unwritable_places_make_no_log(tmp_path: Path) -> None:
    start_log(tmp_path / "specterm.log", "off")
    logging.getLogger("specterm").error("x")
    (tmp_path / "file").write_text("")
    start_log(tmp_path / "file" / "specterm.log", "debug")
    logging.getLogger("specterm").error("x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ConfigError, match="--log-level is 'loud'; it must be one of debug, info"):
        start_log(tmp_path / "specterm.log", "loud")


def test_faults_are_logged_and_prompts_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTERM_LOG_DIR", str(tmp_path))

    def broken(monitored: bool) -> Never:
        raise RuntimeError("broken")

    assert main(["--prompt", "my secret", "--log-level", "info"], open_engine=broken) == ExitCode.RUN_FAILED
    assert main(["--prompt", "my secret \udce9", "--log-level", "info"], open_engine=broken) == ExitCode.USAGE
    text = (tmp_path / "specterm.log").read_text()
    assert "ERROR specterm.cli: a fault of specterm\n    Traceback" in text
    assert "RuntimeError: broken" in text
    assert "secret" not in text
