"""The first frame needs no torch."""

import subprocess
import sys

FORBIDDEN = ("torch", "transformers", "pynvml", "sqlite3", "specterm.decoding", "specterm.models")


def test_importing_the_workbench_imports_no_torch_and_no_model_library() -> None:
    code = f"import sys, specterm.tui.app; print([name for name in {FORBIDDEN} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
