"""Reproduce a bundle: make it again from its own sources, locks, plan and day, and compare byte by byte.

Rules: the bundle verifies first; its sources are those of its commit, in a clone of their own, or a folder that the user names;
nothing that only a key can make is made again: the bundle's signatures are held against the bytes made here, so a match says
that whoever signed signed exactly these; each difference is named with the input that caused it.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from sealrun import digest, files, sandbox, settings
from sealrun.errors import InputMissing, ToolFailed, VerificationFailed
from sealrun.evidence import bundle, keys, manifest, sign
from sealrun.evidence.statement import StageStatement
from sealrun.evidence.verify import Verification
from sealrun.policy.load import find_config
from sealrun.policy.model import Release
from sealrun.rebuild import PAYLOADS
from sealrun.reports.differences import Difference, Explained, Side, explain

_SECONDS = 6 * 3600.0
_GIT = (
    "-c",
    "safe.directory=*",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "advice.detachedHead=false",
)
_TREE = "tree"
_ASIDE = {".git", ".nox", ".venv", "build"}  # folders in which no source lies
_RUNNER = Path("requirements", "runner.txt")


class Reproduced(Struct, frozen=True, kw_only=True):
    """What came of it: how many members and signed payloads are the same, what differs, and why it ended early if it did."""

    members: int
    payloads: int
    explained: Explained
    stopped: str = ""

    @property
    def same(self) -> bool:
        """Whether everything is identical."""
        return not self.stopped and not self.explained.differences


def reproduce(path: Path, found: Verification, *, root: Path, tree: Path | None, config: Path | None) -> Reproduced:
    """Make the bundle at *path*, verified as *found*, again: from its commit of the checkout *root*, or from *tree* as it lies.

    Raises InputMissing (no such commit, an environment that cannot be installed), ToolFailed, VerificationFailed.
    """
    with files.private_folder() as work, bundle.opened(path) as archive:
        if archive.sha256 != found.sha256:
            raise VerificationFailed(f"{path.name}: changed after it was verified; copy it to a place of your own")
        place = tree.resolve() if tree else _clone(root, found.plan, work)
        release = _config(place, root, config, found.plan)
        if tree is None:
            _bring_untracked(root, place, release)
        out, stopped = _rebuild(path, place, release, found.plan, work, root)
        changed = _changed(place, found.plan.source.commit, work)
        envelopes = sign.parse(
            files.read_bytes(path.with_name(path.name.removesuffix(bundle.SUFFIX) + sign.SUFFIX), "envelopes"), "envelopes"
        )
        return _compare(path, archive, envelopes, out, stopped, changed)


def _clone(root: Path, plan: manifest.PlanDocument, work: Path) -> Path:
    """Return a clone of *root* at the bundle's commit."""
    commit = plan.source.commit
    if commit is None:
        raise InputMissing("reproduce: the bundle names no commit; say --tree with the sources that it was made from")
    tree = work / _TREE
    git = sandbox.program("git")
    _git(work, work, git, "clone", "--quiet", "--no-checkout", "--no-hardlinks", str(root), str(tree))
    try:
        _git(work, tree, git, "checkout", "--quiet", "--detach", commit)
    except ToolFailed as error:
        raise InputMissing(f"reproduce: {root} has no commit {commit}; fetch it, or say --tree with its sources") from error
    return tree


def _config(tree: Path, root: Path, named: Path | None, plan: manifest.PlanDocument) -> Path:
    """Return the release file: the one *named*, moved into the tree where it lies in the checkout; else the one of the tree
    that is the bundle's byte for byte; else the tree's usual one."""
    if named:
        named = named.resolve()
        inside = named.is_relative_to(root) and not named.is_relative_to(tree)
        return tree / named.relative_to(root) if inside else named
    for path in sorted(tree.rglob("*.toml")):
        if not _ASIDE & set(path.relative_to(tree).parts) and path.is_file() and digest.of_file(path) == plan.release:
            return path
    return find_config(tree, None)


