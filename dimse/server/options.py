"""The options of `twistd dimse`."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from dimse.archive.files import DURABILITIES
from dimse.errors import MisuseError
from dimse.limits import Limits
from dimse.ul.negotiation import is_ae_title, is_uid

DEFAULT_PORT = 11112  # registered for DICOM, and needs no privileges (PS3.8 9.1.1)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 2**16:
        raise ValueError(f"{port} is no port")
    return port


def _option(name: str) -> str:
    return name.replace("_", "-")


def _limit(field: Any) -> list[Any]:
    number: Callable[[str], Any] = int if isinstance(field.default, int) else float
    if field.metadata["unit"] == "s":
        number = float
    unit = f"{field.metadata['unit']} " if field.metadata["unit"] else ""
    return [_option(field.name), None, field.default, unit + field.metadata["doc"], number]


class Options(UsageOptions):
    """What a node can be told on its command line; every limit of `Limits` is an option."""

    synopsis = "[options]"
    longdesc = (
        "A DICOM node: answers C-ECHO and keeps the instances that it gets by C-STORE. "
        "It takes what every peer sends it: keep it on a network that you trust."
    )
    optParameters = [  # noqa: RUF012  as usage.Options wants it
        ["port", "p", None, f"TCP port to listen on (default {DEFAULT_PORT})", _port],
        ["storage", None, "dimse-storage", "folder that keeps the instances"],
        ["durability", None, "full", "; ".join(f"{k}: {v}" for k, v in DURABILITIES.items())],
        *map(_limit, fields(Limits)),
    ]
    optFlags = [  # noqa: RUF012  as usage.Options wants it
        ["promiscuous", None, "take instances of unknown, such as private, SOP classes too"],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        self["listen"] = []
        self["aet"] = []
        self["transfer-syntax"] = []

    def opt_listen(self, endpoint: str) -> None:
        """An endpoint to listen on, such as tcp:11112:interface=127.0.0.1; may be repeated."""
        self["listen"].append(endpoint)

    def opt_aet(self, title: str) -> None:
        """A called AE title to answer to; may be repeated. Any, unless given."""
        if not is_ae_title(title):
            raise UsageError(f"{title!r} is no AE title of 1 to 16 characters")
        self["aet"].append(title)

    def opt_transfer_syntax(self, uid: str) -> None:
        """A transfer syntax to take; may be repeated, in order of preference. Any, unless given."""
        if not is_uid(uid):
            raise UsageError(f"{uid!r} is no UID")
        self["transfer-syntax"].append(uid)

    def postOptions(self) -> None:
        """Check what belongs together, and make `limits` and `endpoints` of it."""
        if self["durability"] not in DURABILITIES:
            raise UsageError(f"--durability is one of {', '.join(DURABILITIES)}")
        try:
            self["limits"] = Limits(
                **{each.name: self[_option(each.name)] for each in fields(Limits)}
            )
        except MisuseError as error:
            raise UsageError(str(error)) from error
        port = self["port"]
        if port is None and not self["listen"]:
            port = DEFAULT_PORT
        self["endpoints"] = ([] if port is None else [f"tcp:{port}"]) + self["listen"]
