"""The options of `twistd dimse`."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from twisted.python.usage import UsageError

from dimse.archive.files import DURABILITIES
from dimse.limits import Limits
from dimse.server.config import AuditRules, Configuration
from dimse.server.options import Options


def parsed(*args: str) -> Configuration:
    options = Options()
    options.parseOptions(args)
    return options.configuration


class TestDefaults:
    def test_port_11112_and_a_folder_here(self) -> None:
        """11112 is the registered port that needs no privileges (PS3.8 9.1.1)."""
        assert parsed() == Configuration(
            endpoints=("tcp:11112",),
            folder=Path("dimse-storage"),
            durability="full",
            limits=Limits(),
        )

    def test_are_in_the_help(self) -> None:
        assert "[default: dimse-storage]" in " ".join(str(Options()).split())
        assert f"[default: {Limits().associations}]" in " ".join(str(Options()).split())

    def test_lists_are_not_shared(self) -> None:
        parsed("--aet", "ONE", "--transfer-syntax", "1.2", "--listen", "tcp:0", "--peer", "A=h:1")
        assert parsed() == Configuration(endpoints=("tcp:11112",))


class TestEndpoints:
    @pytest.mark.parametrize(
        ("args", "endpoints"),
        [
            (["--port", "104"], ["tcp:104"]),
            (["-p", "0"], ["tcp:0"]),
            (["--listen", "unix:s"], ["unix:s"]),
            (["--listen", "tcp:1", "--listen", "tcp:2"], ["tcp:1", "tcp:2"]),
            (["--listen", "unix:s", "--port", "104"], ["tcp:104", "unix:s"]),
        ],
    )
    def test_default_port_gives_way_to_what_is_named(
        self, args: list[str], endpoints: list[str]
    ) -> None:
        assert list(parsed(*args).endpoints) == endpoints


class TestValues:
    def test_every_other_option(self) -> None:
        configuration = parsed(
            *("--storage", "here", "--durability", "relaxed", "--promiscuous"),
            *("--aet", "ARCHIVE", "--aet", "PACS 2", "--index", "sqlite:///i"),
            *("--transfer-syntax", "1.2.840.10008.1.2.1", "--transfer-syntax", "1.2.840.10008.1.2"),
            *("--peer", "WS=ws:104", "--peer", "CT 1=[::1]:11113"),
        )
        assert (configuration.folder, configuration.durability) == (Path("here"), "relaxed")
        assert configuration.promiscuous
        assert configuration.index == "sqlite:///i"
        assert configuration.ae_titles == ["ARCHIVE", "PACS 2"]
        assert configuration.transfer_syntaxes == ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
        addresses = {title: peer.address for title, peer in configuration.peers.items()}
        assert addresses == {"WS": "ws:104", "CT 1": "[::1]:11113"}

    def test_audit_records_go_to_a_collector_or_a_file(self, tmp_path: Path) -> None:
        assert parsed("--audit", "udp://[::1]").audit == AuditRules(syslog="udp://[::1]:514")
        assert parsed("--audit", "audit.log").audit == AuditRules(file=Path("audit.log").absolute())
        config = tmp_path / "dimse.toml"
        config.write_text('[audit]\nsyslog = "tls://a.example"\nsource_id = "HERE"')
        audit = parsed("--config", str(config), "--audit", "udp://b.example:1514").audit
        assert audit == AuditRules(syslog="udp://b.example:1514", source_id="HERE")

    @pytest.mark.parametrize(
        ("place", "host", "port"),
        [
            ("ws", "ws", None),
            ("10.0.0.7", "10.0.0.7", None),
            ("10.0.0.7:104", "10.0.0.7", 104),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:104", "::1", 104),
            ("loopback", "loopback", None),
        ],
    )
    def test_where_a_peer_is(self, place: str, host: str, port: int | None) -> None:
        """Without a port it may come, and is sent nothing."""
        peer = parsed("--peer", f"WS={place}").peers["WS"]
        assert (peer.host, peer.port, peer.places) == (host, port, (host,))
        assert (peer.address is None) is (port is None)

    @pytest.mark.parametrize("host", ["loopback", "Loopback"])
    def test_a_peer_of_this_machine_is_sent_to_there(self, host: str) -> None:
        """`loopback` is no name that could be looked up."""
        assert parsed("--peer", f"WS={host}:104").peers["WS"].address == "localhost:104"

    def test_allow_any(self) -> None:
        assert parsed().unlisted is None
        assert parsed("--allow-any").unlisted == "all"

    @pytest.mark.parametrize("durability", DURABILITIES)
    def test_durabilities_are_in_the_help(self, durability: str) -> None:
        assert parsed("--durability", durability).durability == durability
        assert f"{durability}: " in " ".join(str(Options()).split())

    @pytest.mark.parametrize("limit", fields(Limits), ids=lambda limit: limit.name)
    def test_limit_is_an_option_with_its_default(self, limit: Any) -> None:
        """A value that is not the default, in the range, gets where it should and nowhere else."""
        value = limit.default * 2
        name = limit.name.replace("_", "-")
        expected = Limits(**{limit.name: value})
        assert parsed(f"--{name}", str(value)).limits == expected != Limits()
        assert f"--{name}=" in str(Options())

    @pytest.mark.parametrize("limit", fields(Limits), ids=lambda limit: limit.name)
    @pytest.mark.parametrize("value", ["-1", "much", "nan"])
    def test_limit_out_of_its_range(self, limit: Any, value: str) -> None:
        with pytest.raises(UsageError):
            parsed(f"--{limit.name.replace('_', '-')}", value)

    @pytest.mark.parametrize(
        ("option", "value", "why"),
        [
            ("--port", "abc", "it must be an integer"),
            ("--idle", "abc", "it must be a number"),
            ("--index", "mysql://u:s3cret@h/d", "it must be a URL of SQLite or PostgreSQL"),
        ],
    )
    def test_what_is_wrong_names_the_option(self, option: str, value: str, why: str) -> None:
        """And not the value, which may have a password."""
        with pytest.raises(UsageError, match=f"^{option}: {why}") as caught:
            parsed(option, value)
        assert value not in str(caught.value)

    def test_times_may_have_fractions_and_counts_may_not(self) -> None:
        assert parsed("--idle", "0.5").limits.idle == 0.5
        with pytest.raises(UsageError):
            parsed("--associations", "1.5")

    @pytest.mark.parametrize(
        "args",
        [
            ["--port", "65536"],
            ["--port", "-1"],
            ["--port", "dicom"],
            ["--durability", "some"],
            ["--aet", ""],
            ["--aet", "SEVENTEEN LETTERS"],
            ["--aet", "BACK\\SLASH"],
            ["--transfer-syntax", "Explicit VR Little Endian"],
            ["--transfer-syntax", "1.2.x"],
            ["--promiscuous=yes"],
            ["--index", "mysql://host/db"],
            ["--listen", "tpc:104"],
            ["--listen", "104"],
            ["--config", "no-such-file.toml"],
            ["--audit", "tcp://audit.example:514"],
            ["--audit", "tls://"],
            ["--peer", "WS"],
            ["--peer", "WS=:104"],
            ["--peer", "=ws:104"],
            ["--peer", "WS=ws:0"],
            ["--peer", "WS=ws:dicom"],
            ["--peer", "SEVENTEEN LETTERS=ws:104"],
            ["--no-such-option"],
            ["argument"],
        ],
        ids=" ".join,
    )
    def test_wrong_usage(self, args: list[str]) -> None:
        with pytest.raises(UsageError):
            parsed(*args)
