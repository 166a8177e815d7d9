"""The seven PDUs: what the layout table does not say, and what is refused."""

import pytest

from dimse.errors import AbortReason, MisuseError, ProtocolError
from dimse.ul.items import PresentationContextRQ
from dimse.ul.pdu import (
    PDU,
    PDV,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    ReleaseRP,
    ReleaseRQ,
    UserInformation,
    check_length,
    p_data_header,
)
from tests.wire import (
    APPLICATION,
    CONTEXT,
    IMPLICIT,
    USER,
    VERIFICATION,
    item,
    pdu,
    receive,
    receive_request,
    request,
)

PDUS: list[PDU] = [
    AssociateRQ(
        "ARCHIVE",
        "MODALITY",
        tuple(PresentationContextRQ(each, VERIFICATION, (IMPLICIT,)) for each in (5, 1, 255)),
        UserInformation(0, "1.2", "NAME"),
    ),
    AssociateRQ("A", "B", (), None, application_context_name="1.2", protocol_version=0xFFFF),
    AssociateAC((), None, bytes(64)),
    AssociateRJ(0, 77, 255),
    PDataTF((PDV(1, 3, b"command"), PDV(1, 0xFC, b""), PDV(0, 2, b"\0"))),
    ReleaseRQ(),
    ReleaseRP(),
    Abort(1, 99),
]


@pytest.mark.parametrize("value", PDUS, ids=lambda value: type(value).__name__)
class TestEach:
    def test_round_trip(self, value: PDU):
        decoded = receive(value.encode())
        assert decoded == value
        assert type(decoded) is type(value)

    def test_cut_anywhere(self, value: PDU):
        """What ends too early is refused, or is a whole PDU of its own with an item fewer."""
        wire = value.encode()
        for length in range(6, len(wire)):
            short = pdu(wire[0], wire[6:length])
            try:
                decoded = receive(short)
            except ProtocolError:
                continue
            assert decoded == Abort(0, 0) or decoded.encode() == short


class TestAETitles:
    def rq(self, called: str) -> AssociateRQ:
        return AssociateRQ(called, "B", (), None)

    @pytest.mark.parametrize("title", ["", "A", "0123456789ABCDEF", "A B"])
    def test_padded_with_spaces(self, title: str):
        wire = self.rq(title).encode()
        assert wire[10:26] == title.encode().ljust(16)
        assert receive_request(wire).called_ae_title == title

    @pytest.mark.parametrize(
        ("field", "title"),
        [
            (b"  TITLE         ", "TITLE"),
            (b"TITLE\0\0\0\0\0\0\0\0\0\0\0", "TITLE"),
            (b"TITLE \0         ", "TITLE"),
            (bytes(16), ""),
            (b" " * 16, ""),
            (b"\xe9\n              ", "\xe9\n"),
        ],
    )
    def test_as_they_come(self, field: bytes, title: str):
        decoded = receive_request(request(called=field, calling=field))
        assert (decoded.called_ae_title, decoded.calling_ae_title) == (title, title)
        assert decoded.echo[:32] == field * 2

    def test_more_than_16_characters(self):
        with pytest.raises(MisuseError, match="16"):
            self.rq("0123456789ABCDEFG").encode()

    def test_not_ascii(self):
        with pytest.raises(MisuseError, match="ASCII"):
            self.rq("\xe9").encode()


