"""Reads a platform's table through its factory file without pause, until a file says stop.

Prints, as JSON, how often each set of rows was read from the table and from the snapshot, by the
set's digest, and how many DAGs each full parse registered.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

READS_BETWEEN_PARSES = 100


def digest(rows: Iterable[Any]) -> str:
    """Return a digest of keys and configurations."""
    return hashlib.sha256(json.dumps([(row[0], row[1]) for row in rows]).encode()).hexdigest()


def main(factory_file: str, stop: Path) -> None:
    reads: Counter[str] = Counter()
    snapshots: Counter[str] = Counter()
    parses: list[int] = []
    while not stop.exists():
        factory = runpy.run_path(factory_file)
        if not parses:
            print("ready", flush=True)
        parses.append(sum(name.endswith("_ingestion") for name in factory))
        for _ in range(READS_BETWEEN_PARSES):
            platform = factory["BUILDER"].platform
            shard = factory["current_shard"](platform)
            reads[digest(factory["load_shard"](platform, shard).rows)] += 1
            snapshot = factory["read_snapshot"](platform)
            snapshots[digest(snapshot.rows if snapshot else [])] += 1
            if stop.exists():
                break
    print(json.dumps({"reads": reads, "snapshots": snapshots, "parses": parses}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
