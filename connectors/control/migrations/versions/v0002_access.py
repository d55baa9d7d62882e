"""Keys limited to scopes, jobs, anomalies."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "access_keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("scopes", sa.String(1000), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("prefix", sa.String(10), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("revoked_at", time, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_access_keys"),
        sa.UniqueConstraint("digest", name="uq_access_keys_digest"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_access_keys_workspace_id", ondelete="CASCADE"
        ),
    )
    current = sa.text("revoked_at IS NULL")
    op.create_index(
        "uq_access_keys_current",
        "access_keys",
        ["workspace_id", "name"],
        unique=True,
        sqlite_where=current,
        postgresql_where=current,
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.String(100), nullable=True),
        sa.Column("created_at", time, nullable=False),
        sa.Column("started_at", time, nullable=True),
        sa.Column("finished_at", time, nullable=True),
        sa.Column("claim", sa.String(40), nullable=True),
        sa.Column("claimed_until", time, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="fk_jobs_workspace_id", ondelete="CASCADE"),
    )
    op.create_index("ix_jobs_workspace_id_created_at", "jobs", ["workspace_id", "created_at"])
    op.create_index("ix_jobs_status_created_at", "jobs", ["status", "created_at"])
    op.create_table(
        "anomalies",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("nhi_id", sa.Text(), nullable=False),
        sa.Column("nhi_label", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(20), nullable=False),
        sa.Column("detected_at", time, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", time, nullable=True),
        sa.Column("acknowledged_by", sa.String(100), nullable=True),
        sa.PrimaryKeyConstraint("workspace_id", "id", name="pk_anomalies"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_anomalies_workspace_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_anomalies_workspace_id_detected_at_id", "anomalies", ["workspace_id", "detected_at", "id"])


def downgrade() -> None:
    for table in ("anomalies", "jobs", "access_keys"):
        op.drop_table(table)
