"""The ladder of checks under a certificate of InvarLock 0.3.7: what each control of the stage verify rests on.

Rules: pure; what the certificate and the reports must say is computed from the release, the windows and the model gate's
digests, and compared; nothing is taken from the certificate that another check does not hold against something outside of it;
missing is failed.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from sealrun import digest, files, venvs
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.policy.model import Plan
from sealrun.reports import invarlock03, recompute
from sealrun.reports.invarlock03 import Certificate, Manifest, Report, Verified, Windows
from sealrun.reports.ladder import Rung, at_least, near, same

_SIDES = ("baseline", "candidate")
_INTERVAL = "bca_paired_delta_log"
_ALPHA = 0.05


class Witness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Windows scored again: mean losses by id, and the windows that begin no text of the data."""

    losses: dict[str, float | None]
    foreign: tuple[str, ...]


class Recomputed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our own figures: mean losses and perplexities, their ratio, and the interval of its logarithm."""

    windows: int
    baseline_loss: float
    candidate_loss: float
    baseline_perplexity: float
    candidate_perplexity: float
    ratio: float
    log_ratio: recompute.Interval


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is looked at: evidence folders, what makes the manifest as it must be, and the number of texts in the data.

    Reading raises VerificationFailed.
    """

    plan: Plan
    root: Path
    certify: Path
    verify: Path
    bind: Callable[[], Manifest]
    cases: int

    @cached_property
    def expected(self) -> Manifest:
        """The manifest as it must be. Raises InputMissing when a file that it names is not there."""
        return self.bind()

    @cached_property
    def certificate(self) -> Certificate:
        """The certificate."""
        return self.read(self.certify / "certificate" / invarlock03.CERTIFICATE, Certificate)

    @cached_property
    def reports(self) -> Mapping[str, Report]:
        """Both run reports."""
        return {side: self.read(self.certify / f"{side}-report.json", Report) for side in _SIDES}

    def said[T](self, name: str, kind: type[T]) -> T:
        """What verify left."""
        return self.read(self.verify / name, kind)

    def finals(self) -> dict[str, Windows]:
        """The windows that the certificate is about."""
        return {side: report.evaluation_windows.final for side, report in self.reports.items()}

    def read[T](self, path: Path, kind: type[T]) -> T:
        """Return the kept file *path* as a value."""
        try:
            return invarlock03.parse(files.read_bytes(path, "invarlock-0.3"), kind, path.name)
        except InputMissing as error:
            raise VerificationFailed(f"{path.name}: is missing; run the stage again") from error


def verified(evidence: Evidence) -> Iterator[Rung]:
    """Yield what 0.3.7's own verifier said."""
    said = evidence.said("verified.json", Verified)
    yield same("verdict of invarlock verify", said.summary.get("ok"), True)
    yield same("certificates it looked at", len(said.results), 1)
    yield same("ratio it saw", said.results[0].get("ratio_vs_baseline"), evidence.certificate.primary_metric.ratio_vs_baseline)


