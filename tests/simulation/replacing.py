"""What an archive may have that replaces an instance by another one of its UID."""

from collections import defaultdict
from math import inf

from dimse import Instance
from tests.simulation.draws import Trace
from tests.simulation.ledger import Ledger, Sending, digest_of


class ReplacingLedger(Ledger):
    """What was acknowledged last is there; of what came at the same time, any may be the last.

    What was refused has changed nothing, but may be there where nothing was acknowledged. Of what
    was not answered nobody knows, until it is found in the archive, or not, while nothing goes on.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self._base: dict[str, set[str]] = defaultdict(set)  # but for what goes on
        self._going_on: dict[str, list[Sending]] = defaultdict(list)
        # The line of the trace until which each may have been read.
        self._until: dict[str, dict[str, float]] = defaultdict(dict)

    def sending(self, instance: Instance) -> Sending:
        sending = super().sending(instance)
        self._going_on[sending.uid].append(sending)
        self.rotten.discard(sending.uid)
        self._changed(sending.uid)
        return sending

    def rots(self, uid: str, *, unseen: bool) -> None:
        super().rots(uid, unseen=unseen or bool(self._going_on[uid]))

    def acknowledged(self, sending: Sending) -> None:
        uid = sending.uid
        if sending not in self._going_on[uid]:  # it was answered before a crash, and heard later
            self.promised.setdefault(uid, sending.digest)
            return
        self._going_on[uid].remove(sending)
        for other in self._going_on[uid]:
            other.overlapped.add(sending.digest)
        self.unread.discard(uid)
        self.promised[uid] = sending.digest
        self._base[uid] = {sending.digest, *sending.overlapped}
        self._changed(uid)

    def refused(self, sending: Sending) -> None:
        if sending in self._going_on[sending.uid]:
            self._going_on[sending.uid].remove(sending)
            if sending.uid not in self.promised:
                self._base[sending.uid].add(sending.digest)
            self._changed(sending.uid)

    def over(self) -> None:
        for uid, sendings in self._going_on.items():
            self._base[uid].update(sending.digest for sending in sendings)
            sendings.clear()

    def found(self, uid: str, data: bytes, where: str) -> None:
        super().found(uid, data, where)
        self._base[uid] &= {digest_of(data)}
        self._changed(uid)

    def may_be(self, uid: str, digest: str, since: int | None = None) -> bool:
        return self._until[uid].get(digest, -1) >= (inf if since is None else since)

    def _changed(self, uid: str) -> None:
        """What may be there is what it is from now on."""
        until = self._until[uid]
        may_be = self._base[uid].union(sending.digest for sending in self._going_on[uid])
        for digest in until.keys() - may_be:
            until[digest] = min(until[digest], self._trace.lines)
        until.update(dict.fromkeys(may_be, inf))
