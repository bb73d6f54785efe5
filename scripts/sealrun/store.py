"""Keep bundles: by content, as long as their signed retention says, longer under a hold, and the last promoted for good.

Rules: what is kept was verified, and is verified again by `check`; the parts of a bundle come first and its record last, and go
the other way, so a bundle is kept whole or not at all; nothing is removed before its day, under a hold, or while it is the last
promoted of its name in any stage; what was removed stays named. The days are those of the signed bundle, not of the record.

Layout: `objects/AB/SHA256` are the parts; `bundles/SHA256.json` the records, by the digest of the archive; `holds/SHA256.json`
every hold and its end; `pruned/SHA256.json` the records of what was removed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from msgspec import Struct, structs

from sealrun import digest, files
from sealrun.errors import InputMissing, SealrunError, UsageError, VerificationFailed
from sealrun.evidence import bundle, ledger, manifest, sign
from sealrun.evidence.verify import Verification, verify
from sealrun.places import Place

_BUNDLES, _HOLDS, _OBJECTS, _PRUNED = "bundles", "holds", "objects", "pruned"


class Kept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record: what is kept of a bundle, under the names that belong together, and for how long."""

    format: Literal["sealrun/kept-v1"] = "sealrun/kept-v1"
    title: str
    name: str
    bundle: digest.Sha256
    parts: digest.Manifest
    judged_at: manifest.Day
    retention: manifest.Retention
    added: str
    pruned: str = ""


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A hold, or its end: when, and why."""

    held: bool
    at: str
    reason: str


class Holds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every hold of a bundle and its end, in order; the last one counts."""

    format: Literal["sealrun/holds-v1"] = "sealrun/holds-v1"
    events: tuple[Event, ...]

    @property
    def reason(self) -> str:
        """Why the bundle is held, empty when it is not."""
        return self.events[-1].reason if self.events and self.events[-1].held else ""


