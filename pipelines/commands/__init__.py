"""What each command takes, one module a command (see `pipelines.command_line`)."""
