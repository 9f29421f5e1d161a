"""Screens other than the workbench; each is imported when it is first shown."""
