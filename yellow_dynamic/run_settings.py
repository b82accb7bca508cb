"""RunSettings: how the jobs of a platform, or of some of its streams, run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from yellow_dynamic.factory.keys import KEYS
from yellow_dynamic.factory.rules import RUN_KEYS, value_problem
from yellow_dynamic.pods import resource_problems, template_problems

#: The key of a row by the argument of RunSettings that it comes from.
ARGUMENT_KEYS = {argument: key for key, argument in RUN_KEYS.items()}


@dataclass(frozen=True)
class RunSettings:
    """How the jobs of a platform, or of some of its streams, run: `runs` and `runsOf`.

    An argument that is None keeps its value from less specific RunSettings, or the default.

    Args:
        resources: the requests and limits of the job's container, as Kubernetes has them:
            `{"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}`.
        podTemplate: a Kubernetes PodTemplateSpec as a dict, with what the job's pod needs
            besides its own parts: a service account, pull secrets, node selectors, tolerations,
            labels, volumes, more containers. The job's container is the one named `base`; the
            image, command and environment variables of the job override the template's. In
            `runs`, its `securityContext` is also that of ring 0's Jobs and the infrastructure DAG.
        retries: how many times Airflow retries a job that failed.
        retryDelay: the time between two tries.
        timeout: how long the job's pod may run on its node. After that, Kubernetes stops it and
            the task fails with that reason.
        startTimeout: how long the pod may take to start, including the pull of its image; 15
            minutes by default.
        dagRunTimeout: how long a DAG run may take, including all its tasks and retries.
        pool: the Airflow pool from which the job takes its slots. The pool must exist:
            `yellow-dynamic pools` creates it.
        poolPerSource: use the host name of the stream's source as the pool, so that no source
            serves more jobs at once than its pool has slots. A stream whose source has no host
            uses the default pool.
        poolSlots: how many slots the job takes.
        priorityWeight: the job's priority among the tasks that wait for a slot; 1 by default.
        queue: the queue of Airflow's executor for the job's task.
        deferrable: defer the task to Airflow's triggerer while the job runs, so that it takes no
            slot and no process. The triggerer must run, and be allowed to read and delete pods.
        spread: the number of minutes over which the streams of one schedule are spread. Each
            stream starts later by its own number of minutes, which depends only on its key: up
            to the end of the day, or of the hour if the schedule names several minutes of
            certain hours.
    """

    resources: Mapping[str, Mapping[str, str]] | None = None
    podTemplate: Mapping[str, Any] | None = None
    retries: int | None = None
    retryDelay: timedelta | None = None
    timeout: timedelta | None = None
    startTimeout: timedelta | None = None
    dagRunTimeout: timedelta | None = None
    pool: str | None = None
    poolPerSource: bool | None = None
    poolSlots: int | None = None
    priorityWeight: int | None = None
    queue: str | None = None
    deferrable: bool | None = None
    spread: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that are not None, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def validate(self) -> Iterator[str]:
        """Yield the problems of the arguments, each with the name of its argument."""
        given = self.given
        for name in sorted(DURATIONS & given.keys()):
            if not isinstance(given[name], timedelta):
                yield f"{name} is {given[name]!r:.100}, not a timedelta"
                del given[name]
        if not isinstance(given.pop("poolPerSource", False), bool):
            yield f"poolPerSource is {self.poolPerSource!r:.100}, not True or False"
        if self.pool is not None and self.poolPerSource:
            yield "it has both pool and poolPerSource"
        for name, value in given.items():
            if problem := value_problem(name, row_value(value), KEYS[ARGUMENT_KEYS[name]]):
                yield problem
            elif name == "resources":
                yield from resource_problems(value)
            elif name == "podTemplate":
                yield from template_problems(value)


#: The arguments of RunSettings that are durations.
DURATIONS = {"retryDelay", "timeout", "startTimeout", "dagRunTimeout"}
#: The arguments of RunSettings that exclude each other: one replaces the other.
POOLS = {"pool", "poolPerSource"}


def row_value(value: Any) -> Any:
    """Return an argument's value as rows have it: durations in seconds."""
    return round(value.total_seconds()) if isinstance(value, timedelta) else value


def matches(pattern: str, key: str) -> bool:
    """Return whether a key of `runsOf` applies to a stream."""
    return pattern == key or fnmatchcase(key, pattern)


def specificity(pattern: str, key: str) -> tuple[bool, int]:
    """Return how specific a pattern is; the stream's own key is the most specific."""
    return pattern == key, sum(character not in "*?[]" for character in pattern)


def matching_patterns(patterns: Iterable[str], key: str) -> list[str]:
    """Return the patterns that apply to a stream, the most specific last."""
    found = (pattern for pattern in patterns if matches(pattern, key))
    return sorted(found, key=lambda pattern: specificity(pattern, key))


def find_contradictions(
    runs_of: Mapping[str, RunSettings], patterns: Sequence[str], key: str
) -> Iterator[tuple[str, str]]:
    """Yield pairs of equally specific patterns whose RunSettings contradict each other.

    Args:
        runs_of: the platform's RunSettings by pattern.
        patterns: what `matching_patterns` returned.
        key: the stream's key.
    """
    for one, other in itertools.pairwise(patterns):
        if specificity(one, key) == specificity(other, key):
            first, second = runs_of[one].given, runs_of[other].given
            if any(first[name] != second[name] for name in first.keys() & second.keys()):
                yield one, other


def merge_run_settings(settings: Iterable[RunSettings]) -> dict[str, Any]:
    """Return the arguments of several RunSettings; the last one that gives an argument wins."""
    merged: dict[str, Any] = {}
    for each in settings:
        if not POOLS.isdisjoint(each.given):
            merged = {name: value for name, value in merged.items() if name not in POOLS}
        merged |= each.given
    return merged
