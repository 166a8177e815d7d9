"""The options that say what is asked for: information model, level and keys (PS3.4 C.4)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click
from pydicom import Dataset

from dimse.association import Association
from dimse.cli.keys import LEVEL, KeyInvalid, KeyPath, Keys
from dimse.cli.options import Command, Target
from dimse.cli.running import say
from dimse.services.extended import QueryOptions, RetrieveOptions, WorklistOptions
from dimse.sop_classes import (
    MODALITY_WORKLIST,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    InformationModel,
)

Extended = QueryOptions | RetrieveOptions | WorklistOptions

_MODELS = (
    ("-P", "--patient", PATIENT_ROOT, "the Patient Root model"),
    ("-S", "--study", STUDY_ROOT, "the Study Root model (unless another is given)"),
    ("-O", "--psonly", PATIENT_STUDY_ONLY, "the Patient/Study Only model (retired)"),
    ("-W", "--worklist", MODALITY_WORKLIST, "the Modality Worklist model"),
)
_LEVELS = tuple(PATIENT_ROOT.levels)

_STEP = "ScheduledProcedureStepSequence[0]"
SCHEDULED = tuple(
    f"{_STEP}.{keyword}"
    for keyword in (
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "Modality",
        "ScheduledStationAETitle",
        "ScheduledProcedureStepDescription",
    )
)
"""Of a scheduled procedure step: when, by what, where, and what."""

RETURN_KEYS: Mapping[str, tuple[str, ...]] = {
    "PATIENT": (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "NumberOfPatientRelatedStudies",
    ),
    "STUDY": (
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    "SERIES": (
        "SeriesNumber",
        "Modality",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    "IMAGE": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
    "": (
        "PatientName",
        "PatientID",
        *SCHEDULED,
        f"{_STEP}.ScheduledProcedureStepID",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "StudyInstanceUID",
    ),
}
"""What is asked for by level, the worklist as "", when no key without a value is given."""

_OF_THE_PATIENT = ("PatientName", "PatientID")  # in the Study Root model attributes of a study

_OPTIONS = {
    "relational": "relational queries and retrievals (--relational)",
    "combined_date_time": "combined matching of dates and times (--datetime)",
    "fuzzy_names": "fuzzy matching of person names (--fuzzy)",
    "timezone": "adjustment of time zones (--timezone)",
}
_LEVEL_OPTION = click.option(
    "-L",
    "--level",
    metavar="LEVEL",
    type=click.Choice(_LEVELS, case_sensitive=False),
    help=f"Query/Retrieve Level: {', '.join(_LEVELS)}; unless given, PATIENT with -P, else STUDY.",
)
_KEY_OPTIONS = (
    click.option(
        "-k",
        "--key",
        "keys",
        metavar="KEY[=VALUE]",
        multiple=True,
        help="A key, by keyword, tag (0010,0020) or path (Sequence[0].Keyword).",
    ),
    click.option(
        "-f",
        "--file",
        "files",
        metavar="FILE",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Take keys from a DICOM file or a file of DICOM JSON; -k wins over it.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for: `columns` are the keys in `identifier`, in their order."""

    model: InformationModel
    level: str
    identifier: Dataset
    columns: tuple[KeyPath, ...]


def takes_query(letters: str, ask: Callable[[Keys], bool]) -> Callable[[Command], Command]:
    """Give a command -k, -f, -L and the models of those letters; it gets them as a `Query`.

    What `ask` is for, `make_query` says.
    """
    models = [_model_option(*each) for each in _MODELS if each[0][1] in letters]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call(
            target: Target,
            model: InformationModel,
            level: str | None,
            keys: tuple[str, ...],
            files: tuple[Path, ...],
            **given: Any,
        ) -> None:
            query = make_query(model, level, files, [("-k", key) for key in keys], ask)
            command(target, query=query, **given)

        for option in reversed([*models, _LEVEL_OPTION]):
            call = option(call)
        return takes_keys(call)

    return decorate


def takes_keys(command: Command) -> Command:
    """Give a command -k and -f; it gets `keys`, as typed, and `files`."""
    for option in reversed(_KEY_OPTIONS):
        command = option(command)
    return command


def _model_option(short: str, long: str, model: InformationModel, doc: str) -> Any:
    return click.option(
        short,
        long,
        "model",
        flag_value=model,
        type=click.UNPROCESSED,
        default=STUDY_ROOT,
        help=f"Use {doc}.",
    )


def make_query(
    model: InformationModel,
    level: str | None,
    files: Iterable[Path],
    typed: Iterable[tuple[str, str]],
    ask: Callable[[Keys], bool],
) -> Query:
    """The query that was typed: pairs of the option, for errors, and the key.

    With `ask(keys)` the peer is asked for `RETURN_KEYS` too. Raises `click.BadParameter`.
    """
    keys, option = Keys(), "-f"
    try:
        for file in files:
            keys.add_file(file)
        for option, key in typed:  # noqa: B007  named when the key is wrong
            keys.add(key)
        option = "-L"
        level = _settle_level(model, level, keys.dataset)
        option = "-k"
        if ask(keys):
            keys.ask_for(_return_keys(model, level))
        identifier = keys.identifier()
    except KeyInvalid as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    return Query(model=model, level=level, identifier=identifier, columns=keys.paths)


def _settle_level(model: InformationModel, level: str | None, identifier: Dataset) -> str:
    """Of -L or a key, else the usual one; it is in the identifier then."""
    if "" in model.levels:
        if level or LEVEL in identifier:
            raise KeyInvalid("a worklist has no Query/Retrieve Level (PS3.4 K.4.1)")
        return ""
    given = str(identifier.get(LEVEL) or "").strip()
    if given and level and given != level:
        raise KeyInvalid(f"{level} is not the {LEVEL} of the keys, {given}")
    level = level or given or ("PATIENT" if model is PATIENT_ROOT else "STUDY")
    if level not in model.levels:
        raise KeyInvalid(f"the levels of this model are {', '.join(model.levels)} (PS3.4 C.3)")
    identifier.QueryRetrieveLevel = level
    return level


def _return_keys(model: InformationModel, level: str) -> tuple[str, ...]:
    """In the Study Root model, what is of the patient is of the study too (PS3.4 C.6.2.1)."""
    of_the_patient = _OF_THE_PATIENT if (model, level) == (STUDY_ROOT, "STUDY") else ()
    return of_the_patient + RETURN_KEYS[level]


def offer(sop_class: str, options: Extended) -> dict[str, Extended]:
    """What to negotiate for `options`: nothing, unless one of them says yes."""
    return {sop_class: options} if any(_flags(options).values()) else {}


def say_not_agreed(
    target: Target, association: Association, sop_class: str, asked: Extended
) -> None:
    """Say which options were asked for and not accepted; the operation goes on without them."""
    answer = _flags(type(asked).decode(association.extended.get(sop_class, b"")))
    for name, wanted in _flags(asked).items():
        if wanted and not answer[name]:
            say(f"{target}: did not accept {_OPTIONS[name]}; goes on without")


def _flags(options: Extended) -> dict[str, bool]:
    return {each.name: getattr(options, each.name) for each in fields(options)}
