"""InvarLock 0.3.7's certificate and run reports, as values; and what Sealrun makes of them before it keeps them.

Rules: what differs between two runs on the same bytes (times, speeds, memory, ids drawn from them) and what belongs to the host
is taken out, numbers that are not numbers become null, and both are listed: the rest is strict JSON and the same bytes each
time. The certificate keeps an id, since its schema wants one: it is the digest of everything else. 0.3.7 signs nothing:
certificate, reports and preset are bound by a manifest of ours, and that by the bundle's signature.
"""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from sealrun import digest, files
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.policy.model import Plan, Profile

CERTIFICATE, PRESET, MANIFEST = "evaluation.cert.json", "preset.json", "manifest.json"
LEFT_OUT = "left-out.json"
VERSION, SEED, TIER, ADAPTER = "0.3.7", 42, "balanced", "hf_causal"
GUARDS = ("invariants", "spectral", "rmt", "variance")
ORDER = ("invariants", "variance", "invariants")  # with spectral or rmt its own `verify --profile release` can never pass
FLAGS = (
    "guard_overhead_acceptable", "invariants_pass", "preview_final_drift_acceptable", "primary_metric_acceptable",
    "primary_metric_tail_acceptable", "rmt_stable", "spectral_stable",
)  # fmt: skip
POLICY_DIGEST, THRESHOLDS = "f78f3b972ca44c8b", "bb7f67fee1553688"  # of tier balanced, as 0.3.7 ships it
_PER_ARM = 400
_CALIBRATION, _BUFFER = 24, 0.12  # texts that 0.3.7 sets aside under profile release
_VARIES = {
    "ts", "timestamp", "run_id", "report_hash", "generated_at", "resolved_at", "events_path", "summary_line", "timings",
    "guard_timings", "latency_ms_per_tok", "memory_mb_peak", "memory_snapshots", "system_overhead", "platform", "machine",
}  # fmt: skip


class Evaluated(Struct, frozen=True, kw_only=True):
    """Whether a guard says that it was evaluated."""

    evaluated: bool


class Metric(Struct, frozen=True, kw_only=True):
    """The perplexity; `ci` is of the logarithm of candidate over baseline, and `display_ci` of the ratio."""

    kind: str
    final: float | None = None
    preview: float | None = None
    ratio_vs_baseline: float | None = None
    ci: tuple[float, float] | None = None
    display_ci: tuple[float, float] | None = None
    invalid: bool = False
    degraded: bool = False


class Baseline(Struct, frozen=True, kw_only=True):
    """What the certificate says of the baseline."""

    model_id: str
    tokenizer_hash: str
    primary_metric: Metric


class Meta(Struct, frozen=True, kw_only=True):
    """How a run was made."""

    model_id: str
    adapter: str
    device: str
    seeds: dict[str, int]
    tokenizer_hash: str
    profile: str | None = None
    invarlock_version: str | None = None


class Certificate(Struct, frozen=True, kw_only=True):
    """`evaluation.cert.json`: the fields that something rests on; the rest is kept, and bound by its digest."""

    schema_version: str
    meta: Meta
    auto: dict[str, Any]
    dataset: dict[str, Any]
    baseline_ref: Baseline
    primary_metric: Metric
    validation: dict[str, bool]
    policy_digest: dict[str, Any]
    provenance: dict[str, Any]
    spectral: Evaluated
    rmt: Evaluated


class Windows(Struct, frozen=True, kw_only=True):
    """Texts as the model saw them: their tokens, the mean loss of each in nats per token, and the weight of each."""

    window_ids: tuple[int, ...]
    logloss: tuple[float | None, ...]
    input_ids: tuple[tuple[int, ...], ...]
    token_counts: tuple[int, ...]


class BothWindows(Struct, frozen=True, kw_only=True):
    """The windows of both halves of a run."""

    preview: Windows
    final: Windows


class Guard(Struct, frozen=True, kw_only=True):
    """A guard that ran."""

    name: str
    passed: bool | None = None


class RunMetrics(Struct, frozen=True, kw_only=True):
    """The metrics of a run."""

    primary_metric: Metric
    bootstrap: dict[str, Any] = {}


class Report(Struct, frozen=True, kw_only=True):
    """`report.json` of one run: the baseline's or the candidate's."""

    meta: Meta
    data: dict[str, Any]
    guards: tuple[Guard, ...]
    metrics: RunMetrics
    evaluation_windows: BothWindows


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the certificate's folder."""

    path: str
    digest: str


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`manifest.json`, ours: what belongs together, each by `sha256:`. `models` are by role, of their folders' manifests."""

    format: str = "sealrun/certificate-v1"
    engine: str = "invarlock-0.3"
    files: dict[str, Entry]
    reports: dict[str, str]
    models: dict[str, str]
    data: str


