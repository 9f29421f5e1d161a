"""RAPL counters in a fake sysfs tree: wraps, several packages, no permission, nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from specterm.telemetry.rapl import Rapl


def zone(root: Path, number: str, name: str, energy: int, maximum: int | None = 1_000_000_000) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    if maximum is not None:
        (folder / "max_energy_range_uj").write_text(f"{maximum}\n")
    return folder


def test_packages_are_summed_without_their_parts_or_the_board(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 5_000_000)
    zone(tmp_path, "1", "package-1", 7_000_000)
    zone(tmp_path, "0:0", "core", 900_000_000)
    zone(tmp_path, "2", "psys", 900_000_000)
    (tmp_path / "intel-rapl").mkdir()
    rapl = Rapl(tmp_path)
    assert rapl.missing is None
    assert rapl.packages == 2
    assert rapl.energy_j() == 12.0


def test_a_counter_that_wraps_goes_on_growing(tmp_path: Path) -> None:
    folder = zone(tmp_path, "0", "package-0", 90_000_000, maximum=100_000_000)
    rapl = Rapl(tmp_path)
    seen = []
    for value in (95_000_000, 5_000_000, 99_000_000, 1_000_000):
        (folder / "energy_uj").write_text(str(value))
        seen.append(rapl.energy_j())
    assert seen == [95.0, 105.0, 199.0, 201.0]


def test_a_wrap_of_unknown_range_is_not_guessed(tmp_path: Path) -> None:
    folder = zone(tmp_path, "0", "package-0", 90_000_000, maximum=None)
    rapl = Rapl(tmp_path)
    assert rapl.energy_j() == 90.0
    (folder / "energy_uj").write_text("5")
    assert rapl.energy_j() is None


def test_a_package_that_vanishes_makes_the_sum_unknown(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 5_000_000)
    gone = zone(tmp_path, "1", "package-1", 5_000_000)
    rapl = Rapl(tmp_path)
    (gone / "energy_uj").unlink()
    assert rapl.energy_j() is None


def test_no_permission_is_told_apart_from_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = zone(tmp_path, "0", "package-0", 5) / "energy_uj"
    read_text = Path.read_text

    def refuse(path: Path, *args: object, **kwargs: object) -> str:
        if path == denied:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", refuse)  # a mode of 0400 would not stop root
    rapl = Rapl(tmp_path)
    assert rapl.energy_j() is None
    assert rapl.missing is not None
    assert "root only" in rapl.missing.reason
    assert "chmod" in rapl.missing.advice


@pytest.mark.parametrize("made", [False, True])
def test_absent_is_said(tmp_path: Path, made: bool) -> None:
    root = tmp_path / "powercap"
    if made:
        root.mkdir()
    rapl = Rapl(root)
    assert rapl.energy_j() is None
    assert rapl.missing is not None
    assert "no RAPL" in rapl.missing.reason
