"""All devices of this machine as one thing to read: the GPUs that CUDA may use, then the processor."""

from __future__ import annotations

from collections.abc import Sequence

from specterm.events import DeviceReading
from specterm.telemetry.host import HostSource
from specterm.telemetry.nvml import NvmlSource
from specterm.telemetry.source import Source


class Devices:
    """Readings of several sources, in their order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    @classmethod
    def open(cls) -> Devices:
        """The devices of this machine. Loads NVML and psutil, which takes up to a second where there is a GPU."""
        return cls((NvmlSource(), HostSource()))

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading of each device: "gpu:0", "gpu:1", ..., then "cpu"."""
        return tuple(reading for source in self._sources for reading in source.read())

    def close(self) -> None:
        """Close every source."""
        for source in self._sources:
            source.close()
