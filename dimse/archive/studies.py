"""When studies end: nobody says so, but nothing of them comes any more."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dimse.performing import Operation, Peer


@dataclass(frozen=True, slots=True)
class EndedStudy:
    """A study of which nothing comes any more, as far as one can tell.

    The archive has so many `instances` of it then, whenever they came; what was sent again, or was
    refused, adds nothing. `peer` sent the last one, and called us `ae_title`.
    """

    study_instance_uid: str
    instances: int
    peer: Peer
    ae_title: str


@dataclass(slots=True)
class _Open:
    """A study that instances come of: who brought the last one, on which association."""

    peer: Peer
    ae_title: str
    association: object = None  # of an earlier run
    news: int = 0  # as the index counts them, so that it can tell what came after the end
    timer: Any = None
    awaited: set[object] = field(default_factory=set)  # associations whose end is waited for


class Studies:
    """Calls `ended(study)` when no instance of a study came for `timeout` seconds.

    With a `timeout` of 0 a study ends with the association that brought its last instance. What
    the hook raises, or its Deferred fails with, is logged. `forget(uid, news)` is called before,
    for what the next run would `resume`; it fires with how many instances there are.
    """

    log = Logger()

    def __init__(
        self,
        timeout: float,
        ended: Callable[[EndedStudy], Any],
        clock: Any,
        forget: "Callable[[str, int], Deferred[int]]",
    ) -> None:
        self._timeout = timeout
        self._ended = ended
        self._clock = clock
        self._forget = forget
        self._ending: set[Deferred[None]] = set()
        self._open: dict[str, _Open] = {}

    def received(self, study_instance_uid: str, operation: Operation, *, is_new: bool) -> None:
        """An instance of it was committed, which was not there before if it `is_new`."""
        association = operation.association
        study = self._open.setdefault(study_instance_uid, _Open(operation.peer, operation.ae_title))
        study.peer, study.ae_title = operation.peer, operation.ae_title
        study.association = association
        study.news += is_new
        if self._timeout:
            if study.timer is None:
                study.timer = self._clock.callLater(self._timeout, self._end, study_instance_uid)
            else:
                study.timer.reset(self._timeout)
        elif association not in study.awaited:
            study.awaited.add(association)
            association.when_ended().addCallback(
                lambda _: self._association_ended(study_instance_uid, association)
            )

    def resume(self, study_instance_uid: str, news: int, peer: Peer, ae_title: str) -> None:
        """So many new instances of it came before a restart, and it had not ended."""
        if study_instance_uid not in self._open:
            study = self._open[study_instance_uid] = _Open(peer, ae_title, news=news)
            study.timer = self._clock.callLater(self._timeout, self._end, study_instance_uid)

    def abandon(self) -> None:
        """Forget those that are open, which have not ended: the next run resumes them."""
        for study in self._open.values():
            _stop(study)
        self._open.clear()

    def close(self) -> "Deferred[Any]":
        """Let all that are open end now; fires when they have, and the next run will not know."""
        for study_instance_uid in list(self._open):
            self._end(study_instance_uid)
        return DeferredList(list(self._ending))

    def _association_ended(self, study_instance_uid: str, association: object) -> None:
        study = self._open.get(study_instance_uid)
        if study is not None and study.association is association:
            self._end(study_instance_uid)

    def _end(self, study_instance_uid: str) -> None:
        study = self._open.pop(study_instance_uid)
        _stop(study)
        forgotten = self._forget(study_instance_uid, study.news)
        forgotten.addErrback(self._not_forgotten, study)
        ending: Deferred[None] = forgotten.addCallback(self._tell, study_instance_uid, study)
        self._ending.add(ending)
        ending.addBoth(lambda _: self._ending.discard(ending))

    def _not_forgotten(self, failure: Failure, study: _Open) -> int:
        """The index does not know how many there are, either."""
        self.log.failure("a study will end once more", failure)
        return study.news

    def _tell(self, count: int, study_instance_uid: str, study: _Open) -> None:
        self.log.info(
            "study {uid} has ended: {count} instances, the last of {peer}",
            uid=study_instance_uid,
            count=count,
            peer=str(study.peer),
        )
        ended = EndedStudy(study_instance_uid, count, study.peer, study.ae_title)
        maybeDeferred(self._ended, ended).addErrback(
            lambda failure: self.log.failure("on_study_end failed", failure)
        )


def _stop(study: _Open) -> None:
    if study.timer is not None and study.timer.active():
        study.timer.cancel()
