"""A project folder opened for work: its configuration, its warehouse, its state files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from connectors import framed
from connectors.base import Warehouse
from connectors.errors import ConfigurationError
from connectors.journal import Journal
from connectors.warehouses import open_warehouse
from decision_engine.budgets import NO_PRICES, Prices
from decision_engine.catalog import catalog_of
from decision_engine.config import Agent, Creative, DuckDBWarehouse, Project, Service
from decision_engine.errors import StepError
from decision_engine.home import require_home
from decision_engine.load import config_digest, load_project
from decision_engine.override_log import OverrideLog
from decision_engine.overrides import Overrides
from decision_engine.posted import Posted
from decision_engine.tables import ENGINE_KEYS, ENGINE_TABLES
from decision_engine.types import Catalog

STATE_FOLDER = ".nextmove"
KILL_SWITCH = "STOP"
MAY_BE_UNSET = frozenset({"port", "password", "role", "url"})
"""What a warehouse can do without. Snowflake says itself when a password is missing."""


@dataclass(frozen=True)
class Workspace:
    """One project folder. Opening it reads and checks the configuration, and nothing else."""

    root: Path
    project: Project
    agents: Mapping[str, Agent]
    creatives: Mapping[str, Creative]
    _open: list[Warehouse] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Read the folder; ConfigurationError with one line per problem."""
        project, agents, creatives = load_project(root)
        return cls(root, project, agents, creatives)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical configuration."""
        return config_digest(self.project, self.agents, self.creatives)

    def catalog(self, agent: str) -> Catalog:
        """The actions of one agent; `no_action` first."""
        return catalog_of(self.agents[agent], self.creatives, self.project.incentives)

    def engine(self, table: str) -> str:
        """`schema.name` of a table that the loop writes."""
        return f"{self.project.warehouse.engine_schema}.{table}"

    def model(self, name: str) -> str:
        """`schema.name` of a dbt model."""
        return f"{self.project.warehouse.schema}.{name}"

    def built(self, warehouse: Warehouse, name: str) -> str:
        """The same of one that is there. StepError when it was never built."""
        table = self.model(name)
        if warehouse.columns(table) is None:
            raise StepError(f"{table} does not exist; run `nextmove build` first")
        return table

    @property
    def warehouse_kind(self) -> str:
        """duckdb, postgres or snowflake."""
        return str(self.project.warehouse.__struct_config__.tag)

    @property
    def warehouse_settings(self) -> dict[str, str]:
        """What opens the warehouse. ConfigurationError for a variable that is not set."""
        config = self.project.warehouse
        if isinstance(config, DuckDBWarehouse):
            return {"path": str(self.root / config.path)}
        found = {}
        for given, variable in msgspec.structs.asdict(config).items():
            name = given.removesuffix("_env")
            if name != given and (os.environ.get(variable) or name not in MAY_BE_UNSET):
                found[name] = _secret(variable, f"warehouse.{given}")
        return _with_address(found)

    @contextmanager
    def warehouse(self) -> Iterator[Warehouse]:
        """The open warehouse, with the engine's tables in place.

        The same one to whoever asks for it while it is open: opening a file costs more than most
        of what is done with it.
        """
        if self._open:
            yield self._open[0]
            return
        self._open.append(self._opened())
        try:
            yield self._open[0]
        finally:
            self._close()

    @contextmanager
    def warehouse_let_go(self) -> Iterator[None]:
        """The warehouse closed in the meantime, if it is open: dbt wants a file to itself.

        Who has it open must ask for it anew afterwards.
        """
        was_open = bool(self._open)
        self._close()
        yield
        if was_open:
            self._open.append(self._opened())

    def _opened(self) -> Warehouse:
        opened = open_warehouse(self.warehouse_kind, self.warehouse_settings)
        try:
            for name, schema in ENGINE_TABLES.items():
                opened.ensure(self.engine(name), schema, ENGINE_KEYS.get(name, ()))
            if self.warehouse_kind != "duckdb":
                require_home(opened, self.engine("home"), self.state_folder)
        except BaseException:
            opened.close()
            raise
        return opened

    def _close(self) -> None:
        if self._open:
            self._open.pop().close()

    @contextmanager
    def warehouse_to_read(self) -> Iterator[Warehouse]:
        """The warehouse, opened so that nothing can be changed."""
        opened = open_warehouse(self.warehouse_kind, self.warehouse_settings, read_only=True)
        with closing(opened) as database:
            yield database

    def journal(self) -> Journal:
        """The delivery journal, opened and repaired; one process at a time."""
        return Journal.open(self.state_folder / "journal")

    @contextmanager
    def alone(self, step: str) -> Iterator[None]:
        """Do a step in one process at a time. LockedError when another one is at it.

        A scheduler may start a step again while a process it has lost sight of still works.
        """
        descriptor = framed.lock(self.state_folder / "steps" / step)
        try:
            yield
        finally:
            os.close(descriptor)

    @property
    def state_folder(self) -> Path:
        """Journal, inbound log and dbt's own files; not for version control."""
        return self.root / STATE_FOLDER

    @property
    def inbound_log(self) -> Path:
        """Where the webhook receiver keeps its durable log."""
        return self.state_folder / "inbound"

    @property
    def hot_store(self) -> Path:
        """Where the service keeps what it decides with."""
        return self.state_folder / "hot"

    @property
    def is_stopped(self) -> bool:
        """The kill switch: a file named STOP in the project folder. Unreadable means stopped."""
        try:
            return (self.root / KILL_SWITCH).exists()
        except OSError:
            return True

    def overrides(self) -> Overrides:
        """What people have decreed and not released; the same object while nothing changes."""
        return _override_log(self.state_folder / "overrides").current()

    @property
    def override_log(self) -> OverrideLog:
        """The log of what people have decreed."""
        return _override_log(self.state_folder / "overrides")

    @property
    def prices(self) -> Posted[Prices]:
        """The prices of limits that the last batch has set."""
        return _prices(self.state_folder / "prices.json")

    def api_key(self, destination: str) -> str:
        """The key of a destination, from its environment variable."""
        field = f"destinations.{destination}.api_key_env"
        return _secret(self.project.destinations[destination].api_key_env, field)

    def service_key(self) -> str:
        """What decisions and publishing ask of a caller. The project must have a `service`."""
        service = self.project.service or Service()
        return _secret(service.api_key_env, "service.api_key_env")

    def require_keys(self) -> None:
        """Every destination's key must be set. ConfigurationError otherwise."""
        for name in self.project.destinations:
            self.api_key(name)

    def webhook_keys(self) -> dict[str, str]:
        """Vendor name to what its webhooks are checked with, for those that have one."""
        service = self.project.service or Service()
        given = {
            vendor: _secret(variable, f"service.webhooks.{vendor}")
            for vendor, variable in service.webhooks.items()
        }
        return given | {
            d.kind: _secret(d.webhook_key_env, f"destinations.{name}.webhook_key_env")
            for name, d in self.project.destinations.items()
            if d.webhook_key_env
        }

    @property
    def public_url(self) -> str:
        """Where vendors and mailboxes reach the service; empty when nobody says."""
        return (self.project.service or Service()).public_url.rstrip("/")

    def unsubscribe_key(self) -> str:
        """What one-click opt-outs are made with. ConfigurationError when it is not set."""
        service = self.project.service or Service()
        return _secret(service.unsubscribe_key_env, "service.unsubscribe_key_env")

    def write_key(self) -> str:
        """What must come with tracked events. ConfigurationError when it is not set."""
        service = self.project.service or Service()
        return _secret(service.write_key_env, "service.write_key_env")


@lru_cache(maxsize=64)
def _override_log(folder: Path) -> OverrideLog:
    return OverrideLog(folder)


@lru_cache(maxsize=64)
def _prices(file: Path) -> Posted[Prices]:
    return Posted(file, dict[str, float], NO_PRICES)


def _with_address(settings: dict[str, str]) -> dict[str, str]:
    """A URL as host, port and protocol, as drivers take it."""
    if "url" not in settings:
        return settings
    url = urlsplit(settings.pop("url"))
    port = url.port or (443 if url.scheme == "https" else 80)
    return {**settings, "host": url.hostname or "", "port": str(port), "protocol": url.scheme}


def _secret(variable: str, field: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigurationError(
            f"nextmove.yml: {field}: the environment variable {variable} is not set; set it"
        )
    return value
