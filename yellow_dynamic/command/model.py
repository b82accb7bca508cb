"""The one part of the command that needs DataSurface: a model, and what a merge makes of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from datasurface.md import Ecosystem, EcosystemPipelineGraph, ValidationTree
from datasurface.md.model_loader import loadEcosystemFromEcoModule
from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.platform_settings import platform_settings
from yellow_dynamic.plugin import (
    YellowDynamicDataPlatform,
    compare_with_table,
    factory_text,
    removal_guards,
)
from yellow_dynamic.population import Guards, Population, StoredRow
from yellow_dynamic.stream_configs import config_rows, stream_configs


@dataclass(frozen=True)
class ModelPlatform:
    """A platform of a model that was loaded, and the folder of the model."""

    folder: Path
    eco: Ecosystem
    platform: YellowDynamicDataPlatform

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What bootstrap gives the factory file."""
        try:
            return platform_settings(self.platform, self.eco)
        except ValueError as error:
            raise OperationError(str(error)) from None

    @property
    def factory_text(self) -> str:
        """The text of the factory file that bootstrap would write."""
        return factory_text(self.platform, self.eco)

    @property
    def guards(self) -> Guards:
        """How many streams may be removed at once."""
        return removal_guards(self.platform)

    @cached_property
    def rows(self) -> dict[str, str]:
        """config_json by stream key as a merge writes it.

        Raises:
            OperationError: the merge would be refused; the problems are on standard error.
        """
        graph = EcosystemPipelineGraph(self.eco).roots.get(self.platform.name)
        if graph is None:
            raise OperationError(
                f"No dataset group is assigned to platform {self.platform.name!r}. Assign one in "
                "dsg_platform_mapping.json beside eco.py."
            )
        tree = ValidationTree(self.eco)
        configs = stream_configs(self.platform, graph, tree)
        rows = config_rows(self.platform, self.eco, configs, tree)
        name = self.platform.name
        refuse_errors(tree, f"handleModelMerge would refuse platform {name!r}; see above.")
        return rows

    def compare_with_table(
        self, connection: Connection
    ) -> tuple[dict[str, StoredRow], Population, list[str]]:
        """Return the table's rows by stream key, what a merge would change now, and why not.

        Raises:
            OperationError: the model has problems; they are on standard error.
            sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
        """
        return compare_with_table(connection, self.platform, self.rows)


def find_platforms(folder: Path) -> dict[str, ModelPlatform]:
    """Load a model, and return its dynamic platforms by name.

    Raises:
        OperationError: the model cannot be loaded or has errors, which are on standard error.
    """
    eco = load_model(folder)
    platforms = {
        platform.name: ModelPlatform(folder, eco, platform)
        for platform in DATASURFACE.platforms(eco)
        if isinstance(platform, YellowDynamicDataPlatform)
    }
    if not platforms:
        others = [f"{dp.name!r} is a {type(dp).__name__}" for dp in DATASURFACE.platforms(eco)]
        raise OperationError(
            f"The model in {folder} has no YellowDynamicDataPlatform: "
            f"{', '.join(others) or 'it has no platform'}. Change the class of its platforms."
        )
    return platforms


def load_model(folder: Path) -> Ecosystem:
    try:
        # A model may change the folder, to which the paths of the command are relative.
        with chdir(os.curdir):
            eco, tree = loadEcosystemFromEcoModule(str(folder.absolute()))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A model may call sys.exit, which is no more a model than one that raises.
        reason = f"{type(error).__name__}: {error}"
        raise OperationError(f"The model in {folder} cannot be loaded: {reason}") from error
    if tree is not None:
        refuse_errors(tree, f"The model in {folder} has errors, which are listed above.")
    if eco is None:
        raise OperationError(
            f"The model in {folder} cannot be loaded: there is no eco.py, or a module that it "
            "imports is missing."
        )
    return eco


def refuse_errors(tree: ValidationTree, message: str) -> None:
    """Raise OperationError if the tree has errors, after printing them on standard error."""
    if tree.hasErrors():
        print("\n".join(problem_lines(tree)), file=sys.stderr)
        raise OperationError(message)


def problem_lines(tree: ValidationTree, indent: int = 0) -> Iterator[str]:
    """Yield the problems of a tree below what they are about; some releases log them instead."""
    if not (tree.hasErrors() or tree.hasWarnings()):
        return
    about = getattr(tree.object, "getSourceReferenceString", tree.object.__str__)
    yield " " * indent + str(about())
    for problem in tree.problems:
        yield " " * (indent + 2) + str(problem)
    for child in tree.children:
        yield from problem_lines(child, indent + 2)
