"""A cache of evidence that jobs and machines share: what a stage gathered, under its reuse key.

Rules: an entry is signed by the key `cache` of the key folder, so it is believed by whoever shares those keys and by nobody
else, on a machine of the same kind; one that was touched is as good as none, and says why; files lie by content, entries appear
whole or not at all; verdicts are never in here: what is taken is judged afresh. A cache that cannot be read or written holds up
no run.
"""

import platform
from contextlib import suppress
from pathlib import Path
from typing import Literal

from msgspec import Struct, to_builtins

from sealrun import digest, files
from sealrun.errors import InputMissing, SealrunError, UsageError
from sealrun.evidence import keys
from sealrun.places import Folder

KEY = "cache"
_LARGEST = 1024**3  # bytes of one file of evidence


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stage gathered: what its network probes saw, and its files."""

    format: Literal["sealrun/cache-v1"] = "sealrun/cache-v1"
    stage: str
    key: digest.Sha256
    machine: str
    network: str
    files: digest.Manifest


class _Signed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    entry: Entry
    signature: str


def put(cache: Path, stage: str, key: digest.Sha256, network: str, evidence: Path, gathered: tuple[str, ...]) -> None:
    """Keep the files *gathered* of the folder *evidence*. Raises UsageError for a key folder that others can use."""
    described = digest.describe_files(evidence, gathered)
    entry = Entry(stage=stage, key=key, machine=_machine(), network=network, files=described)
    with suppress(OSError):
        cache.mkdir(exist_ok=True)
        place = Folder(cache)
        signature = keys.load_private(keys.private(KEY)).sign(_message(entry)).hex()
        for kept in entry.files:
            if place.size(_blob(kept.sha256)) != kept.size or digest.of_file(cache / _blob(kept.sha256)) != kept.sha256:
                place.put(_blob(kept.sha256), evidence / kept.path)
        place.write(_name(stage, key), files.readable_json(_Signed(entry=entry, signature=signature)))


def take(cache: Path, stage: str, key: digest.Sha256, target: Path) -> Entry | str:
    """Fill the empty folder *target* with what was kept, and return its entry; else why not, and *target* stays empty."""
    try:
        entry = _entry(cache, stage, key)
        for kept in entry.files:
            data = files.read_bytes(cache / _blob(kept.sha256), "cache", limit=_LARGEST)
            if digest.of_bytes(data) != kept.sha256:
                raise UsageError(f"{cache / _blob(kept.sha256)} was changed")
            path = target / files.relative_name(kept.path, "cache")
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, data)
    except (SealrunError, OSError) as problem:
        files.empty_folder(target)
        return str(problem)
    return entry


def _entry(cache: Path, stage: str, key: digest.Sha256) -> Entry:
    """Return the entry of *stage* under *key*. Raises InputMissing or UsageError."""
    path = cache / _name(stage, key)
    if not path.exists():
        raise InputMissing("not in the cache")
    signed = files.decode(files.read_bytes(path, "cache"), _Signed, str(path))
    try:
        signature = bytes.fromhex(signed.signature)
    except ValueError:
        signature = b""
    if not keys.public_key(keys.private(KEY)).signed(_message(signed.entry), signature):
        raise UsageError(f"{path} is not signed by the key {KEY!r} of this key folder")
    if (signed.entry.stage, signed.entry.key, signed.entry.machine) != (stage, key, _machine()):
        raise UsageError(f"{path} is of something else")
    return signed.entry


def _machine() -> str:
    """Return the kind of this machine: what is installed and what a model answers differ between kinds."""
    return f"{platform.system()}-{platform.machine()}"


def _message(entry: Entry) -> bytes:
    return digest.canonical_json(to_builtins(entry))


def _name(stage: str, key: digest.Sha256) -> str:
    return f"entries/{stage}/{_machine()}-{key}.json"


def _blob(sha256: digest.Sha256) -> str:
    return f"files/{sha256}"
