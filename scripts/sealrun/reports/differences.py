"""What differs between a bundle and the same bundle made again, and which input caused it.

Rules: a cause is an input that differs: a pinned package, a line of policy or of the release file, a model or data file, a file
of the source, the interpreter; each difference names the causes that reach it along what the stages say they read; a difference
that none reaches is said to have none, since then the same inputs gave other bytes.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from sealrun import digest
from sealrun.errors import SealrunError
from sealrun.evidence.statement import StagePredicate, StageStatement
from sealrun.reports.requirements import parse_lock

_UPSTREAM = ("evidence/", "statements/")  # what a stage reads of others, `KIND/STAGE`
_LISTED, _LONGEST = 4, 200  # changes of a cause, characters of each
_OWN = ("release.toml", "policy/", "requirements/")
_SOURCE = {"tree", "history", "skipped", "source"}  # inputs that stand for the files of the checkout


class Side(Struct, frozen=True, kw_only=True):
    """A bundle, or what was made again: members by digest, how to read one, and the statements by stage."""

    members: Mapping[str, digest.Sha256]
    read: Callable[[str], bytes]
    statements: Mapping[str, StageStatement]


class Difference(Struct, frozen=True, kw_only=True):
    """A member that differs: how, and the causes by name."""

    member: str
    how: str
    causes: tuple[str, ...]


class Explained(Struct, frozen=True, kw_only=True):
    """Every difference, and every cause with what changed."""

    differences: tuple[Difference, ...]
    causes: Mapping[str, str]


def explain(before: Side, after: Side, changed: Sequence[str]) -> Explained:
    """Return what differs. *changed* are the files of the checkout that are not those of the bundle's commit."""
    causes = dict(_causes(before, after))
    rest = [path for path in changed if not any(path.endswith(f"/{cause}") or path == cause for cause in causes)]
    causes |= dict.fromkeys(rest, "changed since the bundle's commit")
    reached = {stage: _reaching(stage, before, after, causes) for stage in {*before.statements, *after.statements}}
    names = sorted(before.members.keys() | after.members.keys())
    differences = tuple(
        Difference(member=name, how=_how(name, before, after), causes=tuple(sorted(_of(name, reached, causes))))
        for name in names
        if before.members.get(name) != after.members.get(name)
    )
    return Explained(differences=differences, causes=causes)


def _causes(before: Side, after: Side) -> Iterator[tuple[str, str]]:
    for name in sorted(before.members.keys() | after.members.keys()):
        if name.startswith(_OWN) and before.members.get(name) != after.members.get(name):
            yield name, _change(name, before, after)
    for stage in before.statements.keys() & after.statements.keys():
        old, new = (side.statements[stage].predicate for side in (before, after))
        yield from _stated(old, new)


def _stated(old: StagePredicate, new: StagePredicate) -> Iterator[tuple[str, str]]:
    """Yield the causes that two statements of one stage show."""
    if old.python != new.python:
        yield "Python", f"{old.python} became {new.python}"
    if old.sealrun != new.sealrun:
        yield "Sealrun", f"{old.sealrun} became {new.sealrun}"
    ours, theirs = ({r.name: r.digest.sha256 for r in said.inputs} for said in (old, new))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name) and (cause := _cause_of(name)) and not cause.startswith(_OWN):
            yield cause, f"sha256 {ours.get(name, 'of nothing')} became {theirs.get(name, 'nothing')}"
    for name in sorted(ours.keys() | theirs.keys()):
        if name.startswith("requirements/") and name.endswith(".in") and ours.get(name) != theirs.get(name):
            yield name, "changed"


def _cause_of(name: str) -> str:
    """Return the cause that a stage's input stands for, empty for one that has causes of its own, or is a key."""
    if name.startswith((*_UPSTREAM, "key/")) or name in _SOURCE or name == "data":
        return ""
    if name.startswith("advisories/"):
        return f"policy/{name}"
    environment = name.removeprefix("installed/")  # the stage lock names what it judged by the environment alone
    return name if "/" in environment else f"requirements/{environment}.txt"


