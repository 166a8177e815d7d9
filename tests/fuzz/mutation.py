"""Changes of valid bytes, each determined by a number."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.fuzz.corpus import Seed

T = TypeVar("T")

_STEP = 0x5851F42D4C957F2D
_MASK = 0xFFFFFFFFFFFFFFFF


class Dice:
    """Numbers that look random: `random.Random` takes longer to seed than a PDU to decode."""

    __slots__ = ("_state",)

    def __init__(self, seed: int, case: int) -> None:
        state = (seed * 0x9E3779B97F4A7C15 + case * 0xBF58476D1CE4E5B9 + 1) & _MASK
        self._state = ((state ^ state >> 31) * 0x94D049BB133111EB) & _MASK

    def below(self, bound: int) -> int:
        """From 0 to `bound` - 1."""
        self._state = state = (self._state * _STEP + 0x14057B7EF767814F) & _MASK
        return ((state >> 32) * bound) >> 32

    def of(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]


def _flip(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    for _ in range(1 + dice.below(3)):
        data[dice.below(len(data))] ^= 1 << dice.below(8)


# PDU and item types, bits at the ends, and characters that mean something.
_BYTES = bytes((0, 1, 2, 3, 4, 5, 6, 7, 0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A)))
_BYTES += b"\x7f\x80\xfe\xff\\ *?\x1b"


def _set_byte(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    data[dice.below(len(data))] = dice.of(_BYTES)


def _set_length(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    if not seed.fields:
        return
    field = dice.of(seed.fields)
    end = field.at + field.size
    length = int.from_bytes(data[field.at : end], field.order)  # type: ignore[arg-type]
    lengths = (
        *(0, 1, length - 2, length - 1, length + 1, length + 2),
        *(0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
    )
    changed = dice.of(lengths) & (0xFFFFFFFF if field.size == 4 else 0xFFFF)
    data[field.at : end] = changed.to_bytes(field.size, field.order)  # type: ignore[arg-type]


def _truncate(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    del data[dice.below(len(data)) :]


def _cut_out(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    if seed.fields and dice.below(2):
        field = dice.of(seed.fields)
        del data[field.start : field.end]
    else:
        start = dice.below(len(data))
        del data[start : start + 1 + dice.below(8)]


def _duplicate(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    if seed.fields:
        field = dice.of(seed.fields)
        times = dice.of((1, 1, 1, 2, 16))
        data[field.end : field.end] = data[field.start : field.end] * times


def _splice(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    data[dice.below(len(data)) :] = other.data[dice.below(len(other.data)) :]


def _insert(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    """An item, PDV, PDU or element of another one, where one begins."""
    if seed.fields and other.fields:
        at, field = dice.of(seed.fields).start, dice.of(other.fields)
        data[at:at] = other.data[field.start : field.end]


def _insert_bytes(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    at = dice.below(len(data) + 1)
    data[at:at] = bytes((dice.of(_BYTES),)) * dice.of((1, 1, 2, 4, 64, 1000))


_VRS = b"AEASATCSDADSDTFDFLISLOLTOBOWPNSHSLSQSSSTTMUCUIULUNURUSUTUVKSZZ"


def _set_vr(data: bytearray, seed: Seed, other: Seed, dice: Dice) -> None:
    """Of an element in explicit VR; elsewhere two bytes that are as good as any."""
    if seed.fields:
        at, vr = dice.of(seed.fields).start + 4, 2 * dice.below(len(_VRS) // 2)
        data[at : at + 2] = _VRS[vr : vr + 2]


Mutation = Callable[[bytearray, Seed, Seed, Dice], None]
MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _set_byte, _set_length, _set_length, _set_length, _truncate),
    *(_cut_out, _duplicate, _splice, _insert, _insert_bytes, _set_vr),
)


def mutated(seeds: Sequence[Seed], dice: Dice) -> bytes:
    """One of the seeds after one to three changes; one in 16 is as it was."""
    seed, other = dice.of(seeds), dice.of(seeds)
    data = bytearray(seed.data)
    for _ in range(dice.of((1, 1, 1, 2, 2, 3)) if dice.below(16) else 0):
        if data:
            dice.of(MUTATIONS)(data, seed, other, dice)
    return bytes(data)


def segments(data: bytes, dice: Dice) -> list[bytes]:
    """The data cut at random: whole, into single bytes, or into some pieces."""
    how = dice.below(8)
    if how < 3 or len(data) < 2:
        return [data]
    if how == 3 and len(data) < 4096:
        return [data[index : index + 1] for index in range(len(data))]
    places = sorted(dice.below(len(data)) for _ in range(1 + dice.below(6)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
