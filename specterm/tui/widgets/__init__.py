"""The panes of the workbench, one a file."""
