"""How a node verifies its users: what its file and its options say, and that this is renewed."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.python.usage import UsageError

import dimse
from dimse import AssociationRejectedError, MisuseError, Requesting, VerificationSCP
from dimse.security.passwords import Cost, write_password
from dimse.server.config import IdentityRules, read_configuration
from dimse.server.identity import Users
from dimse.server.options import Options
from dimse.server.service import makeService
from dimse.testing import Network
from tests.peers import free_port

CHEAP = Cost(ln=4, r=1, p=1)


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    file = tmp_path / "passwords"
    write_password(file, "anna", "secret", CHEAP)
    return file


def configured(tmp_path: Path, text: str) -> IdentityRules:
    file = tmp_path / "dimse.toml"
    file.write_text(text)
    return read_configuration(file).identity


def options(*given: str) -> Options:
    parsed = Options()
    parsed.parseOptions(given)
    return parsed


def identified(network: Network, users: Users, identity: Any, *, tls: bool = True) -> Any:
    """Who the user of an association is; raises `AssociationRejectedError`."""
    seen: list[Any] = []
    admit = users.identification.admit(lambda _, user: seen.append(user))

    def admission(asks: Requesting) -> Any:
        return admit(replace(asks, encrypted=tls))

    endpoint = network.listen([VerificationSCP()], admit=admission)
    pending = dimse.associate(endpoint, user_identity=identity, reactor=network.clock)
    network.advance(1)
    network.result(pending)
    return seen[0]


class TestConfiguration:
    @pytest.mark.parametrize(
        ("keys", "complaint"),
        [
            ('jwt_issuer = "x"', "identity has no jwt_audience and no jwt_keys"),
            ("failures = 0", "identity.failures is 0"),
            ("required = 1", "identity.required is 1"),
            ('passwords = ""', "identity.passwords"),
            ('password = "x"', "is passwords meant?"),
        ],
    )
    def test_what_is_wrong(self, tmp_path: Path, keys: str, complaint: str) -> None:
        with pytest.raises(MisuseError) as caught:
            configured(tmp_path, f"[identity]\n{keys}\n")
        assert complaint in str(caught.value)

    def test_options_win_over_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "dimse.toml"
        file.write_text('[identity]\npasswords = "one"\nfailures = 3\n')
        given = options(
            *("--config", str(file), "--passwords", "two"),
            *("--require-identity", "--allow-plain-identity"),
        )
        assert given.configuration.identity == IdentityRules(
            required=True, passwords=Path("two").absolute(), allow_plain=True, failures=3
        )

    def test_required_needs_a_way_to_verify(self) -> None:
        with pytest.raises(UsageError, match="no way to verify"):
            options("--require-identity")

    def test_nobody_is_asked_unless_there_is_a_way(self) -> None:
        assert not options().configuration.identity.verify


class TestUsers:
    def test_passcodes(self, passwords: Path) -> None:
        with Network() as network:
            users = Users(IdentityRules(passwords=passwords), network.clock)
            user = identified(network, users, dimse.username_and_passcode("anna", "secret"))
            assert user.name == "anna"
            with pytest.raises(AssociationRejectedError):
                identified(network, users, dimse.username_and_passcode("anna", "Secret"))
            right = dimse.username_and_passcode("anna", "secret")
            with pytest.raises(AssociationRejectedError):
                identified(network, users, right, tls=False)

    def test_allowed_without_tls(self, passwords: Path) -> None:
        with Network() as network:
            users = Users(IdentityRules(passwords=passwords, allow_plain=True), network.clock)
            identity = dimse.username_and_passcode("anna", "secret")
            assert identified(network, users, identity, tls=False).name == "anna"

    def test_user_names(self) -> None:
        with Network() as network:
            users = Users(IdentityRules(user_names=True, required=True), network.clock)
            assert identified(network, users, dimse.username("eve"), tls=False).name == "eve"

    def test_failures(self, passwords: Path) -> None:
        with Network() as network:
            users = Users(IdentityRules(passwords=passwords, failures=1), network.clock)
            wrong = dimse.username_and_passcode("anna", "wrong")
            for result in (1, 2):
                with pytest.raises(AssociationRejectedError) as caught:
                    identified(network, users, wrong)
                assert caught.value.result == result

    def test_tokens(self, tmp_path: Path) -> None:
        jwt: Any = pytest.importorskip("jwt", reason="pip install 'dimse[jwt]'")
        ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
        key = ed25519.Ed25519PrivateKey.generate()
        file = tmp_path / "keys.json"
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
        file.write_text(json.dumps({"keys": [public]}))
        file.chmod(0o600)
        rules = IdentityRules(jwt_keys=file, jwt_issuer="i", jwt_audience="a", jwt_claim="name")
        claims = {"iss": "i", "aud": "a", "exp": 2**33, "name": "Anna"}
        with Network() as network:
            users = Users(rules, network.clock)
            token = jwt.encode(claims, key, "EdDSA")
            assert identified(network, users, dimse.jwt(token)).name == "Anna"

    def test_tokens_without_their_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "dimse.security.tokens", None)
        rules = IdentityRules(jwt_keys=tmp_path, jwt_issuer="i", jwt_audience="a")
        with Network() as network, pytest.raises(MisuseError, match=r"dimse\[jwt\]"):
            Users(rules, network.clock)

    def test_a_file_that_cannot_be_used(self, passwords: Path) -> None:
        passwords.chmod(0o666)
        with Network() as network, pytest.raises(MisuseError, match="chmod"):
            Users(IdentityRules(passwords=passwords), network.clock)

    def test_renewed(self, passwords: Path) -> None:
        """And when that fails all stays as it was, and the log says why."""
        with Network() as network, capturedLogs() as log:
            users = Users(IdentityRules(passwords=passwords), network.clock)
            write_password(passwords, "anna", "new", CHEAP)
            users.renew()
            new = dimse.username_and_passcode("anna", "new")
            assert identified(network, users, new).name == "anna"
            passwords.write_text("anna\n")
            users.renew()
            assert identified(network, users, new).name == "anna"
        lines = _lines(log)
        assert f"{passwords} was read again" in lines
        assert any("line 1" in line and "stay as they were" in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_node_verifies_and_renews(tmp_path: Path, passwords: Path) -> None:
    """A peer that is held to some services has its response, too; the file is that of SIGHUP."""
    port = free_port()
    file = tmp_path / "dimse.toml"
    file.write_text(
        '[identity]\npasswords = "passwords"\nrequired = true\nallow_plain = true\n'
        f'[storage]\nfolder = "store"\n[[listeners]]\nendpoint = "tcp:{port}"\n'
        '[limits]\ndisk_reserve = 0\n[[peers]]\nae_title = "CT1"\nservices = ["echo"]\n'
    )
    node = makeService(options("--config", str(file)))
    node.privilegedStartService()
    node.startService()

    async def verified(passcode: str) -> bool:
        identity = dimse.username_and_passcode("anna", passcode, response=True)
        async with dimse.associate(
            f"127.0.0.1:{port}",
            calling_ae_title="CT1",
            user_identity=identity,
            allow_plain_identity=True,
        ) as association:
            return association.peer_information.user_identity_response is not None

    try:
        assert await verified("secret")
        write_password(passwords, "anna", "new", CHEAP)
        assert node._renew is not None
        node._renew()
        assert await verified("new")
    finally:
        await node.stopService()


def test_a_node_does_not_start_without_its_users(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="No such file"):
        makeService(options("--passwords", str(tmp_path / "none"), "--storage", str(tmp_path)))


def _lines(log: Any) -> list[str]:
    events: list[LogEvent] = list(log)
    return [formatEvent(event) for event in events]
