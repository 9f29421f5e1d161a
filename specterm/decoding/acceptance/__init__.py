"""The rules that judge drafts, one file each; `RULES` maps the catalogue's names to what makes them from the parameters
that the catalogue gives them. Top-p and min-p are the exact rule on warps that the catalogue settles.
"""

from collections.abc import Callable

from specterm.decoding.acceptance.block import Block
from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.acceptance.tempered import Tempered
from specterm.decoding.acceptance.typical import Typical
from specterm.decoding.ports import Rule

RULES: dict[str, Callable[..., Rule]] = {
    "exact": Exact,
    "block": Block,
    "temperature": Tempered,
    "top-p": Exact,
    "min-p": Exact,
    "typical": Typical,
}
