"""The keys of the application and of the workbench, in the order of the footer: those that work on every screen are
declared once, and stand among the workbench's own there. A narrow terminal cuts the footer off: what a newcomer has to
find comes first."""

from __future__ import annotations

from textual.binding import Binding

QUIT = Binding("ctrl+q", "app.quit", "Quit", id="app.quit", tooltip="Leave specterm", priority=True)
HELP = Binding("f1", "app.toggle_help", "Help", id="app.help", tooltip="Show, page and hide help on the focused pane")
# Before what the key does on the screen, which is not meant while the help is read.
CLOSE_HELP = Binding(
    "escape", "app.close_help", "Close help", id="app.close_help", tooltip="Hide the help", priority=True
)
PALETTE = Binding(
    "ctrl+p",
    "app.command_palette",
    "Palette",
    id="app.palette",
    tooltip="Find an action by its name",
    priority=True,
)
THEME = Binding("ctrl+t", "app.next_theme", "Theme", id="app.theme", tooltip="Change to the next theme")

OF_APP = (CLOSE_HELP, QUIT, HELP, PALETTE, THEME)

OF_WORKBENCH = (
    CLOSE_HELP,
    Binding("escape", "cancel", "Cancel", id="app.cancel", tooltip="Cancel the run, or else the loading"),
    # Without either the second binding of the key takes it.
    Binding("escape", "leave_pane", "Back", id="app.back", tooltip="Go back to the stream and the prompt"),
    HELP,
    PALETTE,
    Binding("f4", "show_pane('settings')", "Settings", id="pane.settings", tooltip="Go to method and sampling"),
    Binding("f9", "show_compare", "Compare", id="app.compare", tooltip="Measure methods, then race them"),
    Binding("f12", "show_models", "Models", id="app.models", tooltip="Choose target, drafts, heads and device"),
    Binding("ctrl+o", "show_history", "History", id="app.history", tooltip="Search, reopen and compare stored runs"),
    QUIT,
    Binding("ctrl+r", "toggle_rejected", "Rejected", id="app.rejected", tooltip="Show rejected tokens inline"),
    Binding("f2", "show_pane('prompt')", "Prompt", id="pane.prompt", tooltip="Go to the prompt", show=False),
    Binding("f3", "show_pane('stream')", "Stream", id="pane.stream", tooltip="Go to the stream"),
    Binding("f5", "show_pane('devices')", "Devices", id="pane.devices", tooltip="Go to the devices"),
    Binding("f6", "show_pane('figures')", "Figures", id="pane.figures", tooltip="Go to the figures"),
    Binding(
        "f7", "show_pane('inspector')", "Inspector", id="pane.inspector", tooltip="Go to the inspector", show=False
    ),
    Binding("f8", "show_pane('rounds')", "Rounds", id="pane.rounds", tooltip="Go to the rounds", show=False),
    Binding(
        "v",
        "show_verify",
        "Verify",
        id="app.verify",
        tooltip="Prove that the output is the target's own",
        show=False,
    ),
    Binding(
        "ctrl+l",
        "show_library",
        "Library",
        id="app.library",
        tooltip="Choose a prompt from the library",
        show=False,
    ),
    Binding(
        "ctrl+y",
        "take_setup",
        "Setup",
        id="app.setup",
        tooltip="Copy this setup as a command line, or write it as a plan",
        show=False,
    ),
    THEME,
    Binding("m", "toggle_measuring", "Measure", id="app.measure", tooltip="Paint seldom, record counts"),
)
