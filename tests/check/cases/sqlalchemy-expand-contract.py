import alembic
import sqlalchemy as sa
from alembic import op


def upgrade() -> None:
    op.alter_column("orders", "note", new_column_name="comment")  # finds
    op.alter_column(  # finds
        "orders",
        "total",
        existing_type=sa.Integer(),
        new_column_name="amount",
        schema="shop",
    )
    with op.batch_alter_table("orders") as batch_op:
        batch_op.alter_column("note", new_column_name="comment")  # finds
    op.execute("ALTER TABLE orders RENAME COLUMN note TO comment")  # finds
    op.execute(sa.text("alter table orders rename note to comment"))  # finds
    # Right: no column is renamed.
    op.alter_column("orders", "note", nullable=True)
    op.execute("ALTER TABLE orders RENAME CONSTRAINT own TO positive")
    op.execute("ALTER INDEX ix_note RENAME TO ix_comment")
    op.add_column("orders", sa.Column("comment", sa.Text))


def upgrade_reports() -> None:
    alembic.op.alter_column("reports", "note", new_column_name="comment")  # finds


# Right: a downgrade stands for itself.
def downgrade() -> None:
    op.alter_column("orders", "comment", new_column_name="note")
