"""The messages that a module's source holds, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

#: What stands for a value in a message.
VALUE = "\N{HORIZONTAL ELLIPSIS}"
#: Calls that hand a message to somebody, by their last name.
CALLS = {"addProblem", "warning", "error", "add_note", "echo", "exit"}
#: Variables that hold a message until it is reported.
VARIABLES = {"advices", "message", "outcome", "problem", "reason"}


def messages(source: str) -> Iterator[str]:
    """Yield each message that is raised, reported or logged, with VALUE for what is put in.

    A message is a text in one line that is raised, handed to a call that reports it, yielded or
    returned as a reason, or kept in a variable for one of these. Of the last two kinds, a text of
    fewer than five words is none.
    """
    for node in nodes(source):
        words = 5 if isinstance(node, ast.Return | ast.Assign) else 2
        for expression in places(node):
            text = text_of(expression)
            if text is not None and len(text.split()) >= words and "\n" not in text:
                yield text


def errors(source: str) -> Iterator[str]:
    """Yield the messages that are raised, or with which the program ends."""
    for node in nodes(source):
        ends = isinstance(node, ast.Call) and last_name(node.func) == "exit"
        if isinstance(node, ast.Raise) or ends:
            for expression in places(node):
                text = text_of(expression)
                if text is not None and " " in text:
                    yield text


def nodes(source: str) -> list[ast.AST]:
    """Return what a source is made of, from its first line to its last."""
    return sorted(ast.walk(ast.parse(source)), key=lambda node: getattr(node, "lineno", 0))


def places(node: ast.AST) -> list[ast.expr]:
    """Return the expressions of a statement or call that may be messages."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return node.exc.args[:1]
    if isinstance(node, ast.Call) and last_name(node.func) in CALLS:
        return node.args[:1]
    if isinstance(node, ast.Assign) and last_name(node.targets[0]) not in VARIABLES:
        return []
    if isinstance(node, ast.Yield | ast.Return | ast.Assign) and node.value is not None:
        if isinstance(node.value, ast.Dict):
            return node.value.values
        return node.value.args if isinstance(node.value, ast.Call) else [node.value]
    return []


def all_texts(source: str) -> Iterator[str]:
    """Yield every text of a module, with VALUE for what is put in."""
    for node in nodes(source):
        text = text_of(node) if isinstance(node, ast.expr) else None
        if text is not None:
            yield text


def last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def text_of(expression: ast.expr) -> str | None:
    """Return a text with VALUE for its values, or None for another kind of expression."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value.replace("%s", VALUE).replace("%r", VALUE).replace("%d", VALUE)
    if isinstance(expression, ast.JoinedStr):
        return "".join(text_of(part) or VALUE for part in expression.values)
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        return (text_of(expression.left) or VALUE) + (text_of(expression.right) or VALUE)
    return None
