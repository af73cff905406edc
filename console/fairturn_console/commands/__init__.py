"""The operator's commands, a module for each group: what they take and what they print."""
