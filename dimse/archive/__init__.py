"""The embedded archive: where instances are kept."""
