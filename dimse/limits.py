"""Every bound and every time-out, each with the reason for its default.

One `Limits` serves an association from the first byte on. The server and the command line make
their options from the fields of this class, so a limit is written down here and nowhere else.
"""

from dataclasses import dataclass, field, fields
from math import inf
from typing import Any

from dimse.errors import MisuseError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def _limit(default: float, unit: str, doc: str, least: float = 1, most: float = inf) -> Any:
    metadata = {"unit": unit, "doc": doc, "least": least, "most": most}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one association and of the acceptor that holds it; each has a default."""

    # Times, in seconds. ARTIM is the one of PS3.8 9.1.4; the standard leaves the others to us.
    artim: float = _limit(10, "s", "from accept to a whole A-ASSOCIATE-RQ, and for a close", 0.001)
    connect: float = _limit(30, "s", "to open the transport connection", 0.001)
    associate: float = _limit(30, "s", "for the answer to an association or release request", 0.001)
    response: float = _limit(60, "s", "for a response; each Pending one starts it again", 0.001)
    perform: float = _limit(
        # A query over a large archive, or the commit of a large instance, may take minutes.
        300,
        "s",
        "for a performer to answer, or to go on when it paused the peer",
        0.001,
    )
    idle: float = _limit(300, "s", "with no operation under way, then the association ends", 0.001)
    write_stall: float = _limit(60, "s", "for a peer to read what is buffered for it", 0.001)
    progress: float = _limit(60, "s", "in which a message begun must bring progress_bytes", 0.001)
    close: float = _limit(5, "s", "for a closing connection to end by itself", 0.001)
    grace: float = _limit(30, "s", "for open associations to finish when the server stops", 0)

    commit: float = _limit(
        # A disk that hangs answers never, and a node must end nevertheless.
        10,
        "s",
        "for what is being committed when the store closes",
        0.001,
    )

    # Sizes, in bytes.
    maximum_length: int = _limit(
        # 128 KiB is what DCMTK sends at most; larger PDUs bring nothing once reads are 256 KiB.
        128 * KIB,
        "bytes",
        "of a P-DATA-TF PDU that we receive",
        4 * KIB,
        GIB,
    )
    send_length: int = _limit(128 * KIB, "bytes", "of a P-DATA-TF PDU that we send", 4 * KIB, GIB)
    associate_length: int = _limit(
        # 128 contexts with 64 transfer syntaxes of 64 characters are 0.6 MiB.
        MIB,
        "bytes",
        "of an A-ASSOCIATE-RQ or -AC",
        KIB,
    )
    command_length: int = _limit(64 * KIB, "bytes", "of a command set", KIB)
    identifier_length: int = _limit(
        # 10,000 UIDs of 64 characters are 0.65 MiB.
        MIB,
        "bytes",
        "of an Identifier (C-FIND, C-GET, C-MOVE)",
        KIB,
    )
    dataset_length: int = _limit(
        # A film box with its pixels, or a commitment request for 100,000 instances.
        32 * MIB,
        "bytes",
        "of a data set of DIMSE-N",
        KIB,
    )
    kept_length: int = _limit(
        # One association may keep 32 MiB for its request; 500 of them would be 16 GiB.
        256 * MIB,
        "bytes",
        "of the Identifiers and DIMSE-N data sets that all associations of an acceptor keep",
        KIB,
    )
    instance_length: int = _limit(
        # Whole slide images pass 10 GiB; a stream without an end has to stop somewhere.
        64 * GIB,
        "bytes",
        "of one instance received",
        KIB,
    )
    progress_bytes: int = _limit(64 * KIB, "bytes", "that a message must bring per progress time")
    disk_reserve: int = _limit(GIB, "bytes", "that stay free on the disk of the store", 0)

    # Counts. The operations window is 1 unless asked for: some peers fail when it is proposed.
    operations_invoked: int = _limit(1, "", "that we invoke at a time", 1, 0xFFFF)
    operations_performed: int = _limit(1, "", "of the peer that we perform at a time", 1, 0xFFFF)
    answers: int = _limit(
        # So many identifiers of a kB are one read of the socket; more would only use memory.
        64,
        "",
        "of a C-FIND, C-GET or C-MOVE that wait to be taken, then the peer waits",
    )
    transfer_syntaxes: int = _limit(64, "", "proposed in one presentation context")
    empty_fragments: int = _limit(
        # PS3.8 E.1 forbids them and asks receivers to take them; a flood of them is an attack.
        16,
        "",
        "fragments without data in a row",
    )
    associations: int = _limit(500, "", "open at a time")
    associations_per_address: int = _limit(100, "", "open at a time from one address or IPv6 /64")
    connections: int = _limit(1000, "", "that have not asked for an association yet")
    connections_per_address: int = _limit(100, "", "of those, from one address or IPv6 /64")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least, most = (
                getattr(self, each.name),
                each.metadata["least"],
                each.metadata["most"],
            )
            if not least <= value <= most or value == inf:  # NaN is not in it either
                raise MisuseError(f"limit {each.name} is {value}, not from {least} to {most}")
