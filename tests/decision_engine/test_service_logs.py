"""What the service says of itself: a line of JSON, and nothing about people."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from decision_engine.service.logs import JsonLines


def line(**values: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "n", "levelname": "ERROR", **values})
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    assert datetime.fromisoformat(str(found.pop("at"))).tzinfo
    return found


def test_a_message() -> None:
    assert line(msg="segment %s\nis closed\n", args=("1",)) == {
        "level": "error",
        "logger": "n",
        "message": "segment 1\nis closed",
    }


def test_an_exception_says_where_but_not_what() -> None:
    try:
        {}["ann@x.example"]  # type: ignore[index]
    except KeyError:
        found = line(msg="it failed", exc_info=sys.exc_info())
    assert found["error"] == "KeyError"
    assert str(found["where"]).endswith(" test_an_exception_says_where_but_not_what']")
    assert "ann@x.example" not in json.dumps(found)


def test_every_line_of_a_run_is_json(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "decision_engine.service", "--log", str(tmp_path)],
        env={"NEXTMOVE_WRITE_KEY": "key", "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    url = json.loads(process.stdout.readline())["url"]
    process.terminate()
    _, said = process.communicate(timeout=20)
    messages = [json.loads(line)["message"] for line in said.splitlines()]
    assert messages == [f"serving at {url}", "ending"]
