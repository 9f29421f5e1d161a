"""What a result says, in words: for every surface that shows one."""

from __future__ import annotations

from specterm.verify.result import CheckResult

_WORDS = {
    "identical": "identical",
    "near_tie": "near tie",
    "same_law": "same law",
    "different": "DIFFERENT",
    "measured": "measured",
    "not_tested": "not tested",
}
_CHECKS = {"greedy": "greedy", "seeds": "same seeds", "law": "law", "distance": "distance"}


def result_word(result: CheckResult) -> str:
    """The result itself."""
    return _WORDS[result.result]


def result_line(result: CheckResult) -> str:
    """One line: what was tried, what came of it, and what it stands on."""
    subject = f"{result.method} / {', '.join(result.acceptance)}"
    parts = [f"{result_word(result):<10}  {_CHECKS[result.check]:<10}  {subject}"]
    if result.drafted is not None:
        parts.append(f"drafted {result.drafted}, accepted {result.accepted}, rejected {result.rejected}")
    if result.statistic is not None and result.critical is not None:
        parts.append(
            f"chi-square {result.statistic:.1f} of at most {result.critical:.1f} ({result.freedom} degrees of freedom, "
            f"{result.rows} rows)"
        )
    if result.total_variation is not None and result.chance_variation is not None:
        parts.append(f"total variation {result.total_variation:.4f} (chance alone {result.chance_variation:.4f})")
    if result.log_probability_change is not None and result.log_probability_error is not None:
        change, error = result.log_probability_change, result.log_probability_error
        parts.append(f"mean log-probability {change:+.4f} +- {error:.4f} against naive")
    if result.difference is not None:
        place = result.difference
        gap = "" if place.gap is None else f", gap {place.gap:.3g}"
        parts.append(
            f"{place.prompt_id}, token {place.position}: {place.found} {place.found_text!r} where naive has "
            f"{place.expected} {place.expected_text!r}{gap}"
        )
    if result.note:
        parts.append(result.note)
    return "; ".join(parts)
