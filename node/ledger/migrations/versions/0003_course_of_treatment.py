"""When a series was acquired, and what a result continues; NULL, in the rows of earlier versions, is not known."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    op.add_column("series", sa.Column("acquired_at", sa.DateTime(timezone=False), nullable=True))
    op.add_column("jobs", sa.Column("predecessors", sa.JSON(), nullable=True))
    op.add_column("result_instances", sa.Column("study_instance_uid", sa.String(64), nullable=True))
