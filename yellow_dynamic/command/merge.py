"""What a merge would change, and what was changed by hand since the last one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from yellow_dynamic import contract
from yellow_dynamic.command.platform import Installation
from yellow_dynamic.command.printing import as_json, print_line
from yellow_dynamic.command.rows import SIGNS, KeyChange, StreamRow, compare_configs, read_rows

if TYPE_CHECKING:
    from yellow_dynamic.command.model import ModelPlatform
    from yellow_dynamic.plugin import Population


# --- plan -------------------------------------------------------------------------------------


@dataclass
class StreamChange:
    """A stream that is added, changed or removed."""

    stream_key: str
    action: str
    status: str | None
    keys: list[KeyChange]

    def show(self) -> None:
        sign, colour = SIGNS[self.action]
        kept = "" if self.status == contract.ACTIVE else f" (its status stays {self.status!r})"
        print_line(f"  {sign} stream {self.stream_key}{kept}", style=colour)
        if self.action != "removed":
            self.show_keys()

    def show_keys(self) -> None:
        """Print what becomes of each key."""
        for key in self.keys:
            key.show()
        if self.action == "changed" and not self.keys:
            print_line(
                "      the same values in another writing; a merge writes them as it always does"
            )


@dataclass
class Plan:
    """What handleModelMerge would do to the table of one platform."""

    platform: str
    table: str
    streams: list[StreamChange]
    population: Population


@dataclass
class PlanReport:
    """What handleModelMerge would do to some platforms."""

    plans: list[Plan]
    full: bool = False

    @property
    def differs(self) -> bool:
        return any(plan.streams for plan in self.plans)

    def as_json(self) -> dict[str, Any]:
        platforms = [{**asdict(plan), "summary": str(plan.population)} for plan in self.plans]
        return {"changes": self.differs, "platforms": platforms}

    def show(self) -> None:
        for plan in self.plans:
            print_line(f"Platform {plan.platform}, table {plan.table}", style="bold")
            print_line(f"Plan: {plan.population}.")
            for streams in [[each] for each in plan.streams] if self.full else alike(plan.streams):
                if len(streams) == 1:
                    streams[0].show()
                else:
                    show_alike(streams)


#: So many streams that are added, or removed, are listed one by one.
LISTED = 10


def alike(streams: list[StreamChange]) -> list[list[StreamChange]]:
    """Return the streams in groups of equal changes; few new ones, or removed ones, stand alone."""
    groups: dict[Any, list[StreamChange]] = {}
    for stream in streams:
        change = [(each.key, each.action, as_json([each.old, each.new])) for each in stream.keys]
        same = tuple(change) if stream.action == "changed" else ()
        groups.setdefault((stream.action, stream.status, same), []).append(stream)
    found = []
    for (action, _, _), group in groups.items():
        many = action == "changed" or len(group) > LISTED
        found += [group] if many else [[stream] for stream in group]
    return found


def show_alike(streams: list[StreamChange]) -> None:
    """Print the equal changes of several streams once."""
    first = streams[0]
    sign, colour = SIGNS[first.action]
    names = ", ".join(stream.stream_key for stream in streams[:3])
    more = ", ..." if streams[3:] else ""
    print_line(f"  {sign} {len(streams)} streams ({names}{more})", style=colour)
    if first.action == "changed":
        first.show_keys()


def plan_merge(installation: Installation, model: ModelPlatform) -> Plan:
    """Return what a merge of the model would change now, by the merge's own code.

    Raises:
        CommandError: the login is missing, or the merge would be refused; the problems are on
            standard error.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    rows = model.rows
    with installation.transaction("read") as connection:
        old, population = model.compare_with_table(connection)
    streams = [
        StreamChange(
            key,
            action,
            old[key].status if key in old else contract.ACTIVE,
            compare_configs(old[key].config_json if key in old else None, rows.get(key)),
        )
        for action in ("added", "changed", "removed")
        for key in getattr(population, action)
    ]
    return Plan(model.platform.name, str(model.settings["config_table"]), streams, population)


# --- drift ------------------------------------------------------------------------------------


@dataclass
class StreamDrift:
    """How one row differs from what a merge wrote.

    Attributes:
        certain: whether the row itself shows that no merge wrote it so.
        signs: what shows it.
        keys: the keys in which the row (`new`) differs from the model (`old`).
    """

    stream_key: str
    certain: bool
    signs: list[str]
    keys: list[KeyChange] = field(default_factory=list)

    def show(self) -> None:
        certainly = " certainly" if self.certain else ""
        print_line(f"  stream {self.stream_key} was{certainly} edited by hand:", style="red")
        for sign in self.signs:
            print_line(f"      {sign}")
        for key in self.keys:
            key.show()


@dataclass
class DriftReport:
    """The streams of some platforms whose rows drifted."""

    platforms: list[tuple[Installation, list[StreamDrift]]]

    @property
    def differs(self) -> bool:
        return any(streams for _, streams in self.platforms)

    def as_json(self) -> dict[str, Any]:
        return {
            "drift": self.differs,
            "platforms": [
                {
                    "platform": each.name,
                    "compared_with_model": each.model is not None,
                    "streams": [asdict(stream) for stream in streams],
                }
                for each, streams in self.platforms
            ],
        }

    def show(self) -> None:
        for installation, streams in self.platforms:
            print_line(f"Platform {installation.name}, table {installation.table}", style="bold")
            for stream in streams:
                stream.show()
            if installation.model is None:
                print_line("No model was given, so values were not compared.", style="yellow")
            colour = "red" if streams else "green"
            print_line(f"{len(streams)} streams were edited by hand.", style=colour)


def find_drift(installation: Installation) -> list[StreamDrift]:
    """Return the streams of a platform whose rows drifted, in the order of their keys.

    Raises:
        CommandError: the login is missing, or a merge of the model would be refused.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    rows = read_rows(installation)
    model = installation.model.rows if installation.model else None
    found = []
    for row in rows:
        signs = list(signs_of_hand(installation, row))
        certain = bool(signs)
        keys: list[KeyChange] = []
        if model is not None and row.stream_key not in model:
            signs.append("the model has no such stream; the row was inserted by hand")
        elif model is not None:
            keys = compare_configs(model[row.stream_key], row.config_json)
        if signs or keys:
            found.append(StreamDrift(row.stream_key, certain, signs, keys))
    gone = (model or {}).keys() - {row.stream_key for row in rows}
    found += [StreamDrift(key, False, ["its row is gone, deleted by hand"]) for key in gone]
    return sorted(found, key=lambda drift: drift.stream_key)


def signs_of_hand(installation: Installation, row: StreamRow) -> Iterator[str]:
    """Yield what no merge ever writes."""
    if row.config_json is None or row.config_json != json.dumps(row.config, sort_keys=True):
        yield "its config_json is not written as a merge writes it, keys in order"
    if row.config.get("stream_key") != row.stream_key:
        yield "its config_json is that of another stream"
    if row.config.get("platform_name") != installation.airflow_name:
        yield "its config_json is that of another platform"
    if row.status not in (contract.ACTIVE, contract.DISABLED):
        yield f"its status is {row.status!r}, neither active nor disabled"
    if row.created_at is None or row.updated_at is None:
        yield "a time of it is missing"
    elif row.updated_at < row.created_at:
        yield "it was changed before it was created"
