"""A node says nothing of the patients whose instances it has, whatever pydicom thinks of them."""

import struct
from pathlib import Path

import pytest
import pytest_twisted
from pydicom import Dataset
from twisted.logger import capturedLogs, formatEvent

from dimse import STUDY_ROOT, MemoryStore, StatusError, associate, find, get, get_contexts, store
from dimse.services.instance import Instance
from tests.archive.queries import element, read
from tests.server.nodes import made
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT


def invalid(*others: bytes) -> bytes:
    """A data set with values that are not of their VRs, which pydicom warns of, quoting them."""
    secret = b"SECRET"
    return b"".join(
        sorted(
            [
                element(0x00080005, "CS", b"SECRET_CS"),
                element(0x00080020, "DA", secret),
                element(0x00080060, "CS", b"SECRET*"),
                element(0x00181160, "DS", secret),
                element(0x0020000D, "UI", b"1.2"),
                element(0x00200013, "IS", secret),
                *others,
            ],
            key=lambda each: struct.unpack_from("<HH", each),
        )
    )


@pytest_twisted.ensureDeferred
async def test_values_that_pydicom_warns_of_enter_no_log(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Neither of what is stored, nor of a query, nor of what is converted for a C-GET."""
    with capturedLogs() as log:
        service, address = made(tmp_path)
        uids = element(0x00080016, "UI", CT_STORAGE.encode()), element(0x00080018, "UI", b"1.2.3")
        data = invalid(*uids, element(0x0020000E, "UI", b"1.2.1"))
        async with associate(address, [(CT_STORAGE, [EXPLICIT]), STUDY_ROOT.find]) as association:
            assert await store(association, Instance(CT_STORAGE, "1.2.3", EXPLICIT, data)) == 0
            keys = read(invalid(element(0x00080052, "CS", b"IMAGE")))
            with pytest.raises(StatusError, match="0xA900"):
                await find(association, keys)
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2"
        contexts = get_contexts(STUDY_ROOT, [CT_STORAGE], [IMPLICIT])
        with MemoryStore() as received:
            async with associate(address, contexts) as association:
                assert (await get(association, identifier, received)).completed == 1
            assert received.instances[0].instance().transfer_syntax == IMPLICIT
        await service.stopService()
    said = [str(each.message) for each in recwarn] + [formatEvent(event) for event in log]
    assert "SECRET" not in "\n".join([*said, caplog.text])
