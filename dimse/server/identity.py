"""How a node verifies its users, as its configuration says."""

from typing import Any

from twisted.logger import Logger

from dimse.errors import MisuseError
from dimse.security.identity import Identification, UserNames
from dimse.security.passwords import PasswordFile
from dimse.security.trail import AuditTrail
from dimse.server.config import IdentityRules

_log = Logger()


class Users:
    """The users of a node: `identification` verifies them, `renew` reads their files again.

    `audit` is told who was verified, and who was not. Raises `MisuseError` for a file that cannot
    be used. What verifies tokens is an extra.
    """

    def __init__(self, rules: IdentityRules, reactor: Any, audit: AuditTrail | None = None) -> None:
        self._files: list[Any] = []  # the checkers that have one
        names = [UserNames()] if rules.user_names else []
        if rules.passwords is not None:
            self._files.append(PasswordFile(rules.passwords, reactor))
        if rules.jwt_keys is not None:
            self._files.append(_token_checker(rules))
        self.identification = Identification(
            [*names, *self._files],
            clock=reactor,
            required=rules.required,
            allow_plain=rules.allow_plain,
            failures=rules.failures,
            audit=audit,
        )

    def renew(self) -> None:
        """A file that cannot be used leaves its users as they were, and the log says why."""
        for file in self._files:
            try:
                file.renew()
            except MisuseError as error:
                _log.error("{error}; its users stay as they were", error=error)
            else:
                _log.info("{file} was read again", file=str(file))


def _token_checker(rules: IdentityRules) -> Any:
    try:
        from dimse.security.tokens import TokenChecker  # noqa: PLC0415  it needs PyJWT, an extra
    except ImportError as error:
        raise MisuseError("JSON Web Tokens need pip install 'dimse[jwt]'") from error
    assert rules.jwt_keys is not None
    assert rules.jwt_issuer is not None
    assert rules.jwt_audience is not None
    return TokenChecker(
        rules.jwt_keys,
        issuer=rules.jwt_issuer,
        audience=rules.jwt_audience,
        claim=rules.jwt_claim,
    )
