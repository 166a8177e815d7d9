"""`dimse serve`: the node of `twistd dimse`, without twistd."""

import sys
from typing import Any

import click
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.usage import UsageError

from dimse.cli.running import FAILED, say
from dimse.errors import DimseError

try:
    from dimse.server.service import Options, makeService
except UsageError as error:  # the extra is not installed
    raise click.ClickException(str(error)) from error


@click.command(
    "serve",
    add_help_option=False,  # it is among the options of the node
    options_metavar="[options]",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def command(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Run a DICOM node until a signal ends it; the options are those of twistd dimse."""
    options = Options()
    options.synopsis = f"Usage: {context.command_path} [options]"
    try:
        options.parseOptions(arguments)  # type: ignore[no-untyped-call]  # Twisted's is untyped
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    _serve(options)


def _serve(options: Options) -> None:
    """Log to stderr; SIGTERM and SIGINT let open associations finish, as twistd does."""
    from twisted.internet import reactor  # late, for whoever imports it installs it

    running: Any = reactor
    observer = options.threshold.kept(textFileLogObserver(sys.stderr))
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    try:
        node = makeService(options)
        node.privilegedStartService()
        node.startService()
    except DimseError as error:
        say(f"Error: {error}")
        raise SystemExit(FAILED) from error
    running.addSystemEventTrigger("before", "shutdown", node.stopService)
    running.run()
