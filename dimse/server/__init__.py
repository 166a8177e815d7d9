"""What `twistd dimse` runs."""
