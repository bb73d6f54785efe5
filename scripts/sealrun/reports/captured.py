"""What InvarLock is given: runs, comparison policy, request and trust inputs, built from records and our own limits.

Rules: pure; every digest that InvarLock computes over these values can be computed here first (sha256 of canonical JSON
with a newline), so that nothing about them has to be read back from the evidence that is under judgement. *Baseline*
and *candidate* are our words; `subject` is InvarLock's for the candidate.

Source: the JSON schemas that invarlock 0.17 ships (evaluation_run, comparison_policy, evaluation_request_v2,
trust_inputs_v2).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal

from msgspec import Struct

from sealrun import digest
from sealrun.policy.model import Plan, Profile
from sealrun.reports.artifacts import Artifacts, sha256_of
from sealrun.reports.records import Case, Record, Records

METRIC = "normalized_nll_per_utf8_byte"
EXACT_MATCH = "exact_match"  # beside it, where the data has references
VERIFIER = "sealrun-verify"


class Question(Struct, frozen=True, kw_only=True, dict=True):
    """What InvarLock is asked: two runs and the policy to compare them under."""

    baseline: dict[str, Any]
    candidate: dict[str, Any]
    policy: dict[str, Any]

    @cached_property
    def anchors(self) -> "Anchors":
        """The digests that evidence about this question must carry."""
        sides = {"baseline": named(self.baseline), "subject": named(self.candidate)}
        normalized = {
            "format": "invarlock/evaluation-request-v2",
            "execution": {"mode": "captured"},
            "comparison": {
                "policy_digest": named(self.policy),
                **{side: {"adapter": "invarlock", "run_digest": value} for side, value in sides.items()},
            },
        }
        return Anchors(
            baseline=sides["baseline"],
            candidate=sides["subject"],
            policy=named(self.policy),
            request=named(normalized),
        )


class Anchors(Struct, frozen=True, kw_only=True):
    """The digests by which InvarLock's evidence must name its inputs, each `sha256:` and 64 hex digits."""

    baseline: str
    candidate: str
    policy: str
    request: str


class TrustAnchors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a verifier is told to expect, in InvarLock's words."""

    baseline_run_digest: str
    subject_run_digest: str
    request_digest: str
    evidence_signer_fingerprint: str


