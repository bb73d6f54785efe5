"""The question that InvarLock is asked about two imported runs, and the ladder under its certificate of them.

Rules: pure; the scores that count are read from the exports by ourselves and held against the runs in the certificate, case by
case; means, difference and interval are recomputed from them; the receipt, the settings and the signatures are checked as for
captured runs. What nobody witnessed is not said to have been: `verify.witnessed` does not apply.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.policy.model import ImportedRef, Plan
from sealrun.reports import captured_checks, exports, scores
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.captured import Anchors, named
from sealrun.reports.ladder import Rung, same
from sealrun.reports.records import Records
from sealrun.reports.scores import Observation

SIDES = {"baseline": "baseline", "candidate": "subject"}


class Question(Struct, frozen=True, kw_only=True):
    """The policy, and the digests that evidence must carry: those of the runs as the certificate holds them."""

    policy: dict[str, Any]
    anchors: Anchors


@dataclass(frozen=True, kw_only=True)
class Evidence(captured_checks.Evidence):
    """What is looked at, with exports in the place of records."""

    assurance: str = "recorded"
    interval_method: str = "paired_mean_shake256_percentile_v1"

    @property
    def metric_name(self) -> str:
        """The score that is compared."""
        return imported(self.plan).metric

    @cached_property
    def scored(self) -> dict[str, Records]:
        """No records: nothing was scored here."""
        return {}

    @cached_property
    def exports(self) -> dict[str, bytes]:
        """The exports as they were given."""
        return {side: files.read_bytes(self.certify / "exports" / side, "certify") for side in SIDES}

    @cached_property
    def observed(self) -> dict[str, tuple[Observation, ...]]:
        """The cases of both exports."""
        ref = imported(self.plan)
        return {
            side: exports.observations(data, ref, f"exports/{side}", VerificationFailed) for side, data in self.exports.items()
        }

    @cached_property
    def question(self) -> Question:  # type: ignore[override]
        """What InvarLock had to be asked."""
        runs = {
            side: _named(files.read_bytes(self.pack / "records" / f"{name}.json", "certificate"))
            for side, name in SIDES.items()
        }
        return question(self.plan, self.found, runs)


def imported(plan: Plan) -> ImportedRef:
    """Return what the release imports. Raises VerificationFailed, which load_plan has ruled out."""
    if plan.release.certify.imported is None:
        raise VerificationFailed("release.toml: engine imported needs [certify.imported]")
    return plan.release.certify.imported


def request(plan: Plan, found: Artifacts) -> dict[str, Any]:
    """Return the `evaluation-request-v2` for a folder with both exports and policy.json in it."""
    sides = {name: {**_side(plan, found, side), "path": side} for side, name in SIDES.items()}
    return {
        "format_version": "invarlock/evaluation-request-v2",
        "execution": {"mode": "captured"},
        "comparison": {**sides, "policy": "policy.json"},
        "output": {"evidence": "certificate"},
    }


def question(plan: Plan, found: Artifacts, runs: Mapping[str, str]) -> Question:
    """Return the question about *runs*, which are digests by side."""
    chosen = policy(plan)
    normalized = {
        "format": "invarlock/evaluation-request-v2",
        "execution": {"mode": "captured"},
        "comparison": {
            "policy_digest": named(chosen),
            **{name: {**_side(plan, found, side), "run_digest": runs[side]} for side, name in SIDES.items()},
        },
    }
    anchors = Anchors(baseline=runs["baseline"], candidate=runs["candidate"], policy=named(chosen), request=named(normalized))
    return Question(policy=chosen, anchors=anchors)


def policy(plan: Plan) -> dict[str, Any]:
    """Return the `comparison-policy-v1` of the release's profile."""
    ref, profile = imported(plan), plan.profile
    metric = {
        "name": ref.metric,
        "kind": "recorded",
        "configuration": {},
        "direction": ref.direction,
        "unit": "score",
        "aggregation": "mean",
        "minimum_count": profile.min_cases,
        "maximum_regression": profile.max_score_drop,
        "maximum_interval_width": profile.max_score_interval_width,
        "score_key": ref.metric,
        "accepted_provenance": _provenance(ref),
    }
    return {"format": "invarlock/comparison-policy-v1", "metrics": [metric], "slices": []}


def _side(plan: Plan, found: Artifacts, side: str) -> dict[str, Any]:
    ref = imported(plan)
    return {
        "adapter": ref.adapter,
        "source": {"name": ref.evaluator, "version": ref.version},
        "run_id": side,
        "artifact_digest": f"sha256:{digest.of_manifest(found.model(side))}",
        "score_provenance": {ref.metric: _provenance(ref)},
    }


def _provenance(ref: ImportedRef) -> dict[str, Any]:
    return {"kind": "external_metric", "source": ref.evaluator, "version": ref.version, "unit": "score", "rubric_digest": None}


def figures(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks of every figure against our own."""
    ours, theirs, profile = scores.compare(evidence.observed), evidence.comparison.metrics[0], evidence.profile
    for side in SIDES:
        wanted = side_report(evidence.plan, evidence.found, side, evidence.exports[side])
        written = files.read_bytes(evidence.certify / f"{side}-report.json", "certify")
        yield same(f"{side}-report.json against the export", digest.of_bytes(written), digest.of_bytes(wanted))
    yield from scores.agree(ours, theirs, profile)


def side_report(plan: Plan, found: Artifacts, side: str, data: bytes) -> bytes:
    """Return the report of one side, whose export is *data*. Raises VerificationFailed."""
    ref = imported(plan)
    observed = exports.observations(data, ref, f"exports/{side}", VerificationFailed)
    return exports.report(observed, ref, role=side, export=digest.of_bytes(data), models=found.model(side))


def binding(evidence: Evidence) -> Iterator[Rung]:
    """Yield the checks that the certificate is about these exports, case by case, and these models."""
    ref, asked = imported(evidence.plan), evidence.question.anchors
    for side, name in SIDES.items():
        data = evidence.exports[side]
        pinned = ref.baseline if side == "baseline" else ref.candidate
        yield same(f"{side} export", digest.of_bytes(data), pinned.sha256)
        run: Any = files.parse_json(
            files.read_bytes(evidence.pack / "records" / f"{name}.json", "certificate"),
            f"records/{name}.json",
            VerificationFailed,
        )
        yield same(
            f"{side} artifact of the run",
            run.get("artifact_digest"),
            f"sha256:{digest.of_manifest(evidence.found.model(side))}",
        )
        given = exports.prepared(data, ref, f"exports/{side}", VerificationFailed)
        yield same(f"{side} source of the run", run.get("source_digest"), f"sha256:{digest.of_bytes(given)}")
        yield same(f"{side} evaluator", run.get("source"), {"name": ref.evaluator, "version": ref.version})
        shown = [(row.get("id"), (row.get("scores") or {}).get(ref.metric)) for row in run.get("records", ())]
        yield same(
            f"{side} scores, case by case", sorted(shown) == sorted((c.id, c.score) for c in evidence.observed[side]), True
        )
        bound = asked.baseline if side == "baseline" else asked.candidate
        yield same(f"{side} run that the decision names", getattr(evidence.comparison.bindings, name), bound)
    yield from captured_checks.inventory(evidence)


def _named(data: bytes) -> str:
    return f"sha256:{digest.of_bytes(data)}"