def _bring_untracked(root: Path, tree: Path, config: Path) -> None:
    """Copy the model and data files that the release names and no commit holds from the checkout into the clone."""
    if not config.is_relative_to(tree):
        return
    release = files.load_toml(config, Release)
    models = [f"{model.path}/{name}" for model in (release.baseline, release.candidate) for name in model.files]
    for name in (*models, release.data.path):
        target = config.parent / files.relative_name(name, str(config))
        source = root / target.relative_to(tree)
        if not target.exists() and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _rebuild(path: Path, tree: Path, config: Path, plan: manifest.PlanDocument, work: Path, root: Path) -> tuple[Path, str]:
    """Run the tree's own code over it, with the bundle's day and new keys. Return the release's folder and what stopped it."""
    _share_environments(root, tree)
    (work / "keys").mkdir(mode=0o700)
    (work / "logs").mkdir()
    (work / "out").mkdir()
    environment = {
        **settings.own_environment(), "PYTHONPATH": str(tree / "scripts"), "SEALRUN_KEYS": str(work / "keys"),
        "SOURCE_DATE_EPOCH": str(int(datetime.fromisoformat(plan.judged_at).replace(tzinfo=UTC).timestamp())),
    }  # fmt: skip
    command = sandbox.Command(
        name="rebuild", cwd=tree, environment=environment, logs=work / "logs", network=sandbox.Network.OPENED, timeout=_SECONDS,
        argv=(_interpreter(tree, root, work, environment), "-m", "sealrun", "rebuild", str(path), f"--config={config}",
              f"--out={work / 'out'}", f"--root={tree}"),
        success=tuple(range(256)),
    )  # fmt: skip
    completed = sandbox.run(command)
    made = next((folder for folder in (work / "out").iterdir() if (folder / "statements").is_dir()), work / "out")
    said = completed.stderr.read_text("utf-8", "replace").strip()
    return made, said.splitlines()[-1] if completed.exit_code and said else ""


def _interpreter(tree: Path, root: Path, work: Path, environment: Mapping[str, str]) -> str:
    """Return an interpreter with the packages of the tree's own runner: ours where the lock is ours."""
    if (tree / _RUNNER).read_bytes() == (root / _RUNNER).read_bytes():
        return settings.interpreter()
    sandbox.run(
        sandbox.Command(
            name="bootstrap", argv=(settings.interpreter(), str(tree / "scripts" / "bootstrap.py"), "--list"), cwd=tree,
            environment=environment, logs=work / "logs", network=sandbox.Network.OPENED, timeout=_SECONDS,
        )
    )  # fmt: skip
    return str(tree / ".venv" / "bin" / "python")


def _share_environments(root: Path, tree: Path) -> None:
    """Let a clone use the tool environments of the checkout, each of which goes by its lock's digest."""
    if not (tree / ".nox").exists():
        (tree / ".nox").mkdir()
        (root / ".nox" / "venvs").mkdir(parents=True, exist_ok=True)
        (tree / ".nox" / "venvs").symlink_to(root / ".nox" / "venvs")


def _changed(tree: Path, commit: str | None, work: Path) -> tuple[str, ...]:
    """Return the tracked files of *tree* that are not those of *commit*, and the new ones; none where git cannot say."""
    git = sandbox.program("git")
    try:
        tracked = _git(work, tree, git, "diff", "--name-only", "-z", "--no-renames", commit or "HEAD", "--")
        new = _git(work, tree, git, "ls-files", "--others", "--exclude-standard", "-z")
    except ToolFailed:
        return ()
    return tuple(sorted({*filter(None, f"{tracked}\0{new}".split("\0"))}))


