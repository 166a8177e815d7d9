"""The checker for JSON Web Tokens (RFC 7519, PS3.7 D.3.3.7 type 5).

It needs the extra `jwt`, which nothing else here does.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dimse.errors import MisuseError
from dimse.security.credentials import IJSONWebToken, RefusedIdentity, is_name
from dimse.security.trusted import read_trusted

_LEEWAY = 30  # seconds that the clocks of two machines may differ
_KEYS = 100  # of a set; a token without key ID is tried with each

# What JSON that is something else leads to.
_NO_KEY_SET = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

_RSA_BITS = 2048  # RFC 7518 3.3
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""What a key can verify, by its type and curve (RFC 7518 3.1, RFC 8037 3.1). No `none`, and no
HMAC: with that, whoever knows a public key could sign."""

_UNSIGNED = "it is not signed by a key of the set, or not the one that it names"
_WRONG: Mapping[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.MissingRequiredClaimError: "a claim that it needs is missing",
}
"""What the log says, which is nothing of the token itself."""


@implementer(ICredentialsChecker)
class TokenChecker:
    """Checks a JSON Web Token against the public keys of a file; `renew` reads it again.

    `keys` is a JWK Set (RFC 7517) in a file. A token has the `issuer`, the `audience`, an expiry
    that is not over, and `claim`, a string that says who it is. Raises `MisuseError` for a file
    that cannot be read, that others can write, or that has no key to verify with.
    """

    credentialInterfaces = (IJSONWebToken,)

    def __init__(self, keys: Path, *, issuer: str, audience: str, claim: str = "sub") -> None:
        self._file = keys
        self._issuer = issuer
        self._audience = audience
        self._claim = claim
        self.renew()

    def __str__(self) -> str:
        return str(self._file)

    def renew(self) -> None:
        """Take the keys that the file has now; after a `MisuseError` they are as they were."""
        text = read_trusted(self._file)
        try:
            found = [(each, _algorithms(each)) for each in json.loads(text)["keys"]]
            keys = [(jwt.PyJWK(each), algorithms) for each, algorithms in found if algorithms]
        except (*_NO_KEY_SET, jwt.PyJWTError) as error:
            raise MisuseError(f"{self._file}: it is no JWK Set (RFC 7517)") from error
        usable = [(key, algorithms) for key, algorithms in keys if _is_long(key)]
        if not 0 < len(usable) <= _KEYS:
            raise MisuseError(
                f"{self._file}: {len(usable)} public keys to verify with, not 1 to {_KEYS}; "
                "they are RSA of 2048 bits or more, EC P-256, P-384, P-521, or Ed25519"
            )
        self._keys = usable

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":
        """Fires with the claim that says who it is; fails with `UnauthorizedLogin`."""
        try:
            return succeed(self._name(credentials.token).encode())
        except RefusedIdentity as error:
            return fail(error)

    def _name(self, token: bytes) -> str:
        try:
            named = jwt.get_unverified_header(token).get("kid")
        except (jwt.InvalidTokenError, RecursionError):  # of JSON in JSON in JSON
            raise RefusedIdentity("it is no token") from None
        why = RefusedIdentity(_UNSIGNED)
        for key, algorithms in self._keys:
            if named is None or key.key_id in (None, named):
                try:
                    return self._verified(token, key.key, algorithms)
                except RefusedIdentity as error:
                    # One that is of this key is not signed by the next ones.
                    why = why if error.why == _UNSIGNED else error
        raise why

    def _verified(self, token: bytes, key: Any, algorithms: Sequence[str]) -> str:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms,
                {"require": ["exp", "iss", "aud", self._claim]},
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY,
            )
        except jwt.PyJWTError as error:
            words = (text for kind, text in _WRONG.items() if isinstance(error, kind))
            raise RefusedIdentity(next(words, _UNSIGNED)) from None
        name = claims[self._claim]
        if not is_name(name):
            raise RefusedIdentity(f"its claim {self._claim} is no name")
        return str(name)


def _algorithms(key: Mapping[str, Any]) -> Sequence[str]:
    """What a key of the set can verify: nothing, if it is for something else, or is secret."""
    algorithms = _ALGORITHMS.get((key["kty"], key.get("crv")), ())
    verifies = key.get("use", "sig") == "sig" and "verify" in key.get("key_ops", ["verify"])
    if not verifies or "d" in key:
        return ()
    return [each for each in algorithms if key.get("alg", each) == each]


def _is_long(key: Any) -> bool:
    return key.key_type != "RSA" or bool(key.key.key_size >= _RSA_BITS)
