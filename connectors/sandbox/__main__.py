"""`python -m connectors.sandbox`: the sandbox as a process."""

from __future__ import annotations

import argparse
from pathlib import Path

from connectors.sandbox.app import serve


def main() -> None:
    """Print {"url": ...} and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m connectors.sandbox")
    parser.add_argument("--dir", type=Path, required=True, help="where the ledger is kept")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--webhooks", help="base URL of the receiver of webhooks")
    parser.add_argument("--seed", type=int, default=0, help="decides what shared faults strike")
    parser.add_argument("--limit-divisor", type=float, default=1.0, help="smaller rate limits")
    args = parser.parse_args()
    serve(
        args.dir,
        port=args.port,
        webhooks=args.webhooks,
        seed=args.seed,
        limit_divisor=args.limit_divisor,
    )


if __name__ == "__main__":
    main()