def settings(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of how the certificate was made."""
    certificate, plan = evidence.certificate, evidence.plan
    meta, asked = certificate.meta, invarlock03.preset(plan, evidence.cases)["dataset"]
    policy = certificate.provenance.get("policy", {})
    yield same("schema", certificate.schema_version, "v1")
    yield same("profile", meta.profile, plan.release.certify.profile)
    yield same("tier", certificate.auto.get("tier"), invarlock03.TIER)
    yield same("adapter", meta.adapter, invarlock03.ADAPTER)
    yield same("device", meta.device, plan.release.certify.device)
    yield same("policy digest", certificate.auto.get("policy_digest"), invarlock03.POLICY_DIGEST)
    yield same("policy digest of its origin", policy.get("policy_digest"), invarlock03.POLICY_DIGEST)
    yield same("policy overrides", policy.get("overrides"), [])
    yield same("digest of the thresholds", certificate.policy_digest.get("thresholds_hash"), invarlock03.THRESHOLDS)
    for name in ("python", "numpy", "torch"):
        yield same(f"seed of {name}", meta.seeds.get(name), invarlock03.SEED)
    for name in ("provider", "split", "seq_len", "stride"):
        yield same(f"dataset {name}", certificate.dataset.get(name), asked[name])
    for name in ("preview", "final"):
        yield same(f"{name} windows", certificate.dataset.get("windows", {}).get(name), asked[f"{name}_n"])
    yield from _interval_settings(evidence)
    for name in invarlock03.FLAGS:
        yield same(f"flag {name}", certificate.validation.get(name), True)
    yield same("number of flags", len(certificate.validation), len(invarlock03.FLAGS))
    yield from _tools(evidence)


def _interval_settings(evidence: Evidence) -> Iterator[Rung]:
    stats = evidence.certificate.dataset.get("windows", {}).get("stats", {})
    said = stats.get("bootstrap", {})
    for name, wanted in (("method", _INTERVAL), ("alpha", _ALPHA), ("seed", invarlock03.SEED)):
        yield same(f"interval: {name}", said.get(name), wanted)
    yield at_least("interval: replicates", said.get("replicates"), evidence.plan.profile.min_replicates)
    for name, wanted in (("window_match_fraction", 1.0), ("window_overlap_fraction", 0.0), ("coverage_ok", True)):
        yield same(f"windows: {name.replace('_', ' ')}", stats.get(name), wanted)


def _tools(evidence: Evidence) -> Iterator[Rung]:
    lock = venvs.lock_path(evidence.root, "certify-0.3")
    for side, report in evidence.reports.items():
        yield same(f"InvarLock of the {side}", report.meta.invarlock_version, venvs.locked_version(lock, "invarlock"))
        for name in ("python", "numpy", "torch"):
            yield same(f"seed of {name}, {side}", report.meta.seeds.get(name), invarlock03.SEED)
    torch = str(evidence.certificate.provenance.get("env_flags", {}).get("torch", "")).partition("+")[0]
    yield same("torch", torch, venvs.locked_version(lock, "torch"))
    ran = invarlock03.evaluated(evidence.certificate, evidence.reports["candidate"])
    for name in dict.fromkeys((*invarlock03.ORDER, *evidence.plan.profile.required_guards.get("invarlock-0.3", ()))):
        yield same(f"guard {name}", "evaluated" if name in ran else "not evaluated", "evaluated")


def recomputed(evidence: Evidence) -> Recomputed:
    """Return our own figures from the windows. Raises VerificationFailed."""
    pairs = invarlock03.ratio_pairs(evidence.reports)
    weights = invarlock03.losses(evidence.finals()["baseline"], "baseline")
    total = math.fsum(weight for weight, _ in weights.values())
    baseline, candidate = (math.fsum(side) / total for side in zip(*pairs.values(), strict=True))
    moved = {str(name): (weights[name][0], pairs[str(name)][1] - pairs[str(name)][0]) for name in sorted(weights)}
    return Recomputed(
        windows=len(pairs),
        baseline_loss=baseline,
        candidate_loss=candidate,
        baseline_perplexity=math.exp(baseline),
        candidate_perplexity=math.exp(candidate),
        ratio=math.exp(candidate - baseline),
        log_ratio=recompute.interval(moved),  # the same draws of weighted windows, of a difference instead of a ratio
    )


def figures(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of the certificate's figures against ours."""
    ours, theirs, profile = recomputed(evidence), evidence.certificate.primary_metric, evidence.plan.profile
    reports, tolerance = evidence.reports, profile.recompute_tolerance
    yield same("metric", theirs.kind, "ppl_causal")
    yield same("metric is valid and not degraded", (theirs.invalid, theirs.degraded), (False, False))
    for name, got, wanted in (
        ("candidate's perplexity", theirs.final, ours.candidate_perplexity),
        ("candidate's perplexity in its report", reports["candidate"].metrics.primary_metric.final, ours.candidate_perplexity),
        ("baseline's perplexity", evidence.certificate.baseline_ref.primary_metric.final, ours.baseline_perplexity),
        ("baseline's perplexity in its report", reports["baseline"].metrics.primary_metric.final, ours.baseline_perplexity),
        ("ratio", theirs.ratio_vs_baseline, ours.ratio),
        ("ratio in the candidate's report", reports["candidate"].metrics.primary_metric.ratio_vs_baseline, ours.ratio),
    ):
        yield near(name, got, wanted, tolerance * max(1.0, abs(wanted)))
    for side, shown, claimed in (
        ("candidate", reports["candidate"].evaluation_windows.preview, theirs.preview),
        ("baseline", reports["baseline"].evaluation_windows.preview, reports["baseline"].metrics.primary_metric.preview),
    ):
        weighed = invarlock03.losses(shown, side)
        mean = math.fsum(loss for _, loss in weighed.values()) / math.fsum(weight for weight, _ in weighed.values())
        yield near(f"preview perplexity of the {side}", claimed, math.exp(mean), tolerance * max(1.0, math.exp(mean)))
    yield from _interval(ours, theirs, profile.interval_tolerance)


def _interval(ours: Recomputed, theirs: invarlock03.Metric, share: float) -> Iterator[Rung]:
    ci, shown = theirs.ci or (None, None), theirs.display_ci or (None, None)
    allowed = share * ours.log_ratio.width
    for place, end, wanted in ((0, "lower", ours.log_ratio.lower), (1, "upper", ours.log_ratio.upper)):
        yield near(f"{end} end of the interval", ci[place], wanted, allowed)
        yield near(f"{end} end as a ratio", shown[place], math.exp(wanted), math.expm1(allowed) * math.exp(wanted))


def sample(evidence: Evidence) -> dict[str, tuple[int, ...]]:
    """Return the windows to score again by id: which ones follows from the losses themselves, so that any edit draws others."""
    pairs = invarlock03.ratio_pairs(evidence.reports)
    final, count = evidence.finals()["baseline"], evidence.plan.profile.witness_cases
    seed = digest.of_json([[name, *losses] for name, losses in pairs.items()])
    telling = sorted(pairs, key=lambda name: (pairs[name][1] - pairs[name][0], name))[: count // 2]
    drawn = sorted(pairs.keys() - set(telling), key=lambda name: digest.of_bytes(f"{seed} {name}".encode()))
    chosen = {*telling, *drawn[: count - len(telling)]}
    return {str(n): ids for n, ids in zip(final.window_ids, final.input_ids, strict=True) if str(n) in chosen}


def witnessed(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of the second look against the reports."""
    again, tolerance = evidence.said("witness.json", dict[str, Witness]), evidence.plan.profile.witness_tolerance
    chosen = sorted(sample(evidence))
    for side, final in evidence.finals().items():
        second = again[side] if side in again else Witness(losses={}, foreign=())
        yield same(f"windows of the {side} scored again", sorted(second.losses), chosen)
        yield same(f"windows of the {side} that begin no text of the data", ", ".join(second.foreign) or "none", "none")
        stated = dict(zip(map(str, final.window_ids), final.logloss, strict=True))
        deviation, name = max(
            ((_apart(stated.get(n), loss), n) for n, loss in second.losses.items()), default=(math.inf, "none")
        )
        yield near(f"loss of the {side}, most of all of window {name}", deviation, 0.0, tolerance)


def _apart(one: float | None, other: float | None) -> float:
    return math.inf if one is None or other is None else abs(one - other) / max(1.0, abs(one))


def binding(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of what belongs together."""
    found = evidence.read(evidence.certify / "certificate" / invarlock03.MANIFEST, Manifest)
    for name, got, wanted in _digests(found, evidence.expected):
        yield same(name, got, wanted)
    preset = _plain(evidence.certify / "certificate" / invarlock03.PRESET)
    yield same("preset", digest.of_json(preset), digest.of_json(invarlock03.preset(evidence.plan, evidence.cases)))
    certificate, reports = evidence.certificate, evidence.reports
    plain = _plain(evidence.certify / "certificate" / invarlock03.CERTIFICATE)
    named = plain.pop("run_id", None)
    yield same("id of the certificate", named, invarlock03.identified(plain)["run_id"])
    yield same("candidate of the certificate", certificate.meta.model_id, invarlock03.shown("candidate"))
    yield same("baseline of the certificate", certificate.baseline_ref.model_id, invarlock03.shown("baseline"))
    for side, report in reports.items():
        yield same(f"model of the {side}'s report", report.meta.model_id, invarlock03.shown(side))
        yield same(f"tokenizer of the {side}'s report", report.meta.tokenizer_hash, certificate.meta.tokenizer_hash)
        for name in ("dataset", "split", "seq_len", "dataset_hash", "preview_hash", "final_hash"):
            wanted = reports["baseline"].data.get(name)
            yield same(f"{name.replace('_', ' ')} of the {side}'s report", report.data.get(name), wanted)
    said = certificate.dataset.get("hash", {}).get("dataset")
    yield same("dataset of the certificate", said, reports["baseline"].data.get("dataset_hash"))
    yield same("tokenizer of the baseline", certificate.baseline_ref.tokenizer_hash, certificate.meta.tokenizer_hash)
    for half in ("preview", "final"):
        left, right = (getattr(report.evaluation_windows, half) for report in reports.values())
        yield same(f"{half} windows: ids", right.window_ids, left.window_ids)
        yield same(f"{half} windows: tokens", digest.of_json(right.input_ids), digest.of_json(left.input_ids))


def _plain(path: Path) -> dict[str, Any]:
    value = files.parse_json(files.read_bytes(path, "certificate"), path.name, VerificationFailed)
    if not isinstance(value, dict):
        raise VerificationFailed(f"{path.name}: no JSON object; run `nox -s certify` again")
    return value


def _digests(found: Manifest, wanted: Manifest) -> Iterator[tuple[str, object, object]]:
    yield "format of the certificate's manifest", (found.format, found.engine), (wanted.format, wanted.engine)
    for name in sorted(wanted.files):
        yield f"file {name}", found.files.get(name), wanted.files[name]
    yield "files", sorted(found.files), sorted(wanted.files)
    for side in _SIDES:
        yield f"report of the {side}", found.reports.get(side), wanted.reports[side]
        yield f"model of the {side}", found.models.get(side), wanted.models[side]
    yield "data", found.data, wanted.data
