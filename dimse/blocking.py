"""The requestor for scripts and notebooks: the verbs of dimse, each waiting for its outcome.

    with blocking.associate("pacs:11112", [STUDY_ROOT.find]) as association:
        for dataset in association.find(query):
            print(dataset.StudyInstanceUID)

Arguments are those of the functions of the same names. What their Deferreds fire with is returned,
what they fail with is raised, and what iterates asynchronously is an ordinary generator. Ctrl-C, or
whatever else a signal handler raises, cancels what is waited for; so does leaving a generator.

The first call starts the reactor of the process in a daemon thread; it stops when the script ends.
A program that runs a reactor itself does not need this module, and gets a `MisuseError`. What is
called back, `progress` and the SCPs of an association, is called in the reactor's thread.
"""

import atexit
from collections.abc import AsyncIterable, Awaitable, Callable, Generator
from contextlib import aclosing, suppress
from functools import cache, partial, wraps
from threading import Event, Lock, Thread, current_thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRestartable
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.threads import blockingCallFromThread

from dimse import requestor
from dimse.association import Association
from dimse.errors import AssociationError, MisuseError
from dimse.message.status import Status
from dimse.services import (
    availability,
    commitment,
    normalized,
    procedure_step,
    query,
    retrieve,
    sending,
    storage,
    verification,
)

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_STOP_SECONDS = 5.0  # for the reactor at the end of a script; a look-up of a name may take longer

_starting = Lock()
_stopping = Event()


class _Answers(AsyncIterable[T_co], Protocol[T_co]):
    """Many answers, and the way to want no more of them."""

    async def aclose(self) -> None: ...


# The reactor and its thread


@cache
def _thread(reactor: Any) -> Thread:
    """The thread in which the reactor runs, which it does when this returns."""
    if reactor.running:
        raise MisuseError("dimse.blocking in a program that runs the reactor itself")
    begun = Event()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            reactor.run(installSignalHandlers=False)
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits
            ended.append(error)
        finally:
            begun.set()

    def stop() -> None:
        _stopping.set()  # a look-up of a name can keep the reactor from its end, and us waiting
        reactor.callFromThread(reactor.stop)
        thread.join(_STOP_SECONDS)

    reactor.callWhenRunning(reactor.callLater, 0, begun.set)  # by its loop, if that runs
    thread = Thread(target=run, name="reactor of dimse", daemon=True)
    thread.start()
    begun.wait()
    for error in ended:
        if isinstance(error, ReactorNotRestartable):
            raise _stopped()
        raise MisuseError(f"dimse.blocking cannot run the reactor: {error}") from error
    atexit.register(stop)
    return thread


def _stopped() -> MisuseError:
    return MisuseError("dimse.blocking after the reactor has stopped, which ends it for good")


def _reactor() -> Any:
    """The reactor, which runs; raises `MisuseError` where waiting for it would never end."""
    from twisted.internet import reactor  # late, for whoever imports it installs it

    with _starting:
        thread = _thread(reactor)
    if thread is current_thread():
        raise MisuseError("dimse.blocking in a callback, which would wait for itself")
    if _stopping.is_set() or not thread.is_alive():
        raise _stopped()
    return reactor


def _wait(operation: Callable[[], Awaitable[T]]) -> T:
    """Run an operation in the reactor's thread, until it has ended."""
    reactor = _reactor()
    begun: list[Deferred[T]] = []

    async def run() -> T:
        return await operation()

    def begin() -> Any:
        begun.append(Deferred.fromCoroutine(run()))
        return begun[0]

    def cancel() -> Deferred[Any]:
        for deferred in begun:
            deferred.cancel()
        return DeferredList(begun)

    try:
        outcome: T = blockingCallFromThread(reactor, begin)
    except BaseException:  # its own, and then it has ended; or KeyboardInterrupt in this thread
        blockingCallFromThread(reactor, cancel)
        raise
    return outcome


# From verbs to functions and methods that wait


