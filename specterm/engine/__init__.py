"""Who runs the decode loop. Everything above talks to the `Engine` protocol and reads events."""
