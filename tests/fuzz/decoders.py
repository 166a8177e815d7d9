"""The pure decoders, each as what is made for it and what is done with that."""

import json
import warnings
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from dimse.archive.attributes import KEPT, Attributes
from dimse.archive.header import INFLATED, HeaderScan
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.matching import matches, requested
from dimse.errors import DimseError, MisuseError, ProtocolError, StatusError
from dimse.limits import Limits
from dimse.message import command
from dimse.message.messages import MESSAGES
from dimse.services.dataset import decode, encode
from dimse.services.storage import ReceivedInstance
from dimse.ul.explanation import explain, omissions
from dimse.ul.framing import Framer
from dimse.ul.negotiation import Policy, SupportedContext, negotiate, refusals
from dimse.ul.pdu import PDU, PDUS, AssociateAC, AssociateRQ, PDataTF, check_length
from dimse.ul.pdv import MessageReader
from tests.archive.data_sets import BIG_ENDIAN, DEFLATED, UID, data_set, deflate, sequence
from tests.fuzz import corpus
from tests.fuzz.corpus import EXPLICIT, IMPLICIT, Seed, elements_seed, stream_seed
from tests.fuzz.mutation import Dice, mutated, segments

LIMITS = Limits()
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


class Target(NamedTuple):
    """What is fuzzed. `make` gives the arguments of `run`, the mutated bytes first; `run` returns
    whether they were taken, or raises one of `errors` for those that are refused. An input of
    `size` bytes may need `memory` times as much, and `fixed`. `measured` is what takes work and
    memory, if `run` does more than that."""

    name: str
    share: int  # of 100 inputs
    make: Callable[[Dice], tuple[Any, ...]]
    run: Callable[..., object]
    errors: tuple[type[DimseError], ...] = ()
    memory: int = 4
    fixed: int = 64 * 1024
    size: Callable[..., int] = lambda data, *_: len(data)
    measured: Callable[..., object] | None = None

    def once(self) -> "Target":
        """What is measured."""
        return self._replace(run=self.measured or self.run)


class Parts(NamedTuple):
    """The corpus, taken apart."""

    sessions: list[corpus.Session]
    streams: list[Seed]
    pdus: list[Seed]
    requests: list[AssociateRQ]
    commands: list[Seed]
    data: dict[str, list[Seed]]  # by transfer syntax


@cache
def parts() -> Parts:
    """All seeds, each once."""
    sessions = corpus.sessions()
    streams = [stream for each in sessions for stream in (each.requestor, each.acceptor)]
    pdus = dict.fromkeys(pdu for stream in streams for pdu in corpus.pdus(stream))
    messages = [message for each in sessions for _, message in corpus.messages(each)]
    requests = [PDUS[1].decode(memoryview(pdu)[6:]) for pdu in pdus if pdu[0] == 1]
    return Parts(
        sessions,
        list(map(stream_seed, streams)),
        list(map(stream_seed, pdus)),
        [each for each in requests if isinstance(each, AssociateRQ)],
        [elements_seed(each, IMPLICIT) for each in dict.fromkeys(m.command for m in messages)],
        _data_sets(message.data for message in messages if message.syntax == EXPLICIT),
    )


def _data_sets(recorded: Iterable[bytes]) -> dict[str, list[Seed]]:
    """Those recorded, and some with sequences in sequences, in each transfer syntax."""
    explicit = [data for data in dict.fromkeys(recorded) if data]
    for undefined in (False, True):
        nested = b""
        for _ in range(40):
            nested = sequence(0x00400275, nested, b"", undefined=undefined)
            explicit += [data_set(nested)] if len(nested) < 200 else []
        explicit.append(data_set(nested))
    seeds = {EXPLICIT: [elements_seed(data, EXPLICIT) for data in explicit]}
    for syntax in (IMPLICIT, BIG_ENDIAN):
        encoded = [encode(decode(data, EXPLICIT), syntax) for data in explicit]
        seeds[syntax] = [elements_seed(data, syntax) for data in encoded]
    seeds[DEFLATED] = [Seed(deflate(data), ()) for data in [*explicit, data_set(bytes(100_000))]]
    return seeds


