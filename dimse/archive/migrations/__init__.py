"""How the tables came to be: one step a version, run by alembic.

Alembic is imported when there is something to do: that is half as long as the rest of a start.
"""

from pathlib import Path

import sqlalchemy as sa

_HERE = Path(__file__).parent

NEWEST = max(path.name[1:5] for path in (_HERE / "versions").glob("v*.py"))
"""The version that this dimse has; the names of the steps have theirs."""


class NewerError(Exception):
    """The tables are of a newer dimse than this one."""


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables to the newest version; raises `NewerError` for one that is unknown here."""
    at = _version(connection)
    if at == NEWEST:
        return
    if at is not None and at > NEWEST:
        raise NewerError(f"its tables have version {at}, which a newer dimse made")
    from alembic import command  # noqa: PLC0415  late, as said above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(
        sa.text("select version_num from alembic_version")
    ).scalar()
    return found
