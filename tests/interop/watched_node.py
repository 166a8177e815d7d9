"""twistd that tells on stderr what it should not do: run programs, ask for the names of addresses,
and import what it may not be able to read once it has given up its privileges.

python -m tests.interop.watched_node ARGUMENTS OF TWISTD
"""

import os
import sys

FORBIDDEN = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "socket.gethostbyaddr",
    "socket.getnameinfo",
    "subprocess.Popen",
}
USER = os.geteuid()


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in FORBIDDEN:
        os.write(2, f"watched: {event} {arguments}\n".encode())
    elif event == "import" and os.geteuid() != USER:
        os.write(2, f"watched: import of {arguments[0]}\n".encode())


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    sys.addaudithook(watch)
    run()
