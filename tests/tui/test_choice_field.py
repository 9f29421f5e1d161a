"""A parameter that is one of a few words is a list to choose from; relations between parameters show in the form."""

from textual.widgets import Input, Select, Static
from tui.screens import settle, workbench

from specterm.config import MethodSpec, RunSpec
from specterm.tui.widgets.parameter_field import ParameterField
from specterm.tui.widgets.settings import SettingsPanel


def field(panel: SettingsPanel, name: str) -> ParameterField:
    return next(field for field in panel.query(ParameterField) if field.parameter.name == name)


async def test_a_choice_is_a_list_and_reaches_the_spec() -> None:
    app = workbench(spec=RunSpec(method=MethodSpec(name="nasd")).checked())
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(pilot)
        panel = app.query_one(SettingsPanel)
        chooser = field(panel, "draft_memory").query_one(Select)
        assert chooser.value == "prompt"
        chooser.value = "session"
        await settle(pilot)
        assert panel.spec().method.parameters["draft_memory"] == "session"
        assert panel.spec().method.parameters["ngram_store"] is None
        assert panel.spec().method.name == "nasd"


async def test_values_that_do_not_go_together_are_told() -> None:
    app = workbench(spec=RunSpec(method=MethodSpec(name="nasd")).checked())
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(pilot)
        panel = app.query_one(SettingsPanel)
        field(panel, "ngram_store").query_one(Input).value = "learned.store"
        await settle(pilot)
        told = str(panel.query_one("#method-error", Static).render())
        assert "store file needs memory session; it is prompt" in told
        field(panel, "draft_memory").query_one(Select).value = "session"
        await settle(pilot)
        assert str(panel.query_one("#method-error", Static).render()) == ""
        assert panel.spec().method.parameters["ngram_store"] == "learned.store"
