"""Where the history lies."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """The user's data folder of specterm; SPECTERM_DATA_DIR names another. It is not made here."""
    named = os.environ.get("SPECTERM_DATA_DIR")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("specterm", appauthor=False)
