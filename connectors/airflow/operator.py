"""One step of the loop as an Airflow task."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from connectors.airflow.hook import NextmoveHook

POOL = os.environ.get("NEXTMOVE_POOL", "nextmove")
"""DuckDB lets one process in at a time: a pool of one slot has the steps wait in line."""

GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL; Airflow itself gives a task five seconds."""

DONE, FAILED, WRONG_CONFIGURATION, DONE_WITH_DOUBTS = range(4)
"""The exit codes of the command line."""


class NextmoveOperator(BaseOperator):
    """Run `nextmove STEP` as a child process; its counts are the task's XCom.

    `step` is load, build, learn, decide, deliver or run. `project` is the folder, when it is
    not that of the connection. `as_of` (ISO, UTC) is the moment to work as of, the present when
    not given; leave it out in production: only a sandbox may be delivered to as of another
    time. Every step can be repeated and killed at any time, so a task may be retried and
    cleared. A failure is retried; a wrong configuration fails at once; records that were
    rejected or whose fate is unknown are a warning with their number.
    """

    template_fields = ("project", "as_of")

    def __init__(
        self,
        *,
        step: str,
        task_id: str = "",
        nextmove_conn_id: str = NextmoveHook.default_conn_name,
        project: str | None = None,
        as_of: str | None = None,
        pool: str = POOL,
        retries: int = 5,
        retry_delay: timedelta = timedelta(minutes=1),
        retry_exponential_backoff: float = 2.0,
        max_retry_delay: timedelta = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            task_id=task_id or step,
            pool=pool,
            retries=retries,
            retry_delay=retry_delay,
            retry_exponential_backoff=retry_exponential_backoff,
            max_retry_delay=max_retry_delay,
            **kwargs,
        )
        self.step = step
        self.nextmove_conn_id = nextmove_conn_id
        self.project = project
        self.as_of = as_of
        self._child: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow gives it
        """Do the step; its counts. AirflowException to be retried, AirflowFailException not."""
        with tempfile.TemporaryFile() as printed:
            hook = NextmoveHook(self.nextmove_conn_id)
            self._child = hook.start(self.step, self.project, self.as_of, printed)
            try:
                code = self._follow(self._child, hook)
            finally:
                self.on_kill()
            printed.seek(0)
            return self._judged(code, printed.read())

    def _follow(self, child: subprocess.Popen[str], hook: NextmoveHook) -> int:
        """Copy its log lines to the task's log until it ends; the exit code."""
        assert child.stderr is not None  # noqa: S101 - tells the type checker
        for line in child.stderr:
            self.log.info("%s", hook.scrubbed(line.rstrip()))
        return child.wait()

    def _judged(self, code: int, printed: bytes) -> dict[str, Any]:
        if code == WRONG_CONFIGURATION:
            raise AirflowFailException(
                f"nextmove {self.step}: wrong usage or configuration, nothing was changed; mend"
                " what the lines above name, then clear this task"
            )
        if code not in (DONE, DONE_WITH_DOUBTS):
            raise AirflowException(
                f"nextmove {self.step} ended with exit code {code}; the lines above say what was"
                " and was not done, another try goes on from there"
            )
        totals = counts(json.loads(printed))
        self.log.info("nextmove %s is done: %s", self.step, totals)
        if code == DONE_WITH_DOUBTS:
            self.log.warning("some of the records were rejected, or their fate is unknown")
        return totals

    def on_kill(self) -> None:
        """End the child, if there is one: SIGTERM, and SIGKILL when that is not heeded."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def counts(totals: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a JSON object, at any depth; text and lists are left out."""
    inside = {k: counts(v) if isinstance(v, Mapping) else v for k, v in totals.items()}
    return {k: v for k, v in inside.items() if isinstance(v, int | float | dict)}
