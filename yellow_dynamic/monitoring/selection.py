"""A selection of streams by their keys and by values of their configuration."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from yellow_dynamic.factory.rules import add_credential_names

WILDCARDS = set("*?[")


def matches_key(stream_key: str, pattern: str) -> bool:
    """Return whether a stream's key is this one, or matches this shell pattern."""
    return stream_key == pattern or fnmatchcase(stream_key, pattern)


@dataclass(frozen=True)
class Selection:
    """The streams that meet all the given conditions.

    Attributes:
        patterns: keys of streams, or shell patterns of them.
        store: the name of a store, or a shell pattern.
        source_credential: the name of a source's credential, or a shell pattern.
        everything: whether all streams were requested.
    """

    patterns: tuple[str, ...] = ()
    store: str | None = None
    source_credential: str | None = None
    everything: bool = False

    @property
    def by_value(self) -> dict[str, str]:
        """The patterns of values, by their keys in a configuration."""
        given = {"store_name": self.store, "source_credential_name": self.source_credential}
        return {key: pattern for key, pattern in given.items() if pattern is not None}

    @property
    def single(self) -> str | None:
        """The key of the stream, if the selection is one key and nothing else."""
        one = self.patterns[0] if len(self.patterns) == 1 else None
        return None if one is None or self.by_value or WILDCARDS & set(one) else one

    def matches(self, stream_key: str, config: dict[str, Any]) -> bool:
        """Return whether a stream with this configuration is selected."""
        named = add_credential_names(config)
        keys = self.patterns or ("*",)
        return any(matches_key(stream_key, key) for key in keys) and all(
            fnmatchcase(str(named.get(key, "")), pattern) for key, pattern in self.by_value.items()
        )

    def __str__(self) -> str:
        words = [*map(repr, self.patterns), *(f"{key} {it!r}" for key, it in self.by_value.items())]
        return ", ".join(words)
