"""What every test may use: comparison with a stored snapshot."""

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write the snapshots instead of comparing")


@pytest.fixture
def matches_snapshot(request: pytest.FixtureRequest) -> Callable[[str, Path], None]:
    """Asserts that a text equals the one in a file; with --update-snapshots it writes the file instead."""
    update = bool(request.config.getoption("--update-snapshots"))

    def compare(text: str, path: Path) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.is_file(), f"{path.name} does not exist; write it with --update-snapshots"
        if text != path.read_text(encoding="utf-8"):
            new = path.with_suffix(".new" + path.suffix)
            new.write_text(text, encoding="utf-8")
            pytest.fail(f"the screen differs from {path.name}; see {new}, or accept it with --update-snapshots")

    return compare
