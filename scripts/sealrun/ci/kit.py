"""The kit: everything a machine without a network needs, in one signed folder.

Rules: wheels are those that the locks pin, by hash; the repository is a git bundle of the commit that stands, so a dirty
tree makes no kit; every file is a subject of one statement, signed by the release key; a kit is made whole or not at all, and a
check accounts for every file of it.

Leaves: `sealrun.bundle` (the repository), `wheels/`, `advisories/` (where a snapshot was imported), `release.pub`,
`kit.intoto.jsonl`.
"""

import ensurepip
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from sealrun import digest, files, network, pipeline, sandbox, settings
from sealrun.errors import InputMissing, ToolFailed, UsageError, VerificationFailed
from sealrun.evidence import keys, manifest, sign, signers, source, trust
from sealrun.evidence.statement import STATEMENT_TYPE, Resource, StatementType, resources
from sealrun.reports import index
from sealrun.stage import Context

REPOSITORY, WHEELS, ADVISORIES, PUBLIC, STATEMENT = (
    "sealrun.bundle", "wheels", "advisories", "release.pub", "kit.intoto.jsonl",
)  # fmt: skip
_ALWAYS = ("runner", "test")
_LEGACY = ((17, "manylinux2014"), (12, "manylinux2010"), (5, "manylinux1"))  # names of PEP 571, 599 and 513, by their glibc 2.x
_DOWNLOAD_SECONDS = 3600.0
_LIMIT = 64 * 1024 * 1024


