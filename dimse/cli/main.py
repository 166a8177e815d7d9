"""The `dimse` command: the group that loads a command when it runs."""

from importlib import import_module
from typing import Any

import click

from dimse.cli.options import version_option

INTERRUPTED = 130  # as a shell says it of a command that ended by SIGINT

_COMMANDS = {
    "echo": "Ask a peer whether it is there (C-ECHO).",
    "store": "Send DICOM files to a peer (C-STORE).",
    "find": "Query a peer (C-FIND).",
    "worklist": "Ask a peer what is scheduled (C-FIND of the Modality Worklist).",
    "get": "Fetch instances from a peer on the same association (C-GET).",
    "move": "Let a peer send instances to another node, or here (C-MOVE).",
    "commit": "Ask a peer to keep what it has been sent (storage commitment).",
    "mpps": "Tell a peer of a performed procedure step (MPPS).",
    "serve": "Run a DICOM node, as twistd dimse does.",
    "schedule": "Look after the worklist of a node.",
    "password": "Give a user of a node a passcode.",
    "config": "Check the configuration of a node, and explain what a peer may do there.",
    "index": "Look after the index of a node.",
}


class LazyGroup(click.Group):
    """Knows its commands by name; only the one that runs is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"dimse.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C before its reactor runs ends it as it does afterwards."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def main() -> None:
    """DICOM networking on the command line.

    Exit codes: 0 all went well, 1 something failed, 2 wrong usage, 130 interrupted.
    """
