"""Errors that people read: one line that says what was wrong, with its value, and what to do about it.

Each carries the exit code of the command line, so that no layer above has to guess.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130


class SpectermError(Exception):
    """The base of every error that a person is meant to read; its text is one line."""

    exit_code = ExitCode.RUN_FAILED


class ConfigError(SpectermError, ValueError):
    """Bad input: an option, a file or a value that cannot be used."""

    exit_code = ExitCode.USAGE


class ModelError(SpectermError):
    """A model that is missing, unreadable or does not fit the others."""

    exit_code = ExitCode.UNAVAILABLE


class DeviceError(SpectermError):
    """A device that does not exist, is not supported or ran out of memory."""

    exit_code = ExitCode.UNAVAILABLE


class Cancelled(Exception):  # noqa: N818  (no error: nothing went wrong)
    """A person gave up; whatever was going on ends without a result."""


def failure(text: str | None, exit_code: int) -> SpectermError:
    """The error that ended a job, from what its last event says."""
    kinds: dict[int, type[SpectermError]] = {ExitCode.USAGE: ConfigError, ExitCode.UNAVAILABLE: ModelError}
    return kinds.get(exit_code, SpectermError)(text or "the run failed without saying why")


def one_line(error: BaseException) -> str:
    """The first line of what a library says, or its name where it says nothing."""
    return next((line.strip(" :") for line in str(error).splitlines() if line.strip(" :")), type(error).__name__)
