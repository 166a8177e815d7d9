"""The options that the commands share, named as those of DCMTK and pynetdicom."""

from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from enum import Enum
from functools import wraps
from typing import Any

import click

from dimse.cli import identity
from dimse.cli.tls import TLS, TLS_OPTION, TLS_PARAMETERS, taken
from dimse.errors import AssociationError, MisuseError, TimedOutError
from dimse.implementation import CALLED_AE_TITLE, CALLING_AE_TITLE
from dimse.limits import Limits
from dimse.ul.items import UserIdentityRQ
from dimse.ul.negotiation import is_ae_title

Command = Callable[..., None]

_LIMITS = {each.name: each for each in fields(Limits)}
_LONGEST = 2**32 - 1  # of a PDU, and no time-out is longer (PS3.8 9.3.1)
_UNITS = {"s": "Seconds", "bytes": "Bytes"}
_LIMIT_OPTIONS = {
    "associate": ("-ta", "--acse-timeout"),
    "response": ("-td", "--dimse-timeout"),
    "connect": ("-tn", "--network-timeout"),
    "maximum_length": ("-pdu", "--max-pdu"),
}


class Verbosity(Enum):
    """How much a command says beside its errors."""

    QUIET = "nothing but errors"
    NORMAL = "what came of it"
    VERBOSE = "what happens on the way, too"
    DEBUG = "all that is logged, too"

    @property
    def tells_events(self) -> bool:
        """Whether it says what happens on the way to its result."""
        return self in (Verbosity.VERBOSE, Verbosity.DEBUG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The peer to associate with, and how, as the options say."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    limits: Limits
    verbosity: Verbosity
    tls: TLS | None = None
    user_identity: UserIdentityRQ | None = None

    @property
    def address(self) -> str:
        """Host and port in one, as `dimse.associate` takes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """Who it is, for the user."""
        return f"{self.address} ({self.called_ae_title})"

    def explain(self, error: AssociationError) -> str:
        """What happened to an association with it, and the option that could have helped."""
        text, option = f"{self}: {error.args[0]}", ""
        if isinstance(error, TimedOutError):
            text += f" for {error.request}" if error.request else ""
            option, *_ = _LIMIT_OPTIONS.get(error.which, ("",))
        elif error.may_expect_tls:
            option = f"the peer may expect TLS: {TLS_OPTION}"
        return f"{text} ({option})" if option else text


def takes_target(command: Command) -> Command:
    """Give a command HOST, PORT and the options of an association; it gets them as a `Target`."""

    @wraps(command)
    def call(**given: Any) -> None:
        try:
            limits = Limits(**{name: given.pop(name) for name in _LIMITS if name in given})
        except MisuseError as error:  # NaN is in every range
            raise click.UsageError(str(error)) from error
        tls = taken(given)
        given["user_identity"] = identity.user_identity(given, encrypted=tls is not None)
        of_target = {
            each.name: given.pop(each.name) for each in fields(Target) if each.name in given
        }
        command(Target(limits=limits, tls=tls, **of_target), **given)

    for parameter in reversed(_PARAMETERS):
        call = parameter(call)
    return call


def ae_title(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The callback of an option for an AE title."""
    if value is not None and not is_ae_title(value):
        raise click.BadParameter(f"{value!r} is no AE title of 1 to 16 characters (PS3.5 6.2)")
    return value


def _ae_title_option(short: str, long: str, name: str, default: str, doc: str) -> Any:
    return click.option(
        short,
        long,
        name,
        metavar="AE",
        default=default,
        show_default=True,
        callback=ae_title,
        help=doc,
    )


def _limit_option(name: str) -> Any:
    limit: Field[Any] = _LIMITS[name]
    unit, least = limit.metadata["unit"], limit.metadata["least"]
    span = click.FloatRange if unit == "s" else click.IntRange
    return click.option(
        *_LIMIT_OPTIONS[name],
        name,
        metavar=unit[0].upper(),
        type=span(least, _LONGEST),
        default=limit.default,
        show_default=True,
        help=f"{_UNITS[unit]} {limit.metadata['doc']}.",
    )


def _verbosity_option(short: str, long: str, verbosity: Verbosity) -> Any:
    return click.option(
        short,
        long,
        "verbosity",
        flag_value=verbosity,
        type=click.UNPROCESSED,
        default=Verbosity.NORMAL,
        help=f"Say {verbosity.value}.",
    )


version_option = click.version_option(
    package_name="dimse", prog_name="dimse", message="%(prog)s %(version)s"
)

_PARAMETERS = (
    click.argument("host"),
    click.argument("port", type=click.IntRange(1, 2**16 - 1)),
    _ae_title_option(
        "-aet", "--calling-aet", "calling_ae_title", CALLING_AE_TITLE, "Our AE title."
    ),
    _ae_title_option(
        "-aec", "--called-aet", "called_ae_title", CALLED_AE_TITLE, "AE title of the peer."
    ),
    *map(_limit_option, _LIMIT_OPTIONS),
    *TLS_PARAMETERS,
    *identity.PARAMETERS,
    _verbosity_option("-q", "--quiet", Verbosity.QUIET),
    _verbosity_option("-v", "--verbose", Verbosity.VERBOSE),
    _verbosity_option("-d", "--debug", Verbosity.DEBUG),
    version_option,
)
