"""Loading a model from its folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from small_estate import assigned, error, errors

from datasurface.md import Ecosystem
from datasurface.md.model_loader import ModelLoadProblem, loadEcosystemFromEcoModule

pytestmark = pytest.mark.embedded

SOUND = "from small_estate import estate as createEcosystem\n"


def write(folder: Path, text: str, name: str = "eco.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def load(folder: Path) -> Ecosystem:
    """Return the model in `folder`, which must have no errors."""
    eco, tree = loadEcosystemFromEcoModule(str(folder))
    assert eco is not None
    assert tree is not None
    assert errors(tree) == []
    return eco


def failure(folder: Path) -> str:
    """Return why the model in `folder` cannot be loaded."""
    eco, tree = loadEcosystemFromEcoModule(str(folder))
    assert eco is None
    assert tree is not None
    assert tree.containsProblemType(ModelLoadProblem)
    return error(tree)


def test_a_sound_model_is_loaded_linted_and_assigned(tmp_path: Path) -> None:
    write(tmp_path, SOUND)
    write(tmp_path, json.dumps([assigned("One")]), "dsg_platform_mapping.json")

    eco = load(tmp_path)

    assert eco.cache_getDatastore("Store1") is not None
    assert eco.getDSGPlatformMapping("Consumer", "DSG") is not None


def test_a_model_without_a_mapping_file_assigns_nothing(tmp_path: Path) -> None:
    write(tmp_path, SOUND)

    assert load(tmp_path).dsgPlatformMappings == {}


def test_a_tree_without_problems_is_empty(tmp_path: Path) -> None:
    write(tmp_path, SOUND)

    _, tree = loadEcosystemFromEcoModule(str(tmp_path))

    assert tree is not None
    assert (tree.problems, tree.children) == ([], [])


def test_a_model_with_errors_is_returned_with_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        "from small_estate import estate, store\n"
        "def createEcosystem():\n    return estate(store(datasets=['a-b']))\n",
    )
    write(tmp_path, "nonsense", "dsg_platform_mapping.json")

    eco, tree = loadEcosystemFromEcoModule(str(tmp_path))

    assert eco is not None
    assert tree is not None
    assert len(errors(tree)) == 2


def test_a_relative_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, SOUND, "model/eco.py")
    monkeypatch.chdir(tmp_path)

    load(Path("model"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert failure(tmp_path / "nope") == f"There is no folder {tmp_path / 'nope'}."


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    assert failure(tmp_path) == f"The folder {tmp_path} has no eco.py."


@pytest.mark.parametrize("text", ["", "createEcosystem = 7\n"])
def test_a_missing_function_is_named(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)

    assert failure(tmp_path) == f"{file} does not define the function createEcosystem()."


def test_another_result_than_an_ecosystem_is_named(tmp_path: Path) -> None:
    write(tmp_path, "def createEcosystem():\n    return None\n")

    assert "returned a NoneType, not an Ecosystem" in failure(tmp_path)


def test_an_exception_is_named_with_its_place(tmp_path: Path) -> None:
    file = write(tmp_path, "def createEcosystem():\n    x = {}\n    return x['tables']\n")

    assert failure(tmp_path) == f"{file}, line 3: KeyError: 'tables'"


def test_the_place_of_an_exception_is_in_the_model_not_in_a_library(tmp_path: Path) -> None:
    write(tmp_path, "import json\ndef read():\n    return json.loads('{')\n", "helper.py")
    write(tmp_path, "from helper import read\ncreateEcosystem = read\n")

    assert failure(tmp_path).startswith(f"{tmp_path / 'helper.py'}, line 3: JSONDecodeError")


def test_a_class_that_refuses_its_arguments_is_said_with_the_line(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "from datasurface.md import Datastore\n\nSTORE = Datastore('s', 7)\n",
    )

    assert failure(tmp_path) == (f"{file}, line 3: TypeError: Datastore(s) takes no int.")


def test_a_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "import json\nif True\n    pass\n")

    assert failure(tmp_path) == f"{file}, line 2: expected ':'."


def test_a_missing_module_is_named_with_the_line_that_imports_it(tmp_path: Path) -> None:
    file = write(tmp_path, "import json\nimport no_such_module\n")

    found = failure(tmp_path)

    assert found.startswith(f"{file}, line 2: the module 'no_such_module' cannot be found.")
    assert "beside eco.py" in found


def test_a_module_that_a_sibling_misses_is_named_with_the_sibling(tmp_path: Path) -> None:
    write(tmp_path, "import no_such_module\n", "helper.py")
    write(tmp_path, "import helper\n")

    assert failure(tmp_path).startswith(f"{tmp_path / 'helper.py'}, line 1: ")


@pytest.mark.parametrize(
    "line", ["from datasurface.md import AvroSchema", "import datasurface.platforms.azure"]
)
def test_a_part_of_datasurface_that_is_not_there_is_said_to_be_missing(
    tmp_path: Path, line: str
) -> None:
    write(tmp_path, f"{line}\n")

    assert "The embedded DataSurface does not cover this" in failure(tmp_path)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("YellowDataPlatform('P', locs=1)", "YellowDataPlatform() got an unexpected keyword argum"),
        ("Mine('P')", "Mine() missing 2 required positional arguments: 'doc' and 'platformServ"),
        ("MySQLDatabase('d', size=3)", "MySQLDatabase() got an unexpected keyword argument 'size'"),
        ("YellowMilestoneStrategy.SCD1", "YellowMilestoneStrategy has no attribute 'SCD1'"),
    ],
)
def test_what_another_release_takes_is_said_of_the_class_that_the_model_names(
    tmp_path: Path, call: str, said: str
) -> None:
    file = write(
        tmp_path,
        "from datasurface.md import MySQLDatabase\n"
        "from datasurface.platforms.yellow import YellowDataPlatform, YellowMilestoneStrategy\n"
        f"class Mine(YellowDataPlatform): pass\nX = {call}\n",
    )

    found = failure(tmp_path)

    assert found.startswith(f"{file}, line 4: {said}")
    assert "the Yellow platform of DataSurface 0.0.36 to 0.0.38" in found


def test_platform_without_its_provider_is_refused_with_the_line(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "from datasurface.platforms.yellow import YellowDataPlatform, YellowMilestoneStrategy\n"
        "from datasurface.md.documentation import PlainTextDocumentation as Text\n"
        "YellowDataPlatform('P', Text('d'), YellowMilestoneStrategy.LIVE_ONLY)\n",
    )

    found = failure(tmp_path)

    assert found.startswith(f"{file}, line 3: TypeError: YellowDataPlatform(P) needs a YellowPlat")
    assert "not a YellowMilestoneStrategy: give it one as third argument, or install" in found


@pytest.mark.parametrize("call", ["Own(1)", "None.x"])
def test_mistake_of_the_model_itself_is_none_of_its_release(tmp_path: Path, call: str) -> None:
    write(tmp_path, f"class Own:\n    def __init__(self): pass\nX = {call}\n")

    assert "embedded" not in failure(tmp_path)


def test_a_model_that_ends_the_program_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, "import sys\nsys.exit(0)\n")

    assert failure(tmp_path) == f"{file}, line 2: SystemExit: 0"


def test_siblings_are_imported_and_read_anew_each_time(tmp_path: Path) -> None:
    write(tmp_path, "NAMES = ['one_']\n", "tables.py")
    write(
        tmp_path,
        "from small_estate import estate, store\nfrom tables import NAMES\n"
        "def createEcosystem():\n    return estate(store(datasets=NAMES))\n",
    )
    first = load(tmp_path)
    write(tmp_path, "NAMES = ['two_']\n", "tables.py")

    second = load(tmp_path)

    assert list(first.cache_getDatastoreOrThrow("Store1").datastore.datasets) == ["one_"]
    assert list(second.cache_getDatastoreOrThrow("Store1").datastore.datasets) == ["two_"]


def test_loading_leaves_the_interpreter_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "X = 1\n", "tables.py")
    write(tmp_path, f"import tables\n{SOUND}")
    path, modules = list(sys.path), dict(sys.modules)

    load(tmp_path)

    assert sys.path == path
    assert sys.modules == modules
    assert not (tmp_path / "__pycache__").exists()


def test_a_module_of_the_model_does_not_hide_one_of_the_standard_library(tmp_path: Path) -> None:
    write(tmp_path, "raise RuntimeError\n", "colorsys.py")
    write(tmp_path, f"import colorsys\ncolorsys.rgb_to_hls\n{SOUND}")

    load(tmp_path)


def test_another_module_named_eco_is_neither_used_nor_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, SOUND)
    other = type(sys)("eco")
    monkeypatch.setitem(sys.modules, "eco", other)

    load(tmp_path)

    assert sys.modules["eco"] is other
