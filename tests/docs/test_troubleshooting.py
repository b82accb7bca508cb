"""Whatever message a user gets, the troubleshooting page has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from messages import all_texts, errors, fragment, messages
from yellow_models import UNIT_START, Model, bootstrap

from yellow_dynamic.contract import ADVICE, KEYS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.replace("`", "").split())
PACKAGE = ROOT / "yellow_dynamic"
PLUGIN, CONTRACT, *OTHERS = (
    f"{name}.py"
    for name in ("plugin", "contract", "merge_store", "population", "history", "batches", "pods")
)
FACTORY, INFRASTRUCTURE = "yellowlive_factory_dag.py", f"{UNIT_START}_infrastructure_dag.py"


def rendered() -> dict[str, str]:
    """Return the texts of the DAG files by their names."""
    eco = Model().build()
    files: dict[str, str] = bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)
    return {name: files[name] for name in (FACTORY, INFRASTRUCTURE)}


#: What writes messages into logs, models' problems and DAGs, by its name.
SOURCES = {
    **{name: (PACKAGE / name).read_text("utf-8") for name in (PLUGIN, CONTRACT, *OTHERS)},
    **{f"page/{file.name}": file.read_text("utf-8") for file in PACKAGE.glob("page/*.py")},
    **rendered(),
}


def found(name: str) -> list[str]:
    return sorted(set(messages(SOURCES[name])))


@pytest.mark.parametrize(
    ("file", "message"),
    [(file, message) for file in SOURCES for message in found(file)],
)
def test_every_message_has_its_entry(file: str, message: str) -> None:
    assert fragment(message).replace("`", "") in PAGE, (
        f"docs/troubleshooting.md has no entry for this message of {file}: {message}"
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (file, message)
        for file in sorted(PACKAGE.glob("command/*.py"))
        for message in sorted(set(errors(file.read_text(encoding="utf-8"))))
    ],
)
def test_every_error_of_the_command_has_its_entry(file: Path, message: str) -> None:
    assert fragment(message).replace("`", "") in PAGE, (
        f"docs/troubleshooting.md has no entry for this error of {file.name}: {message}"
    )


@pytest.mark.parametrize(
    ("file", "known"),
    [
        (PLUGIN, "would share the Kubernetes secret"),
        (CONTRACT, "holds a character that cannot be printed"),
        (FACTORY, "no answer within"),
        (FACTORY, "cannot be written"),
        (FACTORY, "its container ended with exit code"),
        (FACTORY, "printed no line"),
        (FACTORY, "has no ingestion DAG"),
        (CONTRACT, "is not JSON"),
        (INFRASTRUCTURE, "so the platform has no DAG"),
    ],
)
def test_messages_of_every_kind_are_found(file: str, known: str) -> None:
    assert any(known in message for message in found(file))


@pytest.mark.parametrize("advice", ADVICE.values(), ids=ADVICE)
def test_every_advice_has_its_entry(advice: str) -> None:
    assert f"| {advice}. |" in PAGE


def test_page_quotes_no_message_that_nobody_raises() -> None:
    sources = " ".join(" ".join(all_texts(text)) for text in SOURCES.values())
    sources += " ".join(file.read_text("utf-8") for file in PACKAGE.glob("page/static/*.js"))
    # The words of a rule stand at the end of a message.
    for rule in KEYS.values():
        title = rule.get("title")
        sources += f" is not {title} " if "pattern" in rule else f", not {title} "
    text = TEXT.partition("## Messages of ")[2].partition("## Messages of yellow-dynamic")[0]
    rows = re.findall(r"^\| ((?:The job )?`.*?) \|", text, re.MULTILINE)
    quoted = [message for row in rows for message in re.findall(r"`([^`]*? [^`]*)`", row)]

    assert len(quoted) > 50
    # A reason stands behind the colon of the message that carries it.
    parts = [part for message in quoted for part in re.split(r": (?=\w)", message)]
    assert [part for part in parts if fragment(part) not in sources] == []
