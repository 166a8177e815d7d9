"""The head of the files we write, as pydicom reads it (PS3.10 7.1)."""

from io import BytesIO

import pytest
from pydicom import dcmread

from dimse.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dimse.services.part10 import HEAD_LENGTH, data_set_offset, file_head
from dimse.services.storage import ReceivedInstance
from tests.wire import CT_STORAGE, EXPLICIT, IMPLICIT


def received(**changes: str) -> ReceivedInstance:
    values = {
        "sop_class_uid": CT_STORAGE,
        "sop_instance_uid": "1.2.3",
        "transfer_syntax": EXPLICIT,
        "sending_ae_title": "MODALITY",
        "receiving_ae_title": "ARCHIVE",
    }
    return ReceivedInstance(**values | changes)


def test_pydicom_reads_it():
    head = file_head(received())
    assert head[:132] == bytes(128) + b"DICM"
    element = b"\x08\0\x18\0UI\x06\x001.2.3\0"  # SOP Instance UID (0008,0018)
    found = dcmread(BytesIO(head + element))
    meta = found.file_meta
    assert found.SOPInstanceUID == "1.2.3"
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == CT_STORAGE
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert meta.SendingApplicationEntityTitle == "MODALITY"
    assert meta.ReceivingApplicationEntityTitle == "ARCHIVE"
    assert meta.FileMetaInformationGroupLength == len(head) - HEAD_LENGTH


@pytest.mark.parametrize("uid", ["1", "1.2", "1." + "2" * 62])
@pytest.mark.parametrize("title", ["A", "AB", "A" * 16])
def test_lengths_are_even_and_the_offset_is_found(uid: str, title: str):
    head = file_head(
        received(sop_instance_uid=uid, sending_ae_title=title, transfer_syntax=IMPLICIT)
    )
    assert len(head) % 2 == 0
    assert data_set_offset(head[:HEAD_LENGTH]) == len(head)
    assert dcmread(BytesIO(head)).file_meta.MediaStorageSOPInstanceUID == uid


def test_an_ae_title_that_is_not_ascii():
    assert b"R?NTGEN" in file_head(received(sending_ae_title="RÖNTGEN"))