class Verified(Struct, frozen=True, kw_only=True):
    """What `verify --json` prints: `results` holds one entry for each certificate."""

    format_version: str
    summary: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    resolution: dict[str, Any]


def shown(name: str) -> str:
    """Return the path under which 0.3.7 is shown a model or the data, which is how it names them."""
    return f"../shown/{name}"


def per_arm(cases: int, profile: Profile) -> int:
    """Return how many windows are drawn for each half: what *cases* texts allow, at most what is wanted."""
    usable = cases - _CALIBRATION - round(cases * _BUFFER)
    return max(0, min(usable // 2, max(_PER_ARM, profile.min_windows)))


def preset(plan: Plan, cases: int) -> dict[str, Any]:
    """Return the preset that the release asks for; JSON is YAML."""
    window, count = plan.release.certify.window, per_arm(cases, plan.profile)
    return {
        "dataset": {
            "provider": "local_jsonl",
            "file": shown("data.jsonl"),
            "text_field": plan.release.data.text_field,
            "split": "validation",
            "seq_len": window,
            "stride": window,
            "preview_n": count,
            "final_n": count,
            "seed": SEED,
        },
        "eval": {"metric": {"kind": "ppl_causal"}, "loss": {"type": "causal"}},
        "guards": {"order": list(ORDER)},
        "auto": {"enabled": True, "tier": TIER, "probes": 0},
    }


def steady(data: bytes, where: str) -> tuple[Any, list[str]]:
    """Return a file of 0.3.7 without what varies, and the pointers of what was left out or is null now. Raises ToolFailed."""
    left: list[str] = []

    def walk(value: Any, at: str) -> Any:
        if isinstance(value, dict):
            left.extend(f"{at}/{name}" for name in value if name in _VARIES)
            return {name: walk(each, f"{at}/{name}") for name, each in value.items() if name not in _VARIES}
        if isinstance(value, list):
            return [walk(each, f"{at}/{number}") for number, each in enumerate(value)]
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):
            left.append(f"{at} (no number)")
            return None
        return value

    try:
        value = json.loads(data)  # 0.3.7 writes NaN, which strict JSON has not
    except (ValueError, RecursionError) as problem:
        raise ToolFailed(f"{where}: no JSON ({problem}); see the log of certify") from problem
    if not isinstance(value, dict):
        raise ToolFailed(f"{where}: no JSON object; see the log of certify")
    return walk(value, ""), left


def identified(certificate: dict[str, Any]) -> dict[str, Any]:
    """Return *certificate* with the id that follows from it."""
    return certificate | {"run_id": digest.of_json(certificate)[:16]}


def parse[T](data: bytes, kind: type[T], where: str) -> T:
    """Return a kept file as a value of this module. Raises VerificationFailed."""
    return files.decode(data, kind, where, VerificationFailed)


def evaluated(certificate: Certificate, report: Report) -> tuple[str, ...]:
    """Return the guards that show what they measured, whatever flag the certificate holds for the others."""
    ran = {guard.name for guard in report.guards}
    shown = {"spectral": certificate.spectral.evaluated, "rmt": certificate.rmt.evaluated}
    return tuple(name for name in GUARDS if name in ran and shown.get(name, True))


def losses(windows: Windows, side: str) -> Mapping[int, tuple[float, float]]:
    """Return weight and weighted loss of each window by id. Raises VerificationFailed."""
    count = len(windows.window_ids)
    if len(set(windows.window_ids)) != count or not count:
        raise VerificationFailed(f"{side}-report.json: {count} windows, some twice or none at all")
    if {len(windows.logloss), len(windows.token_counts), len(windows.input_ids)} != {count} or min(windows.token_counts) < 1:
        raise VerificationFailed(f"{side}-report.json: its windows are not complete")
    rows = tuple(zip(windows.window_ids, windows.token_counts, windows.logloss, strict=True))
    if missing := [identity for identity, _, loss in rows if loss is None]:
        raise VerificationFailed(f"{side}-report.json: window {missing[0]} has no loss, expected a number")
    return {identity: (float(weight), weight * loss) for identity, weight, loss in rows if loss is not None}


def ratio_pairs(reports: Mapping[str, Report]) -> dict[str, tuple[float, float]]:
    """Return the weighted losses of both models by window, whose sums have the ratio of the two mean losses.

    Raises VerificationFailed when the windows are not the same.
    """
    left, right = (losses(reports[side].evaluation_windows.final, side) for side in ("baseline", "candidate"))
    if {name: weight for name, (weight, _) in left.items()} != {name: weight for name, (weight, _) in right.items()}:
        raise VerificationFailed("the reports: baseline and candidate have other windows or weights; expected the same")
    return {str(name): (left[name][1], right[name][1]) for name in sorted(left)}
