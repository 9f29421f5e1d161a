"""Machine code that was compiled before, kept from one start to the next."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from specterm.locations import cache_folder

_MOST = 64
"""Files; those that were not read for longest go."""
_DIGEST = hashlib.sha256


class KeptCode:
    """The code of one module. What cannot be read or written is compiled anew, and nothing is said."""

    def __init__(self, *told: str) -> None:
        """told: all that the code depends on."""
        name = _DIGEST("\0".join(told).encode()).hexdigest()
        self._file = cache_folder() / "kernels" / f"{name}.o"

    def read(self) -> bytes | None:
        """The code, if it is there and whole: broken code would end the process."""
        try:
            found = self._file.read_bytes()
        except OSError:
            return None
        size = _DIGEST().digest_size
        digest, code = found[:size], found[size:]
        if _DIGEST(code).digest() != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(self._file)
        return code

    def write(self, code: bytes) -> None:
        """Keep it; another process that writes the same at the same time does no harm."""
        folder = self._file.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".new", delete=False) as file:
                file.write(_DIGEST(code).digest() + code)
            os.replace(file.name, self._file)
            for old in sorted(folder.glob("*.o"), key=_last_read, reverse=True)[_MOST:]:
                old.unlink()
        except OSError:
            return


def _last_read(file: Path) -> float:
    return file.stat().st_mtime
