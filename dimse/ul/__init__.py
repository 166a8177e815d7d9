"""The Upper Layer (PS3.8)."""
