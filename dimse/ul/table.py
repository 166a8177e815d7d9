"""The state machine of the Upper Layer as data: states, events, actions, Table 9-10 (PS3.8 9.2).

The tokens are the standard's, so that this page can be held against PS3.8.
"""

from enum import Enum, IntEnum, unique


class Sta(IntEnum):
    """The states (PS3.8 9.2.1); `STATES` says what each means."""

    Sta1, Sta2, Sta3, Sta4, Sta5, Sta6, Sta7, Sta8, Sta9, Sta10, Sta11, Sta12, Sta13 = range(1, 14)


class Evt(IntEnum):
    """The events (PS3.8 9.2.3), in the order of the rows; `EVENTS` says what each is."""

    Evt1, Evt2, Evt3, Evt4, Evt5, Evt6, Evt7, Evt8, Evt9, Evt10 = range(1, 11)
    Evt11, Evt12, Evt13, Evt14, Evt15, Evt16, Evt17, Evt18, Evt19 = range(11, 20)


STATES = {
    Sta.Sta1: "idle",
    Sta.Sta2: "connection open, awaiting A-ASSOCIATE-RQ",
    Sta.Sta3: "awaiting the local A-ASSOCIATE response",
    Sta.Sta4: "awaiting the opening of the transport connection",
    Sta.Sta5: "awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ",
    Sta.Sta6: "association established, ready for data transfer",
    Sta.Sta7: "awaiting A-RELEASE-RP",
    Sta.Sta8: "awaiting the local A-RELEASE response",
    Sta.Sta9: "release collision, requestor: awaiting the local A-RELEASE response",
    Sta.Sta10: "release collision, acceptor: awaiting A-RELEASE-RP",
    Sta.Sta11: "release collision, requestor: awaiting A-RELEASE-RP",
    Sta.Sta12: "release collision, acceptor: awaiting the local A-RELEASE response",
    Sta.Sta13: "awaiting the close of the transport connection",
}

EVENTS = {
    Evt.Evt1: "A-ASSOCIATE request (local user)",
    Evt.Evt2: "transport connection confirmed",
    Evt.Evt3: "A-ASSOCIATE-AC received",
    Evt.Evt4: "A-ASSOCIATE-RJ received",
    Evt.Evt5: "transport connection accepted",
    Evt.Evt6: "A-ASSOCIATE-RQ received",
    Evt.Evt7: "A-ASSOCIATE response: accept (local user)",
    Evt.Evt8: "A-ASSOCIATE response: reject (local user)",
    Evt.Evt9: "P-DATA request (local user)",
    Evt.Evt10: "P-DATA-TF received",
    Evt.Evt11: "A-RELEASE request (local user)",
    Evt.Evt12: "A-RELEASE-RQ received",
    Evt.Evt13: "A-RELEASE-RP received",
    Evt.Evt14: "A-RELEASE response (local user)",
    Evt.Evt15: "A-ABORT request (local user)",
    Evt.Evt16: "A-ABORT received",
    Evt.Evt17: "transport connection closed",
    Evt.Evt18: "ARTIM expired",
    Evt.Evt19: "unrecognized or invalid PDU received",
}


@unique
class Action(Enum):
    """The actions (PS3.8 9.2.2): what each does, from Tables 9-6 to 9-9."""

    AE_1 = "open the transport connection"
    AE_2 = "send A-ASSOCIATE-RQ"
    AE_3 = "tell the user that the association is accepted"
    AE_4 = "tell the user that the association is rejected; close"
    AE_5 = "accept the transport connection; start ARTIM"
    AE_6 = "stop ARTIM; indicate the request, or send A-ASSOCIATE-RJ and start ARTIM"
    AE_7 = "send A-ASSOCIATE-AC"
    AE_8 = "send A-ASSOCIATE-RJ; start ARTIM"
    DT_1 = "send P-DATA-TF"
    DT_2 = "give the data to the user"
    AR_1 = "send A-RELEASE-RQ"
    AR_2 = "tell the user that the peer asks for release"
    AR_3 = "tell the user that the release is confirmed; close"
    AR_4 = "send A-RELEASE-RP; start ARTIM"
    AR_5 = "stop ARTIM"
    AR_6 = "give the data that comes before A-RELEASE-RP to the user"
    AR_7 = "send P-DATA-TF before A-RELEASE-RP"
    AR_8 = "tell the user that the peer asks for release too"
    AR_9 = "send A-RELEASE-RP"
    AR_10 = "tell the user that the release is confirmed"
    AA_1 = "send A-ABORT (service-user); start ARTIM"
    AA_2 = "stop ARTIM; close"
    AA_3 = "tell the user of the abort; close"
    AA_4 = "tell the user that the connection is lost"
    AA_5 = "stop ARTIM; no request came"
    AA_6 = "ignore the PDU"
    AA_7 = "send A-ABORT"
    AA_8 = "send A-ABORT (service-provider); tell the user; start ARTIM"


