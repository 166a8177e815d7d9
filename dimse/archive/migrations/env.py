"""What alembic runs around the steps: on the connection that `upgrade` was given."""

from alembic import context

from dimse.archive.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