class Store:
    """The bundles at one place."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def add(self, path: Path, found: Verification, now: datetime) -> tuple[Kept, bool]:
        """Keep the bundle at *path*, verified as *found*; return its record, and whether it is new.

        Raises UsageError for a customer edition, VerificationFailed when a part changed meanwhile, OSError.
        """
        if found.withheld:
            raise UsageError(f"{path.name}: a customer edition; keep the bundle that it was made of")
        stem = path.name.removesuffix(bundle.SUFFIX)
        names = {f"{found.title}{bundle.SUFFIX}": path, f"{found.title}{sign.SUFFIX}": path.with_name(f"{stem}{sign.SUFFIX}"),
                 sign.REPORT: path.with_name(sign.REPORT)}  # fmt: skip
        parts = tuple(sorted(digest.describe_file(part, name) for name, part in names.items()))
        kept = Kept(
            title=found.title, name=found.plan.name, bundle=found.sha256, parts=parts, judged_at=found.judged_at,
            retention=found.plan.retention, added=_told(now),
        )  # fmt: skip
        with self._place.writing():
            if known := self.kept().get(found.sha256):
                return known, False
            for part in parts:
                if self._place.size(_object(part.sha256)) != part.size:
                    self._place.put(_object(part.sha256), names[part.path])
            self._verified(kept, found)
            self._place.write(f"{_BUNDLES}/{found.sha256}.json", files.readable_json(kept))
        return kept, True

    def kept(self) -> dict[digest.Sha256, Kept]:
        """Return the records by the bundles' digests. Raises VerificationFailed for one that cannot be read."""
        found = {}
        for name in self._place.names(_BUNDLES):
            record = files.decode(self._place.read(name), Kept, f"store: {name}", VerificationFailed)
            if name != f"{_BUNDLES}/{record.bundle}.json":
                raise VerificationFailed(f"store: {name}: is the record of sha256:{record.bundle}; it was renamed")
            found[record.bundle] = record
        return found

    def one(self, named: str) -> Kept:
        """Return the record of the bundle *named* by its digest or title. Raises InputMissing, UsageError for several."""
        records = self.kept().values()
        matching = [kept for kept in records if named in (kept.title, kept.bundle, f"sha256:{kept.bundle}")]
        if not matching:
            raise InputMissing(f"store: keeps no {named}; `invoke store.list` says what is kept")
        if len(matching) > 1:
            raise UsageError(f"store: keeps {len(matching)} bundles named {named}; name one by its digest")
        return matching[0]

    def held(self, kept: Kept) -> Holds:
        """Return the holds of a bundle."""
        name = f"{_HOLDS}/{kept.bundle}.json"
        if self._place.size(name) is None:
            return Holds(events=())
        return files.decode(self._place.read(name), Holds, f"store: {name}", VerificationFailed)

    def hold(self, named: str, reason: str, now: datetime, *, held: bool) -> Kept:
        """Hold the bundle *named*, or end its hold, and keep why. Raises UsageError without a reason or without a change."""
        if not reason.strip():
            raise UsageError("--reason: got nothing, expected why; a hold without a reason cannot be ended by anybody")
        with self._place.writing():
            kept = self.one(named)
            before = self.held(kept)
            if bool(before.reason) == held:
                raise UsageError(f"store: {kept.title} is {'held already' if held else 'not held'}; nothing was changed")
            events = (*before.events, Event(held=held, at=_told(now), reason=reason))
            self._place.write(f"{_HOLDS}/{kept.bundle}.json", files.readable_json(Holds(events=events)))
        return kept

    def reasons(self, lines: Sequence[ledger.Line], today: date, trust: Path) -> Iterator[tuple[Kept, tuple[str, ...]]]:
        """Yield each record with what keeps it on *today*, nothing when it may be removed."""
        last = {line.promotion.bundle: line.promotion.stage for line in ledger.current(lines).values()}
        for kept in self.kept().values():
            why = tuple(self._reasons(kept, last, today))
            if not why and (problem := self._problem(kept, trust)):  # its date may be another than the signed one
                why = (f"does not verify: {problem}",)
            yield kept, why

    def prune(self, lines: Sequence[ledger.Line], now: datetime, trust: Path) -> tuple[list[Kept], list[str]]:
        """Remove what nothing keeps; return the bundles and the parts without a bundle that were removed. Raises OSError."""
        with self._place.writing():
            going = [kept for kept, why in self.reasons(lines, now.date(), trust) if not why]
            for record in going:
                named = files.readable_json(structs.replace(record, pruned=_told(now)))
                self._place.write(f"{_PRUNED}/{record.bundle}.json", named)
                self._place.remove(f"{_BUNDLES}/{record.bundle}.json")
            orphans = self.orphans()
            for name in orphans:
                self._place.remove(name)
        return going, orphans

    def orphans(self) -> list[str]:
        """Return the parts that belong to no bundle: what was interrupted left them, or a removal."""
        needed = {_object(part.sha256) for kept in self.kept().values() for part in kept.parts}
        return [name for name in self._place.names(_OBJECTS) if name not in needed]

    def check(self, trust: Path) -> Iterator[tuple[Kept, str]]:
        """Verify everything that is kept again; yield each record with what is wrong with it, empty when nothing is."""
        for kept in self.kept().values():
            yield kept, self._problem(kept, trust)

    @contextmanager
    def opened(self, kept: Kept, trust: Path) -> Iterator[Path]:
        """Yield the archive of *kept*, verified again, with what belongs beside it. Raises VerificationFailed, InputMissing."""
        with files.private_folder() as folder:
            path = self._laid_out(kept, folder)
            self._verified(kept, verify(path, trust=trust, fingerprint=None, delivery=None))
            yield path

    def _problem(self, kept: Kept, trust: Path) -> str:
        try:
            self.held(kept)
            with self.opened(kept, trust):
                pass
        except (SealrunError, OSError) as problem:
            return str(problem)
        return ""

    def _laid_out(self, kept: Kept, folder: Path) -> Path:
        """Return the archive of *kept* in *folder*, with what belongs beside it, each as its record says."""
        for part in kept.parts:
            files.relative_name(part.path, f"store: {kept.title}")
            self._place.get(_object(part.sha256), folder / part.path)
            if digest.of_file(folder / part.path) != part.sha256:
                raise VerificationFailed(f"store: {_object(part.sha256)}: is not what its name says; restore it from a copy")
        return folder / f"{kept.title}{bundle.SUFFIX}"

    def _verified(self, kept: Kept, found: Verification) -> None:
        """Raise VerificationFailed unless the record says what the signed bundle says, and every part is there."""
        said = (kept.title, kept.name, kept.bundle, kept.judged_at, kept.retention)
        if said != (found.title, found.plan.name, found.sha256, found.judged_at, found.plan.retention):
            raise VerificationFailed(f"store: the record of {kept.title} differs from the bundle; restore it from a copy")
        for part in kept.parts:
            if self._place.size(_object(part.sha256)) != part.size:
                raise VerificationFailed(f"store: {_object(part.sha256)}: not the {part.size} bytes of {part.path}")
        if kept.bundle not in {part.sha256 for part in kept.parts}:
            raise VerificationFailed(f"store: {kept.title} changed while it was added; add it again")

    def _reasons(self, kept: Kept, last: Mapping[digest.Sha256, str], today: date) -> Iterator[str]:
        if reason := self.held(kept).reason:
            yield f"held: {reason}"
        if date.fromisoformat(kept.retention.until) >= today:
            yield f"kept until {kept.retention.until}: {kept.retention.reason}"
        if kept.bundle in last:
            yield f"the last promoted to {last[kept.bundle]}"


def _object(sha256: digest.Sha256) -> str:
    return f"{_OBJECTS}/{sha256[:2]}/{sha256}"


def _told(now: datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%SZ}"
