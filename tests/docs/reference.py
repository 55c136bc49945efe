"""Pages of docs/reference, made from the contracts, the commands and the DAGs themselves.

`python -m tests.docs.reference` writes them anew; a test fails when they are stale.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import pyarrow as pa
import yaml
from click.testing import CliRunner

from decision_engine.cli import main
from decision_engine.schema import schemas
from decision_engine.tables import ENGINE_TABLES
from tests.docs.airflow_reference import airflow_page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
MODELS = ROOT / "dbt_project" / "models"
WIDTH = 80


class Room(NamedTuple):
    """A table's grain, who writes it and who reads it."""

    grain: str
    writer: str
    readers: str


ENGINE = {
    "agent_outcomes": Room(
        "agent x event x what is spent, from the agent files as they are now",
        "build",
        "dbt, for the rewards",
    ),
    "zone_offsets": Room(
        "time zone x setting of its clock in the last three months", "build", "dbt, for hours"
    ),
    "configurations": Room(
        "configuration that a date was decided under, by its digest", "decide", "plan"
    ),
    "data_checks": Room(
        "build of the profiles x column that some agent reads", "build, decide", "decide, plan"
    ),
    "epochs": Room(
        "date decided for; one more for its rest when profiles or configuration changed meanwhile",
        "decide",
        "decide (to resume), replay, explain",
    ),
    "decisions": Room("decision; never changed", "decide", "dispatch, learn, dbt, replay, explain"),
    "receipts": Room(
        "record x attempt; the send lane's are a copy of the delivery journal",
        "deliver",
        "dbt, explain",
    ),
    "inbound_events": Room("webhook event, once (vendor, event_id)", "build", "dbt"),
    "tracked_events": Room("event of the tracking API, once (message_id)", "build", "dbt"),
    "overrides": Room(
        "act of a person, once; a copy of the log in the project folder", "build, load", "people"
    ),
    "override_labels": Room(
        "decision x override that changed it", "learn", "`nextmove override score`"
    ),
    "policy_states": Room("agent x version", "learn, decide", "learn, decide, deliver, replay"),
    "learned_rewards": Room(
        "decision that the current policy states have learned from", "learn", "erase"
    ),
    "erasures": Room("erased person x state that held a share of theirs", "erase", "auditors"),
    "loaded_segments": Room(
        "segment of the inbound log that has been loaded", "build", "build, deliver"
    ),
    "journal_position": Room("one row: how far receipts have been copied", "deliver", "deliver"),
    "runs": Room("date x step of `nextmove run` that has ended", "run", "run (to resume)"),
    "fences": Room("one row: the number of the last delivery that began", "deliver", "deliver"),
    "sync_runs": Room(
        "run x stream of a destination that had something to tell", "deliver", "deliver, syncs"
    ),
}

