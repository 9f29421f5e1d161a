"""The shipped themes are whole, and the states of a token stay apart in each, also with few colours or none."""

import tomllib
from itertools import combinations
from pathlib import Path

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style
from textual.color import Color
from textual.pilot import Pilot
from tui.screens import settle, workbench

from specterm.errors import ConfigError
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.widgets.legend import Legend
from specterm.tui.widgets.token_log import COMPONENT
from specterm.tui.widgets.token_store import State

FILES = sorted(themes.shipped_folder().glob("*.toml"))
NAMES = [tomllib.loads(path.read_text())["name"] for path in FILES]
STATES = (State.PLAIN, State.ACCEPTED, State.CORRECTION, State.BONUS, State.REJECTED, State.DRAFT)


def contrast(one: Color, other: Color) -> float:
    """WCAG's contrast ratio, 1 to 21."""

    def luminance(color: Color) -> float:
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in color.normalized]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_eight_themes_ship() -> None:
    dark_and_light = {"dark", "light", "solarized-dark", "solarized-light"}
    assert set(NAMES) == dark_and_light | {"high-contrast", "colour-blind-safe", "monochrome", "warm"}


def test_the_monochrome_theme_has_no_hue_and_the_warm_one_little_blue() -> None:
    for name in ("monochrome", "warm"):
        data = tomllib.loads((themes.shipped_folder() / f"{name}.toml").read_text())
        colours = [Color.parse(data[key]) for key in themes.COLORS] + [
            Color.parse(c) for c in data["variables"].values()
        ]
        if name == "monochrome":
            assert all(colour.r == colour.g == colour.b for colour in colours)
        else:
            assert all(colour.b <= colour.g <= colour.r and colour.b <= 0.75 * colour.r for colour in colours)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_theme_names_every_colour(path: Path) -> None:
    data = tomllib.loads(path.read_text())
    assert set(themes.COLORS) <= set(data)
    assert set(data["variables"]) == set(themes.VARIABLES)
    assert themes.read_theme(path).name == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_token_can_be_read_on_its_background(path: Path) -> None:
    data = tomllib.loads(path.read_text())
    background = Color.parse(data["background"])
    colours = {"foreground": data["foreground"], "secondary": data["secondary"], **data["variables"]}
    for name, value in colours.items():
        assert contrast(Color.parse(value), background) >= 4.5, name
        # What NO_COLOR leaves of it.
        assert contrast(Color.parse(value).monochrome, background.monochrome) >= 4.5, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("system", [ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT], ids=["truecolor", "256"])
async def test_the_states_differ_in_colour(name: str, system: ColorSystem) -> None:
    app = workbench()
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = name
        await settle(pilot)
        colours: dict[State, RichColor] = {}
        for state in STATES:
            colour = app.query_one(Legend).get_component_rich_style(COMPONENT[state]).color
            assert colour is not None
            colours[state] = colour.downgrade(system)
        for one, other in combinations(STATES, 2):
            assert colours[one] != colours[other], (one, other)


async def painted(app: SpectermApp, pilot: Pilot[None]) -> dict[str, Style]:
    """The style with which each word of the legend reaches the terminal."""
    await settle(pilot)
    y = app.query_one(Legend).region.y
    strip = app.screen._compositor.render_strips()[y]
    return {segment.text.strip(): segment.style for segment in strip if segment.style is not None}


def attributes(style: Style) -> tuple[bool, ...]:
    """A terminal may ignore that text is dim, and Textual shows it by a colour: it does not count."""
    return bool(style.bold), bool(style.underline), bool(style.strike), bool(style.italic)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("no_color", [False, True], ids=["colour", "NO_COLOR"])
async def test_every_state_has_attributes_of_its_own(
    name: str, no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = workbench()
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
        app = type(app)(
            app._engine, app.workbench._monitor, app.workbench._spec, theme_folders=(themes.shipped_folder(),)
        )
    assert app.no_color == no_color
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = name
        styles = await painted(app, pilot)
        shown = (*STATES, State.PROMPT)
        found = [attributes(styles[state.name.lower()]) for state in shown]
        assert len(set(found)) == len(shown), dict(zip(shown, found, strict=True))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 3", "name is 3; it must be a text"),
        ('name = "x"', "primary is missing"),
        ('name = "x"\nprimary = "blu"', "primary is 'blu'; it must be a colour"),
        ('name = "x"\nprimary = 7', "primary is 7; it must be a colour"),
        ('name = "x"\ndark = "no"', "dark is 'no'; it must be true or false"),
        ('name = "x"\nprimry = "#fff"', "primry is unknown; known are primary"),
        ('name = "x"\nprimary = "#fff"\n[variables]\ntoken-draft = "?"', "variables.token-draft is '?'"),
        ("name = ", "is not valid TOML"),
    ],
)
def test_a_broken_theme_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        themes.read_theme(path)
    assert str(raised.value).startswith("mine.toml")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_users_theme_replaces_a_shipped_one_and_inherits_token_colours(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "light"\ndark = false\nprimary = "#123456"\n')
    found, problems = themes.load_themes((themes.shipped_folder(), tmp_path, tmp_path / "absent"))
    assert problems == []
    (light,) = [theme for theme in found if theme.name == "light"]
    assert light.primary == "#123456"
    assert light.variables == themes.variable_defaults(dark=False)