class Contents(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a kit is for: the commit, the environments whose wheels it has, the Python and the platforms."""

    commit: str
    environments: tuple[str, ...]
    python: str
    platforms: tuple[str, ...]


class KitStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An in-toto Statement over every file of a kit."""

    type_: StatementType = field(name="_type", default=STATEMENT_TYPE)
    subject: Annotated[tuple[Resource, ...], Meta(min_length=1)]
    predicate_type: Literal["urn:sealrun:kit:v1"] = field(name="predicateType", default="urn:sealrun:kit:v1")
    predicate: Contents


def make(context: Context, out: Path, *, more: Sequence[str] = (), python: str, platforms: Sequence[str] = ()) -> Contents:
    """Fill the new folder *out* for the checkout of *context*; *more* are environments besides those of its release and tests.

    `platforms` are wheel tags such as manylinux_2_28_x86_64 (default: this machine's). Raises UsageError, InputMissing,
    ToolFailed.
    """
    if not network.may_open("a package index, for the wheels of a kit"):
        raise InputMissing("ci.kit: downloads wheels; set INVARLOCK_ALLOW_NETWORK=1 and run it again")
    if out.exists():
        raise UsageError(f"{out}: exists, expected a new folder; name another")
    found, changes = source.look(context.root, context.out.parent)
    if changes or not found.commit:
        raise UsageError(f"ci.kit: the tree is not a clean commit ({', '.join(changes[:3]) or 'no repository'}); commit first")
    contents = Contents(
        commit=found.commit, environments=_environments(context, more), python=python, platforms=tuple(platforms)
    )  # fmt: skip
    making = files.empty_folder(out.with_name(f".{out.name}.making"))
    _repository(context.root, making / REPOSITORY)
    for name in contents.environments:
        _wheels(context, name, making / WHEELS, contents)
    _advisories(context.root, making / ADVISORIES)
    files.write_bytes(making / PUBLIC, signers.release_public().pem)
    listed = resources(digest.describe_files(making, list(files.walk_files(making))))
    payload = files.readable_json(KitStatement(subject=listed, predicate=contents))
    files.write_bytes(making / STATEMENT, sign.sign([payload], signers.release()))
    making.rename(out)
    return contents


def check(kit: Path, trusted: trust.Trust, day: str) -> Contents:
    """Return what *kit* is for, after accounting for every file of it. Raises VerificationFailed, InputMissing, UsageError."""
    (envelope,) = sign.parse(files.read_bytes(kit / STATEMENT, "kit", limit=_LIMIT), STATEMENT)
    public = keys.parse_public(files.read_bytes(kit / PUBLIC, "kit"), str(kit / PUBLIC))
    signed = {public.keyid: public} if envelope.signed_by(public) else {}
    trust.judge(trusted, signed, digest.of_bytes(envelope.payload), day)
    said = manifest.decode(envelope.payload, KitStatement, STATEMENT)
    wanted = {resource.name: resource.digest.sha256 for resource in said.subject}
    there = set(files.walk_files(kit)) - {STATEMENT}
    for name in sorted(there | wanted.keys()):
        if name not in wanted or name not in there or digest.of_file(kit / name) != wanted[name]:
            raise VerificationFailed(f"{kit / name}: not what the kit was signed with; get the kit again")
    return said.predicate


def _environments(context: Context, more: Sequence[str]) -> tuple[str, ...]:
    """Return the environments that the release and the tests need, and *more*, sorted."""
    needed = {e.name for stage in pipeline.stages().values() for e in stage.needs(context.plan).environments}
    return tuple(sorted({*_ALWAYS, *needed, *more}))


def _repository(root: Path, target: Path) -> None:
    _run(root, "git", (sandbox.program("git"), "bundle", "create", "--quiet", str(target), "HEAD"), network=False)


def _wheels(context: Context, name: str, folder: Path, contents: Contents) -> None:
    """Download the wheels that the lock of environment *name* pins, by the pip that this Python bundles."""
    lock = context.root / "requirements" / f"{name}.txt"
    if not lock.is_file():
        raise UsageError(f"ci.kit: {name}: has no lock in requirements/; name an environment of this checkout")
    pips = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not pips:
        raise InputMissing("ci.kit: this Python bundles no pip; install it (on Debian: apt-get install python3-venv)")
    folder.mkdir(exist_ok=True)
    tags = [f"--platform={tag}" for platform in contents.platforms for tag in compatible(platform)]
    chosen = [*tags, f"--python-version={contents.python}", "--implementation=cp"] if tags else []
    argv = (
        settings.interpreter(), "-I", str(pips[-1] / "pip"), "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--only-binary=:all:", *chosen, f"--dest={folder}", f"--requirement={lock}",
    )  # fmt: skip
    _run(context.root, f"download-{name}", argv, network=True)


def compatible(platform: str) -> tuple[str, ...]:
    """Return the wheel tags that install where *platform* does, itself first: a newer C library runs what an older one does.
    pip knows as much of macOS by itself."""
    match = re.fullmatch(r"(manylinux|musllinux)_([0-9])_([0-9]{1,2})_(\w+)", platform)
    if match is None:
        return (platform,)
    kind, major, minor, machine = match[1], match[2], int(match[3]), match[4]
    older = [f"{kind}_{major}_{number}" for number in range(minor, -1, -1)]
    named = [name for least, name in _LEGACY if kind == "manylinux" and minor >= least]
    return tuple(f"{tag}_{machine}" for tag in (*older, *named))


def _advisories(root: Path, target: Path) -> None:
    """Copy the imported snapshot, where there is one; what is committed with the policy is in the repository."""
    taken = root / index.FOLDER
    if not taken.is_dir():
        return
    target.mkdir()
    for name in _kept(files.walk_files(taken)):
        files.write_bytes(target / name, (taken / name).read_bytes())


def _kept(names: Iterable[str]) -> list[str]:
    return [name for name in names if "/" not in name and not name.startswith(".") and not name.endswith((".part", ".tag"))]


def _run(root: Path, name: str, argv: tuple[str, ...], *, network: bool) -> None:
    with files.private_folder() as logs:
        command = sandbox.Command(
            name=name, argv=argv, cwd=root, environment=settings.install_environment(), logs=logs, timeout=_DOWNLOAD_SECONDS,
            network=sandbox.Network.OPENED,
        )  # fmt: skip
        try:
            sandbox.run(command)
        except ToolFailed as error:
            advice = "check index, proxy and platform" if network else "mend the repository"
            raise ToolFailed(f"ci.kit: {error}; {advice}, then run it again") from error
