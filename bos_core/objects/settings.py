"""Settings: which index, which result store, who is asking. Read from the environment, prefix ``BOS_``."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bos_core.objects.errors import Finding, OptionError

_BOLT_SCHEMES = frozenset(f"{name}{security}" for name in ("bolt", "neo4j") for security in ("", "+s", "+ssc"))


def bolt_server(url: str) -> SplitResult:
    """Take the URL of a Neo4j server apart.

    Raises
    ------
    ValueError
        If it is none, or carries a user or password.
    """
    try:
        parts = urlsplit(url)
        known = parts.scheme in _BOLT_SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # brackets or a port that cannot be read
        known = False
    if not known:
        raise ValueError("is not a Bolt URL (bolt:// or neo4j://, and a host)")
    if parts.username or parts.password:
        raise ValueError("carries a user or password; give them in their own fields")
    return parts


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


class StoreOptions(BaseModel):
    """How to reach an S3 store; a local store needs none of it.

    Two further users may be given, who delete nothing. `worker_key` and `worker_secret` are of one who writes what
    runs write: runs of deployments get them in place of `key` and `secret`. `task_key` and `task_secret` are of
    one who writes attempts alone: processes that carry out tasks get them, those of `bos run` as well.

    A request that fails in a way that may pass is made up to `attempts_max` times (eight take about 20 s), and not
    again when `retry_s_max` seconds have passed since the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    region: str = "us-east-1"
    key: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    worker_key: SecretStr = SecretStr("")
    worker_secret: SecretStr = SecretStr("")
    task_key: SecretStr = SecretStr("")
    task_secret: SecretStr = SecretStr("")
    addressing: Literal["auto", "path", "virtual"] = "auto"
    ca_bundle: str = ""
    connect_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    read_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    attempts_max: Annotated[int, Field(ge=1, le=20)] = 8
    retry_s_max: Annotated[float, Field(ge=0, le=3600)] = 60.0

    def of_worker(self) -> StoreOptions:
        """Return the options that the run of a deployment gets."""
        return self._as_user("worker")

    def of_task(self) -> StoreOptions:
        """Return the options that a process gets that carries out tasks."""
        return self._as_user("worker")._as_user("task")

    def _as_user(self, name: str) -> StoreOptions:
        """Return the options with a user's key, if there is one, moved to the place of the owner's."""
        none = SecretStr("")
        key, secret = getattr(self, f"{name}_key"), getattr(self, f"{name}_secret")
        own = {f"{name}_key": none, f"{name}_secret": none}
        if key.get_secret_value():
            own |= {"key": key, "secret": secret, "token": none}
        return self.model_copy(update=own)


