"""Bundles that may be promoted on one day, and what promotes them; for the tests of promotion and of the store."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

from sealrun import digest, files, promotion
from sealrun.evidence import signers
from sealrun.evidence.verify import verify
from sealrun.reports.snapshot import Snapshot
from tests.bundles import Draft, key_file, public_key
from tests.conftest import ROOT

NOW = datetime(2026, 1, 20, 12, 0, 0, tzinfo=UTC)
TODAY = NOW.date()
WAIVERS = b'format = "sealrun/waivers-v1"\n'


def production(
    release: str = "1.0.0", *, day: date = TODAY, snapshot: date | None = None, waivers: bytes = WAIVERS, days: int = 90
) -> Draft:
    """A production release judged on *day*, with a *snapshot* of that day, kept for *days*."""
    taken = Snapshot(
        origin="synthetic", licence="none", as_of=snapshot or day, sha256="0" * 64, records=1, left_out=(), facts=0,
        facts_sha256=digest.of_bytes(b""),
    )  # fmt: skip
    policy = {**Draft().policy, "trust/release.pub": public_key().pem, "waivers.toml": waivers}
    return Draft(
        release=release, posture="production", warnings={}, policy=policy, judged_at=day.isoformat(),
        days=days, snapshot=files.readable_json(taken),
    )  # fmt: skip


def checkout(tmp: Path) -> Path:
    """A checkout with the shipped rules of promotion, that trusts the test key number 1."""
    root = tmp / "checkout"
    (root / "policy" / "trust").mkdir(parents=True)
    shutil.copy(ROOT / promotion.POLICY, root / promotion.POLICY)
    (root / "policy" / "trust" / "release.pub").write_bytes(public_key().pem)
    for seed in (1, 2):
        key_file(root, seed)
    return root


def promote(root: Path, bundle: Path, stage: str = "staging", *, now: datetime = NOW, seed: int = 1) -> promotion.Promoted:
    """Promote *bundle* as `invoke promote` does, on the day *now* and by the test key *seed*."""
    trust, trusted = promotion.trusted_at(root, None)
    found = verify(bundle, trust=trust, fingerprint=None, delivery=None)
    return promotion.promote(
        found, promotion.read_evidence(bundle, found), root=root, stage=stage, path=promotion.ledger_at(root, None), trusted=trusted, now=now,
        by=signers.of_file(root / f"key-{seed}.pem"),
    )  # fmt: skip