NOTES = {
    "agent_outcomes.per": "`event` or `dollar`",
    "agent_outcomes.spent_on": "channel of a `message`, name of an `incentive`; the weight is its",
    "configurations.since": "the first moment decided as of under it",
    "configurations.content": "JSON of project, agents and creatives, without salt and addresses",
    "data_checks.unknown_share": "the share of customers for whom it is NULL",
    "data_checks.low": "1st percentile; NULL for what is no number",
    "data_checks.high": "99th percentile",
    "data_checks.failed": "what failed, empty for nothing",
    "epochs.slot": "the UTC date, `2026-03-02`",
    "epochs.as_of": "the moment decided as of",
    "epochs.profile_build": "names the build of the profiles",
    "epochs.config_digest": "SHA-256 of project, agents and creatives",
    "overrides.by": "who decided it",
    "overrides.kind": "`pause`, `exclude`, `freeze`, `pin`, `stop`, `approve`, `release`",
    "overrides.action": "key of an action, or name of a creative",
    "overrides.rule": "whom it is about",
    "overrides.releases": "the override that this one ends",
    "overrides.until": "when it ends by itself",
    "overrides.content": "of an approval: SHA-256 of what was approved, text, way and campaign",
    "override_labels.action": "what was done",
    "override_labels.model_action": "what would have been done without the override",
    "override_labels.model_value": "what was expected of that, in reward units;"
    " NULL for a policy whose scores are of another kind",
    "override_labels.labelled_at": "the `learn` that wrote it",
    "epochs.plan": "JSON: per agent its policy version, actions, groups, floors",
    "epochs.status": "`open`, or `done`: nothing more is decided under it",
    "decisions.decision_id": "hex; a function of salt, agent, date and customer",
    "decisions.customer_id": "as it was when decided; `fct_decisions` has the current one",
    "decisions.policy": "the policy that chose: that of the group",
    "decisions.policy_version": "version of the agent's learned state",
    "decisions.action": "key of the action, `no_action` for none",
    "decisions.send_at": "when the message is meant to leave; NULL for no_action",
    "decisions.expires_at": "after this it is not sent any more",
    "decisions.carried_out_by": "`delivery`, or `caller` who asked for it to act on it",
    "decisions.p_agent": "chance that this agent got the customer",
    "decisions.p_action": "chance of the action, given the agent",
    "decisions.propensity": "p_agent x p_action",
    "decisions.floor": "the policy's floor as configured",
    "decisions.n_actions": "actions in the catalog, no_action included",
    "decisions.n_eligible": "how many of them were possible",
    "decisions.mean": "per action; NaN in groups that do not learn",
    "decisions.sd": "per action: the width of the draw",
    "decisions.share": "per action: the share of frozen samples it won; empty for other policies",
    "decisions.reasons": "per action: 0 or the code of the guardrail that ruled it out",
    "decisions.x": "the raw features",
    "decisions.facts": "JSON: what the guardrails looked at",
    "receipts.send_key": "the same for every attempt of one send; of a profile its stream, a digest"
    " of its key, the moment and a digest of what was sent",
    "receipts.decision_id": "NULL in the profile lane",
    "receipts.status": "accepted, rejected, skipped, unknown or not_sent",
    "receipts.vendor_ref": "the vendor's own id; several recipients may share one",
    "policy_states.closed_through": "decisions closed until then are in the sums",
    "policy_states.n_decisions": "decisions learned from, open ones included",
    "policy_states.state": "npz with a JSON header, without pickles",
    "policy_states.is_current": "decisions are made with it; at first it is the prior",
    "policy_states.summary": "JSON: what `nextmove learn` says, and the outcomes it counted by",
    "learned_rewards.weight": "1, or the share of an open reward that has usually arrived",
    "erasures.person": "HMAC of the customer id under the project's salt",
    "erasures.decisions": "how many were taken out of the agent's state",
    "erasures.difference": "between the sums and those of everybody else made anew, relative",
    "erasures.deleted": "JSON: rows deleted, by table",
    "runs.totals": "JSON: what the step did",
    "sync_runs.destination": "empty for messages: one run serves all destinations",
    "sync_runs.lane": "profile or send",
    "sync_runs.in_outbox": "rows of the outbox; NULL for messages",
    "sync_runs.not_sent": "messages that wait for the next run",
    "sync_runs.removed": "rows taken away at the destination, for they left the outbox",
    "sync_runs.state": "ok, warning (something was rejected or is unknown) or stopped",
    "sync_runs.reason": "why it was stopped",
}

