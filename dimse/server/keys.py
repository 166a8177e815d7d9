"""Every key of the configuration, in one table: the file, its errors and its documentation."""

from dataclasses import fields

from dimse.archive.files import DUPLICATES, DURABILITIES
from dimse.limits import Limits
from dimse.security.access import UNLISTED
from dimse.security.profiles import (
    CLIENT_AUTHENTICATION,
    DEFAULT_PROFILE,
    DICOM_TLS_PORT,
    PROFILES,
)
from dimse.security.spool import SPOOL_SIZE
from dimse.server import kinds
from dimse.server.kinds import Key
from dimse.server.log import LEVELS
from dimse.server.peer_keys import PEER_KEYS

REPEATED = ("listeners", "peers")
"""The sections that are arrays of tables."""

KEYS: tuple[Key, ...] = (
    Key(
        "node",
        "ae_titles",
        kinds.AE_TITLES,
        "called AE titles to answer to, on every listener",
        "any",
        "--aet",
    ),
    Key(
        "node",
        "unlisted",
        kinds.one_of(UNLISTED),
        "what a peer that is not listed may do; "
        + "; ".join(f"`{name}`: {doc}" for name, doc in UNLISTED.items()),
        "`loopback` without peers, `none` as soon as there are any",
        "--allow-any for `all`",
    ),
    Key(
        "node",
        "uniform_refusals",
        kinds.FLAG,
        "whether all who are refused get the same answer, RJ (1,1,1), after the same second, so "
        "that nobody learns which AE title was wrong",
        "`false`",
    ),
    Key(
        "listeners",
        "endpoint",
        kinds.ENDPOINT,
        "where to listen",
        option="--listen, --port",
        required=True,
    ),
    Key(
        "listeners",
        "tls",
        kinds.FLAG,
        "whether it takes TLS, and nothing else; without any listener, and with a certificate, "
        f"one with TLS is at port {DICOM_TLS_PORT}",
        "`false`",
        "--tls-port",
    ),
    Key(
        "tls",
        "certificate",
        kinds.FILE,
        "the certificate of the node in PEM, then those of who signed it; all files of TLS are "
        "seen from the folder of this file",
        "none",
        "--tls-cert",
    ),
    Key(
        "tls",
        "key",
        kinds.FILE,
        "its private key in PEM, without a passphrase",
        "in the file of the certificate",
        "--tls-key",
    ),
    Key(
        "tls",
        "ca",
        kinds.FILES,
        "the certificates of who signs those of peers",
        "for peers that we connect to, those of the system",
        "--tls-ca",
    ),
    Key(
        "tls",
        "crl",
        kinds.FILES,
        "revocation lists in PEM; with them, one of everybody who signed is needed",
        "none",
        "--tls-crl",
    ),
    Key(
        "tls",
        "profile",
        kinds.one_of({name: each.title for name, each in PROFILES.items()}),
        "the profile of PS3.15 Annex B: "
        + "; ".join(f"`{name}`: {each.title}" for name, each in PROFILES.items()),
        f"`{DEFAULT_PROFILE}`",
        "--tls-profile",
    ),
    Key(
        "tls",
        "client_auth",
        kinds.one_of(CLIENT_AUTHENTICATION),
        "; ".join(f"`{name}`: {doc}" for name, doc in CLIENT_AUTHENTICATION.items()),
        "`require`",
        "--tls-client-auth",
    ),
    Key(
        "storage",
        "folder",
        kinds.FOLDER,
        "the folder of the instances, seen from that of this file",
        "`dimse-storage`",
        "--storage",
    ),
    Key(
        "storage",
        "durability",
        kinds.one_of(DURABILITIES),
        "; ".join(f"`{name}`: {doc}" for name, doc in DURABILITIES.items()),
        "`full`",
        "--durability",
    ),
    Key(
        "storage",
        "duplicates",
        kinds.one_of(DUPLICATES),
        "; ".join(f"`{name}`: {doc}" for name, doc in DUPLICATES.items()),
        "`keep`",
        "--duplicates",
    ),
    Key(
        "storage",
        "transfer_syntaxes",
        kinds.TRANSFER_SYNTAXES,
        "transfer syntaxes to take, in the order of preference",
        "any",
        "--transfer-syntax",
    ),
    Key(
        "storage",
        "promiscuous",
        kinds.FLAG,
        "take instances of unknown, such as private, SOP classes too",
        "`false`",
        "--promiscuous",
    ),
    Key(
        "storage",
        "forget_lost",
        kinds.FLAG,
        "start although many instances of the index are gone from the folder, and forget them",
        "`false`",
        "--forget-lost",
    ),
    Key(
        "index",
        "url",
        kinds.INDEX_URL,
        "the database of the index; a relative path of SQLite is seen from the folder of this file",
        "`index.sqlite` in the storage folder",
        "--index",
    ),
    Key(
        "query",
        "unknown_matches",
        kinds.FLAG,
        "whether a required key that an entity has no value for matches every value asked for, "
        "as PS3.4 C.2.2.1.2 has it",
        "`false`",
    ),
    Key(
        "worklist",
        "folder",
        kinds.FOLDER,
        "a folder of worklist items in files, beside those of `dimse schedule`; seen from that of "
        "this file",
        "none",
        "--worklist",
    ),
    Key(
        "studies",
        "timeout",
        kinds.quantity("s", 0),
        "how long nothing of a study comes until it has ended; with 0 it ends with the association "
        "that brought its last instance",
        "`60`",
        "--study-timeout",
    ),
    Key(
        "log",
        "level",
        kinds.one_of(LEVELS),
        "from which level on is logged; "
        + "; ".join(f"`{name}`: {doc}" for name, doc in LEVELS.items()),
        "`info`",
        "--log-level",
    ),
    Key(
        "audit",
        "syslog",
        kinds.COLLECTOR,
        "where audit records go",
        "none",
        "--audit",
    ),
    Key(
        "audit",
        "ca",
        kinds.FILES,
        "the certificates of who signs that of a collector over TLS; seen from the folder of this "
        "file",
        "those of `tls`",
    ),
    Key(
        "audit",
        "file",
        kinds.FILE,
        "a file that audit records are appended to; seen from the folder of this file",
        "none",
        "--audit",
    ),
    Key(
        "audit",
        "spool",
        kinds.FOLDER,
        "the folder of records that wait for the collector; seen from that of this file",
        "`audit-spool` in the storage folder",
    ),
    Key(
        "audit",
        "spool_size",
        kinds.quantity("bytes", 1024 * 1024),
        "what may wait there; more is counted, and lost",
        f"`{SPOOL_SIZE}`",
    ),
    Key(
        "audit",
        "source_id",
        kinds.TEXT,
        "who reports it, as AuditSourceID",
        "the first AE title, else the name of the host",
    ),
    Key(
        "identity",
        "required",
        kinds.FLAG,
        "whether a peer whose user is not known is rejected",
        "`false`",
        "--require-identity",
    ),
    Key(
        "identity",
        "passwords",
        kinds.FILE,
        "the file of users and their passcodes, made by `dimse password`; seen from the folder of "
        "this file",
        "none",
        "--passwords",
    ),
    Key(
        "identity",
        "jwt_keys",
        kinds.FILE,
        "the public keys that JSON Web Tokens are verified with, a JWK Set (RFC 7517); seen from "
        "the folder of this file",
        "none",
    ),
    Key("identity", "jwt_issuer", kinds.TEXT, "who issues them, `iss`", "needed with `jwt_keys`"),
    Key(
        "identity",
        "jwt_audience",
        kinds.TEXT,
        "for whom they are issued, `aud`: this node",
        "needed with `jwt_keys`",
    ),
    Key("identity", "jwt_claim", kinds.TEXT, "the claim that is the name of the user", "`sub`"),
    Key(
        "identity",
        "user_names",
        kinds.FLAG,
        "whether a user name without a passcode is believed; it proves nothing",
        "`false`",
    ),
    Key(
        "identity",
        "allow_plain",
        kinds.FLAG,
        "take passcodes, tickets, assertions and tokens from connections without TLS",
        "`false`",
        "--allow-plain-identity",
    ),
    Key(
        "identity",
        "failures",
        kinds.whole(1, 1000),
        "wrong identities of an address within a minute; above, it is rejected for a while",
        "`10`",
    ),
    *PEER_KEYS,
    *(
        Key(
            "limits",
            each.name,
            kinds.limit(each),
            each.metadata["doc"],
            f"`{each.default}`",
            f"--{each.name.replace('_', '-')}",
        )
        for each in fields(Limits)
    ),
)
"""Every key there is."""
