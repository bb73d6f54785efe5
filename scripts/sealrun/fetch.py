"""Fetch models and data from a hub into the local cache: the one step that opens the network for them.

Rules: the repository is one that policy trusts, the revision 40 hex digits; the files named are fetched and nothing else; they
lie in the hub's own cache layout in `cache/` beside the release file, and are pinned there by digest; what was pinned at that
revision before must be what the hub gives now.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from sealrun import digest, files, network, pin, sandbox, settings, venvs
from sealrun.errors import UsageError, VerificationFailed
from sealrun.policy.model import DataRef, ModelRef, Plan, Source
from sealrun.stage import INSIDE

ENVIRONMENT = venvs.Environment(name="fetch", smoke=("python", "-c", "import huggingface_hub"))
_CACHE = "cache"
_SECONDS = 24 * 3600.0


class Order(Struct, frozen=True, kw_only=True):
    """Files of one repository at one revision, for one role of the release (`baseline`, `candidate` or `data`)."""

    role: str
    repository: str
    revision: str
    files: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What the hub calls it."""
        return "dataset" if self.role == "data" else "model"

    @property
    def snapshot(self) -> str:
        """Where the files lie, relative to the release file."""
        return f"{_CACHE}/{self.kind}s--{self.repository.replace('/', '--')}/snapshots/{self.revision}"


def order(role: str, repository: str, revision: str, names: Sequence[str]) -> Order:
    """Return a sound order. Raises UsageError naming what is wrong with it."""
    if role not in ("baseline", "candidate", "data"):
        raise UsageError(f"fetch: role: got {role!r}, expected baseline, candidate or data")
    where = "fetch: expected OWNER/NAME and 40 hex digits"
    source = files.convert({"repository": repository, "revision": revision}, Source, where)
    if not names or (role == "data" and len(names) != 1):
        raise UsageError(f"fetch: got {len(names)} files, expected {'one for the data' if role == 'data' else 'at least one'}")
    for name in names:
        files.relative_name(name, "fetch: files")
    return Order(role=role, repository=str(source.repository), revision=str(source.revision), files=tuple(sorted(set(names))))


def orders_of(plan: Plan) -> list[Order]:
    """Return what the release names already: every role that has a repository, with the files that it pins."""
    release = plan.release
    refs: tuple[tuple[str, ModelRef | DataRef], ...] = (
        ("baseline", release.baseline), ("candidate", release.candidate), ("data", release.data),
    )  # fmt: skip
    found = []
    for role, ref in refs:
        if ref.source.repository is None or ref.source.revision is None:
            continue
        names = tuple(ref.files) if isinstance(ref, ModelRef) else ("/".join(Path(ref.path).parts[4:]),)
        wanted = order(role, ref.source.repository, ref.source.revision, names)
        if not ref.path.startswith(wanted.snapshot):
            raise UsageError(f"{plan.file}: {role}.path: got {ref.path!r}, expected {wanted.snapshot!r}")
        found.append(wanted)
    if not found:
        raise UsageError(
            f"{plan.file}: no role names a repository; say which: "
            "invoke fetch --role candidate --repository OWNER/NAME --revision 40-HEX --files A,B"
        )
    return found


def fetch(root: Path, plan: Plan, orders: Sequence[Order]) -> tuple[pin.Change, ...]:
    """Fetch every order and pin what came; return the pins that changed.

    Raises UsageError (network not opted in, repository not trusted), ToolFailed, or VerificationFailed when a file pinned at
    this revision comes with other bytes.
    """
    for wanted in orders:
        if wanted.repository not in plan.gates.model.trusted_repositories:
            raise UsageError(
                f"fetch: got the repository {wanted.repository}, which policy does not trust; "
                "add it to trusted_repositories in policy/gates.toml once somebody answers for it"
            )
    if not network.may_open(f"a hub, to fetch {', '.join(wanted.repository for wanted in orders)}"):
        raise UsageError("fetch: this asks a hub; run again with INVARLOCK_ALLOW_NETWORK=1")
    venv = venvs.install(root, ENVIRONMENT)
    changed: list[pin.Change] = []
    for wanted in orders:
        _download(venv, plan.base, wanted)
        changed += _pin(plan, wanted)
    return tuple(changed)


def _download(venv: venvs.Venv, base: Path, wanted: Order) -> None:
    cache = base / _CACHE
    cache.mkdir(exist_ok=True)
    with files.private_folder() as tmp:
        job = {
            "repository": wanted.repository, "kind": wanted.kind, "revision": wanted.revision, "files": list(wanted.files),
            "cache": str(cache),
        }  # fmt: skip
        files.write_json(tmp / "job.json", job)
        sandbox.run(
            sandbox.Command(
                name="fetch_hub", argv=(str(venv.python), "-I", "-B", str(INSIDE / "fetch_hub.py"), str(tmp / "job.json")),
                cwd=tmp, environment=settings.fetch_environment(tmp), logs=tmp, network=sandbox.Network.OPENED,
                timeout=_SECONDS,
            )
        )  # fmt: skip


def _pin(plan: Plan, wanted: Order) -> list[pin.Change]:
    """Pin what was fetched. A file pinned at this very revision before must be the same."""
    root = plan.base / _CACHE / Path(wanted.snapshot).parts[1]
    inner = f"snapshots/{wanted.revision}"
    digests = {name: digest.of_file(files.regular_file(root, f"{inner}/{name}", "fetch")) for name in wanted.files}
    for name, sha256 in digests.items():
        blob = (root / inner / name).resolve().name
        if len(blob) == 64 and blob != sha256:
            _forget(root / inner / name)
            raise VerificationFailed(
                f"fetch: {name}: the hub promised the sha256 {blob}, its bytes have {sha256}; fetch it again"
            )
    before, same = _pinned(plan, wanted)
    found = [pin.Change(path=f"{wanted.role}/{name}", old=before.get(name), new=sha) for name, sha in digests.items()]
    changed = [change for change in found if change.old != change.new]
    for change in changed:
        if same and change.old is not None:
            _forget(root / inner / change.path.partition("/")[2])
            raise VerificationFailed(
                f"fetch: {change}; the same revision gave other bytes before, ask who changed it and fetch again"
            )
    text = plan.file.read_text("utf-8")
    if wanted.role == "data":
        (name, sha256), *_ = digests.items()
        text = pin.with_keys(text, "data", {"path": f"{wanted.snapshot}/{name}", "sha256": sha256})
    else:
        text = pin.with_keys(text, wanted.role, {"path": wanted.snapshot})
        text = pin.with_table(text, f"{wanted.role}.files", digests)
    source = {"repository": wanted.repository, "revision": wanted.revision}
    pin.write(plan.file, pin.with_table(text, f"{wanted.role}.source", source))
    return changed


def _forget(path: Path) -> None:
    """Take a file that was refused out of the cache: as long as it lies there the hub is not asked again."""
    path.resolve().unlink()
    path.unlink(missing_ok=True)


def _pinned(plan: Plan, wanted: Order) -> tuple[dict[str, digest.Sha256], bool]:
    """Return what the release pins for the role, and whether it does so at the very revision wanted."""
    release = plan.release
    ref = {"baseline": release.baseline, "candidate": release.candidate}.get(wanted.role)
    source = ref.source if ref else release.data.source
    same = (source.repository, source.revision) == (wanted.repository, wanted.revision)
    return (dict(ref.files) if ref else {wanted.files[0]: release.data.sha256}), same
