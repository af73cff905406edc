"""The operator's commands. Never deployed."""
