"""What every test may use: comparison with a stored snapshot."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from specterm.log_file import stop_log

# Tiny models gain nothing from more threads, and busy machines lose much; to be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What the person at this machine has configured is not what is tested.
os.environ["SPECTERM_CONFIG"] = os.devnull
os.environ["SPECTERM_LOG_LEVEL"] = "off"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write the snapshots instead of comparing")


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look at it again after every app that a test makes."""
    gc.collect()
    gc.freeze()
    gc.disable()


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """The collector works once a file, not a hundred times while an app is mounted: a quarter of such tests' time."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def no_log_left() -> Iterator[None]:
    """A command that a test runs in this process starts a log; the next test finds none."""
    yield
    stop_log()


@pytest.fixture
def matches_snapshot(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, Path], None]:
    """Asserts that a text equals the one in a file; with --update-snapshots it writes the file instead."""
    update = bool(request.config.getoption("--update-snapshots"))

    def compare(text: str, path: Path) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.is_file(), f"{path.name} does not exist; write it with --update-snapshots"
        if text != path.read_text(encoding="utf-8"):
            new = tmp_path / path.name
            new.write_text(text, encoding="utf-8")
            pytest.fail(f"the screen differs from {path.name}; see {new}, or accept it with --update-snapshots")

    return compare
