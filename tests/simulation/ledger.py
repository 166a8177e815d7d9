"""What was sent, and what was promised of it: everything that is seen has to agree with this."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import NamedTuple

from pydicom.uid import CTImageStorage

from dimse import CommitmentResult, Instance, Reference
from dimse.services.commitment_information import FailureReason
from dimse.services.dataset import encode
from tests.archive.archives import data_set
from tests.simulation.draws import Trace
from tests.wire import EXPLICIT

STUDIES = ("1.2.1", "1.2.2")
UIDS = tuple(f"{study}.{series}.{n}" for study in STUDIES for series in (1, 2) for n in (1, 2))
LENGTHS = (0, 3_000, 20_000, 70_000)  # of what is behind the header of an instance

MISSING = FailureReason.NO_SUCH_OBJECT_INSTANCE


def study_of(uid: str) -> str:
    return uid.rpartition(".")[0].rpartition(".")[0]


@cache
def content(uid: str, version: int, length: int) -> Instance:
    """An instance; those of one UID and other versions are other ones."""
    dataset = data_set(uid, PatientComments=f"version {version}")
    bulk = bytes((version * 31 + n) % 256 for n in range(256)) * (length // 256)
    dataset.add_new(0x7FE00010, "OB", bulk)
    return Instance(CTImageStorage, uid, EXPLICIT, data=encode(dataset, EXPLICIT))


@dataclass(eq=False)
class Sending:
    """An instance that somebody sends; `overlapped` are the digests of what was acknowledged of
    the same UID meanwhile."""

    uid: str
    digest: str
    overlapped: set[str] = field(default_factory=set)


class Asked(NamedTuple):
    """What had been promised, and what was rotten, when a storage commitment was asked for."""

    promised: frozenset[str]
    rotten: frozenset[str]


class Ledger:
    """The instances, by their UIDs and digests, of an archive that keeps the first of each.

    `sent` are all that anybody began to send, `promised` those that have to be there for ever, but
    for what the disk has `damaged` by itself, and what could not be read at a start and is `unread`
    until it is sent again. `committed` is what was said of a storage commitment,
    by transaction, `accepted` are the transactions that were asked for, and `unsure` those of them
    whose request was not answered with a success.
    """

    def __init__(self, trace: Trace) -> None:
        self.sent: dict[str, set[str]] = defaultdict(set)
        self.promised: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.rotten: set[str] = set()  # of these, what nothing can have replaced
        self.unread: set[str] = set()
        self.accepted: dict[str, Asked] = {}
        self.unsure: set[str] = set()
        self.committed: dict[str, CommitmentResult] = {}
        self._trace = trace

    @property
    def excused(self) -> set[str]:
        """What may be missing, or another one than it was."""
        return self.damaged | self.unread

    def sending(self, instance: Instance) -> Sending:
        digest = digest_of(instance.data or b"")
        self.sent[instance.sop_instance_uid].add(digest)
        return Sending(instance.sop_instance_uid, digest)

    def acknowledged(self, sending: Sending) -> None:
        """Somebody heard 0x0000 for it: it is there, and whole, whatever was before."""
        uid, digest = sending.uid, sending.digest
        if uid in self.unread:
            self.unread.remove(uid)
            self.promised[uid] = digest
        before = self.promised.setdefault(uid, digest)
        if before != digest:
            self._trace.violate(f"{uid}: a success for two different instances")

    def refused(self, sending: Sending) -> None:
        """Somebody heard 0xA700 for it."""

    def rots(self, uid: str, *, unseen: bool) -> None:
        """The disk damages it, which the archive may not see."""
        self.damaged.add(uid)
        if not unseen:
            self.rotten.add(uid)

    def over(self) -> None:
        """Nothing that was sent until now, and not answered, can come any more."""

    def found(self, uid: str, data: bytes, where: str) -> None:
        """An instance is there while nothing goes on: so it stays, whatever it may have been."""
        self.seen(uid, data, where)

    def seen(self, uid: str, data: bytes, where: str, since: int | None = None) -> None:
        """Whoever gets an instance gets a whole one, and the one that was promised.

        It was read later than `since`, a line of the trace, or else just now.
        """
        digest = digest_of(data)
        if uid in self.excused:
            return
        if digest not in self.sent[uid]:
            self._trace.violate(f"{where}: {uid}, {len(data)} bytes, was never sent so")
        elif not self.may_be(uid, digest, since):
            self._trace.violate(f"{where}: {uid} is not what was acknowledged")

    def may_be(self, uid: str, digest: str, since: int | None = None) -> bool:
        """Whether an instance with that digest may have been read."""
        return self.promised.get(uid, digest) == digest

    def promised_of(self, study: str) -> frozenset[str]:
        wanted = self.promised.keys() - self.excused
        return frozenset(uid for uid in wanted if study_of(uid) == study)

    def missing(self, wanted: frozenset[str], found: set[str], where: str) -> None:
        """What is found has to have at least what is wanted, and nothing that nobody sent."""
        if lost := sorted(wanted - found - self.excused):
            self._trace.violate(f"{where}: {', '.join(lost)} were acknowledged and are not there")
        if unknown := sorted(found - self.sent.keys()):
            self._trace.violate(f"{where}: {', '.join(unknown)} were never sent")

    def reported(self, result: CommitmentResult, stored: dict[str, bytes] | None) -> None:
        """A result of storage commitment came; `stored` is what is there then, if that is known."""
        uid = result.transaction_uid
        before = self.committed.setdefault(uid, result)
        if (before.committed, before.failed) != (result.committed, result.failed):
            self._trace.violate(f"commitment {uid} was reported in two ways")
        asked = self.accepted[uid]
        for reference in result.committed:
            if reference.sop_instance_uid in asked.rotten & self.rotten:
                self._trace.violate(f"commitment {uid} of {reference.sop_instance_uid}: damaged")
            self._keep(reference, stored, f"commitment {uid}")
        for reference, reason in result.failed.items():
            there = reference.sop_instance_uid in asked.promised - self.excused
            if reason == MISSING and there:
                self._trace.violate(f"commitment {uid}: {reference.sop_instance_uid} is missing")

    def _keep(self, reference: Reference, stored: dict[str, bytes] | None, where: str) -> None:
        uid = reference.sop_instance_uid
        if stored is None or uid in self.excused:
            return
        if uid not in stored:
            self._trace.violate(f"{where}: {uid} is not there")
            return
        self.seen(uid, stored[uid], where)
        self.promised.setdefault(uid, digest_of(stored[uid]))


def digest_of(data: bytes) -> str:
    return sha256(data).hexdigest()
