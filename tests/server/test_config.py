"""The configuration file: what is in it, options beside it, the example."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from shutil import copy
from textwrap import dedent
from typing import Any

import pytest
from twisted.python.usage import UsageError

from dimse import Limits
from dimse.security.access import KnownPeer
from dimse.server.config import (
    AuditRules,
    Configuration,
    IdentityRules,
    read_configuration,
)
from dimse.server.keys import KEYS, REPEATED
from dimse.server.options import Options
from dimse.server.tls import NodeTLS
from tests.certificates import PKI
from tests.server.configurations import ALL, read
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dimse.toml"


class TestFile:
    def test_all_that_it_can_say(self, file: Path):
        assert read(file, ALL) == Configuration(
            endpoints=("tcp:11112", "tcp:104:interface=127.0.0.1"),
            tls_endpoints=("tcp:2762",),
            tls=NodeTLS(
                certificate=file.parent / "node.pem",
                key=file.parent / "node.key",
                ca=(file.parent / "ca.pem", file.parent / "other-ca.pem"),
                crl=(file.parent / "crl.pem",),
                profile="B.13",
                client_auth="request",
            ),
            ae_titles=("ARCHIVE", "PACS 2"),
            unlisted="echo",
            uniform_refusals=True,
            folder=file.parent / "store",
            durability="relaxed",
            duplicates="replace",
            transfer_syntaxes=(EXPLICIT, IMPLICIT),
            promiscuous=True,
            forget_lost=True,
            index=f"sqlite:///{file.parent}/elsewhere",
            unknown_matches=True,
            worklist=file.parent / "items",
            study_timeout=120,
            log_level="warn",
            audit=AuditRules(
                syslog="tls://audit.example:6514",
                ca=(file.parent / "audit-ca.pem", Path("/etc/ca.pem")),
                file=file.parent / "audit.log",
                spool=file.parent / "spool",
                spool_size=2**21,
                source_id="ARCHIVE 1",
            ),
            identity=IdentityRules(
                required=True,
                passwords=file.parent / "passwords",
                jwt_keys=Path("/etc/dimse/keys.json"),
                jwt_issuer="https://login.example",
                jwt_audience="dicom://ARCHIVE",
                jwt_claim="preferred_username",
                user_names=True,
                allow_plain=True,
                failures=20,
            ),
            limits=Limits(idle=300, close=2.5, instance_length=2 * 2**30, associations=20),
            peers={
                "CT1": KnownPeer(
                    ae_title="CT1",
                    services=("echo", "store"),
                    operations_performed=4,
                    addresses=("10.1.0.0/16", "fe80::1", "ct1.example", "loopback"),
                    encrypted=True,
                    certificate_names=("CN:ct1", "DNS:ct1.example", f"sha256:ab{'cd' * 31}"),
                    identity="required",
                    sop_classes=(CT_STORAGE, "1.2.3"),
                    store_transfer_syntaxes=(IMPLICIT,),
                    destinations=("WS",),
                    associations=2,
                    associations_per_minute=60,
                    operations_per_minute=600,
                    bytes_per_hour=2**30,
                    bytes_per_day=10 * 2**30,
                    scope={"Modality": ("CT", "MR"), "InstitutionName": ("North*",)},
                ),
                "WS": KnownPeer(
                    ae_title="WS",
                    host="::1",
                    port=11113,
                    tls=True,
                    move_destination=False,
                    availability=True,
                    move_transfer_syntaxes=(IMPLICIT,),
                    operations_invoked=2,
                ),
            },
        )

    def test_every_key_is_in_that_test(self):
        """But for the other limits, which have a test of their own."""
        document = tomllib.loads(dedent(ALL))
        for key in KEYS:
            tables = document[key.section]
            tables = tables if key.section in REPEATED else [tables]
            assert key.section == "limits" or any(key.name in table for table in tables)

    def test_an_empty_one_says_nothing(self, file: Path):
        assert read(file, "") == Configuration()

    @pytest.mark.parametrize("limit", fields(Limits), ids=lambda limit: limit.name)
    def test_every_limit(self, file: Path, limit: Any):
        value = limit.default * 2
        found = read(file, f"[limits]\n{limit.name} = {value}")
        assert found.limits == Limits(**{limit.name: value}) != Limits()

    @pytest.mark.parametrize(
        "url", ["sqlite:////srv/index.sqlite", "sqlite://", "postgresql+psycopg://host/database"]
    )
    def test_an_index_that_is_nowhere_beside_the_file_stays_as_it_is(self, file: Path, url: str):
        assert read(file, f'[index]\nurl = "{url}"').index == url

    @pytest.mark.parametrize(
        ("text", "value"), [("250 ms", 0.25), ("1.5s", 1.5), ("2 min", 120), ("1 h", 3600)]
    )
    def test_durations(self, file: Path, text: str, value: float):
        assert read(file, f'[limits]\nidle = "{text}"').limits.idle == value

    @pytest.mark.parametrize(
        ("text", "value"), [("8192 B", 8192), ("64KiB", 65536), ("1.5 MiB", 1572864)]
    )
    def test_sizes(self, file: Path, text: str, value: int):
        found = read(file, f'[limits]\nmaximum_length = "{text}"').limits.maximum_length
        assert (found, type(found)) == (value, int)


class TestOptions:
    """Those of the command line win over the file."""

    @pytest.fixture(autouse=True)
    def certificates(self, file: Path, pki: PKI) -> None:
        """The files that it names, which are read at once."""
        copy(pki.node.path, file.parent / "node.pem")
        copy(pki.node.key_path, file.parent / "node.key")
        copy(pki.ca.path, file.parent / "ca.pem")
        copy(pki.other_ca.path, file.parent / "other-ca.pem")
        copy(pki.ca.revoke(name="none-yet"), file.parent / "crl.pem")

    def joined(self, file: Path, *args: str) -> Configuration:
        file.write_text(dedent(ALL), "utf-8")
        options = Options()
        options.parseOptions(["--config", str(file), *args])
        return options.configuration

    def test_without_others_it_is_what_the_file_says(self, file: Path):
        assert self.joined(file) == read(file, ALL)

    @pytest.mark.parametrize(
        ("args", "field", "value"),
        [
            (["--port", "104"], "endpoints", ("tcp:104",)),
            (["--listen", "tcp:1"], "endpoints", ("tcp:1",)),
            (["--tls-port", "3"], "tls_endpoints", ("tcp:3",)),
            (["--aet", "ONE"], "ae_titles", ["ONE"]),
            (["--storage", "here"], "folder", Path("here")),
            (["--durability", "full"], "durability", "full"),
            (["--transfer-syntax", "1.2"], "transfer_syntaxes", ["1.2"]),
            (["--index", "sqlite:///i"], "index", "sqlite:///i"),
            (["--log-level", "debug"], "log_level", "debug"),
        ],
    )
    def test_one_that_is_given(self, file: Path, args: list[str], field: str, value: object):
        joined, alone = self.joined(file, *args), read(file, ALL)
        assert getattr(joined, field) == value != getattr(alone, field)
        rest = [each.name for each in fields(Configuration) if each.name != field]
        assert [getattr(joined, each) for each in rest] == [getattr(alone, each) for each in rest]

    def test_one_limit_leaves_the_others(self, file: Path):
        limits = self.joined(file, "--idle", "7").limits
        assert (limits.idle, limits.close, limits.associations) == (7, 2.5, 20)

    def test_the_default_given_wins_too(self, file: Path):
        assert self.joined(file, "--associations", "500").limits.associations == 500

    def test_a_peer_is_added_or_moves(self, file: Path):
        """What else the file says of it stays."""
        peers = self.joined(file, "--peer", "WS=ws:104", "--peer", "NEW=new:105").peers
        assert list(peers) == ["CT1", "WS", "NEW"]
        assert (peers["WS"].address, peers["WS"].operations_invoked) == ("ws:104", 2)
        assert peers["NEW"] == KnownPeer(ae_title="NEW", host="new", port=105)

    def test_what_is_wrong_in_the_file_is_wrong_usage(self, file: Path):
        file.write_text("x = 1", "utf-8")
        with pytest.raises(UsageError, match="line 1: x is not known"):
            Options().parseOptions(["--config", str(file)])

    def test_the_file_is_found_from_another_folder(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """twistd changes to its --rundir, and SIGHUP comes after that."""
        file.write_text(dedent(ALL), "utf-8")
        monkeypatch.chdir(file.parent)
        options = Options()
        options.parseOptions(["--config", file.name])
        monkeypatch.chdir("/")
        assert list(options.joined().peers) == ["CT1", "WS"]


class TestExample:
    FILE = Path(__file__).parents[2] / "examples" / "dimse.toml"

    def test_is_a_configuration(self):
        configuration = read_configuration(self.FILE)
        assert configuration.ae_titles == ("ARCHIVE", "PACS")
        assert configuration.limits == Limits(associations=100, idle=600, disk_reserve=20 * 2**30)
        assert list(configuration.peers) == ["CT1", "WORKSTATION", "RESEARCH"]

    def test_shows_every_key_but_most_limits(self):
        """What needs more than the file is commented out: a database, a collector, certificates,
        passcodes."""
        text = self.FILE.read_text("utf-8")
        assert {"index", "audit", "tls", "identity"}.isdisjoint(tomllib.loads(text))
        document = tomllib.loads(re.sub(r"(?m)^# (?=\[+\w+\]|\w+ = )", "", text))
        for key in KEYS:
            tables = document[key.section]
            tables = tables if key.section in REPEATED else [tables]
            assert key.section == "limits" or any(key.name in table for table in tables)

    def test_its_endpoints_are_two_of_twisted(self):
        assert len(read_configuration(self.FILE).endpoints) == 2
