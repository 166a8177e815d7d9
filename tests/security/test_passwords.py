"""Users and passcodes in a file: its form, what may be wrong with it, and how it is checked."""

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore

from dimse import MisuseError, PasswordFile
from dimse.security import passwords, trusted
from dimse.security.credentials import UserNameAndPasscode
from dimse.security.passwords import Cost, Hashed, read_passwords, write_password
from dimse.testing import Network

CHEAP = Cost(ln=4, r=1, p=1)
SECRET = "s3cret \u00e4 passcode"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "passwords"
    write_password(file, "anna", SECRET, CHEAP)
    write_password(file, "jörg:2", "other", CHEAP)
    return file


class Counted:
    """The hashes that are computed: of which passcode, at which cost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[bytes, Cost]] = []
        whole = Cost.key

        def key(cost: Cost, passcode: bytes, salt: bytes) -> bytes:
            self.seen.append((passcode, cost))
            return whole(cost, passcode, salt)

        monkeypatch.setattr(Cost, "key", key)


def check(network: Network, checker: PasswordFile, name: str, passcode: str) -> Any:
    credentials = UserNameAndPasscode(name.encode(), passcode.encode())
    return network.result(checker.requestAvatarId(credentials))


class TestHash:
    @pytest.mark.parametrize(
        ("passcode", "salt", "cost", "key"),
        [
            (
                b"",
                b"",
                Cost(4, 1, 1),
                "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442",
            ),
            (
                b"password",
                b"NaCl",
                Cost(10, 8, 16),
                "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162",
            ),
        ],
    )
    def test_vectors_of_rfc_7914(self, passcode: bytes, salt: bytes, cost: Cost, key: str) -> None:
        """RFC 7914 12; PBKDF2 makes each 32 bytes by themselves."""
        assert cost.key(passcode, salt).hex() == key

    def test_a_hash_of_passlib(self) -> None:
        """Its documentation has this one, of "password"."""
        text = (
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q"
            "$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
        )
        assert Hashed.parse(text).matches(b"password")
        assert not Hashed.parse(text).matches(b"Password")
        assert str(Hashed.parse(text)) == text

    def test_each_has_a_salt_of_its_own(self) -> None:
        one, other = Hashed.of(b"same", CHEAP), Hashed.of(b"same", CHEAP)
        assert one.salt != other.salt
        assert one.key != other.key
        assert one.matches(b"same")
        assert other.matches(b"same")

    def test_the_default_costs_what_is_advised(self) -> None:
        """OWASP: N=2^15 (32 MiB), r=8, p=3."""
        assert (Cost().ln, Cost().r, Cost().p) == (15, 8, 3)

    def test_repr_shows_no_hash(self) -> None:
        hashed = Hashed.of(b"same", CHEAP)
        assert repr(hashed.key) not in repr(hashed)
        assert repr(hashed.salt) not in repr(hashed)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$scrypt$ln=4,r=1,p=1$c2FsdA$c2hvcnQ",
            "$scrypt$ln=0,r=1,p=1$c2FsdA$" + "A" * 43,
            "$scrypt$ln=4,r=0,p=1$c2FsdA$" + "A" * 43,
            "$scrypt$ln=25,r=8,p=1$c2FsdA$" + "A" * 43,
            "$scrypt$ln=99,r=99,p=99$c2FsdA$" + "A" * 43,
            "$scrypt$ln=4,r=1,p=1$c2Fsd$" + "A" * 43,
            "$scrypt$ln=4,r=1,p=1$c2FsdA$" + "A" * 43 + " x",
        ],
    )
    def test_what_is_none_or_costs_too_much(self, text: str) -> None:
        with pytest.raises(ValueError, match="scrypt"):
            Hashed.parse(text)


class TestFile:
    def test_lines_are_of_users_and_the_file_is_for_its_owner(self, file: Path) -> None:
        assert list(read_passwords(file)) == [b"anna", "jörg:2".encode()]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert SECRET not in file.read_text("utf-8")

    def test_comments_and_blank_lines_stay_and_do_not_count(self, file: Path) -> None:
        text = "# who may\n\n" + file.read_text("utf-8")
        file.write_text(text, "utf-8")
        assert write_password(file, "anna", "new", CHEAP) is False
        assert write_password(file, "eve", "new", CHEAP) is True
        lines = file.read_text("utf-8").splitlines()
        assert [line.rpartition(":")[0] for line in lines] == ["", "", "anna", "jörg:2", "eve"]
        assert lines[3] == text.splitlines()[3]
        assert read_passwords(file)[b"anna"].matches(b"new")

    def test_a_link_stays_one(self, file: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(file)
        write_password(link, "eve", "new", CHEAP)
        assert link.is_symlink()
        assert b"eve" in read_passwords(file)

    def test_mode_and_owner_stay(self, file: Path) -> None:
        file.chmod(0o640)
        write_password(file, "eve", "new", CHEAP)
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert [each.name for each in file.parent.iterdir()] == ["passwords"]

    @pytest.mark.parametrize(
        ("name", "passcode"),
        [
            ("", "x"),
            ("a\nb", "x"),
            ("a\0", "x"),
            (" a", "x"),
            ("#a", "x"),
            ("a" * 257, "x"),
            ("\udcff", "x"),
            ("a", ""),
            ("a", "x\0"),
            ("a", "x" * 1025),
        ],
    )
    def test_what_nobody_could_send(self, file: Path, name: str, passcode: str) -> None:
        before = file.read_bytes()
        with pytest.raises(MisuseError):
            write_password(file, name, passcode, CHEAP)
        assert file.read_bytes() == before

    @pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o666])
    def test_a_mode_that_lets_others_in(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        with pytest.raises(MisuseError, match="chmod"):
            read_passwords(file)

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("anna\n", "line 1"),
            ("\nanna:secret\n", "line 2"),
            ("anna:$2b$12$abcdefghijklmnopqrstuv\n", "line 1"),
            ("{anna}\n{anna}\n", "line 2.*before"),
        ],
    )
    def test_a_line_that_is_none(self, file: Path, text: str, complaint: str) -> None:
        """It is named by its number, and not shown: it may be a passcode."""
        file.write_text(text.replace("{anna}", f"anna:{Hashed.of(b'x', CHEAP)}"))
        with pytest.raises(MisuseError, match=complaint) as caught:
            read_passwords(file)
        assert "secret" not in str(caught.value)

    def test_no_utf_8(self, file: Path) -> None:
        file.write_bytes(b"ann\xe4:x\n")
        with pytest.raises(MisuseError, match="UTF-8"):
            read_passwords(file)

    def test_none_and_too_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(MisuseError, match="No such file"):
            read_passwords(tmp_path / "none")
        monkeypatch.setattr(trusted, "LONGEST", 3)
        file = tmp_path / "long"
        file.touch(0o600)
        file.write_text("####")
        with pytest.raises(MisuseError, match="more than 3 bytes"):
            read_passwords(file)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MisuseError, match="No such file"):
            write_password(tmp_path / "none" / "passwords", "anna", "x", CHEAP)

    def test_a_replacement_that_fails_leaves_it_as_it_was(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = file.read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(MisuseError, match="No space"):
            write_password(file, "eve", "new", CHEAP)
        assert file.read_bytes() == before
        assert [each.name for each in file.parent.iterdir()] == ["passwords"]

    def test_two_that_write_at_a_time_lose_nobody(self, file: Path) -> None:
        """Two administrators, or a script that runs twice."""
        names = [f"user{number}" for number in range(20)]
        with ThreadPoolExecutor(8) as pool:
            new = list(pool.map(lambda name: write_password(file, name, "x", Cost(1, 1, 1)), names))
        assert all(new)
        assert set(names) <= {each.decode() for each in read_passwords(file)}


class TestChecker:
    def test_right_and_wrong(self, network: Network, file: Path) -> None:
        checker = PasswordFile(file, network.clock)
        assert check(network, checker, "anna", SECRET) == b"anna"
        assert check(network, checker, "jörg:2", "other") == "jörg:2".encode()
        for name, passcode in [("anna", "other"), ("anna", ""), ("eve", SECRET), ("Anna", SECRET)]:
            with pytest.raises(UnauthorizedLogin):
                check(network, checker, name, passcode)

    def test_h_t13_an_unknown_user_costs_what_a_wrong_passcode_costs(
        self, network: Network, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One hash of the same cost, counted: also of what is too long or has NUL in it."""
        checker, counted = PasswordFile(file, network.clock), Counted(monkeypatch)
        for name in ("anna", "eve", "e" * 60000, "anna\0"):
            with pytest.raises(UnauthorizedLogin):
                check(network, checker, name, "wrong")
        assert counted.seen == [(b"wrong", CHEAP)] * 4

    def test_h_t13_the_most_costly_hash_is_that_of_the_unknown(
        self, network: Network, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_password(file, "eve", "new", Cost(ln=5, r=1, p=1))
        checker, counted = PasswordFile(file, network.clock), Counted(monkeypatch)
        with pytest.raises(UnauthorizedLogin):
            check(network, checker, "nobody", "wrong")
        assert counted.seen == [(b"wrong", Cost(ln=5, r=1, p=1))]

    def test_an_empty_file_is_as_costly_as_others(self, network: Network, tmp_path: Path) -> None:
        file = tmp_path / "empty"
        file.touch(0o600)
        with pytest.raises(UnauthorizedLogin):
            check(network, PasswordFile(file, network.clock), "anna", "")

    def test_renewed(self, network: Network, file: Path) -> None:
        checker = PasswordFile(file, network.clock)
        write_password(file, "anna", "new", CHEAP)
        assert check(network, checker, "anna", SECRET) == b"anna"
        checker.renew()
        assert check(network, checker, "anna", "new") == b"anna"

    def test_renewed_from_what_is_broken(self, network: Network, file: Path) -> None:
        checker = PasswordFile(file, network.clock)
        file.write_text("anna\n")
        with pytest.raises(MisuseError):
            checker.renew()
        assert check(network, checker, "anna", SECRET) == b"anna"

    def test_hashes_are_made_in_threads_two_at_a_time(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who goes meanwhile leaves his place when the thread has ended, not before."""
        monkeypatch.setattr(passwords, "_AT_ONCE", DeferredSemaphore(2))
        threads = Threads()
        checker = PasswordFile(file, threads)
        credentials = UserNameAndPasscode(b"anna", SECRET.encode())
        waiting: list[Deferred[Any]] = [checker.requestAvatarId(credentials) for _ in range(4)]
        assert len(threads.steps) == 2
        for gone in (waiting[0], waiting[2]):
            gone.addErrback(lambda failure: failure.trap(CancelledError) and None)
            gone.cancel()
        assert len(threads.steps) == 2
        threads.finish()
        assert len(threads.steps) == 2  # the second, and the fourth in place of the first
        threads.finish()
        threads.finish()
        results: list[bytes] = []
        for each in (waiting[1], waiting[3]):
            each.addCallback(results.append)
        assert results == [b"anna", b"anna"]


class Threads:
    """A thread pool whose steps end when the test says so."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def getThreadPool(self) -> "Threads":
        return self

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any) -> None:
        self.steps.append((done, call))

    def callFromThread(self, call: Any, *args: Any, **kwargs: Any) -> None:
        call(*args, **kwargs)

    def finish(self) -> None:
        done, call = self.steps.pop(0)
        done(True, call())
