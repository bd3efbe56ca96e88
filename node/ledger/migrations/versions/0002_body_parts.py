"""Body Part Examined of a series; NULL, in the rows of the first version, is none stated."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    op.add_column("series", sa.Column("body_parts", sa.JSON(), nullable=True))
