"""What a gate judged, kept to be judged again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    jsonb = postgresql.JSONB(astext_type=sa.Text())
    empty_map, empty_list = sa.text("'{}'::jsonb"), sa.text("'[]'::jsonb")
    op.add_column("evaluation_suite", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("evaluation_suite", sa.Column("metric_definition", jsonb, server_default=empty_map, nullable=False))
    op.add_column("evaluation", sa.Column("nondeterminism", jsonb, server_default=empty_list, nullable=False))
    op.add_column("evaluation_gate", sa.Column("evidence_sha256", sa.String(), server_default="", nullable=False))
    op.add_column("evaluation_gate", sa.Column("looks", jsonb, server_default=empty_map, nullable=False))
    op.add_column("evaluation_gate", sa.Column("predicted", jsonb, nullable=True))
    op.create_table(
        "evaluation_holdout_use",
        sa.Column("suite", sa.String(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("gate_id", sa.String(), nullable=False),
        sa.Column("answers", jsonb, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["suite"], ["evaluation_suite.digest"], name=op.f("fk_evaluation_holdout_use_suite_evaluation_suite")
        ),
        sa.PrimaryKeyConstraint("suite", "candidate", name=op.f("pk_evaluation_holdout_use")),
    )
    op.create_index(op.f("ix_evaluation_holdout_use_model"), "evaluation_holdout_use", ["model"])
    op.create_table(
        "evaluation_scenario",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("recording", sa.String(), nullable=True),
        sa.Column("guilty", sa.String(), nullable=False),
        sa.Column("seeds", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("model", "source", name=op.f("pk_evaluation_scenario")),
    )


def downgrade() -> None:
    op.drop_table("evaluation_scenario")
    op.drop_table("evaluation_holdout_use")
    op.drop_column("evaluation_gate", "predicted")
    op.drop_column("evaluation_gate", "looks")
    op.drop_column("evaluation_gate", "evidence_sha256")
    op.drop_column("evaluation", "nondeterminism")
    op.drop_column("evaluation_suite", "metric_definition")
    op.drop_column("evaluation_suite", "version")
