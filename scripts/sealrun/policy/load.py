"""Load a plan: `release.toml` and `policy/`, once, strictly.

Rules: every file that is read is in the plan's digest; names that point elsewhere (a profile, a retention class) must exist.
"""

from datetime import date
from pathlib import Path

from sealrun import digest, files
from sealrun.errors import InputMissing, UsageError
from sealrun.policy.model import Checklist, Gates, Plan, Release, Retention
from sealrun.policy.vex import load_claims
from sealrun.policy.waivers import load_waivers

EXAMPLE = Path("examples", "tiny-lm", "release.toml")


def find_config(root: Path, config: Path | None) -> Path:
    """Return the release file: *config*, else `release.toml` of *root*, else the shipped example's. Raises InputMissing."""
    candidates = [config] if config else [root / "release.toml", root / EXAMPLE]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise InputMissing(f"release: no {' or '.join(map(str, candidates))}; run `invoke init` to write a release.toml")


def load_plan(root: Path, config: Path | None, judged_at: date) -> Plan:
    """Return the plan of the release file *config* under the policy of *root*. Raises UsageError or InputMissing."""
    release_file = find_config(root, config)
    policy = root / "policy"
    release = files.load_toml(release_file, Release)
    gates = files.load_toml(policy / "gates.toml", Gates)
    plan = Plan(
        file=release_file,
        release=release,
        release_sha256=digest.of_file(release_file),
        checklist=files.load_toml(policy / "checklist.toml", Checklist),
        gates=gates,
        waivers=load_waivers(policy, gates.waivers, judged_at),
        retention=files.load_toml(policy / "retention.toml", Retention),
        vex=load_claims(policy),
        policy=describe(policy),
        judged_at=judged_at,
    )
    _cross_check(plan, release_file)
    return plan


def describe(policy: Path) -> digest.Manifest:
    """Return the digests of the files of a policy, its texts for people left out."""
    return digest.describe_files(policy, [name for name in files.walk_files(policy) if not name.endswith(".md")])


def _cross_check(plan: Plan, where: Path) -> None:
    release = plan.release
    if release.certify.profile not in plan.gates.profile:
        known = ", ".join(sorted(plan.gates.profile))
        raise UsageError(f"{where}: certify.profile: got {release.certify.profile!r}, expected one of {known}")
    if release.retention not in plan.retention.retention:
        known = ", ".join(sorted(plan.retention.retention))
        raise UsageError(f"{where}: retention: got {release.retention!r}, expected one of {known}")
    for role, model in (("baseline", release.baseline), ("candidate", release.candidate)):
        files.relative_name(model.path, f"{where}: {role}.path")
        files.refuse_twins(model.files, f"{where}: {role}.files")
        for name in (model.artifact, model.tokenizer):
            if name not in model.files:
                raise UsageError(f"{where}: {role}.files: {name!r} is used but not pinned; add its sha256")
    if release.certify.engine == "imported" and release.certify.imported is None:
        raise UsageError(f"{where}: certify.engine is imported; add the table [certify.imported] with the exports to compare")
    ids = [control.id for control in plan.checklist.control]
    if len(set(ids)) != len(ids):
        raise UsageError("policy/checklist.toml: a control id stands twice; remove one")