class Trust(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """InvarLock's `trust-inputs-v2`."""

    format: Literal["invarlock/trust-inputs-v2"] = "invarlock/trust-inputs-v2"
    kind: Literal["captured"] = "captured"
    policy: dict[str, str]
    anchors: TrustAnchors
    verifier: dict[str, str]


def named(value: Any) -> str:
    """Return InvarLock's digest of *value*."""
    return f"sha256:{digest.of_json(value)}"


def question(plan: Plan, cases: Sequence[Case], scored: Mapping[str, Records], found: Artifacts) -> Question:
    """Return the question that *plan* asks about *scored* (by role), with models and tokenizers as the gate *found* them."""
    release = plan.release
    tokenizers = {
        role: sha256_of(found.model(role), model.tokenizer)
        for role, model in (("baseline", release.baseline), ("candidate", release.candidate))
    }
    runs = {
        role: run(records, cases, role=role, artifact=digest.of_manifest(found.model(role))) for role, records in scored.items()
    }
    chosen = policy(
        plan.gates.profile[release.certify.profile],
        cases,
        window=release.certify.window,
        tokenizers=(tokenizers["baseline"], tokenizers["candidate"]),
    )
    return Question(baseline=runs["baseline"], candidate=runs["candidate"], policy=chosen)


def run(records: Records, cases: Sequence[Case], *, role: str, artifact: digest.Sha256) -> dict[str, Any]:
    """Return the `evaluation-run-v1` of one model; *artifact* is the digest of its folder."""
    header = records.header
    source = {"name": header.runtime, "version": header.runtime_version}
    shared = {
        "basis": "reference_continuation",
        "artifact_digest": f"sha256:{artifact}",
        "configuration_digest": named(configuration(header.window, prompted(cases))),
        "tokenizer_digest": f"sha256:{header.tokenizer_sha256}",
        "source": source,
    }
    return {
        "format": "invarlock/evaluation-run-v1",
        "source": source,
        "run_id": role,
        "artifact_digest": f"sha256:{artifact}",
        "source_digest": f"sha256:{header.model_sha256}",
        "score_provenance": {},
        "records": [_row(record, case, shared) for record, case in zip(records.cases, cases, strict=True)],
    }


def prompted(cases: Sequence[Case]) -> bool:
    """Return whether the cases are references behind prompts, so that models answer too."""
    return any(case.prompt for case in cases)


def configuration(window: int, references: bool) -> dict[str, Any]:
    """Return how likelihood is measured, the same for every runtime."""
    every = "every token but the first, special tokens as the tokenizer adds them"
    return {
        "scored": "every token that reaches beyond the prompt" if references else every,
        "logarithm": "natural",
        "window_tokens": window,
        "window_overlap": 1,
    }


def policy(profile: Profile, cases: Sequence[Case], *, window: int, tokenizers: tuple[str, str]) -> dict[str, Any]:
    """Return the `comparison-policy-v1` of *profile*; *tokenizers* are the sha256 of the baseline's and the candidate's."""
    metric = {
        "name": METRIC,
        "kind": METRIC,
        "configuration": {
            "configuration_digest": named(configuration(window, prompted(cases))),
            "baseline_tokenizer_digest": f"sha256:{tokenizers[0]}",
            "subject_tokenizer_digest": f"sha256:{tokenizers[1]}",
        },
        "direction": "lower",
        "unit": "nats_per_utf8_byte",
        "aggregation": "mean",
        "minimum_count": profile.min_cases,
        "maximum_interval_width": profile.max_interval_width,
        "ratio_max": profile.max_ratio,
    }
    return {
        "format": "invarlock/comparison-policy-v1",
        "metrics": [metric, *([_exact_match(profile)] if prompted(cases) else [])],
        "slices": [],
        "expected_case_set_digest": named(_case_set(cases)),
    }


def _exact_match(profile: Profile) -> dict[str, Any]:
    return {
        "name": EXACT_MATCH,
        "kind": EXACT_MATCH,
        "configuration": {},
        "direction": "higher",
        "unit": "score",
        "aggregation": "mean",
        "minimum_count": profile.min_cases,
        "maximum_interval_width": profile.max_score_interval_width,
        "maximum_regression": profile.max_score_drop,
    }


def request() -> dict[str, Any]:
    """Return the `evaluation-request-v2` for a folder with baseline.json, candidate.json and policy.json in it."""
    return {
        "format_version": "invarlock/evaluation-request-v2",
        "execution": {"mode": "captured"},
        "comparison": {
            "baseline": {"adapter": "invarlock", "path": "baseline.json"},
            "subject": {"adapter": "invarlock", "path": "candidate.json"},
            "policy": "policy.json",
        },
        "output": {"evidence": "certificate"},
    }


def trust(expected: Anchors, *, signer: str, key: str) -> Trust:
    """Return the `trust-inputs-v2`: *signer* is the evidence key's fingerprint, *key* the verifier key's file name."""
    return Trust(
        policy={"path": "policy.json"},
        anchors=TrustAnchors(
            baseline_run_digest=expected.baseline,
            subject_run_digest=expected.candidate,
            request_digest=expected.request,
            evidence_signer_fingerprint=signer,
        ),
        verifier={"identity": VERIFIER, "signing_key_path": key},
    )


def _row(record: Record, case: Case, shared: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {**_planned(case), "output": record.output, "scores": {}, "error": record.error, "context": {}}
    if record.logprob_sum is not None:
        row["likelihood"] = {
            **shared,
            "logprob_sum": record.logprob_sum,
            "token_count": record.token_count,
            "utf8_byte_count": record.utf8_byte_count,
            "input_digest": _text(case.prompt),
            "reference_digest": _text(case.text),
        }
    return row


@lru_cache(maxsize=16384)  # both runs are about the same texts
def _text(text: str) -> str:
    return named(text)


def _planned(case: Case) -> dict[str, Any]:
    return {"id": case.id, "input": case.prompt, "expected": case.text, "metadata": {}}


def _case_set(cases: Sequence[Case]) -> dict[str, Any]:
    planned = sorted((_planned(case) for case in cases), key=lambda row: str(row["id"]))
    return {"format": "invarlock/evaluation-case-set-v1", "cases": planned}
