"""Small bundles for tests, made by the real writer and signer, with a place to lie at every step.

`Draft().write(folder)` makes a good one. What a dishonest maker could do goes into the draft or its `edit_*` functions, which
see the bytes before they are listed and signed; what happens to a bundle on its way is done to the files afterwards.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.evidence import attest, bundle, checklist, keys, manifest, sign, signers
from sealrun.evidence.statement import Resource, Sha256Set, StagePredicate, StageStatement, Tool, resources
from sealrun.outcome import Finding, Outcome, OutcomeKind, check, verdict

TITLE = "tiny-1.0.0"
DAY = "2026-01-15"
CONTROLS = (
    ("lock.hashed", "lock", False), ("sbom.generated", "sbom", False), ("audit.clean", "audit", False),
    ("audit.fresh", "audit", True), ("secrets.clean", "secrets", False), ("model.digests", "model", False),
    ("certify.regression", "certify", False), ("verify.invarlock", "verify", False), ("network.denied", "bundle", False),
    ("runtime.isolated", "bundle", False), ("evidence.archived", "bundle", False), ("source.commit", "bundle", True),
    ("release.key", "bundle", True),
)  # fmt: skip
_LOCK = b"tool==1.0 --hash=sha256:" + b"0" * 64 + b"\n"
_LOCK_SHA256 = digest.of_bytes(_LOCK)
DISCLOSURE = (
    b'# What customers need not see.\nformat = "sealrun/disclosure-v1"\n'
    b'\n[[withhold]]\nmembers = "evidence/verify/*"\nreason = "Holds text."\n'
    b'\n[[withhold]]\nmembers = "policy/gates.toml"\nreason = "Names people."\n'
)
RETENTION = (
    b'# How long.\nformat = "sealrun/retention-v1"\n\n[retention.research]\ndays = 90\nreason = "Trial runs."\nproduction = false\n'
    b'\n[retention.release]\ndays = 1825\nreason = "Support."\nproduction = true\n'
)
_SNAPSHOT = b'{"as_of":"2026-01-10","sha256":"' + b"7" * 64 + b'"}\n'
_PACK = b'{"decision":"pass"}\n'

SMALLEST = tuple(
    control for control in CONTROLS if control[0] in ("lock.hashed", "model.digests", "certify.regression", "release.key")
)

type Edit = Callable[[bytes], bytes]


def same(data: bytes) -> bytes:
    """Change nothing."""
    return data


P256 = 100  # test keys from this number on are of P-256


def private_key(seed: int = 1) -> Ed25519PrivateKey:
    """Return the Ed25519 test key number *seed*; nothing real is signed with it."""
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def _private(seed: int) -> keys.PrivateKey:
    return private_key(seed) if seed < P256 else ec.derive_private_key(seed, ec.SECP256R1())


def public_key(seed: int = 1) -> keys.PublicKey:
    """Return its public half."""
    return keys.of_crypto(_private(seed).public_key(), "test")


def key_file(folder: Path, seed: int = 1) -> Path:
    """Write the test key number *seed* to *folder* and return its file."""
    path = folder / f"key-{seed}.pem"
    path.write_bytes(
        _private(seed).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    return path


def checklist_toml(controls: tuple[tuple[str, str, bool], ...] = CONTROLS) -> bytes:
    """Return a checklist in the plain form."""
    lines = ['# One control per line.\nformat = "sealrun/checklist-v1"\n']
    for control, stage, deployment in controls:
        lines.append(
            f'\n[[control]]\nid = "{control}"\npart = "runtime"\nstage = "{stage}"\ntitle = "About {control}"\n'
            f'solution = "Mend it."\n{"deployment = true" if deployment else ""}\n'
        )
    return "".join(lines).encode()


def outcome(control: str, kind: OutcomeKind = OutcomeKind.PASSED, warning: str = "") -> Outcome:
    """Return an outcome of *control*."""
    ok = kind is not OutcomeKind.FAILED
    made = check(control, ok, seen="what was seen: äß→", expected="what was expected", remedy="mend it", warning=warning)
    return (
        made
        if kind in (OutcomeKind.PASSED, OutcomeKind.FAILED)
        else Outcome(control=control, outcome=kind, seen=made.seen, expected=made.expected, warning=warning)
    )


@dataclass
class Draft:
    """What goes into a bundle. `kinds` and `warnings` say how a control ended; everything else has a good default."""

    version: int = 2
    controls: tuple[tuple[str, str, bool], ...] = CONTROLS
    release: str = "1.0.0"
    posture: str = "research"
    seed: int = 1
    cosigners: tuple[int, ...] = ()
    judged_at: str = DAY
    days: int = 90
    until: str = ""
    promotable: bool | None = None
    passed: bool | None = None
    commit: str | None = "c0ffee" + "0" * 34
    clean: bool = True
    network: str = "denied"
    lock: digest.Sha256 = _LOCK_SHA256
    kinds: dict[str, OutcomeKind] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=lambda: {"release.key": "NOT FOR PRODUCTION"})
    findings: tuple[Finding, ...] = ()
    advisories: tuple[Finding, ...] = ()
    policy: dict[str, bytes] = field(default_factory=lambda: {"checklist.toml": checklist_toml(), "gates.toml": b"# gates\n"})
    locks: dict[str, bytes] = field(default_factory=lambda: {"tool.txt": _LOCK})
    candidate: dict[str, bytes] = field(default_factory=lambda: {"model.onnx": b"weights", "tokenizer/vocab.json": b"{}"})
    snapshot: bytes = _SNAPSHOT
    large: digest.Manifest = ()
    extra: dict[str, bytes] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    edits: dict[str, Edit] = field(default_factory=dict)
    edit_tar: Edit = same
    edit_manifest: Edit = same
    edit_release: Edit = same
    edit_envelopes: Edit = same
    attested: Callable[[list[str]], list[str]] = list

    def write(self, folder: Path) -> Path:
        """Make the bundle in *folder* and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        members = self._members()
        listed = manifest.describe(self.title, members).replace(b"bundle-v2", f"bundle-v{self.version}".encode())
        described = self.edit_manifest(listed)
        tar = self.edit_tar(_archive({bundle.MANIFEST: described, **members}))
        report = b"<!doctype html><title>report</title>\n"
        made = {
            f"{self.title}{bundle.SUFFIX}": tar,
            sign.REPORT: report,
            **({} if self.version == 1 else {bundle.MANIFEST: described}),
        }
        subjects = sign.subjects({name: digest.of_bytes(data) for name, data in made.items()}, self._candidate())
        lines = {} if self.version == 1 else self._attestations(subjects, members)
        lines |= {name: members[name] for name in sorted(members) if name.startswith(("statements/", "attestations/"))}
        attested = self.attested(list(lines))
        release = sign.release_statement(
            subjects=subjects, title=self.title, policy=digest.of_manifest(_described(self.policy)), judged_at=self.judged_at,
            posture=self.posture, passed=self._passed(), sealrun="0.1.0",  # type: ignore[arg-type]
            attestations=[(name, digest.of_bytes(lines.get(name, b""))) for name in attested],
        )  # fmt: skip
        payloads = [self.edit_release(files.readable_json(release)), *(lines.get(name, b"{}") for name in attested)]
        signing = [signers.of_file(key_file(folder, seed)) for seed in (self.seed, *self.cosigners)]
        envelopes = sign.sign(payloads, *signing)
        for seed in self.cosigners:
            (folder / f"key-{seed}.pem").unlink()
        (folder / f"key-{self.seed}.pem").unlink()
        path = folder / f"{self.title}{bundle.SUFFIX}"
        path.write_bytes(tar)
        (folder / f"{self.title}{sign.SUFFIX}").write_bytes(self.edit_envelopes(envelopes))
        (folder / sign.REPORT).write_bytes(report)
        return path

    @property
    def title(self) -> str:
        """NAME-VERSION."""
        return f"tiny-{self.release}"

    def _attestations(self, subjects: tuple[Resource, ...], members: Mapping[str, bytes]) -> dict[str, bytes]:
        models = manifest.Artifacts(baseline=_described({"model.onnx": b"old"}), candidate=self._candidate(), data=())
        basis = attest.Basis(
            subjects=subjects, plan=self._plan(), lines=manifest.decode(self._checklist(), checklist.Checked, "").lines,
            artifacts=models if manifest.DIGESTS in members else manifest.NO_ARTIFACTS,
            statements={stage: self._statement(stage, found) for stage, found in self._evidence().items()},
            members={manifest.CHECKLIST: "", **{name: digest.of_bytes(data) for name, data in sorted(members.items())}},
            read=lambda name: self.snapshot if name == attest.SNAPSHOT else members.get(name),
        )  # fmt: skip
        made = {urn: payload for urn, payload in attest.attestations(basis).items() if payload is not None}
        return {urn: self.edits.get(urn, same)(payload) for urn, payload in made.items()}

    def _members(self) -> dict[str, bytes]:
        evidence = self._evidence()
        statements = {stage: self._statement(stage, evidence[stage]) for stage in evidence}
        members = {
            manifest.RELEASE: b'name = "tiny"\n',
            **{f"policy/{name}": data for name, data in self.policy.items()},
            **{f"requirements/{name}": data for name, data in self.locks.items()},
            **{f"evidence/{stage}/{name}": data for stage, found in evidence.items() for name, data in found.items()},
            **{f"statements/{stage}.json": files.readable_json(statement) for stage, statement in statements.items()},
            manifest.PLAN: files.readable_json(self._plan()),
            **self.extra,
        }
        edits = {name: edit for name, edit in self.edits.items() if not name.startswith("evidence/")}
        return {name: edits.get(name, same)(data) for name, data in members.items() if name not in self.dropped}

    def _evidence(self) -> dict[str, dict[str, bytes]]:
        pack = {
            "files": {"report": {"path": "report.json", "digest": f"sha256:{digest.of_bytes(_PACK)}"}},
            "reports": {"baseline": f"sha256:{digest.of_bytes(b'{}\n')}"},
        }
        models = {"baseline": _described({"model.onnx": b"old"}), "candidate": self._candidate(), "data": ()}
        certificate = {"certificate/manifest.json": digest.canonical_json(pack), "certificate/report.json": _PACK}
        evidence = {
            "lock": {"locks.json": b"{}\n"}, "sbom": {"tool.cdx.json": b"{}\n"},
            "audit": {"pip-audit.json": b"{}\n", "snapshot.json": self.snapshot},
            "secrets": {"findings.json": b"[]\n"}, "model": {"digests.json": files.readable_json(models)},
            "certify": {"baseline-report.json": b"{}\n", **certificate}, "verify": {"receipt.json": b"{}\n"},
            "bundle": {"release.pub": public_key(self.seed).pem, "checklist.json": self._checklist(),
                       "ml-bom.cdx.json": b'{"bomFormat": "CycloneDX", "ratio": 1.25e-05}\n'},
        }  # fmt: skip
        asked = {stage for _, stage, _ in self.controls}
        evidence = {stage: found for stage, found in evidence.items() if stage in asked}
        gone = {tuple(name.split("/", 2)[1:]) for name in self.dropped if name.startswith("evidence/")}
        edited = {
            stage: {name: self.edits.get(f"evidence/{stage}/{name}", same)(data) for name, data in found.items()}
            for stage, found in evidence.items()
        }
        return {
            stage: {name: data for name, data in found.items() if (stage, name) not in gone} for stage, found in edited.items()
        }

    def _outcomes(self) -> dict[str, tuple[Outcome, ...]]:
        said: dict[str, tuple[Outcome, ...]] = {}
        for control, stage, _ in self.controls:
            made = outcome(control, self.kinds.get(control, OutcomeKind.PASSED), self.warnings.get(control, ""))
            said[stage] = (*said.get(stage, ()), made)
        return said

    def _checklist(self) -> bytes:
        controls = checklist.parse(checklist_toml(self.controls))
        return files.readable_json(checklist.answer(controls, self._outcomes(), VerificationFailed))

    def _candidate(self) -> digest.Manifest:
        return tuple(sorted((*_described(self.candidate), *self.large)))

    def _passed(self) -> bool:
        return OutcomeKind.FAILED not in self.kinds.values() if self.passed is None else self.passed

    def _digest(self) -> tuple[str, str]:
        content = digest.of_json([digest.of_bytes(b'name = "tiny"\n'), digest.of_manifest(_described(self.policy))])
        return content, digest.of_json([content, self.judged_at])

    def _plan(self) -> manifest.PlanDocument:
        content, whole = self._digest()
        promotable = self._passed() and self.posture == "production"
        return manifest.PlanDocument(
            format="sealrun/plan-v1", name="tiny", version=self.release, posture=self.posture, judged_at=self.judged_at,  # type: ignore[arg-type]
            promotable=promotable if self.promotable is None else self.promotable,
            release=digest.of_bytes(b'name = "tiny"\n'), policy=digest.of_manifest(_described(self.policy)),
            content=content, digest=whole,
            retention=manifest.Retention(name="research", days=self.days, reason="Trial runs.", until=self.until or self._last_day()),
            source=manifest.Source(commit=self.commit, clean=self.clean),
        )  # fmt: skip

    def _last_day(self) -> str:
        try:
            return (date.fromisoformat(self.judged_at) + timedelta(days=self.days)).isoformat()
        except ValueError:  # a draft may be about no day at all
            return "2026-04-15"

    def _statement(self, stage: str, evidence: Mapping[str, bytes]) -> StageStatement:
        said = self._outcomes()[stage]
        locks = tuple(
            Resource(name=f"requirements/{name}", digest=Sha256Set(sha256=digest.of_bytes(data)))
            for name, data in sorted(self.locks.items())
        )
        tool = Tool(name="tool", version="1.0", environment="tool", lock=self.lock)
        return StageStatement(
            subject=resources(_described(evidence)),
            predicate=StagePredicate(
                stage=stage, sealrun="0.1.0", python="3.12.1", plan=self._digest()[1], judged_at=self.judged_at,
                reuse_key=digest.of_bytes(stage.encode()), inputs=locks if stage == "lock" else (),
                tools=(tool,) if stage == "audit" else (), network=self.network if stage == "audit" else "unused",  # type: ignore[arg-type]
                verdict=verdict(said), outcomes=said, findings={"secrets": self.findings, "audit": self.advisories}.get(stage, ()),
                gathered=tuple(sorted(evidence)),
            ),
        )  # fmt: skip


def small() -> Draft:
    """Return the smallest bundle there can be."""
    return Draft(controls=SMALLEST, policy={"checklist.toml": checklist_toml(SMALLEST)}, candidate={"m": b"w"})


def edited(change: Callable[[Any], Any]) -> Edit:
    """Return an edit of a JSON document of ours: *change* gets the value and returns the new one, or None to keep it."""

    def edit(data: bytes) -> bytes:
        value = json.loads(data)
        changed = change(value)
        return files.readable_json(value if changed is None else changed)

    return edit


def _described(contents: Mapping[str, bytes]) -> digest.Manifest:
    return tuple(
        sorted(digest.FileDigest(path=name, sha256=digest.of_bytes(data), size=len(data)) for name, data in contents.items())
    )


def _archive(members: Mapping[str, bytes]) -> bytes:
    """Write the archive; names that the writer refuses go in unchecked."""
    names = bundle._ordered(members)
    parts = []
    for name in names:
        data = members[name]
        parts += [bundle._header(name, len(data)), data, bytes(-len(data) % 512)]
    content = b"".join(parts) + bytes(1024)
    return content + bytes(-len(content) % 10240)
