"""Result metadata: makes a result locatable, interpretable and traceable (OSDS-D5)."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ResultMetadata:
    """Descriptive metadata that travels in a result file's Parquet schema.

    Attributes
    ----------
    business_type : str
        Business category of the result, e.g. ``"n1_verification"``.
    task_id : str
        The task that made it; the index leads from there to everything else.
    attempt : int
        Fence number of the execution that made it.
    address : str
        Where the file lies, relative to the result store's root.
    trace_id : str
        Task-set trace id.
    scenario_version : str
        Ontology version that it was made from; static data are never copied into a result.
    program : str
        ``slot/name@digest``.
    """

    business_type: str
    task_id: str
    attempt: int
    address: str
    trace_id: str
    scenario_version: str
    program: str

    def to_schema(self) -> dict[bytes, bytes]:
        """Return the metadata as Parquet key-value pairs, prefixed ``bos.``."""
        return {f"bos.{key}".encode(): str(value).encode() for key, value in asdict(self).items()}

    @classmethod
    def from_schema(cls, metadata: dict[bytes, bytes]) -> ResultMetadata:
        """Read the metadata back from a Parquet schema."""
        values = {
            key.decode().removeprefix("bos."): value.decode()
            for key, value in metadata.items()
            if key.startswith(b"bos.")
        }
        return cls(**{**values, "attempt": int(values["attempt"])})  # type: ignore[arg-type]
