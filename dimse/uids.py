"""What a UID is, wherever one stands (PS3.5 9)."""

import re

UID_LENGTH = 64
"""The characters that a UID has at most (PS3.5 9.1, PS3.8 F.1)."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Whether `text` is a UID (PS3.5 9.1); leading zeros, which the field has, are taken."""
    return len(text) <= UID_LENGTH and _UID.fullmatch(text) is not None
