"""The Modality Worklist of the archive: items from its index, or from a folder (PS3.4 K)."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from dimse.archive.answers import AnswerEncoding
from dimse.archive.attributes import Attributes
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.index import Index
from dimse.archive.matching import (
    TIMEZONE,
    DateTimeRange,
    Key,
    Range,
    SequenceKey,
    SingleValue,
    is_universal,
    matches,
    requested,
)
from dimse.archive.query import texts_of
from dimse.archive.rows import attributes_of, text_of
from dimse.archive.schema import WORKLIST
from dimse.archive.scope import Scope
from dimse.archive.steps import completed
from dimse.archive.times import normal_date, offset_minutes
from dimse.archive.worklist_keys import NEVER_MATCHED, STEP_SEQUENCE, missing, step_of
from dimse.errors import MisuseError
from dimse.message.status import PENDING, PENDING_WARNING, Status
from dimse.performing import Operation
from dimse.services.extended import WorklistOptions
from dimse.services.partial_file import InThread

SUPPORTED = WorklistOptions(fuzzy_names=True, timezone=True)
"""What of extended negotiation the worklist does (PS3.4 K.5.1)."""

_PAGE = 500  # items at a time
_UTC = "+0000"
_STUDY_UID, _ACCESSION_NUMBER = 0x0020000D, 0x00080050
_STEP_ID, _START_DATE = 0x00400009, 0x00400002

Dates = tuple[str, str]
"""The first and the last day, YYYYMMDD, that a query asks for."""


class WorklistItems(Protocol):
    """Where items are: all of it blocks, and is called in threads."""

    def pages(self, dates: Dates | None) -> Iterator[Sequence[Attributes]]:
        """Items, some at a time; at least those that are scheduled on `dates`."""


class StoredWorklist:
    """Worklist items in the index, told apart by study and Scheduled Procedure Step ID."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def add(self, items: Iterable[Attributes]) -> int:
        """Add items, or renew them; all or none. Returns how many.

        Raises `MisuseError` for one that lacks what it has to have.
        """
        statements: list[sa.Executable] = []
        rows: dict[tuple[str, str], Attributes] = {}
        for number, item in enumerate(items, 1):
            if lacks := missing(item):
                raise MisuseError(f"item {number} lacks {', '.join(lacks)} (PS3.4 K.6.1.2.2)")
            rows[_identity(item)] = item
        for (study_uid, step_id), item in rows.items():
            statements.append(_one(WORKLIST.delete(), study_uid, step_id))
            statements.append(
                WORKLIST.insert().values(
                    study_uid=study_uid,
                    step_id=step_id,
                    date=normal_date(_text(step_of(item), _START_DATE)),
                    attributes=text_of(item),
                )
            )
        if statements:
            self._index.change(*statements)
        return len(rows)

    def remove(self, study_uid: str, step_id: str) -> bool:
        """Remove one; whether it was there."""
        return bool(self._index.change(_one(WORKLIST.delete(), study_uid, step_id)))

    def pages(self, dates: Dates | None = None) -> Iterator[list[Attributes]]:
        """The items in the order of their studies."""
        identity = (WORKLIST.c.study_uid, WORKLIST.c.step_id)
        statement = sa.select(*identity, WORKLIST.c.attributes).order_by(*identity).limit(_PAGE)
        if dates is not None:
            low, high = dates
            statement = statement.where(WORKLIST.c.date >= low, WORKLIST.c.date <= high)
        rows = self._index.fetch(statement)
        while rows:
            yield [attributes_of(row.attributes) for row in rows]
            after = sa.tuple_(*identity) > sa.tuple_(*rows[-1][:2])
            rows = self._index.fetch(statement.where(after))


