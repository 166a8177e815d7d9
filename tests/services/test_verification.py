"""C-ECHO in both roles (PS3.4 Annex A)."""

from typing import Any

import pytest

from dimse.errors import ContextError, DimseError, StatusError
from dimse.invoking import Answer
from dimse.message.messages import CEchoRSP
from dimse.message.status import Status
from dimse.performing import Operation
from dimse.services.verification import VerificationSCP, echo, succeeded
from dimse.ul.negotiation import AcceptedContext
from tests.memory import Net
from tests.scripted import echo_rq
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION


def test_echo(net: Net):
    requestor, _, link = net.pair(net.acceptor([VerificationSCP()]))
    for _ in range(3):
        echoed = net.outcome(echo(requestor))
        link.run()
        assert echoed.value == 0
        assert isinstance(echoed.value, Status)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.4.50"])
def test_any_transfer_syntax_will_do(net: Net, syntax: str):
    contexts = [(VERIFICATION, (syntax,))]
    requestor, _, link = net.pair(net.acceptor([VerificationSCP()]), contexts=contexts)
    echoed = net.outcome(echo(requestor))
    link.run()
    assert echoed.value == 0


def test_no_context(net: Net):
    requestor, *_ = net.pair(contexts=[CT_STORAGE])
    assert isinstance(net.outcome(echo(requestor)).value, ContextError)


def test_the_scp_supports_nothing_else():
    scp = VerificationSCP()
    assert set(scp.contexts) == {VERIFICATION}
    assert scp.otherwise(CT_STORAGE) is None


def test_ending_an_echo_early_is_harmless(net: Net):
    nobody: Any = None
    context = AcceptedContext(1, VERIFICATION, IMPLICIT, scu=False, scp=True)
    sink = VerificationSCP().perform(Operation(echo_rq(), context, nobody, nobody))
    sink.write(memoryview(b"ab"))
    sink.abort(DimseError("gone"))


def answer(status: int, **elements: str) -> Answer:
    context = AcceptedContext(1, VERIFICATION, IMPLICIT, scu=True, scp=False)
    response = CEchoRSP(message_id_being_responded_to=1, status=status, **elements)
    return Answer(context, response)


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0xB000, 0xBFFF])
def test_success_and_warning_succeed(status: int):
    assert succeeded(answer(status)) == status


@pytest.mark.parametrize("status", [0x0122, 0xA700, 0xC000, 0xFE00, 0xFF00, 0x7777])
def test_every_other_status_is_an_error(status: int):
    with pytest.raises(StatusError) as caught:
        succeeded(answer(status, error_comment="because"))
    assert (caught.value.status, caught.value.comment) == (status, "because")
