"""Read the locks that uv, Poetry, PDM and PEP 751 write, as the pins that a requirements lock has.

Rules: the project itself is no pin; a package from a repository, a URL or a folder, one without a version and one without a
hash is a pin with a `flaw`, never dropped; a file that is not what its name says is a UsageError. Nothing is resolved, and
nothing is left out for a marker, a group or an extra: what is locked is judged.

Sources: https://packaging.python.org/en/latest/specifications/pylock-toml/, https://docs.astral.sh/uv/concepts/projects/layout/
(`uv.lock`), `poetry.lock` of Poetry 1 and 2, `pdm.lock` of PDM 2.
"""

import re
import tomllib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from packaging.pylock import Pylock, PylockValidationError
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sealrun.errors import UsageError
from sealrun.reports.pins import STRONG, Pin

_HEADING = re.compile(r"^\[\[packages?\]\]\s*(#.*)?$")
_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")
_FOREIGN = {
    "git": "a repository", "vcs": "a repository", "url": "a URL", "archive": "a URL", "file": "a local file",
    "path": "a local file", "directory": "a local folder",
}  # fmt: skip
_PROJECT = ("editable", "virtual")
type _Package = Mapping[str, Any]


def is_lock(name: str) -> bool:
    """Whether a file of this name is one of these locks."""
    return _parser(name) is not None


def parse(text: str, where: str) -> tuple[Pin, ...]:
    """Return the pins of the lock *text*, in its order; the name at the end of *where* says what it is. Raises UsageError."""
    parser = _parser(PurePosixPath(where).name)
    if parser is None:
        raise UsageError(
            f"{where}: no lock that is known; expected uv.lock, poetry.lock, pdm.lock, pylock.toml or requirements"
        )
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: no TOML ({error}); write the lock again") from error
    try:
        return tuple(parser(document, _lines(text)))
    except (AttributeError, KeyError, TypeError, ValueError, PylockValidationError) as error:
        raise UsageError(f"{where}: not what its name says ({type(error).__name__}: {error}); write the lock again") from error


def _parser(name: str) -> Callable[[_Package, Sequence[int]], Iterable[Pin]] | None:
    if _PYLOCK.fullmatch(name):
        return _pylock
    return {"uv.lock": _uv, "poetry.lock": _poetry, "pdm.lock": _pdm}.get(name)


def _lines(text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if _HEADING.match(line)]


def _pylock(document: _Package, lines: Sequence[int]) -> Iterable[Pin]:
    for package, line in _numbered(Pylock.from_dict(document).packages, lines):
        archives = [
            *(package.wheels or ()),
            *([package.sdist] if package.sdist else ()),
            *([package.archive] if package.archive else ()),
        ]
        foreign = next((kind for kind in ("vcs", "directory", "archive") if getattr(package, kind)), "")
        hashes = [f"{name}:{value}" for archive in archives for name, value in archive.hashes.items()]
        yield _pin(package.name, str(package.version or ""), hashes, foreign, line, str(package.marker or ""))


def _uv(document: _Package, lines: Sequence[int]) -> Iterable[Pin]:
    if document["version"] != 1:
        raise ValueError(f"version {document['version']}, expected 1")
    for package, line in _numbered(document.get("package", []), lines):
        source = package["source"]
        if any(kind in source for kind in _PROJECT):
            continue
        archives = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        hashes = [archive["hash"] for archive in archives if "hash" in archive]
        marker = " or ".join(f"({condition})" for condition in package.get("resolution-markers", []))
        yield _pin(package["name"], package.get("version", ""), hashes, _foreign(source), line, marker)


def _poetry(document: _Package, lines: Sequence[int]) -> Iterable[Pin]:
    apart = document.get("metadata", {}).get("files", {})  # where Poetry before 1.3 kept them
    for package, line in _numbered(document["package"], lines):
        listed = package.get("files") or apart.get(package["name"], [])
        kind = package.get("source", {}).get("type", "")
        yield _pin(
            package["name"], package["version"], [file["hash"] for file in listed], kind if kind in _FOREIGN else "", line
        )


def _pdm(document: _Package, lines: Sequence[int]) -> Iterable[Pin]:
    apart = document.get("metadata", {}).get("files", {})  # PDM before 2.8: "NAME VERSION" to files
    for package, line in _numbered(document["package"], lines):
        if package.get("editable") and package.get("path") in (".", "./"):
            continue
        version = package.get("version", "")
        listed = package.get("files") or apart.get(f"{package['name']} {version}", [])
        hashes = [file["hash"] for file in listed]
        yield _pin(package["name"], version, hashes, _foreign(package), line, package.get("marker", ""))


def _numbered[T](packages: Sequence[T], lines: Sequence[int]) -> Iterable[tuple[T, int]]:
    """Pair each package with its line; with 1 where the headings do not tell."""
    return zip(packages, lines if len(lines) == len(packages) else [1] * len(packages), strict=True)


def _foreign(source: Container[object]) -> str:
    return next((kind for kind in _FOREIGN if kind in source), "")


def _pin(name: str, version: str, hashes: Sequence[str], foreign: str, line: int, marker: str = "") -> Pin:
    try:
        normal = str(Version(version)) if version else ""
    except InvalidVersion:
        normal = ""
    return Pin(
        name=canonicalize_name(name), version=normal, hashes=tuple(sorted(set(hashes))), marker=marker, line=line,
        flaw=_flaw(normal, hashes, foreign),
    )  # fmt: skip


def _flaw(version: str, hashes: Sequence[str], foreign: str) -> str:
    if foreign:
        return _FOREIGN[foreign]
    if not version:
        return "not pinned to one version"
    if not hashes:
        return "no hash"
    return "" if all(STRONG.fullmatch(value) for value in hashes) else "a hash that is not sha256, sha384 or sha512"
