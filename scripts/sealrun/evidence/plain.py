"""TOML in a plain form that any verifier can read without a TOML library.

Rules: a line is empty, a comment, the heading of a table, `key = "text"` without escapes, `key = true` or `key = false`; the
format stands before the first table; a key stands once in a table. Anything else is refused with its line.

Source: docs/bundle-format.md.
"""

import re

from sealrun.errors import SealrunError

type Table = dict[str, str | bool]

_ASSIGNMENT = re.compile(r'([a-z]+) = (?:"([^"\\\x00-\x1f\x7f]*)"|(true|false))')


def tables(data: bytes, where: str, form: str, heading: str, error: type[SealrunError]) -> tuple[Table, ...]:
    """Return the tables `[[heading]]` of the file *where*, whose format is *form*. Raises *error* naming the line."""
    head, found = parse(data, where, form, heading, error)
    if head:
        raise error(f'{where}: got {sorted(head)} before the first {heading}, expected format = "{form}" alone')
    return found


def parse(data: bytes, where: str, form: str, heading: str, error: type[SealrunError]) -> tuple[Table, tuple[Table, ...]]:
    """Return what stands before the first table besides the format, and the tables. Raises *error* naming the line."""
    found: list[Table] = [{}]
    for number, line in enumerate(_text(data, where, error).split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        if line == f"[[{heading}]]":
            found.append({})
            continue
        assignment = _ASSIGNMENT.fullmatch(line)
        if assignment is None or assignment[1] in found[-1]:
            raise error(f'{where}, line {number}: got {line!r}, expected key = "plain text", once in a table')
        found[-1][assignment[1]] = assignment[2] if assignment[3] is None else assignment[3] == "true"
    if found[0].pop("format", "") != form:
        raise error(f'{where}: expected format = "{form}" before the first {heading}')
    return found[0], tuple(found[1:])


def _text(data: bytes, where: str, error: type[SealrunError]) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{where}: not UTF-8 ({problem.reason})") from problem
