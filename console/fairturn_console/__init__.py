"""The operator's commands and the sandbox. Never deployed."""
