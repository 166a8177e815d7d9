"""The examples run against real processes, and what the README shows is a part of them."""

import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import MRImageStorage

import dimse
from dimse.testing import Network
from examples.archive_scp import MODELS, Folder
from tests.peers import Server, free_port, run, running, tool, twistd_dimse

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENV = {"PYTHONPATH": str(ROOT)}
INSTANCE = Path(str(get_testdata_file("CT_small.dcm")))
STUDY = str(dcmread(INSTANCE, stop_before_pixels=True).StudyInstanceUID)
UID = str(dcmread(INSTANCE, stop_before_pixels=True).SOPInstanceUID)

VERIFIED = "0x0000 (Communication verified)"

BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)


def example(name: str, port: int, *more: str | Path) -> tuple[int, str]:
    """Exit code and output of an example that ends by itself."""
    done = run([sys.executable, EXAMPLES / name, "127.0.0.1", str(port), *more], env=ENV)
    return done.returncode, done.stdout


def serving(name: str, *more: str | Path) -> Iterator[Server]:
    """An example that goes on until it gets a signal."""
    port = free_port()
    with running(
        [sys.executable, EXAMPLES / name, "127.0.0.1", str(port), *more], port, ENV
    ) as server:
        yield server


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def node(storage: Path) -> Iterator[Server]:
    with twistd_dimse(storage, "--aet", "REMOTE_SCP", "--aet", "ANY-SCP") as server:
        yield server


@pytest.fixture
def storage_scp() -> Iterator[Server]:
    yield from serving("storage_scp.py")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Server]:
    yield from serving("in_a_twisted_service.py", tmp_path)


@pytest.mark.peer
class TestRequestors:
    def test_echo_scu(self, node: Server) -> None:
        assert example("echo_scu.py", node.port) == (0, "0x0000 (Communication verified)\n")

    def test_echo_scu_says_that_nobody_is_there(self) -> None:
        code, output = example("echo_scu.py", free_port())
        assert code == 1
        assert "refused" in output
        assert "Traceback" not in output

    def test_store_scu_sends_instances_and_skips_the_rest(
        self, node: Server, storage: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text("no instance")
        code, output = example("store_scu.py", node.port, INSTANCE, tmp_path)
        assert code == 0
        assert f"{INSTANCE} 0x0000" in output
        assert "not a DICOM file" in output
        [kept] = [
            file
            for file in storage.glob("objects/*/*.dcm")
            if dcmread(file, stop_before_pixels=True).SOPInstanceUID == UID
        ]
        assert dcmread(kept).PixelData == dcmread(INSTANCE).PixelData

    def test_store_dataset(self, node: Server) -> None:
        assert example("store_dataset.py", node.port) == (0, "0x0000 (Stored)\n")

    def test_with_asyncio(self, node: Server) -> None:
        code, output = example("with_asyncio.py", node.port)
        assert (code, output) == (0, f"{VERIFIED} {VERIFIED} and asyncio\n")


@pytest.fixture(scope="module")
def destination() -> Iterator[Server]:
    yield from serving("storage_scp.py")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, destination: Server) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "ct.dcm").write_bytes(INSTANCE.read_bytes())
    yield from serving("archive_scp.py", folder, f"DEST=127.0.0.1:{destination.port}")


