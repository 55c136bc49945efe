"""What Airflow asks every provider package about itself."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The operator, the hook and the connection type, named without importing them."""
    here = "connectors.airflow"
    return {
        "package-name": "nextmove",
        "name": "nextmove",
        "description": "Each customer's best next move: build, learn, decide, deliver.",
        "integrations": [{"integration-name": "nextmove", "tags": ["software"]}],
        "operators": [{"integration-name": "nextmove", "python-modules": [f"{here}.operator"]}],
        "hooks": [{"integration-name": "nextmove", "python-modules": [f"{here}.hook"]}],
        "connection-types": [
            {
                "connection-type": "nextmove",
                "hook-class-name": f"{here}.hook.NextmoveHook",
                "hook-name": "nextmove",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "password", "port"],
                    "relabeling": {"extra": "Secrets"},
                    "placeholders": {"extra": '{"secrets": {"BRAZE_API_KEY": "..."}}'},
                },
                "conn-fields": {
                    "project": {
                        "label": "Project folder",
                        "schema": {"type": ["string", "null"]},
                        "description": "The folder with nextmove.yml, as the workers see it",
                    },
                },
            }
        ],
    }
