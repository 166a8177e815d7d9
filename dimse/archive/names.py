"""Person names as they are compared: without case and accents, and by sound (PS3.5 6.2.1)."""

import re
import unicodedata

# Points and accents go: Hebrew and Arabic vowel points (10 to 35), and marks above and below (from
# 200). What makes another letter stays: the voicing marks of kana (8), vowels of Thai (103).
_ACCENTS = frozenset(range(10, 36)) | frozenset(range(200, 241))
_EDGES = re.compile(r" ?([\^=\\]) ?")
_LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ħ": "h"}
)
_WORD = re.compile(r"[^\s\^=\\,.\-'’]+")  # noqa: RUF001
_CODES = {
    letter: digit
    for digit, letters in enumerate(("aeiouy", "bfpv", "cgjkqsxz", "dt", "l", "mn", "r"))
    for letter in letters
}


def folded(text: str) -> str:
    """A PN value as it is compared: without case, accents, superfluous blanks and trailing ^.

    Component groups stay with = between them, several values with a backslash.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        text = "".join(c for c in text if unicodedata.combining(c) not in _ACCENTS)
        text = unicodedata.normalize("NFC", text)
    text = " ".join(text.casefold().split())
    if " " in text:
        text = _EDGES.sub(r"\1", text)
    if "=" not in text and "\\" not in text:
        return text.rstrip("^ ")
    return "\\".join(
        "=".join(group.rstrip("^ ") for group in name.split("=")).rstrip("=")
        for name in text.split("\\")
    )


def name_groups(text: str) -> tuple[tuple[str, ...], ...]:
    """Of each value of a PN its component groups, folded, without empty ones (PS3.5 6.2.1.2)."""
    names = folded(text)
    if "=" not in names and "\\" not in names:
        return ((names,),) if names else ()
    return tuple(tuple(filter(None, name.split("="))) for name in names.split("\\") if name)


def words(text: str) -> tuple[str, ...]:
    """The words of the components of a name, folded, Latin ones in ASCII where that is known."""
    return tuple(_WORD.findall(folded(text).translate(_LETTERS)))


def soundex(word: str) -> str:
    """The American Soundex of a folded word: Robert and Rupert are R163; "" without Latin letters.

    Vowels part equal codes, h and w do not.
    """
    code, previous = "", 0
    for letter in word:
        if letter in "hw" and code:
            continue
        digit = _CODES.get(letter, -1 if letter not in "hw" else 0)
        if digit < 0:
            continue
        if not code:
            code = letter.upper()
        elif digit and digit != previous:
            code += str(digit)
        if len(code) == 4:
            break
        previous = digit
    return f"{code:0<4}" if code else ""


def phonetic(text: str) -> str:
    """The codes of all words of a name, each between blanks: " S530 J500 ", for an index."""
    return "".join(f" {code}" for code in map(soundex, words(text)) if code) + " "
