"""How far results of pipelines in shadow agree with the current ones."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    op.create_table(
        "agreements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("shadow_result_id", sa.Integer(), nullable=False),
        sa.Column("current_result_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=False), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=False), nullable=True),
        sa.ForeignKeyConstraint(["shadow_result_id"], ["results.id"], name="fk_agreements_shadow_result_id"),
        sa.ForeignKeyConstraint(["current_result_id"], ["results.id"], name="fk_agreements_current_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_agreements"),
        sa.UniqueConstraint(
            "shadow_result_id", "current_result_id", name="uq_agreements_shadow_result_id_current_result_id"
        ),
    )
    op.create_index("ix_agreements_shadow_result_id", "agreements", ["shadow_result_id"])
    op.create_index("ix_agreements_current_result_id", "agreements", ["current_result_id"])
    op.create_index("ix_agreements_state", "agreements", ["state"])
