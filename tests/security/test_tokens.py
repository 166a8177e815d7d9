"""JSON Web Tokens: which are believed, and whose keys; the attacks on them (H-T14)."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.cred.error import UnauthorizedLogin

import dimse
from dimse import AssociationRejectedError, Identification, MisuseError, VerificationSCP, associate
from dimse.security.credentials import JSONWebToken
from dimse.testing import Network

jwt = pytest.importorskip("jwt", reason="pip install 'dimse[jwt]'")
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm  # noqa: E402  it may be missing

from dimse.security.tokens import TokenChecker  # noqa: E402  it needs PyJWT

ISSUER, AUDIENCE = "https://login.example/hospital", "dicom://ARCHIVE"

RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SHORT = rsa.generate_private_key(65537, 1024)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def jwk(private: Any, **more: Any) -> dict[str, Any]:
    """The public key as the issuer publishes it."""
    algorithm: Any = RSAAlgorithm
    if isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = OKPAlgorithm
    return json.loads(algorithm.to_jwk(private.public_key())) | more  # type: ignore[no-any-return]


def claims(**changed: Any) -> dict[str, Any]:
    """As they are good; one that is None is left out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 300, "sub": "anna"}
    return {name: value for name, value in (good | changed).items() if value is not None}


def signed(key: Any = RSA, algorithm: str = "RS256", kid: str | None = None, **changed: Any) -> str:
    headers = {"kid": kid} if kid else None
    token: str = jwt.encode(claims(**changed), key, algorithm, headers=headers)
    return token


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    keys = [jwk(RSA, kid="rsa", use="sig", alg="RS256"), jwk(CURVE, kid="ec"), jwk(EDWARDS)]
    file.write_text(json.dumps({"keys": keys}))
    file.chmod(0o644)
    return file


def checker(file: Path, **options: Any) -> TokenChecker:
    return TokenChecker(file, issuer=ISSUER, audience=AUDIENCE, **options)


def who(checks: TokenChecker, token: str) -> Any:
    """Whom the token is of; None for nobody."""
    names: list[Any] = []
    outcome = checks.requestAvatarId(JSONWebToken(token.encode()))
    outcome.addCallbacks(names.append, lambda failure: failure.trap(UnauthorizedLogin) and None)
    return names[0] if names else None


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1}, "it has expired"),
        ({"aud": "dicom://OTHER"}, "it is for another audience"),
        ({"iss": "https://other.example"}, "it is of another issuer"),
        ({"sub": None}, "a claim that it needs is missing"),
        ({"sub": "an\nna"}, "its claim sub is no name"),
    ],
)
def test_the_log_can_tell_what_is_wrong(file: Path, claims: dict[str, Any], why: str) -> None:
    """Whichever key of the set it was signed with, and with nothing of the token in it."""
    errors: list[Any] = []
    token = JSONWebToken(signed(CURVE, "ES256", None, **claims).encode())
    checker(file).requestAvatarId(token).addErrback(errors.append)
    assert errors[0].value.why == why


class TestBelieved:
    @pytest.mark.parametrize(
        ("key", "algorithm", "kid"),
        [
            (RSA, "RS256", "rsa"),
            (RSA, "RS256", None),
            (CURVE, "ES256", "ec"),
            (CURVE, "ES256", None),
            (EDWARDS, "EdDSA", None),
            (EDWARDS, "EdDSA", "a name that its key does not have"),
        ],
    )
    def test_by_each_kind_of_key(self, file: Path, key: Any, algorithm: str, kid: Any) -> None:
        assert who(checker(file), signed(key, algorithm, kid)) == b"anna"

    def test_a_key_without_algorithm_has_those_of_its_type(self, file: Path) -> None:
        file.write_text(json.dumps({"keys": [jwk(RSA)]}))
        for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
            assert who(checker(file), signed(RSA, algorithm)) == b"anna"

    def test_another_claim(self, file: Path) -> None:
        named = checker(file, claim="preferred_username")
        assert who(named, signed(preferred_username="a.anna")) == b"a.anna"
        assert who(named, signed()) is None

    def test_one_of_several_audiences(self, file: Path) -> None:
        assert who(checker(file), signed(aud=["other", AUDIENCE])) == b"anna"

    def test_clocks_may_differ(self, file: Path) -> None:
        assert who(checker(file), signed(exp=time.time() - 5)) == b"anna"

    def test_renewed(self, file: Path) -> None:
        checks = checker(file)
        file.write_text(json.dumps({"keys": [jwk(OTHER, kid="rsa")]}))
        assert who(checks, signed(kid="rsa")) == b"anna"
        checks.renew()
        assert who(checks, signed(kid="rsa")) is None
        assert who(checks, signed(OTHER, kid="rsa")) == b"anna"
        file.write_text("{}")
        with pytest.raises(MisuseError):
            checks.renew()
        assert who(checks, signed(OTHER, kid="rsa")) == b"anna"


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": 1},
    "expired just now": {"exp": int(time.time()) - 60},
    "without expiry": {"exp": None},
    "an expiry that is none": {"exp": "soon"},
    "not yet valid": {"nbf": time.time() + 86400},
    "another audience": {"aud": "dicom://OTHER"},
    "without audience": {"aud": None},
    "a part of the audience": {"aud": AUDIENCE[:-1]},
    "another issuer": {"iss": "https://evil.example"},
    "without issuer": {"iss": None},
    "without subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is no text": {"sub": 5},
    "a subject with a line end": {"sub": "anna\nroot"},
}


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def body(header: dict[str, Any], **changed: Any) -> str:
    return f"{part(header)}.{part(claims(**changed))}"


