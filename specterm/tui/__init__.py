"""The workbench: a Textual application over an engine's events. It imports no torch and no model library."""
