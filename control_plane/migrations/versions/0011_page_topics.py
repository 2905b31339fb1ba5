"""Say what changed, for pages that are open: once per statement, and once per transaction and topic."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Never a table that devices write to: a transaction that notifies commits alone.
TABLES = {
    "audit_entry": "audit",
    "dataset_version": "run",
    "evaluation": "evaluation",
    "evaluation_gate": "evaluation",
    "evaluation_suite": "evaluation",
    "factory_job": "run",
    "pipeline_run": "run",
    "registry_attestation": "model",
    "registry_model": "model",
    "registry_release": "model",
    "registry_version": "model",
    "review": "review",
    "review_answer": "review",
    "rollout": "rollout",
    "rollout_decision": "rollout",
    "training_run": "run",
}


def upgrade() -> None:
    op.execute(
        """create function kit_page_told() returns trigger language plpgsql as $$
           begin perform pg_notify('fleetloop_page', tg_argv[0]); return null; end $$"""
    )
    for table, topic in TABLES.items():
        op.execute(
            f"""create trigger {table}_page_told after insert or update or delete on {table}
                for each statement execute function kit_page_told('{topic}')"""
        )


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"drop trigger {table}_page_told on {table}")
    op.execute("drop function kit_page_told()")
