"""Data sets of messages: what cannot be encoded, what is none; no value is named (PS3.5)."""

import traceback
import zlib
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

from dimse.errors import DimseError, MisuseError, NotAnInstanceError
from dimse.services.dataset import decode, encode
from dimse.services.instance import Instance
from tests.wire import EXPLICIT, IMPLICIT

pytestmark = pytest.mark.filterwarnings("ignore:.*encod:UserWarning")  # pydicom says it too

DEFLATED = DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
def test_there_and_back(syntax: str):
    dataset = Dataset()
    dataset.PatientID = "1"
    assert decode(encode(dataset, syntax), syntax) == dataset


def test_what_cannot_be_encoded():
    """The text of the error names no value."""
    with pytest.raises(MisuseError) as caught:
        encode("Doe^John", EXPLICIT)  # type: ignore[arg-type]
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("junk", [b"\x10\0\x10\0LO", b"\xff" * 9])
def test_what_is_none(junk: bytes):
    with pytest.raises(DimseError, match="no data set"):
        decode(junk, EXPLICIT)


def test_one_that_unfolds_without_end():
    """A few kB must not become a GiB of memory."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    mebibyte = bytes(1024 * 1024)
    data = b"".join(deflate.compress(mebibyte) for _ in range(33)) + deflate.flush()
    assert len(data) < 100_000
    with pytest.raises(DimseError) as caught:
        decode(data, DEFLATED)
    assert "33554432 bytes" in str(caught.value.__cause__)


def named(name: str, character_set: Any = None) -> Dataset:
    dataset = Dataset()
    if character_set is not None:
        dataset.SpecificCharacterSet = character_set
    dataset.PatientName = name
    return dataset


class TestText:
    @pytest.mark.parametrize(
        ("name", "character_set"),
        [
            ("Ωμέγα*", None),  # pydicom writes ?????*, which matches other patients
            ("Müller", None),  # pydicom writes Latin-1, and nobody knows
            ("Müller", ""),
            ("Müller", "ISO_IR 6"),
            ("Müller", ["", "ISO 2022 IR 87"]),
            ("Ωμέγα", "ISO_IR 100"),
            ("Müller=山田", "ISO_IR 100"),
            ("Müller", "of no standard"),
        ],
    )
    def test_that_the_character_set_does_not_have(self, name: str, character_set: Any):
        dataset = named(name, character_set)
        with pytest.raises(MisuseError, match=r"\(0010,0010\) PN.*Specific Character Set") as one:
            encode(dataset, EXPLICIT)
        assert name not in str(one.value)

    @pytest.mark.parametrize(
        ("name", "character_set"),
        [
            ("Muller*^?", None),
            ("Müller", "ISO_IR 100"),
            ("Ωμέγα*", "ISO_IR 126"),
            ("Ωμέγα^山田", "ISO_IR 192"),
            ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
            ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
            ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
            ("Wang^XiaoDong=王^小东", "GB18030"),
        ],
    )
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
    def test_that_it_has(self, name: str, character_set: Any, syntax: str):
        """PS3.5 H, I and K have these names."""
        again = decode(encode(named(name, character_set), syntax), syntax)
        assert str(again.PatientName) == name

    def test_in_a_sequence(self):
        """An item has the character set around it, or its own."""
        outer, item = named("Müller", "ISO_IR 100"), Dataset()
        outer.OtherPatientIDsSequence = [item]
        item.PatientComments = "ä"
        encode(outer, EXPLICIT)
        item.PatientComments = "Ω"
        with pytest.raises(MisuseError, match=r"\(0010,4000\) LT"):
            encode(outer, EXPLICIT)
        item.SpecificCharacterSet = "ISO_IR 126"
        encode(outer, EXPLICIT)

    def test_one_of_many_values(self):
        dataset = Dataset()
        dataset.OtherPatientNames = ["A", "Ω"]
        with pytest.raises(MisuseError, match=r"\(0010,1001\) PN"):
            encode(dataset, EXPLICIT)

    def test_of_a_vr_that_is_always_ascii(self):
        dataset = named("A", "ISO_IR 192")
        dataset.Modality = "Ω"
        with pytest.raises(MisuseError, match=r"\(0008,0060\) CS"):
            encode(dataset, EXPLICIT)

    def test_that_was_read(self):
        """It goes out as it came, declared or not; declared anew, it is looked at."""
        data = b"\x10\0\x10\0PN\6\0M\xfcller"
        assert encode(decode(data, EXPLICIT), EXPLICIT) == data
        again = decode(data, EXPLICIT)
        again.SpecificCharacterSet = "ISO_IR 144"
        with pytest.raises(MisuseError):
            encode(again, EXPLICIT)
        undeclared = decode(encode(named("Müller", "ISO_IR 100"), EXPLICIT), EXPLICIT)
        del undeclared.SpecificCharacterSet
        with pytest.raises(MisuseError):
            encode(undeclared, EXPLICIT)

    def test_of_an_instance(self):
        dataset = named("Ωμέγα")
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
        with pytest.raises(NotAnInstanceError, match=r"\(0010,0010\) PN"):
            Instance.from_dataset(dataset)
        dataset.SpecificCharacterSet = "ISO_IR 126"
        Instance.from_dataset(dataset)


class TestNoValueIsNamed:
    """Neither in the text of the error nor in its traceback."""

    @staticmethod
    def told(error: BaseException) -> str:
        return "".join(traceback.format_exception(error))

    def test_of_what_cannot_be_encoded(self):
        dataset = named("A")
        dataset.add_new(0x00280010, "US", "secret")
        with pytest.raises(MisuseError, match=r"\(0028,0010\) US cannot be encoded") as caught:
            encode(dataset, EXPLICIT)
        assert "secret" not in self.told(caught.value)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
        with pytest.raises(NotAnInstanceError, match=r"\(0028,0010\) US") as of_instance:
            Instance.from_dataset(dataset)
        assert "secret" not in self.told(of_instance.value)

    @pytest.mark.parametrize("syntax", [EXPLICIT, DeflatedExplicitVRLittleEndian])
    def test_of_what_cannot_be_decoded(self, syntax: str):
        with pytest.raises(DimseError) as caught:
            decode(b"\xff" * 7, syntax)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["*=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田?"])
def test_wild_cards_beside_text_of_a_code_extension(name: str):
    """Behind Japanese text, ASCII is in force again (PS3.5 6.1.2.5.3)."""
    keys = Dataset()
    keys.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    keys.PatientName = name
    assert decode(encode(keys, EXPLICIT), EXPLICIT).PatientName == name


def test_latin_1_is_none_of_a_code_extension_that_lacks_it():
    keys = Dataset()
    keys.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    keys.PatientName = "Müller"
    with pytest.raises(MisuseError, match="does not declare"):
        encode(keys, EXPLICIT)
