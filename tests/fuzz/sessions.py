"""Whole sessions as what is fuzzed: what a peer says, mutated, to our acceptor or requestor."""

from functools import cache, partial

from dimse.ul.pdu import COMMAND_BIT, PDataTF, PDUType
from tests.fuzz.connections import FATES, Outcome, Stage
from tests.fuzz.corpus import EXPLICIT, IMPLICIT, elements_seed, pdus, stream_seed
from tests.fuzz.decoders import Target, parts
from tests.fuzz.mutation import Dice, mutated, segments


@cache
def stage() -> Stage:
    """One for all sessions of a process."""
    return Stage()


def _other_message(pdu: bytes, dice: Dice) -> bytes:
    """A P-DATA-TF whose first fragment was mutated, and the lengths around it made to fit."""
    if pdu[0] != PDUType.P_DATA_TF:
        return pdu
    first, *others = PDataTF.decode(memoryview(pdu)[6:]).pdvs
    syntax = IMPLICIT if first.control & COMMAND_BIT else EXPLICIT
    fragment = mutated([elements_seed(bytes(first.fragment), syntax)], dice)
    return PDataTF((first._replace(fragment=fragment), *others)).encode()


def _said(stream: bytes, dice: Dice) -> bytes:
    """A stream with one PDU mutated, left out, repeated, swapped or put in, or mutated as a whole.

    Mutated as a whole, a session seldom gets beyond its first PDU.
    """
    said, how = pdus(stream), dice.below(12)
    index = dice.below(len(said))
    if how < 3:
        said[index] = mutated([stream_seed(said[index])], dice)
    elif how >= 8:
        said[index] = _other_message(said[index], dice)
    elif how == 3:
        return mutated([stream_seed(stream)], dice)
    elif how == 4:
        del said[index]
    elif how == 5:
        said.insert(index, said[index])
    elif how == 6:
        said.insert(index, dice.of(parts().pdus).data)
    elif dice.below(2):
        other = dice.below(len(said))
        said[index], said[other] = said[other], said[index]
    return b"".join(said)


Case = tuple[bytes, int, list[bytes], str]  # what is said, which session, segments, what then


def _make(dice: Dice, who: str) -> Case:
    session = dice.below(len(parts().sessions))
    stream = _said(getattr(parts().sessions[session], who), dice)
    return stream, session, segments(stream, dice), dice.of(FATES)


def _play(who: str, stream: bytes, session: int, pieces: list[bytes], fate: str) -> Outcome:
    try:
        if who == "acceptor":
            return stage().acceptor(pieces, fate)
        return stage().requestor(parts().sessions[session], pieces, fate)
    except BaseException:
        stage.cache_clear()  # what is left of it is not the next one's
        raise


def _run(who: str, stream: bytes, session: int, pieces: list[bytes], fate: str) -> bool:
    """What comes of it does not depend on the segments, unless the peer does not read."""
    found = _play(who, stream, session, pieces, fate)
    if len(pieces) > 1 and fate == "closes":
        assert found == _play(who, stream, session, [stream], fate), "the segments matter"
    return found.established


def _both(stream: bytes, session: int, *_: object) -> int:
    """What the peer says, and what ours asks for."""
    return len(stream) + len(parts().sessions[session].requestor)


_ASSOCIATION = 128 * 1024  # bytes of one, with all who perform

SESSIONS = (
    Target(
        *("acceptor", 2, lambda dice: _make(dice, "requestor"), partial(_run, "acceptor")),
        fixed=_ASSOCIATION,
        measured=partial(_play, "acceptor"),
    ),
    Target(
        *("requestor", 2, lambda dice: _make(dice, "acceptor"), partial(_run, "requestor")),
        fixed=_ASSOCIATION,
        size=_both,
        measured=partial(_play, "requestor"),
    ),
)
