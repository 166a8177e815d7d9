"""Who a connection of the Upper Layer works for: first an establisher, then a user (PS3.8 7)."""

from typing import Protocol

from dimse.errors import AssociationError
from dimse.ul.pdu import AssociateAC, AssociateRJ, AssociateRQ, PDataTF


class Establisher(Protocol):
    """Who hears of the association until it is established."""

    def associate_indication(self, request: AssociateRQ) -> None:
        """Answer with `accept` or `reject`, now or later."""

    def associate_confirmation(self, answer: AssociateAC | AssociateRJ) -> None:
        """Set `user` if the answer makes an association; raises `ProtocolError` if it cannot."""

    def abort_indication(self, error: AssociationError) -> None:
        """There will be no association."""


class User(Protocol):
    """Who uses the association from then on: `dimse.association.Association`."""

    def data_indication(self, data: PDataTF) -> None:
        """Take data whose fragments are valid during the call; raises `ProtocolError`."""

    def release_indication(self) -> None:
        """Answer with `release_response`, now or later; raises `ProtocolError`."""

    def release_confirmation(self) -> None:
        """The release that was asked for is done."""

    def abort_indication(self, error: AssociationError) -> None:
        """The association is over."""

    def sending_resumed(self) -> None:
        """The transport takes bytes again after `sending_paused` was true."""

    @property
    def busy(self) -> bool:
        """Whether an operation is under way, so that the association is not idle."""

    @property
    def receiving(self) -> bool:
        """Whether the peer is in the middle of a message."""
