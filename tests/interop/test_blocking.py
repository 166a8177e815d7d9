"""The blocking requestor, in scripts of their own: it takes the reactor of a process."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from pydicom.data import get_testdata_file

from dimse.ul.pdu import Abort, PDUType
from tests.interop.archives import ROOT, Archive
from tests.interop.corpus import Receiver, take
from tests.interop.exchanges import EXCHANGES, STUDIES, STUDY
from tests.peers import Server, free_port, run, running

pytestmark = pytest.mark.peer

SECONDS = 20.0  # for a script to end
INSTANCE = str(get_testdata_file("CT_small.dcm"))
OTHER = str(get_testdata_file("MR_small.dcm"))
MOVED = {f"{STUDY}.1.{number + 1}" for number in range(STUDIES[STUDY])}
BEGIN = """
    import sys
    import dimse
    from dimse import blocking
    from pydicom import Dataset
    peer, *arguments = sys.argv[1:]
"""

ARCHIVE = """
    import sys
    import dimse
    from pydicom import Dataset
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    async def find(identifier, operation):
        try:
            for number in range(int(identifier.StudyID)):
                match = Dataset()
                match.StudyInstanceUID = f"1.2.{number}"
                yield match
            if identifier.StudyID == "3":
                raise dimse.StatusError(0xA700, "full")
        finally:
            print("over after", number, flush=True)

    def describe(operation, dataset):
        described = Dataset()
        described.StudyInstanceUID = operation.request.requested_sop_instance_uid
        return described

    async def main(reactor):
        port, *paths = sys.argv[1:]
        scps = [
            dimse.QuerySCP(find),
            dimse.RetrieveSCP(lambda *_: paths),
            dimse.NormalizedSCP(["1.2.3.4"], n_get=describe),
        ]
        await dimse.listen(f"tcp:{port}:interface=127.0.0.1", scps)
        await Deferred()

    react(main)
"""

QUERY = """
    def query(count):
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.StudyInstanceUID = ""
        identifier.StudyID = str(count)
        return identifier
"""

ASK = """
    from tests.interop.exchanges import EXCHANGES, arguments as of, dataset, identifier, values

    def ask(contexts, **options):
        return blocking.associate(peer, contexts, called_ae_title="ARCHIVE", **options)
