"""Measurements side by side with the peers; each module is a command."""
