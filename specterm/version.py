"""The version, in one place: read by the build, the command line and every report."""

__version__ = "0.1.0"
