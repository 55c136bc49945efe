"""What `nextmove init` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from connectors.errors import ConfigurationError
from decision_engine.load import load_project
from decision_engine.scaffold import init


def test_writes_a_project_and_lists_it(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    written = init(folder, "shop")
    assert sorted(p for p in folder.rglob("*") if p.is_file()) == written
    names = {p.relative_to(folder).as_posix() for p in written}
    assert names >= {
        "nextmove.yml", ".env.example", ".gitignore", "README.md", "dbt/dbt_project.yml",
        "dbt/packages.yml", "dbt/profiles.yml", "dbt/models/.gitkeep", "agents/win_back.yml",
        "creatives/sms.yml", "schemas/agent.schema.json",
    }  # fmt: skip


def test_fills_in_name_and_salt(tmp_path: Path) -> None:
    init(tmp_path / "a", "on", salt="0000000000000000")
    project, _, _ = load_project(tmp_path / "a")
    assert (project.project, project.salt) == ("on", "0000000000000000")
    dbt = yaml.safe_load((tmp_path / "a/dbt/dbt_project.yml").read_text())
    assert dbt["name"] == "on_warehouse"
    for path in (tmp_path / "a").rglob("*.yml"):
        assert "{{ project }}" not in path.read_text()
        assert "{{ salt }}" not in path.read_text()


def test_each_project_gets_a_salt_of_its_own(tmp_path: Path) -> None:
    init(tmp_path / "a", "a")
    init(tmp_path / "b", "b")
    salts = {load_project(tmp_path / name)[0].salt for name in "ab"}
    assert len(salts) == 2


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"is not empty \(it has notes\.txt\)"):
        init(tmp_path, "shop")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_fresh_git_folder_is_empty_enough(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert init(tmp_path, "shop")


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        init(tmp_path / "shop", "shop")


@pytest.mark.parametrize("name", ["", "My Shop", "1shop", "shop-x", "a" * 52, "../x"])
def test_refuses_a_name_that_cannot_be_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="lower-case"):
        init(tmp_path / "p", name)
    assert not (tmp_path / "p").exists()


def test_every_agent_is_small_enough_to_learn(tmp_path: Path) -> None:
    init(tmp_path, "shop")
    _, agents, _ = load_project(tmp_path)
    for agent in agents.values():
        assert 6 <= len(agent.context) <= 13
        assert {o.event for o in agent.outcomes} >= {"order", "click", "unsubscribe", "complaint"}
