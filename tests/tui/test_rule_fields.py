"""The form shows what the chosen rule takes, hides what it settles, and says whether it is lossless."""

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Select, Static

from specterm.config import RunSpec, SamplingSpec
from specterm.tui.widgets.parameter_field import ParameterField
from specterm.tui.widgets.settings import SettingsPanel


class Form(App[None]):
    def compose(self) -> ComposeResult:
        yield SettingsPanel(RunSpec(sampling=SamplingSpec(acceptance="typical").checked()))


@pytest.mark.parametrize(
    ("rule", "shown", "hidden", "mark"),
    [
        ("temperature", {"acceptance_temperature", "top_p"}, {"typical_delta"}, "✓ lossless"),
        ("min-p", {"min_p"}, {"top_p", "top_k", "typical_delta"}, "✓ lossless"),
        ("typical", {"typical_epsilon", "typical_delta", "top_p"}, {"acceptance_temperature"}, "✗ not lossless"),
    ],
)
async def test_the_form_follows_the_rule(rule: str, shown: set[str], hidden: set[str], mark: str) -> None:
    app = Form()
    async with app.run_test() as pilot:
        await pilot.pause()
        app.query_one("#acceptance", Select).value = rule
        await pilot.pause()
        names = {field.parameter.name for field in app.query_one("#sampling-fields").query(ParameterField)}
        assert shown <= names
        assert not hidden & names
        spec = app.query_one(SettingsPanel).spec()
        assert spec.sampling.acceptance == rule
        assert spec.sampling == SamplingSpec(acceptance=rule).checked()
        assert str(app.query_one("#lossless", Static).content).startswith(mark)
