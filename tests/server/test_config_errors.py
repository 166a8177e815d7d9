"""What is wrong in a configuration file is said with its line."""

from pathlib import Path

import pytest
from twisted.python.usage import UsageError

from dimse import MisuseError
from dimse.server.config import (
    read_configuration,
)
from dimse.server.options import Options
from dimse.server.toml_lines import line_of
from tests.server.configurations import read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dimse.toml"


def problems(file: Path, document: str) -> list[str]:
    """What is wrong with it, without the name of the file."""
    with pytest.raises(MisuseError) as caught:
        read(file, document)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(file)) for line in lines)
    return [line.removeprefix(f"{file}, ") for line in lines]


class TestErrors:
    @pytest.mark.parametrize(
        ("key", "value", "allowed"),
        [
            ("node.ae_titles", '"ARCHIVE"', "a list of AE titles"),
            ("node.ae_titles", '["SEVENTEEN LETTERS"]', "1 to 16 characters"),
            ("node.ae_titles", '["BACK\\\\SLASH"]', "1 to 16 characters"),
            ("node.unlisted", '"some"', "one of loopback, all, echo, none"),
            ("storage.folder", "5", "the path of a folder"),
            ("storage.folder", '""', "the path of a folder"),
            ("storage.durability", '"some"', "one of full, relaxed"),
            ("storage.transfer_syntaxes", '["ExplicitVR"]', "a UID or its keyword"),
            ("storage.promiscuous", "1", "true or false"),
            ("query.unknown_matches", '"yes"', "true or false"),
            ("studies.timeout", "-1", "a number from 0 (s), or a string with a unit"),
            ("studies.timeout", '"2 KiB"', "a number from 0 (s), or a string with a unit"),
            ("audit.syslog", '"audit.example"', "the URL of a syslog collector"),
            ("audit.syslog", '"tcp://audit.example:514"', 'such as "tls://audit.example:6514"'),
            ("audit.file", "true", "the path of a file"),
            ("audit.spool_size", '"1 KiB"', "an integer from 1048576 (bytes)"),
            ("limits.idle", '"5 minutes"', "a number from 0.001 (s), or a string with a unit"),
            ("limits.idle", "0", "a number from 0.001"),
            ("limits.idle", "inf", "a number from 0.001"),
            ("limits.idle", "nan", "a number from 0.001"),
            ("limits.idle", "true", "a number from 0.001"),
            ("limits.idle", "07:32:00", "a number from 0.001"),
            ("limits.associations", "1.5", "an integer from 1"),
            ("limits.associations", '"5 s"', "an integer from 1"),
            ("limits.maximum_length", '"1 KiB"', "an integer from 4096 to 1073741824 (bytes)"),
            ("limits.maximum_length", '"1.3 B"', "an integer from 4096"),
        ],
    )
    def test_a_wrong_value(self, file: Path, key: str, value: str, allowed: str):
        """The file, the line, the key and what is allowed."""
        section, _, name = key.partition(".")
        (problem,) = problems(file, f"# 1\n\n[{section}]\n# 4\n{name} = {value}\n")
        assert problem.startswith(f"line 5: {key} is ")
        assert f"; it must be {allowed}" in problem or f" {allowed}" in problem

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            ('ae_title = "BACK\\\\SLASH"', "AE title"),
            ("port = 0", "an integer from 1 to 65535"),
            ("port = 65536", "an integer from 1 to 65535"),
            ('port = "104"', "an integer from 1 to 65535"),
            ('host = "a b"', "a host name or an address"),
            ('services = ["store", "print"]', "echo, store, find, get, move"),
            ("operations_invoked = 0", "an integer from 1 to 65535"),
            ("operations_performed = true", "an integer from 1 to 65535"),
            ("move_destination = 1", "true or false"),
            ('addresses = ["10.0.0"]', "IP addresses, networks"),
            ('addresses = ["10.0.0.5/8"]', "IP addresses, networks"),
            ('addresses = ["300.1.1.1"]', "IP addresses, networks"),
            ('certificate_names = ["ct1"]', "CN:name, DNS:name, URI:name or sha256:"),
            ('certificate_names = ["sha256:12"]', "CN:name, DNS:name, URI:name or sha256:"),
            ('sop_classes = ["CT"]', "a UID or its keyword, such as CTImageStorage"),
            ('identity = "maybe"', "one of optional, required"),
            ("bytes_per_day = 0", "an integer from 1 (bytes)"),
            ("scope = { Modality = 5 }", "Modality has no text"),
            ('scope = { Modality = "*" }', "Modality has a value that matches everything"),
            ("scope = { Modality = [] }", "Modality needs values"),
            ('scope = { NumberOfSeriesRelatedInstances = "1" }', "can be a scope"),
            ('scope = { Modalty = "CT" }', "Modalty is no attribute that can be a scope"),
        ],
    )
    def test_a_wrong_value_of_a_peer(self, file: Path, line: str, what: str):
        """The second one, as people count."""
        name = line.partition(" ")[0]
        given = {"ae_title": '"B"', "host": '"b"', "port": "1"}
        others = "\n".join(f"{key} = {value}" for key, value in given.items() if key != name)
        document = f'[[peers]]\nae_title = "A"\n[[peers]]\n{line}\n{others}\n'
        (problem,) = problems(file, document)
        assert problem.startswith(f"line 4: peers[2].{name} is ")
        assert what in problem

    def test_an_endpoint_says_what_twisted_says(self, file: Path):
        (problem,) = problems(file, '[[listeners]]\nendpoint = "tpc:11112"')
        assert problem.startswith("line 2: listeners[1].endpoint is 'tpc:11112' (Unknown endpoint")

    @pytest.mark.parametrize(
        "endpoint",
        ["tcp:99999", "tcp6:65536", "tcp:interface=127.0.0.1:port=70000", "haproxy:tcp:99999"],
    )
    def test_a_port_that_is_none(self, file: Path, endpoint: str):
        """Twisted would say so when it listens."""
        (problem,) = problems(file, f'[[listeners]]\nendpoint = "{endpoint}"')
        assert problem.startswith(f"line 2: listeners[1].endpoint is '{endpoint}' (")
        assert " is no port); it must be" in problem

    @pytest.mark.parametrize("line", ['[storage]\nfolder = "file"', '[worklist]\nfolder = "file"'])
    def test_a_file_is_no_folder(self, file: Path, line: str):
        (file.parent / "file").touch()
        file.write_text(line, "utf-8")
        with pytest.raises(UsageError, match=r"/file is no folder$"):
            Options().parseOptions(["--config", str(file)])

    @pytest.mark.parametrize("url", ['"mysql://u:secret@h/d"', '"secret"', "5"])
    def test_a_url_is_not_shown(self, file: Path, url: str):
        """It may hold a password."""
        (problem,) = problems(file, f"[index]\nurl = {url}")
        assert problem.startswith("line 2: index.url is wrong; it must be a URL of SQLite or")
        assert "secret" not in problem

    @pytest.mark.parametrize(
        ("document", "problem"),
        [
            ("[storage]\nfodler = 1", "line 2: storage.fodler is not known; is folder meant?"),
            ("[storgae]", "line 1: storgae is not known; is storage meant?"),
            ("\nstorgae.x = 1", "line 2: storgae is not known; is storage meant?"),
            (
                'durability = "full"',
                "line 1: durability is not known; is storage.durability meant?",
            ),
            ("[query]\nzzz = 1", "line 2: query.zzz is not known; known are unknown_matches"),
            (
                "[[peers]]\nae_title = 'A'\nhots = 'a'",
                "line 3: peers[1].hots is not known; is host",
            ),
            ("[limits]\nidel = 1", "line 2: limits.idel is not known; is idle meant?"),
            ("[limits]\nport = 1", "line 2: limits.port is not known; is peers.port meant?"),
        ],
    )
    def test_an_unknown_key(self, file: Path, document: str, problem: str):
        (found,) = problems(file, document)
        assert found.startswith(problem)

    @pytest.mark.parametrize(
        ("document", "problem"),
        [
            ("storage = 5", "line 1: storage is no table: it is written as [storage]"),
            ("[peers]", "line 1: peers is no array of tables: each is written as [[peers]]"),
            ("peers = [1]", "line 1: peers is no array of tables"),
            ("[[listeners]]", "line 1: listeners[1] has no endpoint: it must be a server endpoint"),
            ("[[peers]]\nhost = 'a'\nport = 1", "line 1: peers[1] has no ae_title"),
            ("[[peers]]\nae_title = 'A'\nport = 1", "line 1: peers[1] has one of host and port"),
            (
                "[[peers]]\nae_title = 'A'\nmove_destination = true",
                "line 1: peers[1] is no move_destination without host and port",
            ),
            (
                "[[peers]]\nae_title = 'A'\navailability = true",
                "line 1: peers[1] is not notified of availability without host and port",
            ),
            (
                "[[peers]]\nae_title = 'A'\n[[peers]]\nae_title = 'A '",
                "line 4: peers[2].ae_title is 'A', which another peer is already",
            ),
        ],
    )
    def test_what_does_not_belong_together(self, file: Path, document: str, problem: str):
        (found,) = problems(file, document)
        assert found.startswith(problem)

    def test_all_of_them_in_the_order_of_the_lines(self, file: Path):
        found = problems(file, "[limits]\nidle = 0\n[node]\nae_titles = [1]\nx = 1\n")
        assert [each.partition(":")[0] for each in found] == ["line 2", "line 4", "line 5"]

    def test_no_toml(self, file: Path):
        (problem,) = problems(file, "[node]\nae_titles = [\n")
        assert "at line 2" in problem or "at end of document" in problem

    def test_no_utf8(self, file: Path):
        file.write_bytes(b"# \xff")
        with pytest.raises(MisuseError, match=str(file)):
            read_configuration(file)

    def test_no_file(self, file: Path):
        with pytest.raises(MisuseError, match=f"{file}: No such file"):
            read_configuration(file)

    def test_no_psycopg(self, file: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("dimse.server.kinds.find_spec", lambda name: None)
        (problem,) = problems(file, '[index]\nurl = "postgresql+psycopg://h/d"')
        assert "pip install 'dimse[postgresql]'" in problem


LINES = '''\
# 1
first = [
  1,
  "]", # 4
]
text = """
[no.table]
first = 2
"""

[a.b]  # 11
c.d = 1
"e f" = { g = 1,  h = [{ i = 1 }] }
[[list]]
x = 1
[[list]]
# 17
x = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["first"], 2),
        (["first", 1], 2),
        (["text"], 6),
        (["a"], 11),
        (["a", "b"], 11),
        (["a", "b", "c"], 12),
        (["a", "b", "c", "d"], 12),
        (["a", "b", "e f", "h", 0, "i"], 13),
        (["list"], 14),
        (["list", 0], 14),
        (["list", 0, "x"], 15),
        (["list", 1], 16),
        (["list", 1, "x"], 18),
    ],
    ids=str,
)
def test_line_of_a_key(path: list[str | int], line: int):
    """Where the statement begins that gives it its value, whatever that looks like."""
    assert line_of(LINES, path) == line