# Framing


def _make_stream(dice: Dice) -> tuple[bytes, list[bytes]]:
    stream = mutated(parts().streams, dice)
    return stream, segments(stream, dice)


def _admit(pdu_type: int, length: int) -> bool:
    check_length(pdu_type, length, associate=LIMITS.associate_length, p_data=LIMITS.maximum_length)
    return pdu_type != 7 or length == 4


def _framed(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], str]:
    framer, found = Framer(_admit), []
    try:
        for piece in pieces:
            framer.feed(piece)
            while (pdu := framer.next_pdu()) is not None:
                found.append((pdu[0], bytes(pdu[1])))
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def _run_framing(stream: bytes, pieces: list[bytes]) -> bool:
    """PDUs do not depend on how they arrive."""
    found, error = _framed(pieces)
    if len(pieces) > 1:
        assert (found, error) == _framed([stream]), "the segments matter"
    assert sum(6 + len(body) for _, body in found) <= len(stream)
    return not error


# PDUs and negotiation


@cache
def _policy() -> Policy:
    supported = SupportedContext(None, scp=True, scu=True, extended=lambda offer: offer)
    contexts = {each.abstract_syntax for request in parts().requests for each in request.contexts}
    return Policy(
        contexts=dict.fromkeys(sorted(contexts)[::2], supported),
        maximum_length=16384,
        ae_titles=None,
        otherwise=lambda uid: None,
    )


def _make_pdu(dice: Dice) -> tuple[bytes, int]:
    return mutated(parts().pdus, dice), dice.below(len(parts().requests))


def _decode_pdu(pdu: bytes, *_: object) -> PDU | None:
    if len(pdu) < 6 or pdu[0] not in PDUS:
        return None
    return PDUS[pdu[0]].decode(memoryview(pdu)[6:])


def _run_pdu(pdu: bytes, request: int) -> bool:
    """What was decoded is the same when it was encoded again, and can be negotiated."""
    decoded = _decode_pdu(pdu)
    if decoded is None:
        return False
    with suppress(MisuseError):  # what a peer may say in its own way is not all ours to say
        assert _decode_pdu(decoded.encode()) == decoded
    if isinstance(decoded, AssociateRQ):
        answer = negotiate(decoded, _policy())
        answer.encode()
        if isinstance(answer, AssociateAC):
            explain(decoded, answer, requestor=False)
            omissions(decoded, answer, _policy().contexts)
    elif isinstance(decoded, AssociateAC):
        asked = parts().requests[request]
        refusals(asked, decoded)
        explain(asked, decoded)
    return True


# Messages


def _make_message(dice: Dice) -> tuple[bytes]:
    return (mutated(parts().streams, dice),)


class _Listening:
    """A `MessageUser` that decodes every command set."""

    def __init__(self) -> None:
        self.length = 0

    def command_received(self, context_id: int, command_set: bytes) -> bool:
        elements = command.decode(command_set)
        return elements.get("CommandDataSetType") != command.NO_DATA_SET

    def data_received(self, fragment: memoryview) -> None:
        self.length += len(fragment)

    def data_ended(self) -> None:
        self.length = 0


def _run_message(stream: bytes) -> bool:
    """The P-DATA-TF PDUs of a stream, as one message after the other."""
    reader = MessageReader(
        _Listening(),
        range(1, 256, 2),
        command_length=LIMITS.command_length,
        data_length=LIMITS.instance_length,
        empty_fragments=LIMITS.empty_fragments,
    )
    framer = Framer(_admit)
    framer.feed(stream)
    while (pdu := framer.next_pdu()) is not None:
        if pdu[0] == PDataTF.PDU_TYPE:
            reader.receive(PDataTF.decode(pdu[1]))
    return True


def _make_command(dice: Dice) -> tuple[bytes]:
    return (mutated(parts().commands, dice),)


