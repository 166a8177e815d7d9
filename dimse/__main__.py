"""`python -m dimse` is the `dimse` command."""

from dimse.cli.main import main

main(prog_name="dimse")
