"""What the tests of the configuration file share: how one is read, and one that says it all."""

from pathlib import Path
from textwrap import dedent

from dimse.server.config import (
    Configuration,
    read_configuration,
)


def read(file: Path, document: str) -> Configuration:
    file.write_text(dedent(document), "utf-8")
    return read_configuration(file)


ALL = """
    [node]
    ae_titles = ["ARCHIVE", "PACS 2"]
    unlisted = "echo"
    uniform_refusals = true

    [[listeners]]
    endpoint = "tcp:11112"

    [[listeners]]
    endpoint = "tcp:104:interface=127.0.0.1"

    [[listeners]]
    endpoint = "tcp:2762"
    tls = true

    [tls]
    certificate = "node.pem"
    key = "node.key"
    ca = ["ca.pem", "other-ca.pem"]
    crl = "crl.pem"
    profile = "B.13"
    client_auth = "request"

    [storage]
    folder = "store"
    durability = "relaxed"
    duplicates = "replace"
    transfer_syntaxes = ["ExplicitVRLittleEndian", "1.2.840.10008.1.2"]
    promiscuous = true
    forget_lost = true

    [index]
    url = "sqlite:///elsewhere"

    [query]
    unknown_matches = true

    [worklist]
    folder = "items"

    [studies]
    timeout = "2 min"

    [log]
    level = "warn"

    [audit]
    syslog = "tls://audit.example"
    ca = ["audit-ca.pem", "/etc/ca.pem"]
    file = "audit.log"
    spool = "spool"
    spool_size = "2 MiB"
    source_id = "ARCHIVE 1"

    [identity]
    required = true
    passwords = "passwords"
    jwt_keys = "/etc/dimse/keys.json"
    jwt_issuer = "https://login.example"
    jwt_audience = "dicom://ARCHIVE"
    jwt_claim = "preferred_username"
    user_names = true
    allow_plain = true
    failures = 20

    [limits]
    idle = "5 min"
    close = 2.5
    instance_length = "2 GiB"
    associations = 20

    [[peers]]
    ae_title = "CT1"
    services = ["echo", "store"]
    operations_performed = 4
    addresses = ["10.1.0.0/16", "[fe80::1]", "ct1.example", "loopback"]
    encrypted = true
    certificate_names = ["CN:CT1", "dns:CT1.example", "sha256:AB:%s"]
    identity = "required"
    sop_classes = ["CTImageStorage", "1.2.3"]
    store_transfer_syntaxes = ["ImplicitVRLittleEndian"]
    destinations = ["WS"]
    associations = 2
    associations_per_minute = 60
    operations_per_minute = 600
    bytes_per_hour = "1 GiB"
    bytes_per_day = "10 GiB"

    [peers.scope]
    Modality = ["CT", "MR"]
    InstitutionName = "North*"

    [[peers]]
    ae_title = " WS "
    host = "[::1]"
    port = 11113
    tls = true
    move_destination = false
    availability = true
    move_transfer_syntaxes = ["ImplicitVRLittleEndian"]
    operations_invoked = 2
""" % ("cd" * 31)
"""Every key but for most limits."""
