"""The relational index as a block."""

from __future__ import annotations

from pydantic import Field, SecretStr

from blocks.checked_block import CheckedBlock
from bos_core.objects.settings import Settings


class RelationalIndex(CheckedBlock):
    """Where the index of tasks, scenarios and results is: SQLite or PostgreSQL."""

    _block_type_name = "BOS relational index"
    _block_type_slug = "bos-relational-index"
    _description = "Database of BOS's task ledger, scenarios and result index (SQLite or PostgreSQL)."

    url: SecretStr = Field(
        title="Database URL",
        description="sqlite:////folder/index.sqlite or postgresql://user:password@host/database.",
    )

    @classmethod
    def from_settings(cls, settings: Settings) -> RelationalIndex:
        """Make the block of these settings."""
        return cls(url=SecretStr(settings.database))

    def settings(self, base: Settings) -> Settings:
        """Return `base` with this index; raises OptionError for a bad URL."""
        return Settings.load(**{**dict(base), "database_url": self.url})

    def check(self) -> None:
        """Connect and read the schema's version."""
        from bos_core.index.database import connect

        connect(self.settings(Settings()).database).dispose()
