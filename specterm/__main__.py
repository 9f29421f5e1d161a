"""The program: `specterm`, or `python -m specterm`.

Until the command line can answer Ctrl-C with a line of its own, it ends the process without a word: half of an import
is nothing to show. Only while the interpreter itself starts, before this file is read, is it Python that answers.
"""

# What `signal` is made of: its enums take as long to import as everything before them.
import _signal  # type: ignore[import-not-found]
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from specterm.cli import main as command_line

    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    return command_line()


if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

if __name__ == "__main__":
    sys.exit(main())
