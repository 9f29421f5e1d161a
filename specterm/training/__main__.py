"""`python -m specterm.training COMMAND`: train the parts of a model family, and measure them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from specterm.errors import SpectermError
from specterm.training import acceptance, answers, card, draft, evaluation, family, heads, target

_COMMANDS = {
    "family": family,
    "target": target,
    "draft": draft,
    "answers": answers,
    "heads": heads,
    "evaluate": evaluation,
    "acceptance": acceptance,
    "card": card,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m specterm.training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        command = commands.add_parser(name, help=module.__doc__, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except SpectermError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
