"""One person's visit: its plan, files and steps in their order."""