class WorklistFinder:
    """Answers C-FIND of the Modality Worklist from `items`: `find` is what a `QuerySCP` is given.

    What a performed procedure step in the index has COMPLETED is not in the list any more.
    """

    def __init__(self, items: Sequence[WorklistItems], index: Index, in_thread: InThread) -> None:
        self._items = items
        self._index = index
        self._in_thread = in_thread

    async def find(
        self, identifier: Dataset, operation: Operation
    ) -> AsyncGenerator[tuple[Status, bytes], None]:
        """The matches, each with its Pending status and encoded.

        FF01H tells that a key was not matched, for it is only ever asked for (PS3.4 K.4.1.1.4).
        """
        query = _Query(identifier, operation)
        pages = (page for items in self._items for page in items.pages(query.dates))
        step = partial(self._next_answers, pages, query)
        while (page := await self._in_thread(step)) is not None:
            for answer in page:
                yield query.pending, answer

    def _next_answers(
        self, pages: Iterator[Sequence[Attributes]], query: "_Query"
    ) -> list[bytes] | None:
        page = next(pages, None)
        if page is None:
            return None
        found = [item for item in page if query.matches(item)]
        return [query.answer(item) for item in self._open(found)]

    def _open(self, items: Sequence[Attributes]) -> Iterator[Attributes]:
        """Those that are not done."""
        step_ids = {_text(step_of(item), _STEP_ID) for item in items} - {""}
        done = completed(self._index, step_ids) if step_ids else set()
        studies = {(study, step_id) for study, step_id, _ in done if study}
        orders = {(number, step_id) for _, step_id, number in done if number}
        for item in items:
            study, step_id = _identity(item)
            order = (_text(item, _ACCESSION_NUMBER), step_id)
            if (study, step_id) not in studies and order not in orders:
                yield item


class _Query:
    """One identifier, read; raises `StatusError` A900H for what is none."""

    def __init__(self, identifier: Dataset, operation: Operation) -> None:
        sop_class = operation.context.abstract_syntax
        options = WorklistOptions.decode(operation.association.extended.get(sop_class, b""))
        (offset, *_) = (*texts_of(identifier, "TimezoneOffsetFromUTC"), "")
        zone = offset_minutes(offset) if options.timezone else None
        keys = keys_of(identifier, Rules(worklist=True, fuzzy=options.fuzzy_names, timezone=zone))
        unmatched = {tag for tag in NEVER_MATCHED & keys.keys() if not is_universal(keys[tag])}
        self.pending = PENDING_WARNING if unmatched else PENDING
        self.dates = _dates(keys)
        self._keys = keys
        self._scope = Scope(operation.scope)
        self._matched = {tag: key for tag, key in keys.items() if tag not in unmatched}
        self._tells_zone = zone is not None
        self._encoding = AnswerEncoding(
            operation.context.transfer_syntax, texts_of(identifier, "SpecificCharacterSet")
        )

    def matches(self, item: Attributes) -> bool:
        """Whether an item does; of the scope its step may have the attributes too."""
        return self._scope.matches(item | step_of(item)) and matches(self._matched, item)

    def answer(self, item: Attributes) -> bytes:
        """What is asked for of an item, encoded."""
        answer = requested(self._keys, item)
        if self._tells_zone:
            answer[TIMEZONE] = item.get(TIMEZONE) or _UTC
        elif not answer.get(TIMEZONE):
            answer.pop(TIMEZONE, None)
        return self._encoding.encode(answer)


def _dates(keys: Mapping[int, Key]) -> Dates | None:
    """The days that a query asks for, where it says so and no time zones are between."""
    sequence = keys.get(STEP_SEQUENCE)
    match sequence.keys.get(_START_DATE) if isinstance(sequence, SequenceKey) else None:
        case SingleValue(text=day):
            return day, day
        case Range(low=low, high=high):
            return low, high or "9"
        case DateTimeRange(low=low, high=high, zone=None):
            return low[:8], high[:8] or "9"
    return None


def _one(statement: sa.Delete, study_uid: str, step_id: str) -> sa.Delete:
    return statement.where(WORKLIST.c.study_uid == study_uid, WORKLIST.c.step_id == step_id)


def _identity(item: Attributes) -> tuple[str, str]:
    return _text(item, _STUDY_UID), _text(step_of(item), _STEP_ID)


def _text(attributes: Attributes, tag: int) -> str:
    value = attributes.get(tag, "")
    return value if isinstance(value, str) else ""


def shown(item: Attributes, keywords: Iterable[str]) -> list[str]:
    """Values of an item, by keyword; those of its step where that has them."""
    everything = item | step_of(item)
    return [_text(everything, tag_for_keyword(keyword) or 0) for keyword in keywords]
