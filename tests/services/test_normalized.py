"""DIMSE-N in both roles: the six services, their refusals, Meta SOP classes (PS3.7 10)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydicom import Dataset
from twisted.logger import formatEvent

from dimse import (
    ContextError,
    MisuseError,
    NormalizedSCP,
    Operation,
    Outcome,
    Reply,
    StatusError,
    n_action,
    n_create,
    n_delete,
    n_event_report,
    n_get,
    n_set,
)
from dimse.message.messages import NActionRQ, NEventReportRQ, NEventReportRSP, NGetRQ
from dimse.sop_classes import (
    FILM_SESSION,
    GRAYSCALE_PRINT,
    STORAGE_COMMITMENT_PUSH,
    UPS_PULL,
    UPS_PUSH,
)
from dimse.testing import Network
from dimse.ul.pdu import AssociateAC
from tests.wire import IMPLICIT, VERIFICATION

CLASS = STORAGE_COMMITMENT_PUSH
UID = "1.2.3"


def labelled(text: str) -> Dataset:
    dataset = Dataset()
    dataset.FilmSessionLabel = text
    return dataset


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def joined(network: Network, *contexts: str, **functions: Any) -> tuple[Any, Any]:
    scp = NormalizedSCP(contexts or [CLASS], **functions)
    return network.associate(network.listen([scp]), contexts or [CLASS])


def event_of_a_requestor(network: Network, scp: NormalizedSCP) -> int | None:
    """The status of an N-EVENT-REPORT in default roles, None when the context was refused."""
    client = network.scripted_requestor(network.listen([scp]))
    client.associate([(CLASS, [IMPLICIT])])
    (answer,) = client.pdus
    assert isinstance(answer, AssociateAC)
    if answer.contexts[0].result:
        return None
    event = NEventReportRQ(
        message_id=1,
        affected_sop_class_uid=CLASS,
        affected_sop_instance_uid=UID,
        event_type_id=1,
    )
    client.command(event)
    (response,) = client.messages
    assert isinstance(response.message, NEventReportRSP)
    return response.message.status


class TestServices:
    """What is asked arrives, and what is answered comes back."""

    def test_n_get(self, network: Network):
        def read(operation: Operation, dataset: None) -> Dataset:
            assert isinstance(operation.request, NGetRQ)
            assert operation.request.attribute_identifier_list == (0x20000050,)
            assert operation.request.requested_sop_instance_uid == UID
            return labelled("a")

        ours, _ = joined(network, n_get=read)
        reply = network.result(n_get(ours, CLASS, UID, [0x20000050]))
        assert reply.status == 0
        assert reply.dataset == labelled("a")
        assert reply.sop_instance_uid == UID

    def test_n_set(self, network: Network):
        async def change(operation: Operation, dataset: Dataset) -> tuple[int, Dataset]:
            assert dataset == labelled("a")
            return 0x0116, labelled("b")

        ours, _ = joined(network, n_set=change)
        reply = network.result(n_set(ours, CLASS, UID, labelled("a")))
        assert (reply.status, reply.dataset) == (0x0116, labelled("b"))

    @pytest.mark.parametrize("information", [None, labelled("a")])
    def test_n_action(self, network: Network, information: Dataset | None):
        def act(operation: Operation, dataset: Dataset | None) -> Dataset | None:
            assert isinstance(operation.request, NActionRQ)
            assert (operation.request.action_type_id, dataset) == (7, information)
            return information

        ours, _ = joined(network, n_action=act)
        reply = network.result(n_action(ours, CLASS, UID, 7, information))
        assert reply.dataset == information
        # PS3.7 10.3.4.2: mandatory when there is an Action Reply
        assert getattr(reply.response, "action_type_id", 0) == (7 if information else None)

    @pytest.mark.parametrize("attributes", [["PatientName"], [0x00100010], [(0x0010, 0x0010)]])
    def test_n_get_by_tag_or_keyword(self, network: Network, attributes: list[Any]):
        def read(operation: Operation, dataset: None) -> None:
            assert getattr(operation.request, "attribute_identifier_list", 0) == (0x00100010,)

        ours, _ = joined(network, n_get=read)
        assert network.result(n_get(ours, CLASS, UID, attributes)).status == 0

    @pytest.mark.parametrize("attribute", ["NoKeyword", (1, 2, 3), 1 << 40, -1, None])
    def test_n_get_of_no_tag(self, network: Network, attribute: Any):
        ours, _ = joined(network, n_get=lambda *_: None)
        with pytest.raises(MisuseError, match="no tags or keywords"):
            n_get(ours, CLASS, UID, [attribute])

    def test_n_create_with_uid_and_attributes(self, network: Network):
        """PS3.7 10.1.5.1: what the SCP made of it, and what it called it."""
        ours, _ = joined(network, n_create=lambda *_: (0x0116, "1.2.99", labelled("b")))
        reply = network.result(n_create(ours, CLASS))
        assert (reply.status, reply.sop_instance_uid) == (0x0116, "1.2.99")
        assert reply.dataset == labelled("b")

    def test_n_create_with_an_outcome(self, network: Network):
        outcome = Outcome(0, elements={"affected_sop_instance_uid": "1.2.99"})
        ours, _ = joined(network, n_create=lambda *_: outcome)
        assert network.result(n_create(ours, CLASS)).sop_instance_uid == "1.2.99"

    @pytest.mark.parametrize("returned", [None, Dataset(), "no uid", ("1.2.é", None)])
    def test_n_create_that_names_no_instance(self, network: Network, returned: Any):
        """The SCU could not tell what it has (PS3.7 10.1.5.1.3)."""
        ours, _ = joined(network, n_create=lambda *_: returned)
        with pytest.raises(StatusError, match="0x0110"):
            network.result(n_create(ours, CLASS))
        assert network.flush_logged_errors(TypeError)

    @pytest.mark.parametrize("given", [UID, None])
    def test_n_create(self, network: Network, given: str | None):
        def create(operation: Operation, dataset: Dataset | None) -> str | None:
            assert operation.request.sop_instance_uid == given
            return None if given else "1.2.99"

        ours, _ = joined(network, n_create=create)
        reply = network.result(n_create(ours, CLASS, labelled("a"), given))
        assert reply.sop_instance_uid == (given or "1.2.99")

    def test_n_delete(self, network: Network):
        ours, _ = joined(network, n_delete=lambda operation, dataset: None)
        assert network.result(n_delete(ours, CLASS, UID)).status == 0

    def test_n_event_report_of_the_acceptor(self, network: Network):
        """In default roles the acceptor is the SCP, which reports events."""
        heard: list[Any] = []

        def hear(operation: Operation, dataset: Dataset | None) -> Dataset | None:
            assert isinstance(operation.request, NEventReportRQ)
            heard.append((operation.request.event_type_id, dataset))
            return dataset

        endpoint = network.listen([NormalizedSCP([CLASS], n_action=lambda *_: None)])
        listener = NormalizedSCP([CLASS], n_event_report=hear)
        _, theirs = network.associate(endpoint, [CLASS], scps=[listener])
        reply = network.result(n_event_report(theirs, CLASS, UID, 2, labelled("a")))
        assert heard == [(2, labelled("a"))]
        assert getattr(reply.response, "event_type_id", 0) == 2

    def test_n_event_report_on_an_association_of_the_scp(self, network: Network):
        """PS3.4 J.3: it opens one, and proposes to be the SCP on it."""
        scp = NormalizedSCP([CLASS], n_event_report=lambda *_: None)
        ours, _ = network.associate(network.listen([scp]), [CLASS], roles={CLASS: (False, True)})
        assert network.result(n_event_report(ours, CLASS, UID, 1)).status == 0

    @pytest.mark.parametrize("performs", [True, False])
    def test_n_event_report_without_the_role(self, network: Network, performs: bool):
        """Some SCPs of Storage Commitment open an association and propose no roles."""
        functions: dict[str, Any] = {"n_action": lambda *_: None} if performs else {}
        scp = NormalizedSCP(
            [CLASS], n_event_report=lambda *_: None, without_roles=True, **functions
        )
        assert event_of_a_requestor(network, scp) == 0

    @pytest.mark.parametrize("performs", [True, False])
    def test_the_log_names_the_role_that_is_missing(self, network: Network, performs: bool):
        functions: dict[str, Any] = {"n_action": lambda *_: None} if performs else {}
        scp = NormalizedSCP([CLASS], n_event_report=lambda *_: None, **functions)
        assert event_of_a_requestor(network, scp) == (0x0118 if performs else None)
        (line,) = [line for line in map(formatEvent, network.events) if "D.3.3.4" in line]
        assert "SCP" in line

    def test_n_event_report_needs_the_role(self, network: Network):
        ours, _ = joined(network, n_action=lambda *_: None)
        with pytest.raises(ContextError, match="as SCP"):
            network.result(n_event_report(ours, CLASS, UID, 1))


class TestRefusals:
    VERBS: dict[str, Callable[[Any], Any]] = {  # noqa: RUF012  a constant
        "n_get": lambda ours: n_get(ours, CLASS, UID),
        "n_set": lambda ours: n_set(ours, CLASS, UID, labelled("a")),
        "n_action": lambda ours: n_action(ours, CLASS, UID, 1),
        "n_create": lambda ours: n_create(ours, CLASS),
        "n_delete": lambda ours: n_delete(ours, CLASS, UID),
    }

    @pytest.mark.parametrize("verb", VERBS)
    def test_what_has_no_function(self, network: Network, verb: str):
        other = "n_get" if verb != "n_get" else "n_set"
        ours, _ = joined(network, **{other: lambda *_: None})
        with pytest.raises(StatusError, match="0x0211"):
            network.result(self.VERBS[verb](ours))
        assert ours.ended is None

    @pytest.mark.parametrize("verb", VERBS)
    def test_a_status_error(self, network: Network, verb: str):
        """With tags where the response has a place for them (0000,1005)."""

        def refuse(*_: object) -> None:
            raise StatusError(0x0105, "not here", (0x00100010,))

        ours, _ = joined(network, **{verb: refuse})
        with pytest.raises(StatusError) as caught:
            network.result(self.VERBS[verb](ours))
        assert (caught.value.status, caught.value.comment) == (0x0105, "not here")
        assert caught.value.offending == (() if verb == "n_delete" else (0x00100010,))

    @pytest.mark.parametrize("junk", [b"junk", 1.5, (0, "junk", 3)])
    def test_h_r25_junk(self, network: Network, junk: object):
        ours, _ = joined(network, n_get=lambda *_: junk)
        with pytest.raises(StatusError, match="0x0110"):
            network.result(n_get(ours, CLASS, UID))
        assert network.flush_logged_errors(TypeError, ValueError)
        assert ours.ended is None

    def test_a_data_set_that_is_none(self, network: Network):
        endpoint = network.listen([NormalizedSCP([CLASS], n_action=lambda *_: None)])
        client = network.scripted_requestor(endpoint)
        client.associate([(CLASS, [IMPLICIT])])
        request = NActionRQ(
            message_id=1,
            requested_sop_class_uid=CLASS,
            requested_sop_instance_uid=UID,
            action_type_id=1,
        )
        client.command(request, b"\xff" * 20)
        (answer,) = client.messages
        assert getattr(answer.message, "status", None) == 0x0115

    def test_an_event_for_who_is_no_scu(self, network: Network):
        """In default roles the requestor is the SCU, and not the acceptor."""
        both = NormalizedSCP([CLASS], n_get=lambda *_: None, n_event_report=lambda *_: None)
        client = network.scripted_requestor(network.listen([both]))
        client.associate([(CLASS, [IMPLICIT])])
        event = NEventReportRQ(
            message_id=1,
            affected_sop_class_uid=CLASS,
            affected_sop_instance_uid=UID,
            event_type_id=1,
        )
        client.command(event)
        (answer,) = client.messages
        assert getattr(answer.message, "status", None) == 0x0118
        assert not client.closed

    def test_an_event_that_is_refused(self, network: Network):
        def refuse(*_: object) -> None:
            raise StatusError(0x0113, "not here")

        endpoint = network.listen([NormalizedSCP([CLASS], n_get=lambda *_: None)])
        listener = NormalizedSCP([CLASS], n_event_report=refuse)
        _, theirs = network.associate(endpoint, [CLASS], scps=[listener])
        with pytest.raises(StatusError, match="0x0113: No such event type") as caught:
            network.result(n_event_report(theirs, CLASS, UID, 9))
        assert caught.value.comment == "not here"
        assert theirs.ended is None


def test_a_meta_sop_class_creates_its_member(network: Network):
    seen: list[tuple[str, str]] = []

    def create(operation: Operation, dataset: Dataset | None) -> str:
        seen.append((operation.context.abstract_syntax, operation.request.sop_class_uid))
        return "1.2.9"

    ours, _ = joined(network, GRAYSCALE_PRINT, n_create=create)
    reply = network.result(n_create(ours, FILM_SESSION, labelled("a")))
    assert seen == [(GRAYSCALE_PRINT, FILM_SESSION)]
    assert reply.response.affected_sop_class_uid == FILM_SESSION
    assert reply.sop_instance_uid == "1.2.9"


@pytest.mark.parametrize(
    ("context", "member"), [(GRAYSCALE_PRINT, FILM_SESSION), (UPS_PULL, UPS_PUSH)]
)
def test_a_context_serves_its_members(network: Network, context: str, member: str):
    """Requests name the member; the context is that of the Meta SOP class, or of UPS Pull."""
    named: list[str] = []

    def read(operation: Operation, _: None) -> None:
        named.append(operation.request.sop_class_uid)

    ours, _ = joined(network, context, n_get=read)
    reply = network.result(n_get(ours, member, UID))
    assert isinstance(reply, Reply)
    assert named == [member]
    with pytest.raises(ContextError):
        network.result(n_get(ours, VERIFICATION, UID))


@pytest.mark.parametrize("scps", [[], [NormalizedSCP([CLASS], n_get=lambda *_: None)]])
def test_h_d12_an_event_that_nobody_hears(network: Network, scps: list[NormalizedSCP]):
    """DIMSE-N has a status of its own for a SOP class that nobody serves."""
    endpoint = network.listen([NormalizedSCP([CLASS], n_action=lambda *_: None)])
    _, theirs = network.associate(endpoint, [CLASS], scps=scps)
    with pytest.raises(StatusError, match="0x0118"):
        network.result(n_event_report(theirs, CLASS, UID, 1))


def test_a_status_has_the_meaning_of_the_class_that_is_named(network: Network):
    """In a Meta context that is the member: 0xB600 is a code of Basic Film Session alone."""
    ours, _ = joined(network, GRAYSCALE_PRINT, n_create=lambda *_: (0xB600, UID))
    reply = network.result(n_create(ours, FILM_SESSION))
    assert str(reply.status) == "0xB600 (Memory allocation not supported)"
