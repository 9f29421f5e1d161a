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