READERS = {
    "dim_customers": "deliver (external id, zone and CRM ids of an intent), dbt",
    "dim_customer_features": "decide; deliver, at the send boundary; check",
    "fct_decisions": "dbt, analysts",
    "fct_deliveries": "dbt, analysts",
    "fct_outcomes": "dbt, analysts",
    "fct_decision_rewards": "learn; the demo's report",
    "outbox_braze__users": "deliver, profile lane",
    "outbox_iterable__users": "deliver, profile lane",
    "outbox_hubspot__contacts": "deliver, profile lane",
    "outbox_salesforce__contacts": "deliver, profile lane",
    "outbox_hubspot__tasks": "deliver, profile lane",
    "outbox_salesforce__tasks": "deliver, profile lane",
    "outbox_hot_store__profiles": "deliver, to the service",
    "outbox_hot_store__policies": "deliver, to the service",
}

MADE = "<!-- Made by `python -m tests.docs.reference`; do not edit. -->"

TABLES_HEAD = f"""{MADE}
# Tables

The rooms of nextmove meet in tables. There are three schemas; `warehouse` in `nextmove.yml` names them.

- `raw`: your loaders write it, dbt reads it.
- `nextmove`: dbt writes it. The models below are the public ones; each has a contract that dbt enforces.
- `nextmove_engine`: the engine writes it. Nothing in it is edited by hand.

All times are UTC `timestamp` without a zone. Ids are text. Money is whole cents, but for `value` and `reward`, which are dollars and reward units.
"""  # noqa: E501

RAW_HEAD = """## Raw tables

Each is optional: list those you have under `sources` in `nextmove.yml`. A table that is not listed is taken to be empty. A listed table must exist; of its columns the optional ones may be missing, and are NULL then. More columns do no harm. Columns are text unless a type is given.
"""  # noqa: E501

CONFIRMED = (
    "The rows of an outbox that its destination has confirmed, with the outbox's own columns."
    " Written and read by deliver: what differs from the outbox goes out next. `in_doubt`"
    " is not NULL while nobody knows what a call for the row has done: it is sent whole then."
    " A row that was rejected is here as it was, with how often (`rejections`) and until when it"
    " is left alone (`again_at`, UTC); both are NULL otherwise."
    " Where rows are taken away again there is also `instance`: which store has confirmed the row,"
    " NULL while its removal is on the way."
)

CLI_HEAD = f"""{MADE}
# Command line

Exit codes: 0 done · 1 failed, the message says what was and was not done · 2 wrong usage or configuration, nothing was changed · 3 done, but some records were rejected or their fate is unknown · 4 `plan --exit-code` found changes.
"""  # noqa: E501


def texts() -> dict[str, str]:
    """File name in docs/reference -> what it must hold."""
    pages = {"tables.md": tables_page(), "cli.md": cli_page(), "airflow.md": airflow_page()}
    return {**pages, **schemas()}


# ---- tables ----


def tables_page() -> str:
    parts = [TABLES_HEAD, RAW_HEAD, *raw_lines(), "", "## Profiles, outcomes and outboxes", ""]
    models = list(contracts())
    if {m["name"] for m in models} != READERS.keys():
        raise ValueError("`READERS` must name exactly the models with a contract")
    for model in models:
        parts += model_lines(model)
    parts += ["## Reports", "", "Views for people and dashboards, without a contract.", ""]
    parts += report_lines()
    parts += ["## Engine tables", ""]
    if ENGINE.keys() != ENGINE_TABLES.keys():
        raise ValueError("`ENGINE` must name exactly the tables of decision_engine.tables")
    for name, schema in ENGINE_TABLES.items():
        parts += engine_lines(name, schema)
    parts += [
        "### `confirmed_<destination>__<stream>`",
        "",
        CONFIRMED,
    ]
    return "\n".join(parts) + "\n"


def raw_lines() -> Iterator[str]:
    yield from ("| table | what it holds | needed | optional |", "|---|---|---|---|")
    for table, what in sources():
        columns, optional = raw_columns()[table]
        needed = {c: t for c, t in columns.items() if c not in optional}
        rest = {c: t for c, t in columns.items() if c in optional}
        yield f"| `{table}` | {what} | {typed(needed)} | {typed(rest)} |"


