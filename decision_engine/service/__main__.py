"""`python -m decision_engine.service`: what receives, as a process without a project."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from connectors.errors import ConnectorError
from connectors.inbound import VENDORS
from decision_engine.service.app import MakePart, serve
from decision_engine.service.ingest import Ingest
from decision_engine.service.logs import log_to_stderr
from decision_engine.service.rotation import ROTATE_BYTES, ROTATE_SECONDS
from decision_engine.service.webhooks import Webhooks


def main() -> int:
    """Print {"url": ...} and receive until SIGTERM; exit code 2 if that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m decision_engine.service")
    parser.add_argument("--log", type=Path, required=True, help="directory of the event log")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    vendors = [name for name, vendor in VENDORS.items() if not vendor.needs_url]
    for vendor in vendors:
        parser.add_argument(
            f"--{vendor}-key-env",
            default=f"{vendor.upper()}_WEBHOOK_KEY",
            metavar="NAME",
            help=f"environment variable with the token of {vendor}'s webhooks (%(default)s)",
        )
    parser.add_argument(
        "--write-key-env",
        default="NEXTMOVE_WRITE_KEY",
        metavar="NAME",
        help="environment variable with the key of tracked events (%(default)s)",
    )
    parser.add_argument("--rotate-seconds", type=float, default=ROTATE_SECONDS)
    parser.add_argument("--rotate-bytes", type=int, default=ROTATE_BYTES)
    args = parser.parse_args()
    names = {vendor: getattr(args, f"{vendor}_key_env") for vendor in vendors}
    secrets = {v: os.environ[name] for v, name in names.items() if os.environ.get(name)}
    write_key = os.environ.get(args.write_key_env)
    if not secrets and not write_key:
        parser.error(f"no key is set: set {', '.join(names.values())} or {args.write_key_env}")
    parts: list[MakePart] = [partial(Webhooks, secrets=secrets)]
    if write_key:
        parts.append(partial(Ingest, write_key=write_key))
    log_to_stderr()
    try:
        serve(
            args.log,
            parts,
            host=args.host,
            port=args.port,
            rotate_seconds=args.rotate_seconds,
            rotate_bytes=args.rotate_bytes,
        )
    except ConnectorError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
