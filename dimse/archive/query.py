"""C-FIND of the archive: Patient Root and Study Root, at all levels (PS3.4 C.4.1)."""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.multival import MultiValue
from sqlalchemy.exc import SQLAlchemyError
from twisted.logger import Logger

from dimse.archive.answers import AnswerEncoding
from dimse.archive.attributes import REQUIRED, UNIQUE, Attributes, Level
from dimse.archive.identifier import Rules, keys_of
from dimse.archive.index import Index
from dimse.archive.matching import TIMEZONE, Key, SingleValue, is_universal, requested
from dimse.archive.scope import Scope
from dimse.archive.selection import LEVELS, Selection
from dimse.archive.times import offset_minutes
from dimse.errors import StatusError
from dimse.message.status import IDENTIFIER_MISMATCH, PENDING, PENDING_WARNING, Status
from dimse.performing import Operation
from dimse.services.extended import QueryOptions
from dimse.services.partial_file import InThread
from dimse.sop_classes import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT, InformationModel

MODELS: Mapping[str, InformationModel] = {
    uid: model
    for model in (PATIENT_ROOT, STUDY_ROOT, PATIENT_STUDY_ONLY)
    for uid in model.sop_classes
}
"""The information models of the archive, by their SOP classes."""

SUPPORTED = QueryOptions(
    relational=True,
    combined_date_time=True,
    fuzzy_names=True,
    timezone=True,
    empty_value_matching=True,
    multiple_value_matching=True,
)
"""What of extended negotiation the archive does (PS3.4 C.5.1.1)."""

INDEX_FAILED = Status(0xC001)
"""Unable to process, of C-FIND, C-GET and C-MOVE (PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4)."""

_log = Logger()

_FEW = 10  # keys that the log names
_LEVEL = 0x00080052
_RETRIEVE_AE_TITLE, _AVAILABILITY = 0x00080054, 0x00080056
_OF_ALL = frozenset((_RETRIEVE_AE_TITLE, _AVAILABILITY))
"""What every answer can have, whatever the index holds; it is not matched."""
_UTC = "+0000"
_NONE: frozenset[int] = frozenset()


class Finder:
    """Answers C-FIND from the index: `find` is what a `QuerySCP` is given.

    With `unknown_matches` a required key without a value in the archive matches every value asked
    for, as PS3.4 C.2.2.1.2 has it. Nobody expects all studies without an Accession Number when
    asking for one, and no other archive tried gives them: so it is off unless asked for.
    """

    def __init__(
        self,
        index: Index,
        in_thread: InThread,
        *,
        unknown_matches: bool = False,
        ae_title: str | None = None,
    ) -> None:
        self._index = index
        self._in_thread = in_thread
        self._ae_title = ae_title
        self._unknown_matches = REQUIRED - frozenset(UNIQUE.values()) if unknown_matches else _NONE

    async def find(
        self, identifier: Dataset, operation: Operation
    ) -> AsyncGenerator[tuple[Status, bytes], None]:
        """The matches, each with its Pending status and encoded; a page of them at a time.

        FF01H tells that an optional key is not supported, and was not matched (PS3.4 C.4.1.1.4).
        Raises `StatusError` C001H when the database fails.
        """
        ae_title = self._ae_title or operation.ae_title
        query = Query(identifier, operation, ae_title, self._unknown_matches)
        if query.ignored:
            _log.info(
                "{peer}: C-FIND: keys that are not matched: {keys}",
                peer=operation.peer,
                keys=_keywords(query.ignored),
            )
        scope = Scope(operation.scope)
        selection = Selection(self._index, query.level, query.keys, scope)
        pages, left = selection.pages(), False

        def next_answers() -> list[bytes] | None:
            return None if left else query.next_answers(pages)  # what waited for a thread

        try:
            while (page := await self._next(next_answers)) is not None:
                for answer in page:
                    yield query.pending, answer
        finally:
            left = True

    async def _next(self, step: Callable[[], list[bytes] | None]) -> list[bytes] | None:
        try:
            answers: list[bytes] | None = await self._in_thread(step)
        except SQLAlchemyError as error:
            raise self._index.failed(error, INDEX_FAILED) from error
        return answers


def _keywords(tags: Sequence[int]) -> str:
    """For the log, of many the first."""
    names = [keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in tags[:_FEW]]
    return ", ".join(names) + (f" and {len(tags) - _FEW} more" if len(tags) > _FEW else "")