def _blocking(verb: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """A function that returns what `verb` gives in the end."""

    @wraps(verb)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        return _wait(partial(verb, *args, **kwargs))

    return waiting


def _iterating(verb: Callable[P, _Answers[T]]) -> Callable[P, Generator[T, None, None]]:
    """A generator function that yields what `verb` gives one by one."""

    async def stream(*args: P.args, **kwargs: P.kwargs) -> Any:
        async with aclosing(verb(*args, **kwargs)) as answers:  # in the reactor's thread, all of it
            async for answer in answers:
                yield answer

    @wraps(verb)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        answers = stream(*args, **kwargs)
        while True:
            try:
                answer = _wait(answers.__anext__)
            except StopAsyncIteration:
                return
            try:
                yield answer
            except BaseException:  # the loop was left
                with suppress(MisuseError):  # the script has ended, and all connections with it
                    _wait(answers.aclose)
                raise

    return waiting


def _method(
    function: Callable[Concatenate[Association, P], T],
) -> Callable[Concatenate["BlockingAssociation", P], T]:
    """A method of `BlockingAssociation` that calls `function` with its association."""

    @wraps(function)
    def method(self: "BlockingAssociation", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(self._association, *args, **kwargs)

    return method


class BlockingAssociation:
    """An association, as `associate` of this module returns it, and the verbs that it carries.

    `contexts`, `refused`, `explanation`, `peer`, `peer_information`, `extended`, `window` and
    `ended` are those of `dimse.Association`. As a context manager it releases the association, or
    aborts it when its body raises.
    """

    echo = _method(_blocking(verification.echo))
    store = _method(_blocking(storage.store))
    find = _method(_iterating(query.find))
    get = _method(_blocking(retrieve.get))
    move = _method(_blocking(retrieve.move))
    move_here = _method(_blocking(retrieve.move_here))
    n_event_report = _method(_blocking(normalized.n_event_report))
    n_get = _method(_blocking(normalized.n_get))
    n_set = _method(_blocking(normalized.n_set))
    n_action = _method(_blocking(normalized.n_action))
    n_create = _method(_blocking(normalized.n_create))
    n_delete = _method(_blocking(normalized.n_delete))
    commit = _method(_blocking(commitment.commit))
    request_commitment = _method(_blocking(commitment.request_commitment))
    report = _method(_blocking(commitment.report))
    begin_step = _method(_blocking(procedure_step.begin_step))
    complete_step = _method(_blocking(procedure_step.complete_step))
    discontinue_step = _method(_blocking(procedure_step.discontinue_step))
    notify_availability = _method(_blocking(availability.notify_availability))
    release = _method(_blocking(Association.release))

    def __init__(self, association: Association) -> None:
        self._association = association
        self.contexts = association.contexts
        self.refused = association.refused
        self.explanation = association.explanation
        self.peer = association.peer
        self.peer_information = association.peer_information
        self.extended = association.extended
        self.window = association.window

    @property
    def ended(self) -> AssociationError | None:
        """None until the association is over, and then why."""
        return self._association.ended

    def abort(self, why: str = "abort() was called") -> None:
        """End the association at once with an A-ABORT (PS3.7 A.6)."""
        blockingCallFromThread(_reactor(), self._association.abort, why)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort()
        else:
            self.release()


def _wrapped(connect: Callable[P, Association]) -> Callable[P, BlockingAssociation]:
    @wraps(connect)
    def connecting(*args: P.args, **kwargs: P.kwargs) -> BlockingAssociation:
        return BlockingAssociation(connect(*args, **kwargs))

    return connecting


associate = _wrapped(_blocking(requestor.associate))
send = _iterating(sending.send)


def echo(peer: str | IStreamClientEndpoint, **options: Any) -> Status:
    """Associate, ask the peer whether it is there, and release (C-ECHO, PS3.4 A.4).

    `peer` and `options` are those of `associate`. Returns a success; raises what `associate` and
    `dimse.echo` fail with.
    """
    with associate(peer, **options) as association:
        return association.echo()