def rsa_signed(header: dict[str, Any], **changed: Any) -> str:
    """Signed well, whatever it says: PyJWT refuses to make some of these."""
    text = body({"alg": "RS256"} | header, **changed)
    signature = jwt.get_algorithm_by_name("RS256").sign(text.encode(), RSA)
    return f"{text}.{part(signature)}"


def hmac_signed(secret: bytes) -> str:
    text = body({"alg": "HS256", "kid": "rsa"})
    return f"{text}.{part(hmac.new(secret, text.encode(), sha256).digest())}"


def unsigned(algorithm: str) -> str:
    return body({"alg": algorithm}) + "."


def tampered() -> str:
    header, _, signature = signed().split(".")
    return f"{header}.{part(claims(sub='root'))}.{signature}"


NESTED = b'{"a":' * 9000
LONG_NUMBER = b'{"alg":' + b"9" * 40000 + b"}"

FORGED = {
    "no algorithm": unsigned("none"),
    "no algorithm, in capitals": unsigned("NONE"),
    "no signature": unsigned("RS256"),
    "HMAC with the public key in PEM": hmac_signed(public_pem(RSA)),
    "HMAC with the public key as JWK": hmac_signed(json.dumps(jwk(RSA)).encode()),
    "HMAC with nothing": hmac_signed(b""),
    "another key": signed(OTHER),
    "another key under a known name": signed(OTHER, kid="rsa"),
    "a key of its own": jwt.encode(claims(), OTHER, "RS256", headers={"jwk": jwk(OTHER)}),
    "another algorithm of the same key": signed(RSA, "PS256"),
    "another key under an unknown name": signed(OTHER, kid="unknown"),
    "a known key under an unknown name": signed(CURVE, "ES256", kid="unknown"),
    "a known key under the name of another": signed(CURVE, "ES256", kid="rsa"),
    "other claims": tampered(),
    "an extension that must be understood": rsa_signed({"crit": ["x"], "x": 1}),
    "a name that is no text": rsa_signed({"kid": 5}),
    "no token": "anna",
    "two parts": "a.b",
    "four parts": signed() + ".x",
    "no JSON": f"{part(b'anna')}.{part(b'anna')}.{part(b'anna')}",
    "a list": f"{part([])}.{part([])}.{part(b'')}",
    "lists in lists": f"{part(b'[' * 40000)}.{part({})}.",
    "objects in objects": f"{part(NESTED)}.{part({})}.",
    "a long number": f"{part(LONG_NUMBER)}.{part({})}.",
}


class TestHT14:
    @pytest.mark.parametrize("changed", BAD_CLAIMS.values(), ids=list(BAD_CLAIMS))
    def test_h_t14_claims(self, file: Path, changed: dict[str, Any]) -> None:
        assert who(checker(file), rsa_signed({}, **changed)) is None

    @pytest.mark.parametrize("token", FORGED.values(), ids=list(FORGED))
    def test_h_t14_forged(self, file: Path, token: str) -> None:
        assert who(checker(file), token) is None

    def test_h_t14_over_the_wire(self, network: Network, file: Path) -> None:
        """RJ(1,2,1), and no token in the log; a good one gets in, and an empty response."""
        identification = Identification([checker(file)], clock=network.clock, required=True)
        admit = identification.admit()
        endpoint = network.listen(
            [VerificationSCP()], admit=lambda asks: admit(replace(asks, encrypted=True))
        )
        good = dimse.jwt(signed(), response=True)
        association, _ = network.associate(endpoint, user_identity=good)
        answer = association.peer_information.user_identity_response
        assert answer is not None
        assert answer.response == b""
        for bad in (signed(OTHER), unsigned("none")):
            pending = associate(endpoint, user_identity=dimse.jwt(bad), reactor=network.clock)
            network.advance(1)
            with pytest.raises(AssociationRejectedError) as caught:
                network.result(pending)
            assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 2, 1)
            assert not any(bad[:40] in str(event) for event in network.events)


class TestKeys:
    @pytest.mark.parametrize(
        "keys",
        [
            [],
            [{"kty": "oct", "k": part(b"secret" * 8)}],
            [jwk(SHORT)],
            [jwk(RSA, use="enc")],
            [jwk(RSA, alg="HS256")],
            [jwk(CURVE, key_ops=["deriveKey"])],
            [json.loads(RSAAlgorithm.to_jwk(RSA))],
            [jwk(EDWARDS)] * 101,
        ],
        ids=["none", "secret", "short", "of encryption", "HMAC", "other", "private", "too many"],
    )
    def test_h_t14_keys_that_verify_nothing(self, file: Path, keys: Any) -> None:
        """A key set from which nobody can be verified is refused as it is read."""
        file.write_text(json.dumps({"keys": keys}))
        with pytest.raises(MisuseError, match=f"{file}"):
            checker(file)

    def test_what_does_not_verify_may_be_beside_what_does(self, file: Path) -> None:
        """As issuers publish it."""
        keys = [jwk(OTHER, use="enc", alg="RSA-OAEP"), {"kty": "other"}, jwk(RSA)]
        file.write_text(json.dumps({"keys": keys}))
        assert who(checker(file), signed()) == b"anna"

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 5}', '{"keys": ["x"]}', "[" * 9999])
    def test_what_is_no_key_set(self, file: Path, text: str) -> None:
        file.write_text(text)
        with pytest.raises(MisuseError, match=f"{file}"):
            checker(file)

    def test_a_key_set_that_others_can_write(self, file: Path) -> None:
        file.chmod(0o646)
        with pytest.raises(MisuseError, match="chmod"):
            checker(file)
