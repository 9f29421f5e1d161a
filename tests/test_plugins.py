"""Drafters from outside the package: README's example everywhere a method can be named, and what can be wrong."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
from textual.widgets import Select
from tui.screens import settle, workbench

from specterm import Workbench, catalogue
from specterm.catalogue import METHODS, plugins
from specterm.cli import main
from specterm.config import MethodSpec, RunSpec
from specterm.doctor.report import Line
from specterm.doctor.software import software_lines
from specterm.errors import ConfigError, ExitCode
from specterm.tui.widgets.parameter_field import ParameterField

README = Path(__file__).parents[1] / "README.md"
TEXT = "The cat sat. The cat ran. The cat sat. The cat"


@pytest.fixture(autouse=True)
def forgotten():
    """What a test loads goes with it."""
    kept = dict(METHODS), set(sys.modules)
    yield
    METHODS.clear()
    METHODS.update(kept[0])
    plugins.PLUGINS.clear()
    plugins.BROKEN.clear()
    plugins.discover.cache_clear()
    for name in set(sys.modules) - kept[1]:
        if name.startswith("specterm_plugin_"):
            del sys.modules[name]


@pytest.fixture
def example(tmp_path, monkeypatch):
    """README's example in a file of the working folder."""
    section = README.read_text(encoding="utf-8").split("## Your own drafter\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert "method echo.py:ECHO" in section
    (tmp_path / "echo.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_runs_from_the_command_line(example, capsys) -> None:
    arguments = ["--prompt", TEXT, "--method", "naive,echo.py:ECHO", "--echo-tokens", "3", "--max-tokens", "40"]
    for sampling in (["--temperature", "0"], ["--temperature", "0.7", "--top-p", "0.9"]):
        assert main([*arguments, *sampling, "--json", "--no-monitor", "--dtype", "float32"]) == ExitCode.OK
        naive, echo = json.loads(capsys.readouterr().out)["runs"]
        assert (echo["method"], echo["configuration"], echo["lossless"]) == ("echo.py:ECHO", "echo echo-tokens 3", True)
        assert (echo["matches_naive"], echo["token_ids"]) == ("identical", naive["token_ids"])
        metrics = echo["metrics"]
        assert 0 < metrics["accepted"] < metrics["drafted"] <= 3 * metrics["rounds"]
        assert metrics["rejected"] > 0


def test_its_options_are_in_the_help(example, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--method", "echo.py:ECHO", "--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "--echo-tokens" in out
    assert "Draft tokens a round. (echo) (default: 4)" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--echo-tokens", "33"], "--echo-tokens is 33; it must be a whole number from 1 to 32"),
        (["--num-draft-tokens", "3"], "--num-draft-tokens does not go with --method echo.py:ECHO"),
        (["--method=echo.py:ECO"], "echo.py has no ECO; it has ECHO"),
        (["--method", "other.py:ECHO"], "there is no file other.py"),
        (["--method", "no.module:ECHO"], "there is no module no; install it, or name its file: FILE.py:NAME"),
        (["--method", "echo.py:"], "--method is 'echo.py:'; a drafter of your own is named FILE.py:NAME"),
        (["--method", "echo.py"], "--method is 'echo.py'; it must be one of naive"),
        (["--method", "json:dumps"], "is of type function; it must be a specterm.plugins.Plugin"),
    ],
)
def test_bad_names_and_values_are_one_line(example, capsys, arguments, said) -> None:
    assert main(["--prompt", "x", "--method", "echo.py:ECHO", *arguments]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_plan_names_it(example, capsys) -> None:
    (example / "plan.toml").write_text(
        'methods = ["naive", "echo.py:ECHO", { name = "echo.py:ECHO", parameters = { echo_tokens = 6 } }]\n'
        "num_prompts = 2\nrepeats = 1\nwarmup = 0\n[model]\ndtype = 'float32'\n[sampling]\nmax_tokens = 96\n"
    )
    assert main(["--batch", "plan.toml", "--batch-size", "2", "--out", "out", "--no-monitor"]) == ExitCode.OK
    document = json.loads((example / "out" / "report.json").read_text())
    assert [entry["configuration"] for entry in document["summary"]] == ["naive", "echo", "echo echo-tokens 6"]
    assert [entry["matches_naive"] for entry in document["summary"][1:]] == [{"identical": 2}] * 2
    assert {run["method"] for run in document["runs"]} == {"naive", "echo.py:ECHO"}
    assert sum(run["metrics"]["accepted"] for run in document["runs"]) > 0
    assert document["spec"]["methods"][2] == {"name": "echo.py:ECHO", "parameters": {"echo_tokens": 6}}


def test_it_runs_from_python(example) -> None:
    with Workbench(dtype="float32") as bench:
        echo, naive = (
            bench.run(TEXT, method=name, temperature=0, max_tokens=24)[0] for name in ("echo.py:ECHO", "naive")
        )
    assert echo.token_ids == naive.token_ids
    assert echo.metrics["accepted"] > 0


def test_the_screen_lists_it_with_its_fields(example) -> None:
    spec = RunSpec(method=MethodSpec(name="echo.py:ECHO", parameters={"echo_tokens": 5})).checked()

    async def seen() -> tuple[str, list[tuple[str, str]]]:
        app = workbench(spec=spec)
        async with app.run_test(size=(120, 40)) as pilot:
            await settle(pilot)
            fields = app.query("#method-fields ParameterField").results(ParameterField)
            return str(app.query_one("#method", Select).value), [(f.parameter.title, f.text) for f in fields]

    assert asyncio.run(seen()) == ("echo.py:ECHO", [("echo tokens", "5")])


def plugin(name: str = "mine", parameters: str = "", build: str = "print", more: str = "") -> str:
    return (
        "from specterm.plugins import Method, Parameter, Plugin\n"
        f"MINE = Plugin(Method({name!r}, 'Mine', 'Mine.', ({parameters}){more}), build={build})\n"
    )


SOME = "Parameter('some', 'int', 1, 'Some.'"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = ", "cannot be imported: SyntaxError: invalid syntax"),
        ("import nowhere", "cannot be imported: ModuleNotFoundError: No module named 'nowhere' (mine.py:1)"),
        ("\n\n1 / 0", "cannot be imported: ZeroDivisionError: division by zero (mine.py:3)"),
        ("open('gone.txt')", "FileNotFoundError: [Errno 2] No such file or directory: 'gone.txt' (mine.py:1)"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3 (mine.py:1)"),
        ("MINE = 3", "is of type int; it must be a specterm.plugins.Plugin"),
        ("", "mine.py has no MINE; add MINE = specterm.plugins.Plugin(...)"),
        (plugin(build="3"), "a Plugin has a Method and a callable that builds its drafter"),
        (plugin("draft"), "calls its method 'draft', as another method is called; choose another name"),
        (plugin("a,b"), "calls its method 'a,b'; use letters"),
        (plugin(more=", heads='horns'"), "needs heads of the kind 'horns'; there are medusa"),
        (plugin(parameters="3,"), "has the parameter 3; give Parameter objects"),
        (plugin(parameters=f"{SOME}), {SOME}),"), "has two parameters 'some'"),
        (plugin(parameters=f"{SOME}, minimum=2),"), "the default of 'some' is bad: --some is 1"),
        (plugin(parameters=f"{SOME}, at_most='many'),"), "its parameter 'some' refers to 'many', which it has not"),
        (plugin(parameters="Parameter('tree_width', 'bool', True, 'Wide.'),"), "'tree_width' of kind bool, and other"),
        (
            plugin(parameters="Parameter('prompt', 'text', '', 'Own.', optional=True),"),
            "'prompt', and --prompt is anot",
        ),
        (plugin(parameters="Parameter('seed', 'int', 1, 'Own.'),"), "'seed', and --seed is another option"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(tmp_path, capsys, code, said) -> None:
    (tmp_path / "mine.py").write_text(code)
    assert main(["--prompt", "x", "--method", f"{tmp_path}/mine.py:MINE"]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert "mine" in err


class Package:
    name = "their-package"


def offer(monkeypatch, found: object, name: str = "mine") -> None:
    """An installed package with one entry point."""

    class Point(importlib.metadata.EntryPoint):
        dist = Package()

        def load(self):
            if isinstance(found, Exception):
                raise found
            return found

    points = (Point(name, "their.module:MINE", plugins.GROUP),)
    asked = lambda *, group: points if group == plugins.GROUP else ()  # noqa: E731
    monkeypatch.setattr(importlib.metadata, "entry_points", asked)
    plugins.discover.cache_clear()


def test_an_installed_package_offers_a_method(monkeypatch, capsys) -> None:
    parameter = catalogue.Parameter("their_tokens", "int", 2, "Theirs.")
    offer(monkeypatch, plugins.Plugin(catalogue.Method("mine", "Mine", "Mine.", (parameter,)), build=print))
    assert MethodSpec(name="mine").checked().parameters == {"their_tokens": 2}
    assert main(["--batch", "--dry-run", "--method", "naive,mine", "--their-tokens", "3"]) == ExitCode.OK
    assert "naive; mine their-tokens 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (ImportError("no torch"), "the drafter 'mine' of their-package cannot be imported: ImportError: no torch"),
        (3, "the drafter 'mine' of their-package is of type int"),
        (plugins.Plugin(catalogue.Method("other", "", ""), build=print), "calls its method 'other'; give entry point"),
    ],
)
def test_a_broken_package_hurts_only_those_who_ask_for_it(monkeypatch, found, said) -> None:
    offer(monkeypatch, found)
    assert main(["--batch", "--dry-run", "--method", "naive"]) == ExitCode.OK
    with pytest.raises(ConfigError, match=re.escape(said)):
        MethodSpec(name="mine").checked()
    with pytest.raises(ConfigError, match="--method is 'magic'"):
        MethodSpec(name="magic").checked()


@pytest.mark.parametrize(("found", "state"), [(3, "note"), (None, "ok")])
def test_the_doctor_tells_what_packages_offer(monkeypatch, found, state) -> None:
    offer(monkeypatch, found or plugins.Plugin(catalogue.Method("mine", "Mine", "Mine."), build=print))
    monkeypatch.setattr("specterm.doctor.software._bitsandbytes", lambda: Line("bitsandbytes", "ok", "left out"))
    (line,) = [line for line in software_lines() if line.name == "drafter mine"]
    assert line.status == state
    assert "Mine" in line.text if state == "ok" else "is of type int" in line.text


def test_a_package_cannot_replace_a_method(monkeypatch) -> None:
    own = METHODS["ngram"]
    offer(monkeypatch, plugins.Plugin(catalogue.Method("ngram", "Mine", "Mine."), build=print), "ngram")
    plugins.discover()
    assert METHODS["ngram"] is own
    assert "as another method is called" in str(plugins.BROKEN["ngram"])


def test_the_public_names_are_there() -> None:
    import specterm.plugins

    assert all(getattr(specterm.plugins, name) is not None for name in specterm.plugins.__all__)
    assert not hasattr(specterm.plugins, "nothing")