# One row an event, one column a state, Sta1 to Sta13. `AE-6:3/13` and `AR-8:9/10` have two next
# states: the machine takes the second when the request is not acceptable, and on the side of
# the acceptor.
TABLE_9_10 = """
Evt1  AE-1:4 .       .       .      .       .       .       .        .       .        .       .       .
Evt2  .      .       .       AE-2:5 .       .       .       .        .       .        .       .       .
Evt3  .      AA-1:13 AA-8:13 .      AE-3:6  AA-8:13 AA-8:13 AA-8:13  AA-8:13 AA-8:13  AA-8:13 AA-8:13 AA-6:13
Evt4  .      AA-1:13 AA-8:13 .      AE-4:1  AA-8:13 AA-8:13 AA-8:13  AA-8:13 AA-8:13  AA-8:13 AA-8:13 AA-6:13
Evt5  AE-5:2 .       .       .      .       .       .       .        .       .        .       .       .
Evt6  .    AE-6:3/13 AA-8:13 .      AA-8:13 AA-8:13 AA-8:13 AA-8:13  AA-8:13 AA-8:13  AA-8:13 AA-8:13 AA-7:13
Evt7  .      .       AE-7:6  .      .       .       .       .        .       .        .       .       .
Evt8  .      .       AE-8:13 .      .       .       .       .        .       .        .       .       .
Evt9  .      .       .       .      .       DT-1:6  .       AR-7:8   .       .        .       .       .
Evt10 .      AA-1:13 AA-8:13 .      AA-8:13 DT-2:6  AR-6:7  AA-8:13  AA-8:13 AA-8:13  AA-8:13 AA-8:13 AA-6:13
Evt11 .      .       .       .      .       AR-1:7  .       .        .       .        .       .       .
Evt12 .      AA-1:13 AA-8:13 .      AA-8:13 AR-2:8 AR-8:9/10 AA-8:13 AA-8:13 AA-8:13  AA-8:13 AA-8:13 AA-6:13
Evt13 .      AA-1:13 AA-8:13 .      AA-8:13 AA-8:13 AR-3:1  AA-8:13  AA-8:13 AR-10:12 AR-3:1  AA-8:13 AA-6:13
Evt14 .      .       .       .      .       .       .       AR-4:13  AR-9:11 .        .       AR-4:13 .
Evt15 .      .       AA-1:13 AA-2:1 AA-1:13 AA-1:13 AA-1:13 AA-1:13  AA-1:13 AA-1:13  AA-1:13 AA-1:13 .
Evt16 .      AA-2:1  AA-3:1  .      AA-3:1  AA-3:1  AA-3:1  AA-3:1   AA-3:1  AA-3:1   AA-3:1  AA-3:1  AA-2:1
Evt17 .      AA-5:1  AA-4:1  AA-4:1 AA-4:1  AA-4:1  AA-4:1  AA-4:1   AA-4:1  AA-4:1   AA-4:1  AA-4:1  AR-5:1
Evt18 .      AA-2:1  .       .      .       .       .       .        .       .        .       .       AA-2:1
Evt19 .      AA-1:13 AA-8:13 .      AA-8:13 AA-8:13 AA-8:13 AA-8:13  AA-8:13 AA-8:13  AA-8:13 AA-8:13 AA-7:13
"""  # noqa: E501  a row is a row of the printed table


def _cell(text: str) -> tuple[Action, tuple[Sta, ...]]:
    action, states = text.split(":")
    return Action[action.replace("-", "_")], tuple(Sta(int(state)) for state in states.split("/"))


TABLE: dict[tuple[int, int], tuple[Action, tuple[Sta, ...]]] = {
    (Evt[row.split()[0]], state): _cell(cell)
    for row in TABLE_9_10.strip().splitlines()
    for state, cell in zip(Sta, row.split()[1:], strict=True)
    if cell != "."
}
"""(event, state) to the action and its next states; a blank cell of the table is absent."""
