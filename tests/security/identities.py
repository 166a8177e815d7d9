"""What the tests of user identity share: users, who knows them, and a node that asks."""

from dataclasses import replace
from typing import Any

import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

import dimse
import dimse.ul.identity
from dimse import (
    AssociationRejectedError,
    Identification,
    Requesting,
    VerificationSCP,
    associate,
)
from dimse.security.identity import DELAY
from dimse.testing import Network
from dimse.ul.items import UserIdentityRQ

SECRET = "s3cret passcode"
ANNA = dimse.username_and_passcode("anna", SECRET)
WRONG = dimse.username_and_passcode("anna", "wr0ng passcode")


class Checker:
    """Decides when the test says so."""

    def __init__(self, *interfaces: Any) -> None:
        self.credentialInterfaces = interfaces
        self.asked: list[Any] = []
        self.verdicts: list[Deferred[Any]] = []
        self.at_once: Any = None

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials)
        if self.at_once is not None:
            return self.at_once
        self.verdicts.append(Deferred())
        return self.verdicts[-1]


def anna_alone() -> Any:
    return InMemoryUsernamePasswordDatabaseDontUse(anna=SECRET.encode())


class Node:
    """An acceptor that identifies; `tls` has it believe that connections are encrypted."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tls = True
        self.users: list[Any] = []
        self.answer: Any = None

    def listen(self, portal: Any, **options: Any) -> Any:
        self.identification = Identification(portal, clock=self.network.clock, **options)
        admit = self.identification.admit(self.admission)
        self.endpoint = self.network.listen(
            [VerificationSCP()], admit=lambda asks: admit(replace(asks, encrypted=self.tls))
        )
        return self

    def admission(self, requesting: Requesting, user: Any) -> Any:
        self.users.append(user)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def request(self, identity: UserIdentityRQ | None, **options: Any) -> Any:
        pending = associate(
            self.endpoint, reactor=self.network.clock, user_identity=identity, **options
        )
        self.network.run()
        return pending

    def rejected(self, identity: UserIdentityRQ | None, **options: Any) -> tuple[int, int, int]:
        """How it is rejected, which is at the end of the delay and not before."""
        pending = self.request(identity, **options)
        self.network.advance(DELAY - 0.01)
        assert not pending.called
        self.network.advance(0.01)
        with pytest.raises(AssociationRejectedError) as caught:
            self.network.result(pending)
        return caught.value.result, caught.value.source, caught.value.reason

    def log(self) -> str:
        return "\n".join(filter(None, map(formatEvent, self.network.events)))


def request_of(identity: UserIdentityRQ) -> Any:
    return dimse.ul.negotiation.propose(
        [("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])],
        called_ae_title="ANY",
        calling_ae_title="OTHER",
        maximum_length=16384,
        user_identity=identity,
    )