class Query:
    """One identifier, read: its level, its keys, and how its answers are encoded.

    Raises `StatusError` A900H for what is no query of its model.
    """

    def __init__(
        self,
        identifier: Dataset,
        operation: Operation,
        ae_title: str,
        unknown_matches: frozenset[int] = _NONE,
    ) -> None:
        sop_class = operation.context.abstract_syntax
        model = MODELS[sop_class]
        options = QueryOptions.decode(operation.association.extended.get(sop_class, b""))
        self.level = level_of(identifier, model)
        rules = _rules(identifier, options, unknown_matches)
        keys = keys_of(identifier, rules)
        if not options.relational:
            check_upper_keys(keys, self.level, model)
        lowest = Level.IMAGE if options.relational else self.level
        self.keys = {tag: key for tag, key in keys.items() if LEVELS.get(tag, 4) <= lowest}
        others = keys.keys() - self.keys.keys()
        self.ignored = sorted(
            tag for tag in others if not (tag in _OF_ALL and is_universal(keys[tag]))
        )
        self.pending = PENDING_WARNING if self.ignored else PENDING
        self._returned = {tag: key for tag, key in self.keys.items() if LEVELS[tag] <= self.level}
        self._constant: Attributes = {
            _LEVEL: self.level.name,
            _RETRIEVE_AE_TITLE: ae_title,
        }
        if _AVAILABILITY in keys:
            self._constant[_AVAILABILITY] = "ONLINE"
        self._tells_zone = rules.timezone is not None and self.level > Level.PATIENT
        self._encoding = AnswerEncoding(
            operation.context.transfer_syntax, texts_of(identifier, "SpecificCharacterSet")
        )

    def next_answers(self, pages: Iterator[list[Attributes]]) -> list[bytes] | None:
        """The answers of the next page, None at the end; called in a thread."""
        page = next(pages, None)
        if page is None:
            return None
        return [self._encoding.encode(self._answer(found)) for found in page]

    def _answer(self, found: Attributes) -> Attributes:
        """What is asked for of an entity, and what every answer has.

        With timezone query adjustment its times are read in the zone that the answer tells: its
        own, else the one that they were matched in. It is never empty (PS3.4 C.2.2.2, C.4.1.1.3.2).
        """
        answer = requested(self._returned, found) | self._constant
        if self._tells_zone:
            answer[TIMEZONE] = found.get(TIMEZONE) or _UTC
        elif not answer.get(TIMEZONE):
            answer.pop(TIMEZONE, None)
        return answer


def level_of(identifier: Dataset, model: InformationModel) -> Level:
    """The Query/Retrieve Level; raises `StatusError` A900H for one that the model has not."""
    (level, *_) = (*texts_of(identifier, "QueryRetrieveLevel"), "")
    if level not in model.levels:
        allowed = ", ".join(model.levels)
        raise StatusError(
            IDENTIFIER_MISMATCH, f"Query/Retrieve Level is none of {allowed}", (_LEVEL,)
        )
    return Level[level]


def check_upper_keys(keys: Mapping[int, Key], level: Level, model: InformationModel) -> None:
    """Raises `StatusError` A900H unless each level above has one value of its unique key
    (PS3.4 C.4.1.2.1, C.4.2.2.1)."""
    for upper in (Level[name] for name in model.levels):
        key = keys.get(UNIQUE[upper])
        if upper < level and not isinstance(key, SingleValue):
            raise StatusError(
                IDENTIFIER_MISMATCH,
                f"one {model.levels[upper.name]} is needed (PS3.4 C.4.1.2.1)",
                (UNIQUE[upper],),
            )


def _rules(identifier: Dataset, options: QueryOptions, unknown_matches: frozenset[int]) -> Rules:
    (offset, *_) = (*texts_of(identifier, "TimezoneOffsetFromUTC"), "")
    return Rules(
        fuzzy=options.fuzzy_names,
        combined=options.combined_date_time,
        timezone=offset_minutes(offset) if options.timezone else None,
        empty_value=options.empty_value_matching,
        multiple_value=options.multiple_value_matching,
        unknown_matches=unknown_matches,
    )


def texts_of(identifier: Dataset, keyword: str) -> list[str]:
    """The values of an attribute that is not matched; none when they cannot be read as text.

    One of several may be empty, as the first of a Specific Character Set is (PS3.3 C.12.1.1.2).
    """
    try:
        value = identifier.get(keyword)
    except Exception:  # noqa: BLE001  whatever pydicom says of it
        return []
    values = value if isinstance(value, MultiValue) else [value] if value else []
    return [each for each in values if isinstance(each, str)]
