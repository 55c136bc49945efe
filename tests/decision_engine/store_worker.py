"""`python -m tests.decision_engine.store_worker FOLDER`: writes the hot store until it is killed.

Commit n sets every live state, a decision and the position to n, and publishes profiles whose
`orders_count` is n. Each is printed once it is acknowledged.
"""

from __future__ import annotations

import sys
from pathlib import Path

from decision_engine.service.store import HotStore

PEOPLE = [f"c_{i}" for i in range(60)]


def main() -> None:
    with HotStore(Path(sys.argv[1])) as store:
        n = store.position[1] if store.position else 0
        print("ready", flush=True)
        while True:
            n += 1
            for person in PEOPLE:
                store.put_live(person, b"%d" % n, n)
            store.put_decision(f"d_{n}", n, str(n), "c_1", (1, n))
            store.write(store.take(), (1, n))
            print("log", n, flush=True)
            store.publish_profiles([profile(person, n) for person in PEOPLE])
            print("warehouse", n, flush=True)


def profile(key: str, n: int) -> dict[str, object]:
    return {
        "key": key,
        "as_of": n,
        "external_id": key,
        "orders_count": n,
        "identifiers": f"user_id:{key}\nemail:{key}.{n}@example.com",
    }


if __name__ == "__main__":
    main()
