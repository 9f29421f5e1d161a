"""The rules that judge drafts, one file each; `RULES` maps the catalogue's names to them."""

from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.ports import Rule

RULES: dict[str, type[Rule]] = {"exact": Exact}
