"""`python -m connectors.sandbox`: the sandbox as a process."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from connectors.sandbox.app import VENDORS, Settings
from connectors.sandbox.server import serve


def main() -> None:
    """Serve until SIGTERM.

    Keys and tokens come from the environment: SANDBOX_BRAZE_KEY,
    SANDBOX_BRAZE_WEBHOOK_TOKEN, and so on.
    """
    parser = argparse.ArgumentParser(prog="python -m connectors.sandbox")
    parser.add_argument("--dir", type=Path, required=True, help="where the ledger is kept")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--webhooks", help="base URL of the receiver of webhooks")
    parser.add_argument("--seed", type=int, default=0, help="decides what shared faults strike")
    parser.add_argument("--limit-divisor", type=float, default=1.0, help="smaller rate limits")
    args = parser.parse_args()
    settings = Settings(
        keys={v: _secret(v, "key") for v in VENDORS},
        tokens={v: _secret(v, "webhook-token") for v in ("braze", "iterable")},
        webhooks=args.webhooks,
        limit_divisor=args.limit_divisor,
    )
    serve(args.dir, settings, port=args.port, seed=args.seed)


def _secret(vendor: str, kind: str) -> str:
    name = f"SANDBOX_{vendor}_{kind}".replace("-", "_").upper()
    return os.environ.get(name, f"sandbox-{vendor}-{kind}")


if __name__ == "__main__":
    main()
