"""Memory that associations share: what all of them keep at a time is bounded, too."""


class Budget:
    """So many `bytes` may be kept at a time by all who share it; `kept` are so many now."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.kept = 0

    def take(self, length: int) -> bool:
        """Keep so many bytes more; returns whether they fit, and takes nothing if not."""
        if self.kept + length > self.length:
            return False
        self.kept += length
        return True

    def give_back(self, length: int) -> None:
        """So many are kept no more."""
        self.kept -= length
