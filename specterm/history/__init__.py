"""The run history: every run of the workbench with its events, in one SQLite file of the user's data folder.

`Recorder` writes, from one thread of its own that is fed with events and never waits for; `Archive` reads, deletes and
exports. Both work on the same file at the same time, from any number of processes. Prompts are private: the folder is
the user's alone, recording can be switched off, and runs can be deleted and purged.
"""
