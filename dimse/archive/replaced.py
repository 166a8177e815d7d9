"""What objects in a folder took the place of: it is there until the index knows of the new ones."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class ReplacedObjects:
    """Objects in `folder`, by the names that they had; what is restored goes there by `incoming`.

    `sync(folder)` brings the names in a folder to the disk. One commit at a time uses it.
    """

    def __init__(self, folder: Path, incoming: Path, sync: Callable[[Path], None]) -> None:
        self.names: set[str] = set()
        self._folder = folder
        self._incoming = incoming
        self._sync = sync
        self._owed: set[str] = set()  # those that could not be restored

    def open(self) -> None:
        """Look what an earlier run has left."""
        self.names = {path.name for path in self._folder.iterdir()}
        self._owed.clear()

    def path_of(self, name: str) -> Path:
        """The file of the old object."""
        return self._folder / name

    def keep(self, path: Path) -> None:
        """Another name for what is to be replaced; that of a commit which is not settled stays."""
        if path.name in self.names:
            return
        old = self.path_of(path.name)
        old.unlink(missing_ok=True)
        os.link(path, old)
        self._sync(self._folder)
        self.names.add(path.name)  # not before: the next one of the group would not sync it

    def restore(self, path: Path) -> None:
        """The old object has its name again, as if nothing had come; it keeps its other one.

        Raises `OSError`; until it was done once more, the wrong one is there.
        """
        self._owed.add(path.name)
        part = self._incoming / f"{path.stem}.part"
        if os.path.lexists(part):
            part.unlink()
        os.link(self.path_of(path.name), part)
        try:
            os.replace(part, path)
        finally:
            with suppress(OSError):  # one that is left goes with the next start
                part.unlink(missing_ok=True)  # not renamed where it is the same file already
        self._sync(path.parent)
        self._owed.discard(path.name)

    def restore_owed(self, path: Path) -> None:
        """Restore what could not be restored before, if anything; raises `OSError` as before."""
        if path.name in self._owed:
            self.restore(path)

    def forget(self, name: str) -> None:
        """Remove it: the index knows of the new one, which is on the disk."""
        with suppress(OSError):  # what is left makes the next start look at the object again
            os.unlink(self.path_of(name))
        self.names.discard(name)
        self._owed.discard(name)
