"""The keys of `[[peers]]`, the largest part of the table in `dimse.server.keys`."""

from collections.abc import Mapping

from dimse.security.access import IDENTITIES
from dimse.server import kinds
from dimse.server.kinds import Key

SERVICES: Mapping[str, str] = {
    "echo": "C-ECHO",
    "store": "C-STORE",
    "find": "C-FIND",
    "get": "C-GET",
    "move": "C-MOVE",
    "worklist": "C-FIND of the Modality Worklist",
    "mpps": "N-CREATE, N-SET and N-GET of Modality Performed Procedure Step",
    "commitment": "N-ACTION of Storage Commitment",
}
"""What a peer can be allowed to do, and the operations that is."""

PEER_KEYS: tuple[Key, ...] = (
    Key(
        "peers",
        "ae_title",
        kinds.AE_TITLE,
        "who it is, by its calling AE title",
        option="--peer",
        required=True,
    ),
    Key(
        "peers",
        "host",
        kinds.HOST,
        "where it is: it may come from there alone, unless `addresses` says otherwise",
        "not known, and from anywhere",
        "--peer",
    ),
    Key("peers", "port", kinds.PORT, "where it listens, to be sent to", "not known", "--peer"),
    Key(
        "peers",
        "addresses",
        kinds.ADDRESSES,
        "where it may come from, if not from `host`",
        "its `host`",
    ),
    Key("peers", "encrypted", kinds.FLAG, "whether it needs TLS", "`false`"),
    Key(
        "peers",
        "certificate_names",
        kinds.CERTIFICATE_NAMES,
        "what its certificate has to say, one of them; then it needs TLS",
        "any, or none",
    ),
    Key(
        "peers",
        "identity",
        kinds.one_of(IDENTITIES),
        "; ".join(f"`{name}`: {doc}" for name, doc in IDENTITIES.items()),
        "`optional`",
    ),
    Key(
        "peers",
        "tls",
        kinds.FLAG,
        "whether it is reached over TLS, with the certificate of the node",
        "`false`",
    ),
    Key(
        "peers",
        "services",
        kinds.several(kinds.one_of(SERVICES), f"a list of {', '.join(SERVICES)}"),
        "what it may ask of this node",
        "all",
    ),
    Key(
        "peers",
        "sop_classes",
        kinds.SOP_CLASSES,
        "the storage SOP classes that it may store, and fetch by C-GET",
        "all",
    ),
    Key(
        "peers",
        "store_transfer_syntaxes",
        kinds.TRANSFER_SYNTAXES,
        "transfer syntaxes that it may store in, those of `storage` among them, in the order of "
        "preference",
        "those of `storage`",
    ),
    Key(
        "peers",
        "scope",
        kinds.SCOPE,
        "what it may see of the archive and the worklist: each key is joined to all that it asks",
        "everything",
    ),
    Key(
        "peers",
        "destinations",
        kinds.AE_TITLES,
        "the destinations that it may name in a C-MOVE",
        "all that are known",
    ),
    Key(
        "peers",
        "associations",
        kinds.whole(1, 2**31),
        "associations of it that are open at a time",
        "those of `limits`",
    ),
    Key(
        "peers",
        "associations_per_minute",
        kinds.whole(1, 2**31),
        "associations of it that begin within a minute",
        "any number",
    ),
    Key(
        "peers",
        "operations_per_minute",
        kinds.whole(1, 2**31),
        "operations that it begins within a minute, on all its associations",
        "any number",
    ),
    Key(
        "peers",
        "bytes_per_hour",
        kinds.quantity("bytes", 1),
        "bytes of the data sets that it stores within an hour",
        "any number",
    ),
    Key(
        "peers",
        "bytes_per_day",
        kinds.quantity("bytes", 1),
        "bytes of the data sets that it stores within 24 hours",
        "any number",
    ),
    Key(
        "peers",
        "move_destination",
        kinds.FLAG,
        "whether a C-MOVE may send to it",
        "`true`, if its host and port are known",
    ),
    Key(
        "peers",
        "availability",
        kinds.FLAG,
        "whether it is notified of studies that have ended (Instance Availability Notification)",
        "`false`",
    ),
    Key(
        "peers",
        "move_transfer_syntaxes",
        kinds.TRANSFER_SYNTAXES,
        "what a C-MOVE sends it: an instance in another one is converted where that can be, and "
        "else goes as it is",
        "any that it accepts",
    ),
    Key(
        "peers",
        "operations_performed",
        kinds.whole(1, 0xFFFF),
        "operations of it that are performed at a time",
        "that of `limits`",
    ),
    Key(
        "peers",
        "operations_invoked",
        kinds.whole(1, 0xFFFF),
        "operations that are invoked of it at a time",
        "that of `limits`",
    ),
)
"""What can be said of a peer."""
