"""Control charts of findings, and which instances of a result tell how it was judged; NULL is none of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    op.add_column("result_instances", sa.Column("is_quality_report", sa.Boolean(), nullable=True))
    op.create_table(
        "trend_points",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("result_id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("settings_sha256", sa.String(64), nullable=False),
        sa.Column("finding", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=True),
        sa.Column("sigma", sa.Double(), nullable=True),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=False), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name="fk_trend_points_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_trend_points"),
        sa.UniqueConstraint("result_id", "finding", name="uq_trend_points_result_id_finding"),
    )
    op.create_index("ix_trend_points_result_id", "trend_points", ["result_id"])
    op.create_index("ix_trend_points_chart", "trend_points", ["pipeline", "finding", "device", "settings_sha256"])