@pytest.mark.peer
class TestArchive:
    def test_find(self, archive: Server) -> None:
        assert example("find_scu.py", archive.port) == (0, f"{STUDY}\n1 in all\n")

    def test_notebook(self, archive: Server) -> None:
        assert example("notebook.py", archive.port) == (0, f"{VERIFIED}\n{STUDY}\n128 x 128\n")

    def test_pool(self, archive: Server) -> None:
        assert example("pool.py", archive.port) == (0, "10 matches\n")

    def test_get(self, archive: Server, tmp_path: Path) -> None:
        folder = tmp_path / "got"
        code, output = example("get_scu.py", archive.port, STUDY, folder)
        assert (code, output) == (0, f"1 completed, 0 failed, in {folder}\n")
        assert dcmread(folder / f"{UID}.dcm").PixelData == dcmread(INSTANCE).PixelData

    def test_move(self, archive: Server, destination: Server) -> None:
        before = destination.log().count(UID)
        code, output = example("move_scu.py", archive.port, STUDY, "DEST")
        assert (code, output) == (0, "1 completed, 0 failed, 0 with warnings\n")
        assert destination.log().count(UID) == before + 1

    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Iterator[Server]:
        """An archive of a study with a CT, and with what is no CT."""
        header = dcmread(INSTANCE)
        (tmp_path / "ct.dcm").write_bytes(INSTANCE.read_bytes())
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = MRImageStorage
        other = type(MRImageStorage)("1.2.3")
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = other
        header.save_as(tmp_path / "mr.dcm")
        yield from serving("archive_scp.py", tmp_path, "DEST=127.0.0.1:1")

    def test_get_that_is_incomplete(self, mixed: Server, tmp_path: Path) -> None:
        """What failed is named, and the exit code says so."""
        folder = tmp_path / "got"
        code, output = example("get_scu.py", mixed.port, STUDY, folder)
        assert code == 1
        assert f"1 completed, 1 failed, in {folder}\n" in output
        assert output.endswith(": 1.2.3\n")

    def test_get_and_move_of_which_nothing_comes(self, mixed: Server, tmp_path: Path) -> None:
        code, output = example("get_scu.py", mixed.port, "", tmp_path)
        assert (code, "not fetched: status 0xA900" in output) == (1, True)
        assert "Traceback" not in output
        code, output = example("move_scu.py", mixed.port, STUDY, "DEST")
        assert (code, "not moved: status 0xA702" in output) == (1, True)

    def test_move_to_nobody(self, archive: Server) -> None:
        code, output = example("move_scu.py", archive.port, STUDY, "NOBODY")
        assert code == 1
        assert "0xA801" in output

    def test_procedure_step(self, archive: Server) -> None:
        success = "0x0000 (Success)\n"
        assert example("procedure_step_scu.py", archive.port) == (0, success * 2)
        assert "COMPLETED" in archive.log()

    @pytest.mark.parametrize("model", ["-P", "-S"])
    def test_findscu(self, archive: Server, model: str) -> None:
        """DCMTK finds what we find."""
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID"]
        done = run([tool("findscu"), model, *keys, "127.0.0.1", str(archive.port)])
        assert done.returncode == 0, done.stdout
        assert STUDY in done.stdout

    def test_getscu(self, archive: Server, tmp_path: Path) -> None:
        """DCMTK gets the pixels that we have."""
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
        folder = tmp_path / "got"
        folder.mkdir()
        port = str(archive.port)
        done = run([tool("getscu"), "-S", *keys, "-od", folder, "127.0.0.1", port])
        assert done.returncode == 0, done.stdout
        (got,) = folder.iterdir()
        assert dcmread(got).PixelData == dcmread(INSTANCE).PixelData

    def test_movescu(self, archive: Server, destination: Server) -> None:
        before = destination.log().count(UID)
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
        move = [tool("movescu"), "-S", "-aem", "DEST", *keys]
        done = run([*move, "127.0.0.1", str(archive.port)])
        assert done.returncode == 0, done.stdout
        assert destination.log().count(UID) == before + 1

    @pytest.mark.parametrize("script", ["findscu", "getscu"])
    def test_pynetdicom(self, archive: Server, script: str, tmp_path: Path) -> None:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
        command = [sys.executable, "-m", "pynetdicom", script, "127.0.0.1", str(archive.port)]
        done = run([*command, "-S", *keys, "-v"], cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        assert "0x0000" in done.stdout


class TestFolder:
    """What archive_scp.py finds and sends, by level."""

    @pytest.fixture
    def network(self) -> Iterator[Network]:
        with Network() as network:
            yield network

    @pytest.fixture
    def association(self, network: Network, tmp_path: Path) -> dimse.Association:
        header = dcmread(INSTANCE)
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller"
        for name in ("A11a", "A11b", "A12a", "A21a", "B11a"):
            patient, study, series, image = name
            header.PatientID = patient
            header.StudyInstanceUID = f"1.{ord(patient)}.{study}"
            header.SeriesInstanceUID = f"{header.StudyInstanceUID}.{series}"
            header.SOPInstanceUID = f"{header.SeriesInstanceUID}.{ord(image)}"
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            header.save_as(tmp_path / f"{name}.dcm")
        folder = Folder(tmp_path)
        endpoint = network.listen(
            [dimse.QuerySCP(folder.find, MODELS), dimse.RetrieveSCP(folder.retrieve, MODELS)]
        )
        contexts = [dimse.PATIENT_ROOT.find, dimse.PATIENT_ROOT.get, header.SOPClassUID]
        return network.associate(endpoint, contexts)[0]

    @staticmethod
    def keys(level: str, **values: object) -> Dataset:
        keys = Dataset()
        keys.QueryRetrieveLevel = level
        for keyword, value in values.items():
            setattr(keys, keyword, value)
        return keys

    @pytest.mark.parametrize(
        ("level", "keys", "count"),
        [
            ("PATIENT", {"PatientID": "A"}, 4),
            ("STUDY", {"PatientID": "A", "StudyInstanceUID": "1.65.1"}, 3),
            ("STUDY", {"StudyInstanceUID": ["1.65.1", "1.66.1"]}, 4),
            ("STUDY", {"PatientID": "B", "StudyInstanceUID": "1.65.1"}, 0),
            ("SERIES", {"StudyInstanceUID": "1.65.1", "SeriesInstanceUID": "1.65.1.1"}, 2),
            ("IMAGE", {"SOPInstanceUID": "1.65.1.1.97"}, 1),
        ],
    )
    def test_sends_what_the_unique_keys_say(
        self,
        network: Network,
        association: dimse.Association,
        level: str,
        keys: dict[str, object],
        count: int,
    ) -> None:
        wanted, store = self.keys(level, **keys), dimse.MemoryStore()
        done = network.result(dimse.get(association, wanted, store, dimse.PATIENT_ROOT).result())
        assert (done.status, done.completed) == (0, count)

    @pytest.mark.parametrize(
        ("level", "keys"),
        [
            ("PATIENT", {}),
            ("STUDY", {"PatientID": "A"}),
            ("SERIES", {"StudyInstanceUID": "1.65.1", "SeriesInstanceUID": ""}),
            ("IMAGE", {"SeriesInstanceUID": "1.65.1.1"}),
            ("FRAME", {"SOPInstanceUID": "1.65.1.1.97"}),
        ],
    )
    def test_does_not_send_everything_when_the_key_of_the_level_is_missing(
        self,
        network: Network,
        association: dimse.Association,
        level: str,
        keys: dict[str, object],
    ) -> None:
        wanted, store = self.keys(level, **keys), dimse.MemoryStore()
        with pytest.raises(dimse.StatusError, match="0xA900"):
            network.result(dimse.get(association, wanted, store, dimse.PATIENT_ROOT).result())
        assert store.instances == []

    @pytest.mark.parametrize(
        ("level", "keys", "count"),
        [
            ("PATIENT", {"PatientID": ""}, 2),
            ("STUDY", {"PatientID": "A", "StudyInstanceUID": ""}, 2),
            ("SERIES", {"StudyInstanceUID": "1.65.1", "SeriesInstanceUID": ""}, 2),
            ("IMAGE", {"SeriesInstanceUID": "1.65.1.1", "SOPInstanceUID": ""}, 2),
        ],
    )
    def test_finds_each_of_a_level_once_and_in_its_character_set(
        self,
        network: Network,
        association: dimse.Association,
        level: str,
        keys: dict[str, object],
        count: int,
    ) -> None:
        wanted = self.keys(level, **keys, PatientName="")
        matches = network.result(dimse.find(association, wanted, dimse.PATIENT_ROOT).result())
        assert len(matches) == count
        assert {str(match.PatientName) for match in matches} == {"Müller"}
        assert {match.QueryRetrieveLevel for match in matches} == {level}


@pytest.fixture
def department(tmp_path: Path) -> Iterator[Server]:
    yield from serving("department_scp.py", tmp_path)


@pytest.mark.peer
class TestDepartment:
    def test_commitment(self, department: Server, tmp_path: Path) -> None:
        """What was stored is committed; what is gone is not."""
        code, output = example("commitment_scu.py", department.port, INSTANCE)
        assert (code, output) == (0, f"0x0000 (Stored)\n{UID} is safe\n")
        (tmp_path / f"{UID}.dcm").unlink()
        command = [sys.executable, "-m", "dimse", "commit", "127.0.0.1", str(department.port)]
        done = run([*command, INSTANCE], env=ENV)
        assert done.returncode == 1
        assert "no such object instance" in done.stdout

    def test_procedure_step(self, department: Server) -> None:
        code, output = example("performed_step_scu.py", department.port, INSTANCE)
        uid = output.split()[0]
        assert (code, output) == (0, f"{uid} 0x0000 (Success)\n")
        assert f"{uid} COMPLETED" in department.log()

    def test_availability(self, department: Server) -> None:
        code, output = example("availability_scu.py", department.port, INSTANCE)
        assert (code, output) == (0, "0x0000 (Success)\n")
        assert f"{UID} ONLINE ARCHIVE" in department.log()


@pytest.mark.peer
class TestAcceptors:
    def test_storage_scp_gets_the_data_set_bit_for_bit(self, storage_scp: Server) -> None:
        assert example("echo_scu.py", storage_scp.port)[0] == 0
        assert example("store_scu.py", storage_scp.port, INSTANCE)[0] == 0
        whole = INSTANCE.read_bytes()
        length, digest = next(
            (int(words[1]), words[2])
            for words in map(str.split, storage_scp.log().splitlines())
            if words[0] == UID
        )
        assert digest == sha256(whole[-length:]).hexdigest()
        assert storage_scp.stop() in (0, -15)

    def test_router_scp_passes_the_status_on(self, storage_scp: Server) -> None:
        for router in serving("router_scp.py", f"127.0.0.1:{storage_scp.port}"):
            assert example("store_scu.py", router.port, INSTANCE)[0] == 0
            assert UID in storage_scp.log()
            storage_scp.stop()
            code, output = example("store_scu.py", router.port, INSTANCE)
            assert code == 1
            assert "0x0110" in output

    def test_storage_scp_answers_the_command_line(self, storage_scp: Server) -> None:
        peer = ["127.0.0.1", str(storage_scp.port)]
        done = run([sys.executable, "-m", "dimse", "echo", *peer], env=ENV)
        assert done.returncode == 0, done.stdout

    def test_in_a_twisted_service(self, service: Server, tmp_path: Path) -> None:
        """It answers to its own AE title only, and keeps what it gets."""
        assert "called AE title not recognized" in example("echo_scu.py", service.port)[1]
        command = [sys.executable, "-m", "dimse", "store", "-aec", "ARCHIVE"]
        done = run([*command, "127.0.0.1", str(service.port), INSTANCE], env=ENV)
        assert done.returncode == 0, done.stdout
        assert len(list(tmp_path.glob("objects/*/*.dcm"))) == 1
        assert "still here" in service.log()
        assert service.stop() in (0, -15)


def test_my_scp() -> None:
    """What a user's tests look like; they need no peer."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = run([*command, EXAMPLES / "test_my_scp.py"], env=ENV)
    assert done.returncode == 0, done.stdout


class TestReadme:
    def test_shows_examples(self) -> None:
        assert BLOCKS

    @pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0].strip())
    def test_block_is_a_verbatim_part_of_an_example(self, block: str) -> None:
        assert any(block in file.read_text("utf-8") for file in EXAMPLES.glob("*.py"))

    def test_links_to_files_that_exist(self) -> None:
        links = re.findall(r"\]\(([^)#:]+)[^)]*\)", (ROOT / "README.md").read_text("utf-8"))
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []

    def test_names_no_script_that_is_not_tested(self) -> None:
        tested = set(re.findall(r"\"(\w+\.py)\"", Path(__file__).read_text("utf-8")))
        assert {file.name for file in EXAMPLES.glob("*.py")} == tested
