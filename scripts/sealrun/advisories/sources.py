"""Where advisories come from: a zip or a folder of OSV records in JSON or YAML, or the PyPA database as it is kept.

Rules: records are read one after another, so memory is bounded by the largest; a record that is too large or no text of its
kind is an error of its own, the rest is read; a member that is no plain file below the root makes the whole source an error; in
a tree with a folder `vulns` (the PyPA database) nothing else counts.

Source: OSV's export (PyPI/all.zip); github.com/pypa/advisory-database.
"""

import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sealrun import digest, files
from sealrun.errors import InputMissing, UsageError

MAX_RECORD = 8 * 1024 * 1024  # bytes; the largest real one has less than one million
_MAX_RECORDS = 1_000_000
_MAX_TOTAL = 8 * 1024**3  # bytes, unpacked
_SUFFIXES = (".json", ".yaml", ".yml")
_TREE = "vulns"

type Record = tuple[str, bytes | str]
"""The name of a record and its bytes, or why there are none."""


def records(source: Path) -> Iterator[Record]:
    """Yield each record of *source*, sorted by name. Raises InputMissing or UsageError."""
    yield from _in_folder(source) if source.is_dir() else _in_zip(source)


def parse(name: str, data: bytes) -> Any:
    """Return the value of a record. Raises UsageError."""
    return files.parse_json(data, name) if name.endswith(".json") else _parse_yaml(data, name)


def digest_of(source: Path) -> digest.Sha256:
    """Return the digest of a file, or of a folder's records."""
    if source.is_dir():
        return digest.of_manifest(digest.describe_files(source, _named(list(files.walk_files(source)))))
    if source.exists() and not source.is_file():
        raise UsageError(f"advisories: {source} is no regular file; name a zip, or a folder of records")
    try:
        return digest.of_file(source)
    except OSError as error:
        raise InputMissing(f"advisories: {source} cannot be read ({error.strerror}); name an OSV export") from error


def _named(names: list[str]) -> list[str]:
    """Return the names of records among *names*: those below `vulns` where there is such a folder."""
    found = [name for name in names if name.endswith(_SUFFIXES) and not any(p.startswith(".") for p in name.split("/"))]
    return [name for name in found if _TREE in name.split("/")[:-1]] or found


def _in_folder(source: Path) -> Iterator[Record]:
    for name in _named(list(files.walk_files(source))):
        path = source / name
        size = path.lstat().st_size
        yield name, _too_large(size) if size > MAX_RECORD else files.read_bytes(path, "advisories", limit=MAX_RECORD)


def _in_zip(source: Path) -> Iterator[Record]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield from _members(source.name, archive)
    except FileNotFoundError as error:
        raise InputMissing(f"advisories: no {source}; name an OSV export (a zip, or a folder of records)") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise UsageError(f"{source.name}: cannot be read as a zip ({error}); fetch the export again") from error


def _members(where: str, archive: zipfile.ZipFile) -> Iterator[Record]:
    members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    count, total = len(archive.infolist()), sum(member.file_size for member in archive.infolist())
    if count > _MAX_RECORDS or total > _MAX_TOTAL:
        raise UsageError(f"{where}: {count} members of {total} bytes, expected at most {_MAX_RECORDS} of {_MAX_TOTAL}")
    for name in members:
        files.relative_name(name, "advisories")
    for name in sorted(_named(list(members))):
        member = members[name]
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise UsageError(f"advisories: {name} is no regular file; fetch the export again")
        yield name, _too_large(member.file_size) if member.file_size > MAX_RECORD else archive.read(member)


def _too_large(size: int) -> str:
    return f"has {size} bytes, expected at most {MAX_RECORD}"


class _Yaml(yaml.cyaml.CParser, yaml.constructor.SafeConstructor, yaml.resolver.BaseResolver):  # type: ignore[misc]
    """YAML with JSON's values: a plain scalar is a text ("1.10" stays what it is) or null; no aliases, no duplicate keys."""

    def __init__(self, data: bytes) -> None:
        yaml.cyaml.CParser.__init__(self, data)
        yaml.constructor.SafeConstructor.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node in self.constructed_objects:
            raise yaml.constructor.ConstructorError(problem="an alias, expected the value itself", problem_mark=node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value]
        if len(set(map(str, names))) != len(names):
            raise yaml.constructor.ConstructorError(problem="a duplicate key", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Yaml.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|)$"), ["~", "n", ""])


def _parse_yaml(data: bytes, name: str) -> Any:
    loader = None
    try:
        loader = _Yaml(data)
        return loader.get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{name}: not acceptable YAML ({error}); expected one record in UTF-8".replace("\n", " ")) from error
    finally:
        if loader:
            loader.dispose()
