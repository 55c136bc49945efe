"""The way from Airflow to a project: its folder, its secrets, its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

PROJECT = "NEXTMOVE_PROJECT"
"""The environment variable with the project folder, when no connection names one."""


class NextmoveHook(BaseHook):
    """A project, by a connection of type `nextmove`.

    The connection's extra is `{"project": folder, "secrets": {environment variable: value}}`.
    Without a connection the project is that of `NEXTMOVE_PROJECT`, and its keys must be in the
    worker's own environment.
    """

    conn_name_attr = "nextmove_conn_id"
    default_conn_name = "nextmove_default"
    conn_type = "nextmove"
    hook_name = "nextmove"

    def __init__(self, nextmove_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.nextmove_conn_id = nextmove_conn_id
        self._secrets: dict[str, str] = {}

    def start(
        self, step: str, project: str | None, as_of: str | None, stdout: IO[bytes]
    ) -> subprocess.Popen[str]:
        """Begin `nextmove STEP --json` as a child process; its log lines come on `stderr`.

        It is in the process group of the task, so what ends that group ends it as well.
        AirflowFailException when nothing says where the project is.
        """
        named = self._read()
        folder = project or named or os.environ.get(PROJECT)
        if not folder:
            raise AirflowFailException(
                f"connection {self.nextmove_conn_id}: no project folder; name it there as"
                f" `project`, or in the environment variable {PROJECT}"
            )
        # -P: a file in the folder where the worker happens to run is no module of ours.
        command = [sys.executable, "-P", "-m", "decision_engine.cli", "--progress", step]
        command += ["--project", folder, "--json"]
        command += ["--as-of", as_of] if as_of else []
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self._environment(),
        )

    def scrubbed(self, line: str) -> str:
        """The line without the values of the secrets."""
        for value in self._secrets.values():
            line = line.replace(value, "***") if value else line
        return line

    def _read(self) -> str:
        """Take the secrets from the connection; the project folder that it names, if any."""
        try:
            extra = self.get_connection(self.nextmove_conn_id).extra_dejson
        except AirflowNotFoundException:
            return ""
        secrets = extra.get("secrets") or {}
        if not isinstance(secrets, dict) or any(not isinstance(v, str) for v in secrets.values()):
            raise AirflowFailException(
                f"connection {self.nextmove_conn_id}: `secrets` must map names of environment"
                " variables to texts"
            )
        for value in secrets.values():
            mask_secret(value)
        self._secrets = secrets
        return str(extra.get("project") or "")

    def _environment(self) -> dict[str, str]:
        """The worker's environment without what is Airflow's own, and with the secrets."""
        others = {n: v for n, v in os.environ.items() if not n.lstrip("_").startswith("AIRFLOW")}
        return others | self._secrets