def _run_command(data: bytes) -> bool:
    """A message is the same when it was encoded again."""
    elements = command.decode(data)
    field = elements.get("CommandField")
    kind = MESSAGES.get(field) if isinstance(field, int) else None
    if kind is None or kind.refusal(elements) is not None:
        return False
    message = kind.decode(elements)
    with suppress(MisuseError):  # text that is not ASCII
        assert kind.decode(command.decode(message.encode())) == message
    return True


# Data sets

_SYNTAXES = (EXPLICIT, EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
_WANTED = frozenset(KEPT)


@cache
def _instances() -> dict[str, list[Seed]]:
    """The data sets with an instance in them, by transfer syntax."""
    return {
        syntax: [seed for seed in seeds if syntax == DEFLATED or UID.encode() in seed.data]
        for syntax, seeds in parts().data.items()
    }


def _make_header(dice: Dice) -> tuple[bytes, str, str, list[bytes]]:
    syntax, uids = dice.of(_SYNTAXES), (f"{UID}.1", f"{UID}.2", UID)
    inside = syntax == DEFLATED and dice.below(2)
    data = mutated(_instances()[EXPLICIT if inside else syntax], dice)
    uid = next((uid for uid in uids if uid.encode() in data), dice.of(uids))
    if inside:
        data = deflate(data, 1)
    return data, syntax, uid, segments(data, dice)


def _scanned(syntax: str, uid: str, pieces: list[bytes]) -> object:
    instance = ReceivedInstance(CT_STORAGE, uid, syntax, "MODALITY", "ARCHIVE")
    scan = HeaderScan(instance, _WANTED)
    try:
        for piece in pieces:
            scan.feed(piece)
        return scan.finish()
    except StatusError as error:
        return error.status, error.offending


_ZLIB = 12 * 1024  # a quarter of what it needs itself


def _header_size(data: bytes, syntax: str, *_: object) -> int:
    """A deflated one counts as what is looked at."""
    if syntax != DEFLATED:
        return len(data)
    inflated = b""
    with suppress(zlib.error):
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, INFLATED)
    return len(data) + len(inflated) + _ZLIB


def _run_header(data: bytes, syntax: str, uid: str, pieces: list[bytes]) -> bool:
    """Attributes are text that a database takes, and do not depend on the fragments."""
    found = _scanned(syntax, uid, pieces)
    if len(pieces) > 1 and syntax != DEFLATED:  # zlib may inflate more before it finds an error
        assert found == _scanned(syntax, uid, [data]), "the fragments matter"
    if isinstance(found, dict):
        assert "\\u0000" not in json.dumps(found)
    return isinstance(found, dict)


_RULES = (
    Rules(),
    Rules(worklist=True),
    Rules(fuzzy=True, combined=True, timezone=60, empty_value=True, multiple_value=True),
    Rules(unknown_matches=frozenset((0x00100010, 0x00080020))),
)
_ENTITY: Attributes = {0x00100010: "Test^Nobody", 0x00080020: "20240102", 0x00080030: "030405"}


def _make_identifier(dice: Dice) -> tuple[bytes, str, int]:
    syntax = dice.of((EXPLICIT, IMPLICIT))
    return mutated(parts().data[syntax], dice), syntax, dice.below(len(_RULES))


def _run_identifier(data: bytes, syntax: str, rules: int) -> bool:
    """Keys with which matching cannot fail, or A900H."""
    with warnings.catch_warnings(action="ignore"):  # pydicom has its opinion of values
        keys = keys_of(decode(data, syntax), _RULES[rules])
    matches(keys, _ENTITY)
    assert set(requested(keys, _ENTITY)) == set(keys)
    return True


DECODERS = (
    Target("framing", 18, _make_stream, _run_framing),
    Target("PDUs", 26, _make_pdu, _run_pdu, (ProtocolError,), measured=_decode_pdu),
    Target("messages", 10, _make_message, _run_message, (ProtocolError,)),
    Target("command sets", 22, _make_command, _run_command, (ProtocolError,)),
    Target("header scan", 12, _make_header, _run_header, size=_header_size),
    # pydicom makes a Dataset of 500 bytes of each item, which may have 8.
    Target("identifiers", 4, _make_identifier, _run_identifier, (DimseError,), memory=64),
)
