"""The code blocks of the documents."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
)
BLOCK = re.compile(r"^( *)```(.*?)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    document: Path
    language: str
    text: str

    @property
    def id(self) -> str:
        """Where it is, for the name of a test."""
        return f"{self.document.relative_to(ROOT)}-{self.text.split(chr(10))[0][:60]}"

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each line of a shell's block, continued lines as one."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of these languages, or all of them."""
    found = [
        Block(document, language.strip(), textwrap.dedent(text))
        for document in DOCUMENTS
        for _, language, text in BLOCK.findall(document.read_text(encoding="utf-8"))
    ]
    return [block for block in found if not languages or block.language in languages]