def _git(work: Path, cwd: Path, git: str, *arguments: str) -> str:
    with files.private_folder() as logs:
        done = sandbox.run(
            sandbox.Command(
                name="git", argv=(git, "--no-optional-locks", *_GIT, *arguments), cwd=cwd, logs=logs, writable=(work, logs),
                environment=settings.judged_environment(logs),
            )
        )  # fmt: skip
        return done.stdout.read_text("utf-8", "replace")


def _compare(
    path: Path, archive: bundle.Archive, envelopes: tuple[sign.Signed, ...], out: Path, stopped: str, changed: tuple[str, ...]
) -> Reproduced:
    before = _side(archive)
    made = next(iter(out.glob(f"*{bundle.SUFFIX}")), None)
    if made is None:
        after = _loose(out)
        return Reproduced(
            members=0, payloads=0, explained=explain(before, after, changed), stopped=stopped or "nothing was made"
        )
    with ExitStack() as stack:
        again = stack.enter_context(bundle.opened(made))
        explained = explain(before, _side(again), changed)
        more = tuple(_beside(path, archive, envelopes, out, again, explained))
    known = explained.causes.keys()
    differences = (
        *explained.differences,
        *(Difference(member=name, how=how, causes=tuple(sorted(known))) for name, how in more),
    )
    same = sum(entry.sha256 == again.members[name].sha256 for name, entry in archive.members.items() if name in again.members)
    return Reproduced(
        members=same, payloads=len(envelopes) if not differences else 0, stopped=stopped,
        explained=Explained(differences=differences, causes=explained.causes),
    )  # fmt: skip


def _beside(
    path: Path,
    archive: bundle.Archive,
    envelopes: tuple[sign.Signed, ...],
    out: Path,
    again: bundle.Archive,
    explained: Explained,
) -> Iterator[tuple[str, str]]:
    """Yield what differs beside the members: archive, report, and the payloads under the bundle's signatures."""
    if not explained.differences and archive.sha256 != again.sha256:
        yield path.name, f"sha256 {archive.sha256} became {again.sha256}, with the same members"
    if files.read_bytes(path.with_name(sign.REPORT), "report") != (out / sign.REPORT).read_bytes():
        yield sign.REPORT, "its bytes differ"
    made = [file.read_bytes() for file in sorted((out / PAYLOADS).iterdir())]
    if len(made) != len(envelopes):
        yield "envelopes", f"{len(envelopes)} lines, {len(made)} made again"
    known = {key.keyid: key for key in _keys(archive)}
    for number, (payload, envelope) in enumerate(zip(made, envelopes, strict=False), 1):
        again_signed = sign.Signed(payload=payload, signatures=envelope.signatures)
        if not all(keyid in known and again_signed.signed_by(known[keyid]) for keyid in envelope.signatures):
            yield f"envelope {number}", "the bundle's signatures are not over the payload made again"


def _keys(archive: bundle.Archive) -> Iterator[keys.PublicKey]:
    for name in archive.members:
        if name == manifest.PUBLIC_KEY or (name.startswith("policy/trust/") and name.endswith(".pub")):
            yield keys.parse_public(archive.read(name), name)


def _side(archive: bundle.Archive) -> Side:
    members = {name: entry.sha256 for name, entry in archive.members.items() if name != bundle.MANIFEST}
    return Side(members=members, read=archive.read, statements=_statements(members, archive.read))


def _loose(out: Path) -> Side:
    """Return what lies in the release's folder when no archive was made."""
    names = [name for name in files.walk_files(out) if name.startswith(("evidence/", "statements/"))]
    members = {name: digest.of_file(out / name) for name in names}

    def read(name: str) -> bytes:
        return files.read_bytes(out / name, "rebuilt")

    return Side(members=members, read=read, statements=_statements(members, read))


def _statements(members: Mapping[str, digest.Sha256], read: Callable[[str], bytes]) -> dict[str, StageStatement]:
    names = [name for name in members if name.startswith("statements/")]
    return {name[11:-5]: manifest.decode(read(name), StageStatement, name) for name in names}
