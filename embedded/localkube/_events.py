"""Events: what happened to a pod, for people and for operators that show it."""

from __future__ import annotations

from localkube._errors import Json
from localkube._store import Store, now

#: The newest events that are kept; a cluster keeps those of the last hour.
KEPT = 1000
_NODE = "localkube"
#: What concerns a pod and none of its containers.
_OF_PODS = ("DeadlineExceeded", "Evicted")


class Recorder:
    """Writes the events of pods into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: list[tuple[str, str]] = []

    def normal(self, pod: Json, reason: str, message: str) -> None:
        """Record something expected."""
        self._record(pod, "Normal", reason, message)

    def warning(self, pod: Json, reason: str, message: str) -> None:
        """Record something that someone should look at."""
        self._record(pod, "Warning", reason, message)

    def _record(self, pod: Json, kind: str, reason: str, message: str) -> None:
        meta, moment = pod["metadata"], now()
        component = "default-scheduler" if reason == "Scheduled" else "kubelet"
        container = pod["spec"]["containers"][0]["name"]
        involved = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        }
        host = {"host": _NODE} if component == "kubelet" else {}
        if host and reason not in _OF_PODS:
            involved["fieldPath"] = f"spec.containers{{{container}}}"
        # Lists are ordered by name, which makes this the order in which things happened.
        name = f"{meta['name']}.{self._store.version:016x}"
        event = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "source": {"component": component, **host},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "type": kind,
            "reportingComponent": component,
            "reportingInstance": host.get("host", ""),
        }
        self._store.create("events", event)
        self._keys.append((meta["namespace"], name))
        if len(self._keys) > KEPT:
            self._store.delete("events", *self._keys.pop(0))
