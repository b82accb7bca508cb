"""Finds the platforms of a command, in a model or in Airflow's DAG folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from yellow_dynamic.monitoring import OperationError, airflow_python
from yellow_dynamic.monitoring.in_airflow import FactoryFile
from yellow_dynamic.monitoring.installation import Installation

if TYPE_CHECKING:
    from yellow_dynamic.command.model import ModelPlatform


def find_installations(
    names: Collection[str],
    *,
    perhaps: Collection[str] = (),
    model: Path | None = None,
    dags: str | None = None,
    python: str = "",
) -> list[Installation]:
    """Return the named platforms, or all platforms, in the order of their names.

    Args:
        names: names of platforms as in the model; all platforms if it is empty.
        perhaps: further words; those that name no platform are ignored.
        model: folder of the model, or None.
        dags: Airflow's DAG folder or a factory file in it, where `python` runs; or None.
        python: the command that starts Airflow's Python; empty for this machine.

    Raises:
        OperationError: neither a model nor a DAG folder is given, it cannot be read, it does not
            have a named platform, or has several tables for it.
    """
    if model is None and dags is None:
        raise OperationError(
            "Say where the platform is described: --model FOLDER with eco.py, or --dags FOLDER "
            "with Airflow's factory file."
        )
    models = load_platforms(model) if model else {}
    files: dict[str, list[FactoryFile]] = {}
    for file in airflow_python.factory_files(dags, python) if dags else []:
        files.setdefault(str(file.settings["original_platform_name"]), []).append(file)
    known = {name: each.settings for name, each in models.items()}
    for name, of_platform in files.items():
        known.setdefault(name, of_platform[0].settings)
    for name in names:
        if name not in known:
            places = " or ".join(str(place) for place in (model, dags) if place)
            raise OperationError(
                f"There is no YellowDynamicDataPlatform {name!r} in {places}; there is: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    wanted = [*names, *(name for name in perhaps if name in known)] or (models if models else known)
    for name in set(wanted) - models.keys():
        require_one_table(name, files[name])
    return [
        Installation(name, known[name], models.get(name), dags, files.get(name, []), python)
        for name in sorted(set(wanted))
    ]


#: The settings that say where a platform's table is.
TABLE_SETTINGS = ("postgres_hostname", "postgres_port", "postgres_database", "config_table")


def require_one_table(name: str, files: list[FactoryFile]) -> None:
    """Raise OperationError if the factory files of a platform lead to different tables."""
    tables = {tuple(file.settings.get(key) for key in TABLE_SETTINGS) for file in files}
    if len(tables) > 1:
        found = ", ".join(file.file for file in files)
        raise OperationError(
            f"The factory files of platform {name!r} lead to different tables: {found}. Delete all "
            "but the current one, or name it: --dags FILE."
        )


def load_platforms(folder: Path) -> dict[str, ModelPlatform]:
    """Return the platforms of a model by name; the command needs DataSurface only for this."""
    try:
        import yellow_dynamic.plugin  # noqa: F401 - its error says what to install
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise OperationError(
            f"{error} Without it, --dags FOLDER finds the platforms in Airflow's factory files."
        ) from None
    from yellow_dynamic.command.model import find_platforms

    return find_platforms(folder)
