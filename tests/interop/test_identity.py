"""User identities of DCMTK and pynetdicom against our node, and ours against pynetdicom."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from dimse.security.passwords import Cost, write_password
from tests.cli.command import dimse
from tests.peers import free_port, run, tool, twistd_dimse
from tests.wire import VERIFICATION

pytestmark = pytest.mark.peer

USER, PASSCODE = "jörg", "s3cret ü"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A node that wants to know its users; without TLS, which neither of the peers has set up."""
    folder = tmp_path_factory.mktemp("identity")
    passwords = folder / "passwords"
    write_password(passwords, USER, PASSCODE, Cost(ln=4, r=1, p=1))
    options = ("--passwords", passwords, "--require-identity", "--allow-plain-identity")
    with twistd_dimse(folder / "store", *options, "--disk-reserve", "0") as server:
        yield server.port
        log = server.log()
    assert "the user is j\\xf6rg" in log
    assert "s3cret" not in log


def storescu(port: int, *identity: str) -> Any:
    image = Path(str(get_testdata_file("CT_small.dcm")))
    return run([tool("storescu"), "-v", *identity, "127.0.0.1", str(port), image])


class TestDCMTK:
    def test_right(self, node: int) -> None:
        done = storescu(node, "-usr", USER, "-pwd", PASSCODE, "-rsp")
        assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize(
        "identity",
        [
            (),
            ("-usr", USER),
            ("-usr", USER, "-epw"),
            ("-usr", USER, "-pwd", "wrong", "-rsp"),
            ("-usr", "nobody", "-pwd", PASSCODE),
        ],
        ids=["none", "user alone", "empty", "wrong", "unknown"],
    )
    def test_rejected(self, node: int, identity: tuple[str, ...]) -> None:
        done = storescu(node, *identity)
        assert done.returncode != 0
        assert "Result: Rejected Permanent, Source: Service Provider (ACSE Related)" in done.stdout
        assert "Reason: No Reason" in done.stdout

    @pytest.mark.parametrize("option", ["-kt", "--saml", "--jwt"])
    def test_types_that_nobody_checks(self, node: int, option: str, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("a.b.c")
        assert "Rejected Permanent" in storescu(node, option, str(file)).stdout


def associated(port: int, kind: int, primary: bytes, secondary: bytes = b"") -> Any:
    """What becomes of pynetdicom's request with an identity."""
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.positive_response_requested = True
    item.primary_field = primary
    if kind == 2:
        item.secondary_field = secondary
    entity = AE()
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", port, ext_neg=[item])
    if association.is_established:
        assert association.send_c_echo().Status == 0
        association.release()
    return association


class TestPynetdicom:
    def test_right(self, node: int) -> None:
        association = associated(node, 2, USER.encode(), PASSCODE.encode())
        assert association.is_released
        assert association.acceptor.user_identity.server_response == b""

    @pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
    def test_rejected(self, node: int, kind: int) -> None:
        association = associated(node, kind, USER.encode(), b"wrong")
        primitive = association.acceptor.primitive
        assert association.is_rejected
        assert (primitive.result, primitive.result_source, primitive.diagnostic) == (1, 2, 1)

    @pytest.mark.parametrize(("passcode", "code"), [(PASSCODE, 0), ("wrong", 1)])
    def test_asks_who_we_are(self, passcode: str, code: int, tmp_path: Path) -> None:
        """Our command line against its EVT_USER_ID, which answers types 1 and 2 with no item."""
        seen: list[Any] = []

        def user_id(event: Any) -> tuple[bool, bytes]:
            seen.append((event.user_id_type, event.primary_field, event.secondary_field))
            return event.secondary_field == PASSCODE.encode(), b""

        file = tmp_path / "passcode"
        file.write_text(passcode, "utf-8")
        entity = AE()
        entity.add_supported_context(VERIFICATION)
        port = free_port()
        server: Any = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_USER_ID, user_id)]
        )
        try:
            done = dimse(
                *("echo", "127.0.0.1", port, "-v", "-usr", USER, "--password-file", file),
                *("-rsp", "--allow-plain-identity"),
            )
        finally:
            server.shutdown()
        assert done.returncode == code
        assert seen == [(2, USER.encode(), passcode.encode())]
