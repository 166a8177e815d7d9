"""Wild cards of PS3.4 C.2.2.2.4 as regular expressions that take linear time."""

import re


def wild_card(pattern: str, one: str = ".", end: str = "") -> re.Pattern[str]:
    """What `fullmatch`es when * stands for any text and ? for one character.

    `one` is what a ? stands for, and `end` what may follow, both as regular expressions.
    """
    parts = [
        "".join(one if letter == "?" else re.escape(letter) for letter in part)
        for part in re.split(r"\*+", pattern)
    ]
    first, *others = parts
    text = first
    if others:
        # Each part where it is found first, for good: to look further never helps, as a part has
        # one length, and would cost a power of the length of the text.
        text += "".join(f"(?>.*?{part})" for part in others[:-1]) + ".*" + others[-1]
    return re.compile(text + end, re.DOTALL)
