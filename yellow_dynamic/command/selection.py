"""Which streams of a platform a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from yellow_dynamic import contract
from yellow_dynamic.command import CommandError

WILDCARDS = set("*?[")


@dataclass(frozen=True)
class Selection:
    """Which streams a command is about: those for which all that is given holds.

    Attributes:
        patterns: keys of streams, or shell patterns of them.
        store: the name of a store, or a shell pattern.
        source_credential: the name of a source's credential, or a shell pattern.
        everything: whether it is about all streams.
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
        """The key of a stream where no more than this one was named."""
        one = self.patterns[0] if len(self.patterns) == 1 else None
        return None if one is None or self.by_value or WILDCARDS & set(one) else one

    def check(self) -> None:
        """Raise CommandError where it does not say which streams."""
        chosen = bool(self.patterns or self.by_value)
        if chosen == self.everything:
            raise CommandError(
                "Say which streams: STREAM (a key or a pattern such as 'Erp_*'), --store or "
                "--source-credential; or --all, alone, for every stream."
            )

    def has(self, stream_key: str, config: dict[str, Any]) -> bool:
        """Tell whether it is about a stream of this configuration."""
        named = contract.with_credential_names(config)
        keys = self.patterns or ("*",)
        return any(stream_key == key or fnmatchcase(stream_key, key) for key in keys) and all(
            fnmatchcase(str(named.get(key, "")), pattern) for key, pattern in self.by_value.items()
        )

    def __str__(self) -> str:
        words = [*map(repr, self.patterns), *(f"{key} {it!r}" for key, it in self.by_value.items())]
        return ", ".join(words)


def require_some(selection: Selection | None, count: int, platforms: list[str]) -> None:
    """Raise CommandError where a selection has none of the platforms' streams."""
    if selection is None or count:
        return
    names = ", ".join(platforms)
    raise CommandError(
        f"No stream of {names} is selected by {selection}, which is no platform either. The "
        "command `streams` lists them all."
    )
