"""The `dimse` command: one module per command."""
