"""Bad input: one clear line, an exit code, and nothing changed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connectors.limits import Limiter
from decision_engine import build
from decision_engine.cli import main
from decision_engine.command import reported_errors
from decision_engine.delivery import Delivery
from decision_engine.workspace import Workspace
from tests.end_to_end.scenario import midnight
from tests.end_to_end.storm import KEYS

AS_OF = ["--as-of", midnight(0).isoformat()]
AGENT = "agents/win_back.yml"
PROFILE = "dbt/profiles.yml"


def nextmove(*arguments: str) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(main, [*arguments])


def edit(project: Path, name: str, before: str, after: str) -> None:
    """Change one thing in a file."""
    path = project / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def state_of(project: Path) -> tuple[object, ...]:
    """Everything that a step of the loop could have changed."""
    workspace = Workspace.open(project)
    tables = ("epochs", "decisions", "receipts", "policy_states", "runs")
    with workspace.warehouse() as warehouse:
        rows = [warehouse.rows(f"select count(*) from {workspace.engine(t)}") for t in tables]
    with workspace.journal() as journal:
        return (*(r[0][0] for r in rows), journal.counts())


def break_agent(project: Path) -> None:
    edit(project, AGENT, "goal:", "gaol:")


def unknown_column(project: Path) -> None:
    edit(project, AGENT, "orders_count >= 1", "orders_cuont >= 1")


def empty_audience(project: Path) -> None:
    edit(project, AGENT, "orders_count >= 1", "orders_count >= 100000")


def missing_table(project: Path) -> None:
    workspace = Workspace.open(project)
    with workspace.warehouse() as warehouse:
        warehouse.rows("drop table raw.orders")


def damaged_warehouse(project: Path) -> None:
    (project / "warehouse.duckdb").write_bytes(b"not a database" * 1000)


CASES: list[tuple[Callable[[Path], None], str, int, str]] = [
    (break_agent, "check", 2, "agents/win_back.yml:3: gaol: unknown field"),
    (break_agent, "decide", 2, "agents/win_back.yml:3: gaol: unknown field"),
    (unknown_column, "check", 2, "did you mean 'orders_count'?"),
    (unknown_column, "decide", 2, "did you mean 'orders_count'?"),
    (empty_audience, "decide", 1, "agents/win_back.yml: audience: no customer matches"),
    (missing_table, "check", 2, "sources: table raw.orders does not exist"),
    (missing_table, "build", 2, "sources: table raw.orders does not exist"),
    (missing_table, "run", 2, "sources: table raw.orders does not exist"),
    (damaged_warehouse, "check", 2, "warehouse.duckdb cannot be opened"),
    (damaged_warehouse, "decide", 2, "warehouse.duckdb cannot be opened"),
]


@pytest.mark.parametrize(("spoil", "command", "code", "line"), CASES)
def test_one_clear_line_and_nothing_changed(
    project: Path, spoil: Callable[[Path], None], command: str, code: int, line: str
) -> None:
    before = None if spoil in (break_agent, damaged_warehouse) else state_of(project)
    spoil(project)
    result = nextmove(command, "--project", str(project), *(AS_OF if command != "check" else []))

    assert result.exit_code == code, result.output
    assert line in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output
    if before is not None:
        assert state_of(project) == before


def test_not_a_project(tmp_path: Path) -> None:
    result = nextmove("check", "--project", str(tmp_path))

    assert result.exit_code == 2
    assert "nextmove init" in result.stderr


def test_key_not_set(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ITERABLE_API_KEY")
    result = nextmove("run", "--project", str(project), *AS_OF)

    assert result.exit_code == 2
    assert "ITERABLE_API_KEY is not set" in result.stderr
    assert state_of(project)[:3] == (0, 0, 0)


def decided(project: Path) -> None:
    """A project with a dispatched slot, nothing delivered yet."""
    from decision_engine.delivery import open_delivery

    assert nextmove("decide", "--project", str(project), *AS_OF).exit_code == 0
    workspace = Workspace.open(project)
    with open_delivery(workspace) as delivery:
        assert delivery.dispatch(midnight(0).date().isoformat(), midnight(0))["intents"] > 0


def test_dead_server(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limiter, "_backoff", lambda *_: 0.0)
    decided(project)
    before = state_of(project)
    config = project / "nextmove.yml"
    port = config.read_text().split("http://127.0.0.1:")[1].split("/")[0]
    config.write_text(config.read_text().replace(f"127.0.0.1:{port}", "127.0.0.1:9"))
    result = nextmove(
        "deliver", "--project", str(project), "--as-of", midnight(0).replace(hour=1).isoformat()
    )

    assert result.exit_code == 1
    assert "refused" in result.stderr
    assert "Traceback" not in result.output
    # Every message still waits: none was marked as sent, skipped or lost.
    assert state_of(project)[-1] == before[-1]


def test_wrong_key(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided(project)
    before = state_of(project)
    for name in ("BRAZE_API_KEY", "ITERABLE_API_KEY", "HUBSPOT_ACCESS_TOKEN"):
        monkeypatch.setenv(name, "not-the-key-0123456789")
    result = nextmove(
        "deliver", "--project", str(project), "--as-of", midnight(0).replace(hour=1).isoformat()
    )

    assert result.exit_code == 1
    assert "refuses the key" in result.stderr
    assert "not-the-key" not in result.output
    assert state_of(project)[-1] == before[-1]


def test_another_time_is_for_the_sandbox_only(project: Path) -> None:
    edit(project, "nextmove.yml", "http://127.0.0.1:", "https://rest.iad-01.braze.example:")
    result = nextmove("deliver", "--project", str(project), *AS_OF)

    assert result.exit_code == 2
    assert "for the sandbox only" in result.stderr


def test_a_round_that_was_cut_short_in_its_delivery_needs_no_dbt(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "--quick", "--project", str(project), *AS_OF]
    with monkeypatch.context() as cut:
        cut.setattr(Delivery, "deliver", lambda *_, **__: 1 / 0)
        assert isinstance(nextmove(*words).exception, ZeroDivisionError)
    edit(project, PROFILE, "threads: 4", "threads: many")
    monkeypatch.setattr(build, "_manifests", {})
    result = nextmove(*words, "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["deliver"]["streams"]
    # The next date begins with a build, and says what is wrong.
    tomorrow = nextmove(*words[:-1], midnight(1).isoformat())
    assert tomorrow.exit_code == 2
    assert "dbt cannot use this value" in tomorrow.stderr


def test_only_an_outbox_that_there_is_can_be_allowed(project: Path) -> None:
    before = state_of(project)
    result = nextmove("deliver", "--project", str(project), *AS_OF, "--allow", "braze.user")

    assert result.exit_code == 2
    assert "--allow: unknown outbox 'braze.user'" in result.stderr
    assert "did you mean 'braze.users'?" in result.stderr
    assert state_of(project) == before


def test_dry_runs_change_nothing(project: Path) -> None:
    decided(project)
    before = state_of(project)
    for command in ("decide", "deliver", "learn", "run"):
        tomorrow = midnight(1).isoformat()
        result = nextmove(command, "--project", str(project), "--dry-run", "--as-of", tomorrow)
        assert result.exit_code in (0, 1), result.output
    assert state_of(project) == before


def test_decide_twice_decides_once(project: Path) -> None:
    first = nextmove("decide", "--project", str(project), "--json", *AS_OF)
    after = state_of(project)
    second = nextmove("decide", "--project", str(project), "--json", *AS_OF)

    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    assert state_of(project) == after


def test_the_stop_file_stops(project: Path) -> None:
    decided(project)
    (project / "STOP").touch()
    result = nextmove(
        "deliver",
        "--json",
        "--project",
        str(project),
        "--as-of",
        midnight(0).replace(hour=1).isoformat(),
    )

    assert result.exit_code == 0, result.output
    workspace = Workspace.open(project)
    with workspace.journal() as journal:
        counts = journal.counts()
    assert counts["accepted"] == counts["unknown"] == 0
    assert counts["skipped"] > 0


def test_a_rule_is_checked_before_there_is_a_warehouse(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert nextmove("init", str(folder)).exit_code == 0
    agent = folder / "agents" / "win_back.yml"
    agent.write_text(agent.read_text().replace("days_since_last_order", "days_since_last_oder"))
    result = nextmove("check", "--project", str(folder))
    assert result.exit_code == 2
    assert "agents/win_back.yml:6: audience" in result.stderr
    assert "did you mean 'days_since_last_order'?" in result.stderr


@pytest.mark.parametrize(
    ("name", "before", "after", "told"),
    [
        ("dbt/profiles.yml", "nextmove:\n", "another:\n", "dbt/profiles.yml:1:1: "),
        ("nextmove.yml", "path: warehouse.duckdb", "path: no/w.duckdb", "`warehouse.path` says"),
    ],
)
def test_what_no_other_try_cures(
    project: Path, name: str, before: str, after: str, told: str
) -> None:
    edit(project, name, before, after)

    result = nextmove("build", "--project", str(project), *AS_OF)

    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_check_looks_for_the_profile_and_for_who_can_approve(project: Path) -> None:
    assert "approve" not in nextmove("check", "--project", str(project)).stdout
    agent = project / "agents/win_back.yml"
    agent.write_text(agent.read_text() + "\napproval: each\n")
    told = nextmove("check", "--project", str(project), "--json").stdout
    assert json.loads(told)["no `owner`, so nobody can approve"] == "win_back"
    (project / PROFILE).unlink()
    result = nextmove("check", "--project", str(project))
    assert result.exit_code == 2
    assert result.stderr.startswith("dbt/profiles.yml: is missing")


def test_check_sees_a_misspelt_adapter(project: Path) -> None:
    edit(project, PROFILE, "type: duckdb", "type: duckbd")
    result = nextmove("check", "--project", str(project))
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "dbt/profiles.yml:5:13: `type` is no adapter for this warehouse; did you mean `duckdb`?"
    )
    assert len(result.stderr.splitlines()) == 1
    edit(project, PROFILE, "type: duckbd", "type: \"{{ env_var('HUNTER', 'duckdb') }}\"")
    assert nextmove("check", "--project", str(project)).exit_code == 0


@pytest.mark.parametrize("words", ["erase c_x --yes", "erase user_id:x --dry-run", "deliver"])
def test_what_comes_before_the_first_build_is_told(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    assert nextmove("init", str(tmp_path / "new")).exit_code == 0
    with Workspace.open(tmp_path / "new").warehouse():
        pass
    result = nextmove(*words.split(), "--project", str(tmp_path / "new"))
    assert result.exit_code == 1
    assert "does not exist; run `nextmove build` first" in result.stderr


def test_there_are_no_syncs_before_the_first_delivery(tmp_path: Path) -> None:
    assert nextmove("init", str(tmp_path / "new")).exit_code == 0
    with Workspace.open(tmp_path / "new").warehouse():
        pass
    result = nextmove("syncs", "history", "--json", "--project", str(tmp_path / "new"))
    assert (result.exit_code, result.stdout) == (0, "[]\n")


@pytest.mark.parametrize(
    "words",
    [
        "decide --as-of 0001-01-01T00:00+14:00",
        "sandbox --port 65536",
        "serve --port -1",
        "plan --html no_such_folder/plan.html",
        "plan --html .",
        "replay --sample -5",
        f"replay --sample {10**20}",
    ],
)
def test_a_wrong_value_is_wrong_usage(words: str) -> None:
    result = nextmove(*words.split())
    assert result.exit_code == 2
    assert "Invalid value for '--" in result.stderr


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = nextmove("init", str(tmp_path / "file" / "new"))
    assert result.exit_code == 1
    assert result.stderr == f"{tmp_path / 'file' / 'new'}: Not a directory\n"


def put_into_profile(folder: Path, before: str, after: str) -> None:
    """A new project whose profile has something wrong."""
    assert nextmove("init", str(folder)).exit_code == 0
    edit(folder, PROFILE, before, after)


@pytest.mark.parametrize("command", ["build", "run"])
def test_a_wrong_profile_is_told_before_anything_is_made(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    folder = tmp_path / "new"
    put_into_profile(folder, "threads: 4", "threads: many")

    result = nextmove(command, "--project", str(folder))

    assert result.exit_code == 2
    assert "dbt/profiles.yml:8:16: dbt cannot use this value" in result.stderr
    assert not (folder / "warehouse.duckdb").exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("      type: duckdb", "      token: [hunter\n      type: x", "6:11: is not valid YAML"),
        ("type: duckdb", "type: *hunter", "5:13: is not valid YAML"),
        ("type: duckdb", "type: !hunter x", "5:13: is not valid YAML"),
        ("type: duckdb", "type: hunter\a", "5:19: is not valid YAML"),
        ("type: duckdb", "type: !!bool hunter", " is not valid YAML"),
        ("type: duckdb", "type: !!timestamp hunter", " is not valid YAML"),
        ("{{ env_var('NEXTMOVE_DUCKDB_PATH') }}", "{{hunter", "6:13: dbt cannot use this value"),
        ("{{ env_var('NEXTMOVE_DUCKDB_PATH')", "{{hunter.x", "6:13: dbt cannot use this value"),
        ("threads: 4", "threads: hunter", "8:16: dbt cannot use this value"),
        ("TimeZone: UTC", 'TimeZone: "{{hunter"', "11:19: dbt cannot use this value"),
        ("NEXTMOVE_DUCKDB_PATH", "hunter", "6:13: takes an environment variable that is not set"),
        ("type: duckdb", "type: hunter", "5:13: `type` is no adapter"),
        ("type: duckdb", "type: [hunter]", "5:13: `type` is no adapter"),
        ("type: duckdb", "hunter: duckdb", "5:7: `type` is missing here; it should be `duckdb`"),
        ("    duckdb:", "    hunter:", "4:5: `duckdb` is missing here"),
        ("nextmove:\n", "- hunter\n---\n", "2:1: is not valid YAML"),
    ],
)
def test_a_profile_is_not_quoted(before: str, after: str, told: str, tmp_path: Path) -> None:
    """A line around a mistake, or a value that is not a number, may be a password."""
    put_into_profile(tmp_path / "new", before, after)

    result = nextmove("build", "--project", str(tmp_path / "new"))

    assert result.exit_code == 2
    assert f"dbt/profiles.yml:{told}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "hunter" not in result.output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [f.name for f in files if b"hunter" in f.read_bytes()] == ["profiles.yml"]


@pytest.mark.parametrize("text", ["", "nextmove", "[nextmove]", "nextmove: {outputs: hunter}"])
def test_a_profile_of_another_shape(text: str, tmp_path: Path) -> None:
    put_into_profile(tmp_path / "new", "", "")
    (tmp_path / "new" / PROFILE).write_text(text)

    result = nextmove("build", "--project", str(tmp_path / "new"))

    assert result.exit_code == 2
    assert "dbt/profiles.yml:" in result.stderr
    assert "hunter" not in result.output


def test_no_process_takes_away_the_package_that_another_one_reads(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert nextmove("init", str(folder)).exit_code == 0
    with Workspace.open(folder).alone("parse"):
        result = nextmove("build", "--project", str(folder))
    assert result.exit_code == 1
    assert "in use by another process" in result.stderr
    assert not (folder / "dbt" / "dbt_packages").exists()


def test_ctrl_c_that_dbt_kept_to_itself() -> None:
    told = RuntimeError("the connection is busy")
    told.__context__ = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        build._require_uninterrupted(told)
    build._require_uninterrupted(RuntimeError("something else"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError(f"Failed to commit: {os.strerror(errno.ENOSPC)}"),
    ],
)
def test_full_disk(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"), reported_errors():
        raise error

    assert capsys.readouterr().err.startswith("the disk is full: make room")


def test_what_was_not_foreseen_is_shown_whole() -> None:
    with pytest.raises(PermissionError), reported_errors():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
