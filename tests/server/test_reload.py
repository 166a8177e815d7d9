"""What SIGHUP takes of a configuration file that has changed, and what the log says of the rest."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import LogEvent, LogLevel, formatEvent

from dimse import Limits, associate
from dimse.server.config import Configuration
from dimse.server.keys import KEYS
from dimse.server.reload import RENEWED, changed
from dimse.server.tls import NodeTLS
from tests.server.configurations import ALL, read
from tests.server.nodes import hang_up, made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dimse.toml"


def lines(log: Sequence[LogEvent], level: Any) -> list[str | None]:
    return [formatEvent(each) for each in log if each["log_level"] is level]


class TestChanged:
    def test_every_key_but_those_that_are_renewed(self, file: Path):
        found = list(changed(Configuration(), read(file, ALL)))
        assert [each for each in found if "[limits]" not in each] == [
            "[[listeners]]",
            "[tls] certificate",
            *(
                f"[{key.section}] {key.name}"
                for key in KEYS
                if key.section not in ("listeners", "limits", *RENEWED)
            ),
        ]

    @pytest.mark.parametrize("limit", fields(Limits), ids=lambda limit: limit.name)
    def test_every_limit(self, limit: Any):
        other = Configuration(limits=Limits(**{limit.name: limit.default * 2}))
        assert list(changed(Configuration(), other)) == [f"[limits] {limit.name}"]

    def test_a_certificate_by_which_it_would_listen_with_tls(self, tmp_path: Path):
        """Though the file names no listener before or after; another certificate is renewed."""
        tls = [NodeTLS(certificate=tmp_path / name) for name in ("one.pem", "two.pem")]
        first, second = (Configuration(tls=each, tls_endpoints=["tcp:2762"]) for each in tls)
        plain = Configuration(endpoints=["tcp:11112"])
        assert list(changed(plain, first)) == ["[[listeners]]", "[tls] certificate"]
        assert list(changed(first, second)) == []

    def test_nothing(self, file: Path):
        assert list(changed(read(file, ALL), read(file, ALL))) == []


class TestHangUp:
    @pytest_twisted.ensureDeferred
    async def test_what_needs_a_restart_is_one_line_without_values(
        self, log: Sequence[LogEvent], file: Path, tmp_path: Path
    ) -> None:
        file.write_text("[limits]\nidle = 7\n", "utf-8")
        service, _ = made(tmp_path / "store", "--config", str(file))
        file.write_text(
            '[limits]\nartim = 3\n[index]\nurl = "sqlite:///hidden"\n[[peers]]\nae_title = "A"\n'
        )
        await hang_up()
        said = f"{file}: changes of [index] url, [limits] artim, [limits] idle need a restart"
        assert said in lines(log, LogLevel.warn)
        assert "1 peers are known now" in lines(log, LogLevel.info)
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_what_an_option_decides_needs_none(
        self, log: Sequence[LogEvent], file: Path, tmp_path: Path
    ) -> None:
        """The restart would not change it. Nor does a default that is written down."""
        file.write_text("", "utf-8")
        service, _ = made(tmp_path / "store", "--config", str(file), "--idle", "9")
        file.write_text(
            '[limits]\nidle = 7\nassociations = 500\n[storage]\nfolder = "other"\n'
            '[[listeners]]\nendpoint = "tcp:5"\n',
            "utf-8",
        )
        await hang_up()
        assert not [line for line in lines(log, LogLevel.warn) if "restart" in str(line)]
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_what_is_as_at_the_start_again_needs_none(
        self, log: Sequence[LogEvent], file: Path, tmp_path: Path
    ) -> None:
        """And is told of as long as it is otherwise."""
        file.write_text("", "utf-8")
        service, _ = made(tmp_path / "store", "--config", str(file))
        for text in ('[node]\nae_titles = ["A"]\n', '[node]\nae_titles = ["A"]\n', ""):
            file.write_text(text, "utf-8")
            await hang_up()
        said = [line for line in lines(log, LogLevel.warn) if "restart" in str(line)]
        assert said == [f"{file}: changes of [node] ae_titles need a restart"] * 2
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_a_file_that_is_wrong_changes_nothing(
        self, log: Sequence[LogEvent], file: Path, tmp_path: Path
    ) -> None:
        """And the log says so of all that it would have changed."""
        file.write_text("", "utf-8")
        service, _ = made(tmp_path / "store", "--config", str(file))
        file.write_text('[log]\nlevel = "warn"\n[[peers]]\nae = "A"\n', "utf-8")
        await hang_up()
        (said,) = lines(log, LogLevel.error)
        assert str(said).endswith("the peers stay as they were, and so do [tls] and [log]")
        await service.stopService()

    @pytest_twisted.ensureDeferred
    async def test_a_peer_that_needs_tls_when_there_is_none_for_it(
        self, log: Sequence[LogEvent], file: Path, tmp_path: Path
    ) -> None:
        """The file as a whole is right, and the peers stay as they were."""
        file.write_text('[[peers]]\nae_title = "A"\n', "utf-8")
        service, address = made(tmp_path / "store", "--config", str(file))
        (tmp_path / "ca.pem").write_text("no certificate", "utf-8")
        file.write_text(
            '[tls]\nca = "ca.pem"\n'
            '[[peers]]\nae_title = "B"\nhost = "127.0.0.1"\nport = 5\ntls = true\n',
            "utf-8",
        )
        await hang_up()
        said = f"{tmp_path}/ca.pem: no certificate in PEM; the peers stay as they were"
        assert said in lines(log, LogLevel.error)
        async with associate(address, calling_ae_title="A"):
            pass
        await service.stopService()