def sources() -> Iterator[tuple[str, str]]:
    """The raw tables that dbt declares, with their descriptions."""
    for source in read(MODELS / "staging" / "_sources.yml")["sources"]:
        if source["name"] == "nextmove_raw":
            yield from ((t["name"], t["description"]) for t in source["tables"])


def raw_columns() -> dict[str, tuple[dict[str, str], list[str]]]:
    """Raw table -> its columns with types, and which of them are optional, as staging reads it."""
    call = re.compile(r"read_raw\('(\w+)', (\{.*?\})(?:, optional=(\[.*?\]))?\)", re.DOTALL)
    found = {}
    for path in sorted(MODELS.glob("staging/*/stg_*.sql")):
        for table, columns, optional in call.findall(path.read_text()):
            found[table] = (ast.literal_eval(columns), ast.literal_eval(optional or "[]"))
    return found


def typed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"`{c}`" if t == "text" else f"`{c}` {t}" for c, t in columns.items())


def contracts() -> Iterator[dict[str, Any]]:
    """The models with an enforced contract, marts first."""
    for name in ("marts/_marts__models.yml", "outbox/_outbox__models.yml"):
        for model in read(MODELS / name)["models"]:
            if model.get("config", {}).get("contract", {}).get("enforced"):
                yield model


def model_lines(model: Mapping[str, Any]) -> list[str]:
    rows = [(c["name"], c["data_type"], c["description"]) for c in model["columns"]]
    about = f"Written by dbt. Read by {READERS[model['name']]}."
    return [
        f"### {model['name']}",
        "",
        f"{line(model['description'])} {about}",
        "",
        *column_lines(rows),
    ]


def report_lines() -> Iterator[str]:
    for model in read(MODELS / "marts" / "reports" / "_reports__models.yml")["models"]:
        yield f"- `{model['name']}`: {line(model['description'])}"
    yield ""


def engine_lines(name: str, schema: pa.Schema) -> list[str]:
    room = ENGINE[name]
    unknown = {n for n in NOTES if n.startswith(f"{name}.")} - {f"{name}.{c}" for c in schema.names}
    if unknown:
        raise ValueError(f"`NOTES` has columns that are not there: {', '.join(sorted(unknown))}")
    rows = [(f.name, arrow_type(f.type), NOTES.get(f"{name}.{f.name}", "")) for f in schema]
    about = f"Grain: {room.grain}. Written by {room.writer}. Read by {room.readers}."
    return [f"### {name}", "", about, "", *column_lines(rows)]


def arrow_type(of: pa.DataType) -> str:
    names = {"string": "text", "bool": "boolean", "int32": "integer", "int64": "bigint",
             "timestamp[us]": "timestamp", "binary": "blob", "uint8": "utinyint"}  # fmt: skip
    if pa.types.is_list(of):
        return f"{arrow_type(of.value_type)}[]"
    return names.get(str(of), str(of))


def column_lines(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    body = [f"| `{name}` | {of} | {line(text)} |" for name, of, text in rows]
    return ["| column | type | meaning |", "|---|---|---|", *body, ""]


def line(text: str) -> str:
    return " ".join(text.split())


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


# ---- command line ----


def cli_page() -> str:
    parts = [CLI_HEAD, *help_of()]
    for name, command in main.commands.items():
        parts += help_of(name)
        for part in command.commands if isinstance(command, click.Group) else ():
            parts += help_of(name, part)
    return "\n".join(parts)


def help_of(*command: str) -> list[str]:
    result = CliRunner().invoke(
        main, [*command, "--help"], prog_name="nextmove", terminal_width=WIDTH, color=False
    )
    if result.exit_code:
        raise click.ClickException(result.output)
    return [f"## {' '.join(('nextmove', *command))}", "", "```", result.output.rstrip(), "```", ""]


if __name__ == "__main__":
    for file_name, text in texts().items():
        (FOLDER / file_name).write_text(text, encoding="utf-8")
