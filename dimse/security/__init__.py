"""Security (PS3.15): TLS profiles, user identity, access, and the audit trail."""
