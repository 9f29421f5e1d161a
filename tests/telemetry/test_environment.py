"""The environment in reports: true, plain, and without secrets."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from specterm.telemetry.environment import environment


def test_versions_are_the_installed_ones() -> None:
    found = environment()
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["python"].endswith(platform.python_version())
    assert found["cpu_threads"] >= 1
    assert found["memory_bytes"] > 1 << 28
    json.dumps(found)


def test_only_allowed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = environment()
    assert found["variables"]["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in found["variables"]
    told = json.dumps(found)
    assert "hf_very_secret" not in told
    assert f"{Path.home()}/" not in told
    assert platform.node() == "" or f'"{platform.node()}"' not in told


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from specterm.telemetry.environment import environment; environment(); "
        "print([m for m in ('torch', 'transformers', 'textual') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
