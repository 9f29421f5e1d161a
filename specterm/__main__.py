"""The program: `specterm`, or `python -m specterm`.

Until the command line can answer Ctrl-C with a line of its own, it ends the process without a word: half of an import
is nothing to show.
"""

import signal
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from specterm.cli import main as command_line

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return command_line()


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

if __name__ == "__main__":
    sys.exit(main())
