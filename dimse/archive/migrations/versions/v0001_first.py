"""The first version: patients, studies, series, instances; what a department tells; whose it is."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _table(name: str, keys: str, texts: str, numbers: str = "", data: str = "") -> None:
    columns: list[sa.Column[str] | sa.Column[int] | sa.Column[bytes]] = [
        sa.Column(key, _TEXT, nullable=False, primary_key=True) for key in keys.split()
    ]
    columns += [sa.Column(text, _TEXT, nullable=False) for text in texts.split()]
    columns += [sa.Column(number, sa.BigInteger, nullable=False) for number in numbers.split()]
    columns += [sa.Column(each, sa.LargeBinary, nullable=False) for each in data.split()]
    op.create_table(name, *columns, sqlite_with_rowid=False)


def _indexes(table: str, **columns: str) -> None:
    for name, parts in columns.items():
        op.create_index(name, table, parts.split())


def upgrade() -> None:
    """Make them."""
    _table("patients", "patient", "patient_id name name_groups attributes")
    _indexes(
        "patients",
        patients_patient_id="patient_id",
        patients_name="name",
        patients_name_groups="name_groups",
    )
    _table(
        "studies",
        "study_uid",
        "patient patient_id name name_groups date time accession_number study_id "
        "updated attributes",
    )
    _indexes(
        "studies",
        studies_patient="patient",
        studies_patient_id="patient_id",
        studies_name="name",
        studies_name_groups="name_groups",
        studies_date="date study_uid",
        studies_accession_number="accession_number",
    )
    _table("series", "study_uid series_uid", "modality number attributes")
    _indexes("series", series_uid="series_uid")
    _table(
        "instances",
        "object",
        "study_uid series_uid instance_uid sop_class_uid transfer_syntax number digest attributes",
        "offset length",
    )
    _indexes("instances", instances_series="study_uid series_uid object")
    _table("commitments", "peer transaction_uid", "ae_title instances failures", "attempts")
    _table("steps", "step_uid", "status", data="attributes")
    _table("scheduled", "step_uid study_uid step_id accession_number", "")
    _indexes("scheduled", scheduled_study_uid="study_uid", scheduled_step_id="step_id")
    _table("worklist", "study_uid step_id", "date attributes")
    _indexes("worklist", worklist_date="date")
    _table("open_studies", "study_uid", "peer ae_title", "instances")
    _table("about", "name", "value")
