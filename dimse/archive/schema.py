"""The tables of the index, the same in SQLite and PostgreSQL; `migrations` brings a database here.

Beside the index of instances there is what a department tells and asks the archive: worklist items,
performed procedure steps, and requests for commitment until their results are reported.

Rows are found by the UIDs that the standard makes unique, so that many instances can be added
without asking for keys first. Beside the columns that queries are narrowed down by, each level
has its attributes as JSON, by tag; the key columns have them as `matching` normalises them.
"""

from typing import Any

import sqlalchemy as sa

# Compared byte by byte in both databases, so that a prefix is a range.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

METADATA = sa.MetaData()

Select = sa.Select[*tuple[Any, ...]]
"""A query for any columns."""


def _text(name: str, *, key: bool = False) -> "sa.Column[str]":
    return sa.Column(name, TEXT, nullable=False, primary_key=key)


PATIENTS = sa.Table(
    "patients",
    METADATA,
    _text("patient", key=True),
    _text("patient_id"),
    _text("name"),
    _text("name_groups"),
    _text("attributes"),
    sa.Index("patients_patient_id", "patient_id"),
    sa.Index("patients_name", "name"),
    sa.Index("patients_name_groups", "name_groups"),
    sqlite_with_rowid=False,
)

# A study has the attributes of its patient too: two patients without an ID, or two under one, are
# never taken for each other, and a query in the Study Root model looks at this table alone.
STUDIES = sa.Table(
    "studies",
    METADATA,
    _text("study_uid", key=True),
    _text("patient"),
    _text("patient_id"),
    _text("name"),
    _text("name_groups"),
    _text("date"),
    _text("time"),
    _text("accession_number"),
    _text("study_id"),
    _text("attributes"),
    _text("updated"),
    sa.Index("studies_patient", "patient"),
    sa.Index("studies_patient_id", "patient_id"),
    sa.Index("studies_name", "name"),
    sa.Index("studies_name_groups", "name_groups"),
    sa.Index("studies_date", "date", "study_uid"),
    sa.Index("studies_accession_number", "accession_number"),
    sqlite_with_rowid=False,
)

SERIES = sa.Table(
    "series",
    METADATA,
    _text("study_uid", key=True),
    _text("series_uid", key=True),
    _text("modality"),
    _text("number"),
    _text("attributes"),
    sa.Index("series_uid", "series_uid"),
    sqlite_with_rowid=False,
)

INSTANCES = sa.Table(
    "instances",
    METADATA,
    _text("object", key=True),
    _text("study_uid"),
    _text("series_uid"),
    _text("instance_uid"),
    _text("sop_class_uid"),
    _text("transfer_syntax"),
    _text("number"),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    _text("digest"),
    _text("attributes"),
    sa.Index("instances_series", "study_uid", "series_uid", "object"),
    sqlite_with_rowid=False,
)

COMMITMENTS = sa.Table(
    "commitments",
    METADATA,
    _text("peer", key=True),
    _text("transaction_uid", key=True),
    _text("ae_title"),
    _text("instances"),
    _text("failures"),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

STEPS = sa.Table(
    "steps",
    METADATA,
    _text("step_uid", key=True),
    _text("status"),
    sa.Column("attributes", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# What a performed step was scheduled as; one may stand for several scheduled ones.
SCHEDULED = sa.Table(
    "scheduled",
    METADATA,
    _text("step_uid", key=True),
    _text("study_uid", key=True),
    _text("step_id", key=True),
    _text("accession_number", key=True),
    sa.Index("scheduled_study_uid", "study_uid"),
    sa.Index("scheduled_step_id", "step_id"),
    sqlite_with_rowid=False,
)

WORKLIST = sa.Table(
    "worklist",
    METADATA,
    _text("study_uid", key=True),
    _text("step_id", key=True),
    _text("date"),
    _text("attributes"),
    sa.Index("worklist_date", "date"),
    sqlite_with_rowid=False,
)

# Studies that have not ended, with the number of new instances of each, the last of `peer`, who
# called us `ae_title`.
OPEN_STUDIES = sa.Table(
    "open_studies",
    METADATA,
    _text("study_uid", key=True),
    sa.Column("instances", sa.BigInteger, nullable=False),
    _text("peer"),
    _text("ae_title"),
    sqlite_with_rowid=False,
)

# One row, "store": the id that the folder of the objects has too.
ABOUT = sa.Table(
    "about", METADATA, _text("name", key=True), _text("value"), sqlite_with_rowid=False
)

DEPARTMENT = (COMMITMENTS, STEPS, SCHEDULED, WORKLIST, OPEN_STUDIES)
"""The tables that no instance tells of."""