"""


def python(*parts: str) -> list[str]:
    """The command that runs a script."""
    return [sys.executable, "-c", "".join(map(dedent, parts))]


def script(port: int, body: str, *arguments: str, begin: str = BEGIN) -> list[str]:
    """The lines that a script prints, on stderr too; it has to end well, and soon."""
    command = [*python(begin, body), f"127.0.0.1:{port}", *arguments]
    done = run(command, timeout=SECONDS, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def archive() -> Iterator[Server]:
    """Finds as many studies as the Study ID says, but 3 are too many for it; it has two instances,
    and tells of any what its UID is."""
    port = free_port()
    with running([*python(ARCHIVE), str(port), INSTANCE, OTHER], port) as server:
        yield server


class Silent:
    """A peer that takes a connection, reads the A-ASSOCIATE-RQ, and says nothing."""

    def __init__(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.settimeout(SECONDS)
        self.stream = connection.makefile("rb")
        connection.close()  # the stream keeps it
        head = self.stream.read(6)
        assert head[0] == PDUType.ASSOCIATE_RQ
        self.stream.read(int.from_bytes(head[2:], "big"))


class TestVerbs:
    def test_echo(self, node: Receiver) -> None:
        body = "print(int(blocking.echo(peer, calling_ae_title='SCRIPT')))"
        assert script(node.port, body) == ["0"]

    def test_on_one_association(self, node: Receiver) -> None:
        body = """
            contexts = ["1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"]
            with blocking.associate(peer, contexts, called_ae_title="THERE") as association:
                print(int(association.echo()), int(association.store(arguments[0])))
                print(len(association.contexts), len(association.refused))
                print(association.peer.ae_title, association.ended)
            print(type(association.ended).__name__)
        """
        lines = script(node.port, body, INSTANCE)
        assert lines == ["0 0", "2 1", "THERE None", "ReleasedError"]

    def test_send(self, node: Receiver, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("no instance")
        body = """
            for result in blocking.send(peer, arguments):
                print(result.ok, result.skipped)
        """
        assert script(node.port, body, str(tmp_path), INSTANCE) == ["False True", "True False"]

    def test_find(self, archive: Server) -> None:
        body = """
            with blocking.associate(peer, [dimse.STUDY_ROOT.find]) as association:
                print([each.StudyInstanceUID for each in association.find(query(2))])
                print([each.StudyInstanceUID for each in association.find(query(1))])
        """
        lines = script(archive.port, body, begin=BEGIN + QUERY)
        assert lines == ["['1.2.0', '1.2.1']", "['1.2.0']"]

    def test_get(self, archive: Server, tmp_path: Path) -> None:
        body = """
            with blocking.associate(peer, dimse.get_contexts()) as association:
                print(association.get(query(1), dimse.FileStore(arguments[0])).completed)
        """
        assert script(archive.port, body, str(tmp_path), begin=BEGIN + QUERY) == ["2"]
        assert len(list(tmp_path.glob("objects/*/*.dcm"))) == 2

    def test_n_get(self, archive: Server) -> None:
        body = """
            with blocking.associate(peer, ["1.2.3.4"]) as association:
                print(association.n_get("1.2.3.4", "1.2.3.4.5").dataset.StudyInstanceUID)
        """
        assert script(archive.port, body) == ["1.2.3.4.5"]

    def test_signatures_are_those_of_the_verbs(self, node: Receiver) -> None:
        body = """
            from inspect import signature
            first, *others = signature(dimse.store).parameters.values()
            method = signature(blocking.BlockingAssociation.store)
            print(list(method.parameters.values())[1:] == others)
            print(signature(blocking.associate) == signature(dimse.associate))
            print(blocking.send.__doc__ == dimse.send.__doc__)
        """
        assert script(node.port, body) == ["True"] * 3


class TestPeer:
    """What pynetdicom sends and performs."""

    def test_move(self, pynetdicom: Archive, node: Receiver) -> None:
        body = """
            with ask([dimse.STUDY_ROOT.move]) as association:
                print(association.move(dataset(identifier("C-MOVE")), arguments[0]).completed)
        """
        lines = script(pynetdicom.server.port, body, str(node.port), begin=BEGIN + ASK)
        assert lines == ["3"]
        assert take(node.folder).keys() >= MOVED

    def test_move_here(self, pynetdicom: Archive, tmp_path: Path) -> None:
        body = """
            folder, port = arguments
            with ask([dimse.STUDY_ROOT.move]) as association:
                done = association.move_here(
                    dataset(identifier("C-MOVE")),
                    dimse.FileStore(folder),
                    f"tcp:{port}:interface=127.0.0.1",
                    destination=port,
                )
                print(done.completed)
        """
        begin, port = BEGIN + ASK, str(free_port())
        assert script(pynetdicom.server.port, body, str(tmp_path), port, begin=begin) == ["3"]
        assert take(tmp_path / "objects").keys() == MOVED

    def test_dimse_n(self, pynetdicom: Archive) -> None:
        """Every verb says what it is told to say, and returns what is answered."""
        body = """
            import json

            meta = "1.2.840.10008.5.1.1.9"
            with ask([meta], roles={meta: (True, True)}) as association:
                for service in EXCHANGES:
                    verb = getattr(association, service.lower().replace("-", "_"))
                    reply = verb(*of(service))
                    print(json.dumps([service, int(reply.status), values(reply.dataset)]))
        """
        lines = script(pynetdicom.server.port, body, begin=BEGIN + ASK)
        exchanges = EXCHANGES.items()
        assert [*map(json.loads, lines)] == [[name, 0, each.answered] for name, each in exchanges]
        assert pynetdicom.requests() == [each.request for each in EXCHANGES.values()]


class TestErrors:
    def test_what_dimse_raises(self, node: Receiver) -> None:
        """With the script and dimse itself in the traceback."""
        body = """
            import traceback

            def of_the_script():
                blocking.associate(peer, ["1.2.3.4"]).store(arguments[0])

            try:
                of_the_script()
            except dimse.ContextError as error:
                names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                print(names[1], names[-1])
        """
        assert script(node.port, body, INSTANCE) == ["of_the_script context_for"]

    def test_at_the_end_of_an_iteration(self, archive: Server) -> None:
        body = """
            with blocking.associate(peer, [dimse.STUDY_ROOT.find]) as association:
                matches = association.find(query(3))
                print(*(next(matches).StudyInstanceUID for _ in range(3)))
                try:
                    next(matches)
                except dimse.StatusError as error:
                    print(error)
        """
        lines = script(archive.port, body, begin=BEGIN + QUERY)
        assert lines == ["1.2.0 1.2.1 1.2.2", "status 0xA700: Refused: out of resources"]

    def test_in_the_body(self, node: Receiver) -> None:
        """It aborts."""
        body = """
            try:
                with blocking.associate(peer) as association:
                    raise ValueError
            except ValueError:
                print(type(association.ended).__name__)
        """
        assert script(node.port, body) == ["AssociationAbortedError"]

    def test_in_a_callback(self, node: Receiver) -> None:
        """It would wait for itself."""
        body = """
            def progress(count):
                try:
                    blocking.echo(peer)
                except dimse.MisuseError as error:
                    print(error)

            for result in blocking.send(peer, arguments, progress=progress):
                print(result.ok)
        """
        *errors, result = script(node.port, body, INSTANCE)
        assert errors
        assert all("callback" in error for error in errors)
        assert result == "True"

    def test_in_a_program_with_a_reactor(self, node: Receiver) -> None:
        body = """
            from twisted.internet.task import deferLater, react

            async def main(reactor):
                await deferLater(reactor, 0)
                try:
                    blocking.echo(peer)
                except dimse.MisuseError as error:
                    print(error)
                print(int(await dimse.echo(await dimse.associate(peer))))

            react(main)
        """
        error, status = script(node.port, body)
        assert "runs the reactor itself" in error
        assert status == "0"

    def test_after_a_program_with_a_reactor(self, node: Receiver) -> None:
        body = """
            from twisted.internet.defer import succeed
            from twisted.internet.task import react

            try:
                react(lambda reactor: succeed(None))
            except SystemExit:
                pass
            for _ in range(2):
                try:
                    blocking.echo(peer)
                except dimse.MisuseError as error:
                    print("has stopped" in str(error))
        """
        assert script(node.port, body) == ["True"] * 2

    def test_after_the_reactor_has_stopped(self, node: Receiver) -> None:
        body = """
            from threading import enumerate
            from twisted.internet import reactor

            blocking.echo(peer)
            (thread,) = (each for each in enumerate() if "reactor of" in each.name)
            reactor.callFromThread(reactor.stop)
            thread.join()
            try:
                blocking.echo(peer)
            except dimse.MisuseError as error:
                print(error)
        """
        (error,) = script(node.port, body)
        assert "has stopped" in error


class TestLeaving:
    @pytest.mark.parametrize("leave", ["break", "raise ValueError"])
    def test_a_loop(self, archive: Server, leave: str) -> None:
        """The peer is told to stop, and the association is as good as before."""
        body = f"""
            with blocking.associate(peer, [dimse.STUDY_ROOT.find]) as association:
                try:
                    for match in association.find(query(1_000_000)):
                        {leave}
                except ValueError:
                    pass
                print(len(list(association.find(query(2)))))
        """
        assert script(archive.port, body, begin=BEGIN + QUERY) == ["2"]
        *_, cancelled, whole = archive.log().splitlines()
        assert 0 < int(cancelled.split()[-1]) < 100_000
        assert whole == "over after 1"

    def test_a_generator_at_the_end_of_the_script(self, node: Receiver) -> None:
        """Nobody closes it before the reactor stops."""
        body = """
            results = blocking.send(peer, arguments)
            print(next(results).ok)
        """
        assert script(node.port, body, INSTANCE, INSTANCE) == ["True"]

    def test_an_association_at_the_end_of_the_script(self, node: Receiver) -> None:
        assert script(node.port, "association = blocking.associate(peer)") == []

    def test_the_reactor_stops_with_the_script(self, node: Receiver) -> None:
        body = """
            from twisted.internet import reactor

            reactor.addSystemEventTrigger("after", "shutdown", print, "stopped")
            print(int(blocking.echo(peer)))
        """
        assert script(node.port, body) == ["0", "stopped"]

    def test_without_a_call(self, node: Receiver) -> None:
        """The import alone starts nothing, and takes no reactor."""
        body = """
            from threading import active_count
            print("twisted.internet.reactor" in sys.modules, active_count())
        """
        assert script(node.port, body) == ["False 1"]


class TestInterrupt:
    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(SECONDS)
            yield listener

    @pytest.mark.parametrize(
        ("handler", "error"),
        [("", "KeyboardInterrupt"), ("signal.signal(signal.SIGINT, alarm)", "TimeoutError")],
    )
    def test_while_it_waits(self, listener: socket.socket, handler: str, error: str) -> None:
        """Whatever the signal handler raises is raised, and what was begun is aborted."""
        body = f"""
            import signal

            def alarm(number, frame):
                raise TimeoutError

            {handler}
            try:
                blocking.echo(peer)
            except BaseException as error:
                print(type(error).__name__)
        """
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [*python(BEGIN, body), address], stdout=subprocess.PIPE, encoding="ascii"
        )
        with process:
            peer = Silent(listener)
            with peer.stream:
                process.send_signal(signal.SIGINT)
                assert peer.stream.read() == Abort(0, 0).encode()
            output, _ = process.communicate(timeout=SECONDS)
        assert output == f"{error}\n"
        assert process.returncode == 0