class TestAssociate:
    def test_echo_is_filled_up(self):
        assert len(AssociateAC((), None, b"").encode()) == 74 + len(
            item(0x10, b"1.2.840.10008.3.1.1.1")
        )

    def test_echo_does_not_make_a_request_another(self):
        decoded = receive_request(request())
        assert decoded.echo != b""
        assert decoded == receive_request(decoded.encode())

    @pytest.mark.parametrize("kind", [AssociateRQ, AssociateAC])
    def test_less_than_what_is_fixed(self, kind):
        with pytest.raises(ProtocolError, match="of 67 bytes, 68 are fixed"):
            kind.decode(memoryview(bytes(67)))

    def test_repeated_context_id(self):
        with pytest.raises(ProtocolError, match="twice"):
            receive(request(APPLICATION, CONTEXT, CONTEXT, USER))

    def test_an_answer_is_not_judged_here(self):
        """A context answered twice decodes; `settle` refuses it."""
        context = item(0x21, b"\1\0\3\0")
        decoded = receive(pdu(2, request()[6:74] + APPLICATION + context * 2))
        assert isinstance(decoded, AssociateAC)
        assert len(decoded.contexts) == 2


class TestFour:
    @pytest.mark.parametrize("kind", [AssociateRJ, ReleaseRQ, ReleaseRP])
    @pytest.mark.parametrize("length", [0, 3, 5])
    def test_exactly(self, kind, length: int):
        with pytest.raises(ProtocolError):
            kind.decode(memoryview(bytes(length)))

    @pytest.mark.parametrize("length", [0, 3, 5, 1000])
    def test_an_abort_of_any_length_aborts(self, length: int):
        assert Abort.decode(memoryview(b"\xff" * length)) == Abort(0, 0)

    def test_release_rp_is_no_release_rq(self):
        assert ReleaseRQ() != ReleaseRP()


class TestPData:
    # PDV length, and bytes behind it: what is no PDV.
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\0\0\0\2\1",
            b"\0\0\0\0\1\0",
            b"\0\0\0\1\1\0",
            b"\0\0\0\3\1\0",
            b"\xff\xff\xff\xff\1\0",
            b"\0\0\0\2\1\0\0\0",
        ],
    )
    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_no_pdv(self, body: bytes, before: int):
        if not body and before:
            return
        good = b"\0\0\0\4\1\0ab"
        with pytest.raises(ProtocolError) as caught:
            PDataTF.decode(memoryview(good * before + body))
        assert caught.value.reason == AbortReason.INVALID_PARAMETER_VALUE

    def test_fragments_are_views(self):
        body = memoryview(b"\0\0\0\4\1\0ab")
        fragment = PDataTF.decode(body).pdvs[0].fragment
        assert isinstance(fragment, memoryview)
        assert fragment.obj is body.obj

    @pytest.mark.parametrize("length", [0, 1, 2, 65534])
    def test_header(self, length: int):
        header = p_data_header(3, 2, length)
        assert header + bytes(length) == PDataTF((PDV(3, 2, bytes(length)),)).encode()


class TestCheckLength:
    def check(self, pdu_type: int, length: int) -> None:
        check_length(pdu_type, length, associate=1000, p_data=100)

    @pytest.mark.parametrize("pdu_type", [0, *range(8, 256)])
    def test_unknown_type(self, pdu_type: int):
        with pytest.raises(ProtocolError) as caught:
            self.check(pdu_type, 4)
        assert caught.value.reason == AbortReason.UNRECOGNIZED_PDU
        assert not caught.value.in_step

    @pytest.mark.parametrize(
        ("pdu_type", "least", "most"),
        [(1, 68, 1000), (2, 68, 1000), (3, 4, 4), (4, 6, 100), (5, 4, 4), (6, 4, 4)],
    )
    def test_bounds(self, pdu_type: int, least: int, most: int):
        self.check(pdu_type, least)
        self.check(pdu_type, most)
        for length in (least - 1, most + 1, 0xFFFFFFFF):
            with pytest.raises(ProtocolError, match=f"{least} to {most}") as caught:
                self.check(pdu_type, length)
            assert caught.value.reason == AbortReason.INVALID_PARAMETER_VALUE
            assert not caught.value.in_step

    @pytest.mark.parametrize("length", [0, 4, 5, 0xFFFFFFFF])
    def test_an_abort_of_any_length(self, length: int):
        self.check(7, length)
