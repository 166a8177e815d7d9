"""The blocking requestor where its reactor cannot run, or ends: it raises, and never hangs.

Each in a script of its own, for it takes the reactor of a process; one that hangs is ended.
"""

import sys
from textwrap import dedent

from tests.peers import run

BEGIN = """
    import atexit, faulthandler, threading, time
    faulthandler.dump_traceback_later(30, exit=True)

    def release():
        try:
            association.release()
        except Exception as error:
            print("release:", type(error).__name__, flush=True)

    atexit.register(release)  # before the reactor's own, so it comes after that

    import dimse
    from dimse import blocking
    from twisted.internet import reactor

    def listen(limits):
        blocking._reactor()
        listening = threading.Event()
        listeners = []

        def listened(listener):
            listeners.append(listener)
            listening.set()

        def begin():
            scps = [dimse.VerificationSCP()]
            dimse.listen("tcp:0:interface=127.0.0.1", scps, limits=limits).addCallback(listened)

        reactor.callFromThread(begin)
        listening.wait()
        return f"127.0.0.1:{listeners[0].address.port}"
"""


def script(*parts: str) -> str:
    """What it printed; it has ended by itself."""
    done = run([sys.executable, "-c", "\n".join(map(dedent, parts))])
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_asyncio_loop_that_runs_already():
    """As in a notebook: that loop cannot run once more in a thread of ours."""
    text = """
        import asyncio, faulthandler
        faulthandler.dump_traceback_later(30, exit=True)

        async def main():
            from twisted.internet import asyncioreactor
            asyncioreactor.install(asyncio.get_running_loop())
            from dimse import blocking
            try:
                blocking.echo("127.0.0.1:1")
            except Exception as error:
                print(type(error).__name__, error)

        asyncio.run(main())
    """
    assert script(text) == (
        "MisuseError dimse.blocking cannot run the reactor: This event loop is already running\n"
    )


def test_a_call_at_the_end_while_a_look_up_takes_its_time():
    """The reactor stops when its threads have ended: who calls until then is told so."""
    text = """
        association = blocking.associate(listen(None))
        reactor.callFromThread(reactor.callInThread, time.sleep, 8)
        print("over", flush=True)
    """
    assert script(BEGIN, text) == "over\nrelease: MisuseError\n"


def test_what_an_association_says_of_itself():
    text = """
        limits = dimse.Limits(operations_invoked=4, operations_performed=4)
        with blocking.associate(listen(limits), limits=limits) as association:
            print(*association.explanation, sep="\\n")
            print(association.window, association.extended)
            print(association.peer_information.implementation_version_name)
            print(association.echo())
    """
    first, *_, window, implementation, echo, _ = script(BEGIN, text).splitlines()
    assert first.startswith("context 1, Verification SOP Class: accepted with")
    assert window == "(4, 4) {}"
    assert implementation.startswith("DIMSE")
    assert echo.startswith("0x0000")