def _reaching(stage: str, before: Side, after: Side, causes: Mapping[str, str]) -> set[str]:
    """Return the causes that reach *stage*, by itself and by what it read of others."""
    if stage not in before.statements or stage not in after.statements:
        return set(causes)
    old, new = (side.statements[stage].predicate for side in (before, after))
    ours, theirs = ({r.name: r.digest.sha256 for r in said.inputs} for said in (old, new))
    found = {name for name in ("Python", "Sealrun") if name in causes}
    if old.plan != new.plan:
        found |= {cause for cause in causes if cause == "release.toml" or cause.startswith("policy/")}
    for name in ours.keys() | theirs.keys():
        if ours.get(name) == theirs.get(name):
            continue
        if name.startswith(_UPSTREAM):
            found |= _reaching(name.split("/")[1], before, after, causes)
        elif name in _SOURCE:
            found |= {cause for cause in causes if cause not in ("Python", "Sealrun")}
        else:
            found |= {name if name.endswith(".in") else _cause_of(name)} & causes.keys()
    for tool in {*old.tools} ^ {*new.tools}:
        found |= {f"requirements/{tool.environment}.txt"} & causes.keys()
    if old.reuse_key != new.reuse_key and not found:  # nothing that a stage names: its own code, then
        found = {cause for cause in causes if cause.startswith("scripts/")}
    return found


def _of(name: str, reached: Mapping[str, set[str]], causes: Mapping[str, str]) -> set[str]:
    """Return the causes of the difference in the member *name*."""
    if name in causes:
        return {name}
    parts = name.split("/")
    stage = parts[1].removesuffix(".json") if parts[0] in ("evidence", "statements") and len(parts) > 1 else ""
    return reached.get(stage, set(causes))


def _how(name: str, before: Side, after: Side) -> str:
    if name not in after.members:
        return "not made again"
    if name not in before.members:
        return "made, but not in the bundle"
    return _lines(name, before, after, 1) or f"sha256 {before.members[name]} became {after.members[name]}"


def _change(name: str, before: Side, after: Side) -> str:
    """Return what changed in an input: the pins of a lock, the lines of a text."""
    if name not in before.members or name not in after.members:
        return _how(name, before, after)
    if name.startswith("requirements/"):
        try:
            return _pins(name, before, after) or "hashes or comments changed"
        except SealrunError:
            pass
    return _lines(name, before, after, _LISTED) or _how(name, before, after)


def _pins(name: str, before: Side, after: Side) -> str:
    old, new = ({pin.name: pin.version for pin in parse_lock(side.read(name).decode(), name)} for side in (before, after))
    return _some(
        (
            f"{package} {old.get(package, 'missing')} became {new.get(package, 'missing')}"
            for package in sorted(old.keys() | new.keys())
            if old.get(package) != new.get(package)
        ),
        _LISTED,
    )


def _lines(name: str, before: Side, after: Side, most: int) -> str:
    """Return the lines that differ, at most so many places, nothing for what is no text."""
    try:
        old, new = (side.read(name).decode("utf-8").splitlines() for side in (before, after))
    except (UnicodeDecodeError, SealrunError):
        return ""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False) if len(old) + len(new) < 4000 else None
    if matcher is None:
        first = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        return f"from line {first + 1} on"
    return _some(
        (
            f"line {i1 + 1}: {' / '.join(map(str.strip, old[i1:i2])) or 'nothing'} became "
            f"{' / '.join(map(str.strip, new[j1:j2])) or 'nothing'}"
            for tag, i1, i2, j1, j2 in matcher.get_opcodes()
            if tag != "equal"
        ),
        most,
    )


def _some(texts: Iterator[str], most: int) -> str:
    found = [text if len(text) < _LONGEST else f"{text[:_LONGEST]}…" for text in texts]
    more = len(found) - most
    return "; ".join(found[:most]) + (f"; and {more} more" if more > 0 else "")
