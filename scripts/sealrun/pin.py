"""Pins: what `release.toml` says of the bytes of models and data, and what lies there.

Rules: only the pins change, and where a model was fetched its path and source; comments and order stay; the text written is
read again and must be a release before it replaces the old one; what no pin can name (a link out of its folder, a twin) is not
pinned but named.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import UsageError
from sealrun.policy.model import Plan, Release
from sealrun.reports import inventory

_HEADING = re.compile(r"^\[", re.MULTILINE)
_ROLES = ("baseline", "candidate")


class Change(Struct, frozen=True, kw_only=True):
    """A pin that differs from what lies there; no `old` is a new file, no `new` one that is gone."""

    path: str
    old: digest.Sha256 | None
    new: digest.Sha256 | None

    def __str__(self) -> str:
        return f"{self.path}: {self.old or 'not pinned'} -> {self.new or 'no such file'}"


def changes(plan: Plan) -> tuple[Change, ...]:
    """Return how the pins of the release differ from its folders. Raises UsageError for what cannot be pinned."""
    listing = inventory.look(plan, ())
    for name, why in listing.refused.items():
        raise UsageError(f"pin: {name}: {why}; expected regular files alone, remove it first")
    pinned = inventory.pins(plan)
    seen = {name: sha for name, sha in listing.digests().items() if name in pinned or not inventory.is_documentation(name)}
    names = sorted(pinned.keys() | seen.keys())
    return tuple(
        Change(path=name, old=pinned.get(name), new=seen.get(name)) for name in names if pinned.get(name) != seen.get(name)
    )


def repin(plan: Plan) -> tuple[Change, ...]:
    """Write the pins as the files lie there now; return what changed. Raises UsageError."""
    found = changes(plan)
    text = plan.file.read_text("utf-8")
    for role in _ROLES:
        pins = {name.removeprefix(f"{role}/"): sha for name, sha in inventory.pins(plan).items() if name.startswith(f"{role}/")}
        for change in found:
            if change.path.startswith(f"{role}/"):
                pins[change.path.removeprefix(f"{role}/")] = change.new or ""
        text = with_table(text, f"{role}.files", {name: sha for name, sha in pins.items() if sha})
    for change in found:
        if change.path.startswith("data/") and change.new:
            text = with_keys(text, "data", {"sha256": change.new})
    if found:
        write(plan.file, text)
    return found


def write(file: Path, text: str) -> Release:
    """Replace the release file by *text*, once that reads as a release. Raises UsageError."""
    try:
        release = files.convert(tomllib.loads(text), Release, str(file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: its layout is beyond what can be edited ({error}); write the digests by hand") from error
    for role, model in (("baseline", release.baseline), ("candidate", release.candidate)):
        for name in (model.artifact, model.tokenizer):
            if name not in model.files:
                raise UsageError(f"{file}: {role}: {name!r} is used but would not be pinned; bring it back or name another")
    files.write_bytes(file, text.encode())
    return release


def with_keys(text: str, table: str, values: Mapping[str, str]) -> str:
    """Return *text* with these keys of *table* set; a table that is missing is added at the end."""
    before, body, after = _split(text, table)
    for key, value in values.items():
        line = f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
        found = re.compile(rf'^(?:{re.escape(_key(key))}|{re.escape(json.dumps(key))})\s*=\s*"[^"\n]*"', re.MULTILINE)
        body, count = found.subn(lambda _, line=line: line, body)  # type: ignore[misc]
        body = body if count else f"{body.rstrip()}\n{line}\n{_blank(after)}"
    return before + body.lstrip("\n") + after


def with_table(text: str, table: str, values: Mapping[str, str]) -> str:
    """Return *text* with *table* holding exactly these keys; lines that are not its keys stay."""
    before, body, after = _split(text, table)
    kept = [line for line in body.splitlines() if not _is_other_key(line, values)]
    return with_keys(before + "\n".join(kept).rstrip() + "\n" + _blank(after) + after, table, values)


def _split(text: str, table: str) -> tuple[str, str, str]:
    """Return *text* up to and with the heading of *table*, its lines, and the rest."""
    heading = re.compile(rf"^\[{re.escape(table)}\][ \t]*(?:#[^\n]*)?(?:\n|\Z)", re.MULTILINE)
    found = heading.search(text)
    if found is None:
        return f"{text.rstrip()}\n\n[{table}]\n", "", ""
    following = _HEADING.search(text, found.end())
    end = following.start() if following else len(text)
    return text[: found.end()], text[found.end() : end], text[end:]


def _is_other_key(line: str, values: Mapping[str, str]) -> bool:
    found = re.match(r'\s*(?:"((?:[^"\\]|\\.)*)"|([A-Za-z0-9_-]+))\s*=', line)
    if found is None:
        return False
    name = json.loads(f'"{found[1]}"') if found[1] is not None else found[2]
    return name not in values


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _blank(after: str) -> str:
    return "\n" if after else ""
