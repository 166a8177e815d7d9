"""Person names: folded, by component group, by sound (PS3.5 6.2.1, PS3.4 C.2.2.2.1.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dimse.archive.attributes import Attributes
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.matching import FuzzyName, PersonName, Universal, matches
from dimse.archive.names import folded, name_groups, phonetic, soundex, words
from tests.archive.queries import asks, element, received

CHARACTER_SET, NAME = 0x00080005, 0x00100010
NAMES = st.text("aeSsMmtThH *?^=\\\\-'éÉßøｱが山", max_size=12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Müller^Jörg", "muller^jorg"),
        ("STRAẞE^ÅSA", "strasse^asa"),
        (" Smith ^ John  F ^^^", "smith^john f"),
        ("A^B^^=山田^太郎==", "a^b=山田^太郎"),
        ("=山田", "=山田"),
        ("A^\\B^ ^", "a\\b"),
        ("が", "が"),
        ("ｶﾞ", "ガ"),
        ("김희중", "김희중"),
        ("\u05d0\u05b8", "\u05d0"),
        ("", ""),
        ("^^", ""),
    ],
)
def test_folded(name: str, expected: str) -> None:
    """Case, accents, points, blanks and trailing ^ go; what makes another letter stays."""
    assert folded(name) == expected


@given(NAMES | st.text(max_size=20))
def test_folded_once_is_folded(name: str) -> None:
    assert folded(folded(name)) == folded(name)


def test_name_groups() -> None:
    assert name_groups("A^B=山^=\\C") == (("a^b", "山"), ("c",))
    assert name_groups("") == name_groups("^") == ()


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("robert", "R163"),
        ("rupert", "R163"),
        ("rubin", "R150"),
        ("ashcraft", "A261"),
        ("ashcroft", "A261"),
        ("tymczak", "T522"),
        ("pfister", "P236"),
        ("honeyman", "H555"),
        ("lee", "L000"),
        ("山田", ""),
        ("", ""),
    ],
)
def test_soundex(word: str, code: str) -> None:
    """The examples of the National Archives."""
    assert soundex(word) == code


def test_phonetic_is_a_column_to_search() -> None:
    assert phonetic("Smith^John=山田") == " S530 J500 "
    assert phonetic("山田") == " "


def test_component_groups_of_pn() -> None:
    """Each group of the key must be one of the groups of the name (PS3.5 6.2.1.2)."""
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    kept: Attributes = {NAME: name}
    for key in ("yamada^tarou", "山田^太郎", "やまだ^たろう", "山*", "Yamada*=山田^太郎", name):
        sent = received(
            element(CHARACTER_SET, "CS", b"ISO_IR 192"), element(NAME, "PN", key.encode())
        )
        assert matches(keys_of(sent), kept), key
    sent = received(
        element(CHARACTER_SET, "CS", b"ISO_IR 192"), element(NAME, "PN", "Yamada*=田*".encode())
    )
    assert not matches(keys_of(sent), kept)


def test_wild_card_in_components_of_pn() -> None:
    """A * goes over components, a ? does not; an empty component at the end need not be there."""
    for key, name, fits in (
        ("smith^*", "SMITH", True),
        ("smith^*", "SMITH^JOHN^^DR", True),
        ("smith^*", "SMITHERS^JOHN", False),
        ("smith^?", "SMITH", False),
        ("smith^?", "SMITH^J", True),
        ("*^john", "SMITH^JOHN^^", True),
        ("*john*", "SMITH^JOHN", True),
        ("smith?john", "SMITH^JOHN", False),
    ):
        assert asks(NAME, "PN", key, name) is fits, (key, name)


def test_fuzzy_names() -> None:
    """Words in any component and order, by sound, and beginnings with a wild card."""
    for key, name, fits in (
        ("Smith^John", "SMYTH^JON", True),
        ("John Smith", "Smith^John", True),
        ("smi*", "Smythe^John", True),
        ("sm?th^j*", "Smith^Jane", True),
        ("Smith^John", "Smith^Mary", False),
        ("Smith^John", "Smith", False),
        ("Smith", "Smith^John", True),
        ("Ødegård", "Odegaard^Per", True),
        ("山田", "Yamada=山田^太郎", True),
        ("山田", "Yamada=田山^太郎", False),
        ("Meier", "Smith", False),
    ):
        dataset = Dataset()
        dataset.PatientName = key
        keys = keys_of(dataset, Rules(fuzzy=True))
        assert isinstance(keys[NAME], FuzzyName)
        assert matches(keys, {NAME: name}) is fits, (key, name)
    assert not keys[NAME].matches("")


@pytest.mark.parametrize("key", ["^", "=", "^=^", "*=*", "*"])
@pytest.mark.parametrize("fuzzy", [False, True])
def test_a_name_that_asks_for_nothing_is_universal(key: str, fuzzy: bool) -> None:
    keys = keys_of(received(element(NAME, "PN", key.encode())), Rules(fuzzy=fuzzy))
    assert keys == {NAME: Universal()}


@given(NAMES, NAMES)
def test_fuzzy_finds_what_literal_does_and_codes_narrow_down(key: str, name: str) -> None:
    """An index that asks for the codes loses nothing."""
    dataset = Dataset()
    dataset.add_new(NAME, "PN", key.replace("\\", ""))
    literal = keys_of(dataset)[NAME]
    fuzzy = keys_of(dataset, Rules(fuzzy=True))[NAME]
    if literal.matches(name):
        assert fuzzy.matches(name)
    if isinstance(fuzzy, FuzzyName) and fuzzy.matches(name):
        column = phonetic(name)
        assert all(f" {code}" in column for code in fuzzy.codes)


@given(NAMES.filter(lambda text: not set(text) & set("*?")))
def test_a_name_matches_itself(name: str) -> None:
    groups = [group for value in name_groups(name) for group in value][:1]
    if groups:
        assert PersonName(tuple(groups)).matches(name)
    assert words(name) == words(folded(name))
