"""What a CSV and an HTML report hold, and that nothing from outside is obeyed in them."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import pytest
from scripted_engine import ScriptedEngine, model_info

from specterm.bench.statistics import describe
from specterm.bench.trials import run_trials
from specterm.config import MethodSpec, PlanSpec, Request, SamplingSpec, plan_from
from specterm.events import Loaded
from specterm.metrics import METRICS
from specterm.report.csv_table import as_csv
from specterm.report.deploy import deployment
from specterm.report.document import Document, build_document
from specterm.report.html import as_html
from specterm.report.html.elements import element
from specterm.report.tables import models_table, workload

EVIL = "<script>alert('x')</script>&\u202e\x1b[31m"


def document(domain: str = "x", engine: ScriptedEngine | None = None, **changes: object) -> Document:
    plan = PlanSpec(**{"sampling": SamplingSpec(temperature=0.0), "repeats": 1, **changes}).checked()
    requests = (Request(prompt="a", prompt_id="a", domain=domain), Request(prompt="b", prompt_id=EVIL, domain="y"))
    return build_document(run_trials(engine or ScriptedEngine(), plan, requests, lambda _: None))


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.blocks: dict[str, list[str]] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.blocks.setdefault(self.open[-1], []).append(data)


def rows(made: Document) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(made))))


def test_csv_has_a_row_a_setting_and_domain() -> None:
    found = rows(document())
    places = [(row["configuration"], row["domain"], row["runs"]) for row in found]
    assert places == [
        ("naive", "", "2"), ("naive", "x", "1"), ("naive", "y", "1"),
        ("draft gamma 4", "", "2"), ("draft gamma 4", "x", "1"), ("draft gamma 4", "y", "1"),
    ]  # fmt: skip
    draft = found[3]
    assert float(draft["throughput_tok_s [1/s]"]) == pytest.approx(8 / 0.9)
    assert float(draft["speedup [1]"]) == pytest.approx(4 / 3)
    assert [float(draft[f"speedup{bound} [1]"]) for bound in (" low", " high")] == pytest.approx([4 / 3, 4 / 3])
    assert draft["energy_j [J]"] == ""  # not measured
    assert found[0]["draft_acceptance_rate [1]"] == ""
    for row, matched in ((draft, "2"), (found[4], "1"), (found[5], "1")):  # over all prompts, and by domain
        rates = [row[f"per_position_acceptance {position} [1]"] for position in range(1, 5)]
        assert rates == ["1.0", "0.5", "0.5", "0.5"]
        assert row["matches_naive identical"] == matched
    assert "per_position_acceptance 5 [1]" not in draft
    assert found[0]["per_position_acceptance 1 [1]"] == found[0]["matches_naive identical"] == ""
    assert draft["lossless"] == "true"


def test_every_figure_is_in_the_csv_with_its_unit() -> None:
    heads = {head.split(" [")[0].removesuffix(" 1"): head.partition(" [")[2] for head in rows(document())[0]}
    for name in METRICS:
        if name != "per_drafter_acceptance":
            assert name in heads
            assert name == "energy_source" or heads[name] in ("s]", "1/s]", "J]", "W]", "°C]", "1]")
    assert heads["ttft_s"] == heads["ttft_s low"] == heads["wait_time_s high"] == "s]"


def test_a_spreadsheet_computes_nothing_from_outside() -> None:
    found = {row["domain"] for row in rows(document(domain='=HYPERLINK("x")'))}
    assert found == {"", '\'=HYPERLINK("x")', "y"}


def test_the_page_needs_nothing_from_elsewhere_and_obeys_nothing_from_outside() -> None:
    text = as_html(document(domain=EVIL, engine=ScriptedEngine({"naive": (1, 2), "draft": (1, 3)})))
    page = Page(text)
    assert page.names.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert {name for name, _ in page.attributes}.isdisjoint({"src", "href", "onload", "onclick"})
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search("[\u202e\x1b]", text)
    told = "<script>alert('x')</script>&\ufffd\ufffd[31m"
    assert f"draft gamma 4, {told}, repeat 1: the output differs from naive's" in page.blocks["li"]
    assert told in page.blocks["h3"]


def test_the_verdict_comes_first() -> None:
    page = Page(as_html(document()))
    assert (
        page.blocks["p"][0] == "Deploy draft gamma 4: 1.33x (1.33 to 1.33) as fast as naive decoding, output identical."
    )
    assert page.blocks["summary"] == ["vLLM", "transformers"]


def test_the_page_draws_what_was_measured_alone() -> None:
    """Without naive there is no speedup to draw, without drafts no acceptance; nothing at all is a page, too."""
    titles = Page(as_html(document(methods=(MethodSpec(name="draft"),)))).blocks["h2"]
    assert "Speedup" not in titles
    assert "Acceptance by position" in titles
    assert "Acceptance by position" not in Page(as_html(document(methods=(MethodSpec(name="naive"),)))).blocks["h2"]
    empty = Page(as_html(document(engine=ScriptedEngine(interrupt_at=0))))
    assert empty.blocks["h1"] == ["specterm report (incomplete)"]
    assert {"Speedup", "Time"}.isdisjoint(empty.blocks["h2"])


def test_the_plan_on_the_page_is_the_one_that_ran() -> None:
    made = document(methods=(MethodSpec(name="naive"), MethodSpec(name="draft", parameters={"num_draft_tokens": 3})))
    plan = next(block for block in Page(as_html(made)).blocks["pre"] if "[model]" in block)
    assert plan_from(tomllib.loads(plan), "page").checked() == msgspec.convert(made.spec, PlanSpec)


def test_energy_and_output_stand_in_the_verdict() -> None:
    made = document()
    naive, draft = (
        msgspec.structs.replace(entry, figures={**entry.figures, "joules_per_token": describe([joules, joules])})
        for entry, joules in zip(made.summary, (2.0, 1.25), strict=True)
    )
    draft = msgspec.structs.replace(draft, matches_naive={"identical": 1, "near_tie": 1})
    verdict = deployment(msgspec.convert(made.spec, PlanSpec), [naive, draft]).verdict
    assert verdict.endswith("naive decoding, 38 % less energy a token, output identical but for 1 of 2, near ties")


def test_markup_is_escaped_unless_it_was_made() -> None:
    assert element("p", ("<b>", element("i", "a & b")), title='"') == '<p title="&quot;">&lt;b&gt;<i>a &amp; b</i></p>'


def test_a_number_format_that_was_measured_stands_with_its_figures() -> None:
    chosen = replace(model_info("a", "bfloat16"), format_s={"float32": 0.0005, "bfloat16": 0.0003})
    rows = models_table(Loaded(0.1, chosen, (model_info("b"),), None)).rows
    assert [row[3] for row in rows] == [
        "bfloat16 (ms of a few passes through a layer: float32 0.50, bfloat16 0.30)",
        "float32",
    ]


def test_a_conversation_is_told_with_the_workload() -> None:
    told = [workload(document(**chat).spec)[0] for chat in ({}, {"chat": True}, {"chat": True, "system": "Be kind."})]
    assert [text.partition("prompts from ")[2] for text in told] == [
        "builtin", "builtin as turns", "builtin as turns after a system prompt"
    ]  # fmt: skip
