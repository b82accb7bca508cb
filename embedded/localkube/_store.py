"""The objects of the cluster, in memory, with the history that watches need."""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from localkube._errors import Json, already_exists, expired, not_found

#: How many changes a watch may be behind before it has to list again.
HISTORY = 4096


def now(later: float = 0) -> str:
    """Return the time, or that so many seconds later, as Kubernetes writes it, to the second."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Signal:
    """Wakes everyone who waits, each time it is sent."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def send(self) -> None:
        """Wake those who wait now; later waiters wait for the next time."""
        sent, self._event = self._event, asyncio.Event()
        sent.set()

    async def wait(self) -> None:
        """Wait for the next time it is sent."""
        await self._event.wait()


@dataclass(frozen=True)
class Change:
    """One step in an object's life: created has no `old`, deleted has no `new`."""

    version: int
    resource: str
    old: Json | None
    new: Json | None


class Store:
    """Holds every object; each change gets the next number of one common `resourceVersion`.

    Objects that it returns are shared: change them only through `update`.
    """

    def __init__(self) -> None:
        # Beyond those of former servers, whose watches are told to list again.
        self.version = time.time_ns() // 1_000_000
        self.changed = Signal()
        self._objects: dict[str, dict[tuple[str, str], Json]] = defaultdict(dict)
        self._changes: deque[Change] = deque(maxlen=HISTORY)

    def create(self, resource: str, obj: Json) -> Json:
        """Add an object and give it its identity.

        Raises:
            ApiError: 409 `AlreadyExists`.
        """
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if (old := self._objects[resource].get(key)) is not None:
            ending = "deletionTimestamp" in old["metadata"]
            raise already_exists(resource, meta["name"], being_deleted=ending)
        new = copy.deepcopy(obj)
        new["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        return self._record(resource, key, None, new)

    def find(self, resource: str, namespace: str, name: str) -> Json | None:
        """Return an object, or None if there is none."""
        return self._objects[resource].get((namespace, name))

    def get(self, resource: str, namespace: str, name: str) -> Json:
        """Return an object.

        Raises:
            ApiError: 404 `NotFound`.
        """
        found = self.find(resource, namespace, name)
        if found is None:
            raise not_found(resource, name)
        return found

    def list(self, resource: str, namespace: str | None) -> list[Json]:
        """Return the objects of one namespace, or of all for None, ordered by name."""
        objects = self._objects[resource]
        return [objects[key] for key in sorted(objects) if namespace in (None, key[0])]

    def update(
        self, resource: str, namespace: str, name: str, edit: Callable[[Json], None]
    ) -> Json:
        """Let `edit` change a copy of an object and keep the copy, if anything changed.

        Raises:
            ApiError: 404 `NotFound`, and whatever `edit` raises, which leaves it unchanged.
        """
        old = self.get(resource, namespace, name)
        new = copy.deepcopy(old)
        edit(new)
        return old if new == old else self._record(resource, (namespace, name), old, new)

    def delete(self, resource: str, namespace: str, name: str) -> Json:
        """Remove an object and return its last state.

        Raises:
            ApiError: 404 `NotFound`.
        """
        old = self.get(resource, namespace, name)
        self._record(resource, (namespace, name), old, None)
        return old

    def _record(
        self, resource: str, key: tuple[str, str], old: Json | None, new: Json | None
    ) -> Json:
        self.version += 1
        if new is None:
            del self._objects[resource][key]
        else:
            new["metadata"]["resourceVersion"] = str(self.version)
            self._objects[resource][key] = new
        self._changes.append(Change(self.version, resource, old, new))
        self.changed.send()
        return new or {}

    async def changes(self, resource: str, since: int) -> AsyncIterator[Change]:
        """Yield the changes of one resource after the version `since`, without end.

        A version to come is waited for.

        Raises:
            ApiError: 410 `Expired`, when changes after `since` are no longer kept.
        """
        while True:
            kept = self.version - len(self._changes)
            if since < kept:
                raise expired(since, kept)
            for change in list(itertools.islice(self._changes, since - kept, None)):
                since = change.version
                if change.resource == resource:
                    yield change
            if since >= self.version:
                await self.changed.wait()
