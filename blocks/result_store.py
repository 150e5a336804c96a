"""The result store as a block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from blocks.checked_block import CheckedBlock
from bos_core.objects.settings import Settings, StoreOptions


class ResultStoreBlock(CheckedBlock):
    """Where results and scenario data are: a folder or an S3 bucket."""

    _block_type_name = "BOS result store"
    _block_type_slug = "bos-result-store"
    _description = "Folder or S3 bucket that keeps BOS's Parquet files."

    url: str = Field(title="Folder or URL", description="A folder, file:///folder or s3://bucket/prefix.")
    endpoint_url: str = Field("", title="S3 endpoint", description="Empty = AWS.")
    region: str = Field("us-east-1", title="S3 region")
    key: SecretStr = Field(SecretStr(""), title="S3 access key")
    secret: SecretStr = Field(SecretStr(""), title="S3 secret key")
    token: SecretStr = Field(SecretStr(""), title="S3 session token")
    task_key: SecretStr = Field(
        SecretStr(""), title="S3 access key of tasks", description="Writes attempts alone."
    )
    task_secret: SecretStr = Field(SecretStr(""), title="S3 secret key of tasks")
    addressing: Literal["auto", "path", "virtual"] = Field("auto", title="S3 addressing")
    ca_bundle: str = Field("", title="CA bundle", description="File of certificates that the endpoint needs.")
    connect_timeout_s: float = Field(5.0, title="Connect timeout (s)", gt=0, le=600)
    read_timeout_s: float = Field(60.0, title="Read timeout (s)", gt=0, le=3600)
    attempts_max: int = Field(8, title="Attempts", ge=1, le=20)
    retry_s_max: float = Field(60.0, title="No new attempt after (s)", ge=0, le=3600)

    @classmethod
    def from_settings(cls, settings: Settings) -> ResultStoreBlock:
        """Make the block of these settings, with the keys that a run of a deployment gets."""
        options = dict(settings.store_options.of_worker())
        return cls(
            url=settings.store, **{name: options[name] for name in options.keys() & cls.model_fields.keys()}
        )

    def settings(self, base: Settings) -> Settings:
        """Return `base` with this store; raises OptionError for a bad URL."""
        options = {name: getattr(self, name) for name in StoreOptions.model_fields if hasattr(self, name)}
        return Settings.load(**{**dict(base), "store_url": self.url, "store_options": options})

    def check(self) -> None:
        """Write and read a small object."""
        from bos_core.access.store import ResultStore

        settings = self.settings(Settings())
        ResultStore(settings.store, settings.store_options).check()
