"""Users and their passcodes in a file, and the checker for it (PS3.15 B.5).

A line is `name:hash`, in UTF-8; blank lines, and those that begin with #, do not count. A hash is
scrypt (RFC 7914) in the form of PHC and passlib, `$scrypt$ln=15,r=8,p=3$SALT$KEY`, both in base64
without padding.
"""

import fcntl
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64Error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import scrypt
from hmac import compare_digest
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, DeferredSemaphore
from zope.interface import implementer

from dimse.errors import MisuseError
from dimse.security.credentials import LONGEST_NAME, LONGEST_PASSCODE, is_name, is_passcode
from dimse.security.trusted import read_trusted
from dimse.threads import in_thread

_AT_ONCE = DeferredSemaphore(2)  # in the process: each needs 32 MiB and, for 0.2 s, a core

_HASH = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([\w+/]+)\$([\w+/]+)", re.A)
_MOST_MEMORY = 256 * 1024 * 1024  # of one hash: a slip of the pen must not stop the node
_SALT, _KEY = 16, 32  # bytes


@dataclass(frozen=True, slots=True)
class Cost:
    """What a hash costs whoever guesses: 128 * r * 2**ln bytes, and p times the work for them.

    The default is one of those that OWASP's Password Storage Cheat Sheet gives for scrypt, and of
    these the one that leaves room for two at a time in a small node: 32 MiB.
    """

    ln: int = 15
    r: int = 8
    p: int = 3

    @property
    def memory(self) -> int:
        """Bytes that a hash needs."""
        return 128 * self.r * ((1 << self.ln) + self.p + 2)

    @property
    def work(self) -> int:
        """How long it takes, in some unit."""
        return self.p * self.r << self.ln

    def key(self, passcode: bytes, salt: bytes) -> bytes:
        """The hash of a passcode."""
        n = 1 << self.ln
        return scrypt(
            passcode, salt=salt, n=n, r=self.r, p=self.p, maxmem=2 * self.memory, dklen=_KEY
        )


@dataclass(frozen=True, slots=True)
class Hashed:
    """The hash of a passcode."""

    cost: Cost
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, passcode: bytes, cost: Cost | None = None) -> Self:
        """Of a passcode, with a salt of its own."""
        cost, salt = cost or Cost(), os.urandom(_SALT)
        return cls(cost, salt, cost.key(passcode, salt))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ValueError` for what is none, or costs more than a node can afford."""
        match = _HASH.fullmatch(text)
        if match is None:
            raise ValueError("it is no scrypt hash")
        cost = Cost(*map(int, match.groups()[:3]))
        if not (cost.ln and cost.r and cost.p) or cost.memory > _MOST_MEMORY:
            raise ValueError(f"scrypt with {cost} costs nothing or too much")
        try:
            salt, key = (b64decode(part + "=" * (-len(part) % 4)) for part in match.groups()[3:])
        except NoBase64Error:
            raise ValueError("it is no scrypt hash in base64") from None
        if len(key) != _KEY:
            raise ValueError(f"a scrypt hash of {len(key)} bytes, not {_KEY}")
        return cls(cost, salt, key)

    def __str__(self) -> str:
        """As it is in the file."""
        cost, (salt, key) = self.cost, (b64encode(each).decode() for each in (self.salt, self.key))
        return f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}${salt.rstrip('=')}${key.rstrip('=')}"

    def matches(self, passcode: bytes) -> bool:
        """Whether it is of that passcode."""
        return compare_digest(self.key, self.cost.key(passcode, self.salt))


@implementer(ICredentialsChecker)
class PasswordFile:
    """Checks a user name and passcode against a file; `renew` reads it again.

    A passcode costs one hash, in a thread of the `reactor`, whether its user exists or not.
    Raises `MisuseError` for a file that cannot be read, that others can write or everybody can
    read, or with a line that is none.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, file: Path, reactor: Any) -> None:
        self._file = file
        self._reactor = reactor
        self.renew()

    def __str__(self) -> str:
        return str(self._file)

    def renew(self) -> None:
        """Take what the file says now; after a `MisuseError` it is as it was."""
        users = read_passwords(self._file)
        cost = max((each.cost for each in users.values()), key=lambda c: c.work, default=Cost())
        self._users = users
        # For who does not exist: the key is none of any passcode, and takes as long.
        self._nobody = Hashed(cost, os.urandom(_SALT), os.urandom(_KEY))

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":
        """Fires with the name; fails with `UnauthorizedLogin`."""
        return Deferred.fromCoroutine(self._checked(credentials.username, credentials.password))

    async def _checked(self, name: bytes, passcode: bytes) -> bytes | tuple[()]:
        hashed = self._users.get(name, self._nobody)
        if await in_thread(_AT_ONCE, partial(hashed.matches, passcode), self._reactor):
            return name
        raise UnauthorizedLogin


def read_passwords(file: Path) -> dict[bytes, Hashed]:
    """The users of a file and their hashes; raises `MisuseError`."""
    users: dict[bytes, Hashed] = {}
    for number, line in enumerate(read_trusted(file, secret=True).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.rpartition(":")
        try:
            hashed = Hashed.parse(text.strip())
        except ValueError as error:
            what = f"it is not name:$scrypt$... ({error})"
            raise MisuseError(f"{file}, line {number}: {what}") from None
        if name.encode() in users:
            raise MisuseError(f"{file}, line {number}: this user had a line before")
        users[name.encode()] = hashed
    return users


def write_password(file: Path, name: str, passcode: str, cost: Cost | None = None) -> bool:
    """Give a user of a file a passcode; the file is made, with mode 0600, if there is none.

    Returns whether the user is new. Raises `MisuseError` for a name or passcode that cannot be
    sent, and as `read_passwords` does.
    """
    if not is_name(name) or name.startswith("#") or not is_passcode(passcode):
        raise MisuseError(
            f"a user name is printable, at most {LONGEST_NAME} bytes, and does not begin with #; "
            f"a passcode has no NUL and at most {LONGEST_PASSCODE} bytes; neither is empty"
        )
    line = f"{name}:{Hashed.of(passcode.encode(), cost)}"
    with _alone(file):
        known = read_passwords(file) if file.exists() else {}
        lines = read_trusted(file, secret=True).splitlines() if file.exists() else []
        if name.encode() in known:
            lines = [line if each.rpartition(":")[0] == name else each for each in lines]
        else:
            lines.append(line)
        _replace(file, "\n".join(lines) + "\n")
    return name.encode() not in known


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Two that write at a time would take each other's user away. The lock is that of the folder:
    the file becomes another one."""
    try:
        folder = os.open(file.resolve().parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise MisuseError(f"{file}: {error.strerror or error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(file: Path, text: str) -> None:
    """Whole or not at all, with the mode and owner that it had."""
    file = file.resolve()  # a link stays one
    try:
        with NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False) as new:
            try:
                new.write(text)
                new.flush()
                if file.exists():
                    was = file.stat()
                    os.fchmod(new.fileno(), was.st_mode & 0o7777)
                    os.fchown(new.fileno(), was.st_uid, was.st_gid)
                os.fsync(new.fileno())
                os.replace(new.name, file)
            except BaseException:
                os.unlink(new.name)
                raise
    except OSError as error:
        raise MisuseError(f"{file}: {error.strerror or error}") from error