class HostOptions(BaseModel):
    """A Docker daemon that runs containers; each daemon is a server.

    `name` is what people call it, by default its host's name; BOS leaves `memory_reserve_mb` (MB) of it alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(pattern=r"^(unix|tcp|ssh|http|https)://.+$")]
    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$")] = ""
    memory_reserve_mb: Annotated[int, Field(ge=0)] = 1024

    @model_validator(mode="before")
    @classmethod
    def _of_a_url(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything a process must know to open a workspace.

    Attributes
    ----------
    home : Path
        Folder of the default index and the default store.
    database_url : SecretStr
        SQLAlchemy URL of the relational index; it may carry a password. Default: SQLite under `home`.
    store_url : str
        A folder, ``file:///folder`` or ``s3://bucket/prefix``. Default: a folder under `home`.
    store_options : StoreOptions
        Endpoint and credentials of an S3 store, JSON in the environment.
    graph_url, graph_user, graph_password : str, str, SecretStr
        A Neo4j server, ``bolt://host:7687``. Default: a file under `home`.
    container_hosts : tuple of HostOptions
        Docker daemons, JSON in the environment: a list of URLs, or of objects. Default: none.
    user, project : str
        Who asks, and for which project.
    """

    model_config = SettingsConfigDict(env_prefix="BOS_", frozen=True, extra="ignore")

    home: Path = Path("~/.bos")
    database_url: SecretStr = SecretStr("")
    store_url: str = ""
    store_options: StoreOptions = StoreOptions()
    graph_url: str = ""
    graph_user: str = "neo4j"
    graph_password: SecretStr = SecretStr("")
    container_hosts: tuple[HostOptions, ...] = ()
    user: Annotated[str, Field(min_length=1, max_length=200)] = Field(default_factory=_login)
    project: Annotated[str, Field(min_length=1, max_length=200)] = "default"

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return Path(os.path.abspath(home.expanduser()))

    @field_validator("database_url", mode="after")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if text.startswith("postgres://"):
            text = text.replace("postgres://", "postgresql://", 1)
        if text and not text.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise ValueError("is neither a sqlite:/// nor a postgresql:// URL")
        return SecretStr(text)

    @field_validator("store_url", mode="after")
    @classmethod
    def _known_store(cls, url: str) -> str:
        scheme = url.split("://", 1)[0] if "://" in url else ""
        if scheme not in {"", "file", "s3"}:
            raise ValueError("is neither a folder, a file:// nor an s3:// URL")
        if scheme == "s3" and not url.removeprefix("s3://").split("/", 1)[0]:
            raise ValueError("names no bucket")
        return url

    @field_validator("graph_url", mode="after")
    @classmethod
    def _known_graph(cls, url: str) -> str:
        if url:
            bolt_server(url)
        return url

    @field_validator("container_hosts", mode="after")
    @classmethod
    def _each_once(cls, hosts: tuple[HostOptions, ...]) -> tuple[HostOptions, ...]:
        for what, values in (("URL", [h.url for h in hosts]), ("name", [h.name for h in hosts if h.name])):
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"has the {what} {twice} twice")
        return hosts

    @property
    def database(self) -> str:
        """The database URL with its password; never log it."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home / 'index.sqlite'}"

    @property
    def store(self) -> str:
        """The URL or folder of the result store."""
        return self.store_url or str(self.home / "store")

    def of_task(self) -> Settings:
        """Return the settings that a process gets that carries out tasks."""
        return self.model_copy(update={"store_options": self.store_options.of_task()})

    def identity(self) -> dict[str, str]:
        """Return the variables that say where home is and who asks; they hold no secret."""
        return {"BOS_HOME": str(self.home), "BOS_USER": self.user, "BOS_PROJECT": self.project}

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process these settings; they hold the secrets in the clear."""
        options = self.store_options.model_dump(mode="json") | {
            name: value.get_secret_value() for name, value in self.store_options if isinstance(value, SecretStr)
        }
        return {
            **self.identity(),
            "BOS_DATABASE_URL": self.database,
            "BOS_STORE_URL": self.store,
            "BOS_STORE_OPTIONS": json.dumps(options),
            "BOS_GRAPH_URL": self.graph_url,
            "BOS_GRAPH_USER": self.graph_user,
            "BOS_GRAPH_PASSWORD": self.graph_password.get_secret_value(),
            "BOS_CONTAINER_HOSTS": json.dumps([host.model_dump() for host in self.container_hosts]),
        }

    @classmethod
    def load(cls, **values: Any) -> Settings:
        """Read the environment; `values` win over it.

        Raises
        ------
        OptionError
            With one finding for each bad value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise OptionError(tuple(_finding(item) for item in error.errors(include_input=False))) from None
        except ValueError as error:  # pydantic-settings: the environment holds no valid JSON
            field = next((name for name in cls.model_fields if f'"{name}"' in str(error)), "store_options")
            remedy = f"give JSON in BOS_{field.upper()}, e.g. {_EXAMPLES.get(field, '')}"
            raise OptionError((Finding("setting", (), "is not valid JSON", remedy, field),)) from None


_EXAMPLES = {
    "store_options": '{"endpoint_url": "http://127.0.0.1:9000"}',
    "container_hosts": '["unix:///var/run/docker.sock"]',
}


def _finding(item: Any) -> Finding:
    path = [str(part) for part in item["loc"]]
    name = f"BOS_{path[0].upper()}" if path else "BOS_*"
    message = str(item["msg"]).removeprefix("Value error, ")
    return Finding("setting", (), message, f"correct {name}", ".".join(path))
