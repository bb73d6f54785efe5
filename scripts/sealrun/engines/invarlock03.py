"""Engine invarlock-0.3: InvarLock 0.3.7's own `certify --profile release` on Hugging Face checkpoints.

Rules: 0.3.7 runs both models in relative paths and is told everything by a preset of ours; its exit code says only that it
worked, so what it measured is held against the profile here; a guard that did not run is said not to have been evaluated.

Leaves: `certificate/` (certificate, preset, our manifest), `baseline-report.json` and `candidate-report.json` (its run
reports), `left-out.json` (what of these varies from run to run and was taken out). The files as 0.3.7 wrote them lie in
`originals/certify/`, outside of the bundle, as does `guards_evidence.json` unless policy wants it in.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sealrun import digest, files, scoring, settings, venvs
from sealrun.engines import Engine, invarlock03_verify
from sealrun.errors import ToolFailed, UsageError
from sealrun.outcome import Judgement, Outcome, check
from sealrun.policy.model import Plan
from sealrun.reports import invarlock03, ladder, limits, recompute
from sealrun.reports.invarlock03 import Certificate, Report
from sealrun.stage import Context, Needs, Work

_DEBUG = "INVARLOCK_EVIDENCE_DEBUG"
_GUARDS = "guards_evidence.json"
_RUNS = {"baseline": "source", "candidate": "edited"}
CERTIFY = venvs.Environment(name="certify-0.3", smoke=("python", "-c", "import invarlock, torch, transformers"))


def _needs(_: Plan) -> Needs:
    return Needs(environments=(CERTIFY,), tools=tuple((tool, CERTIFY.name) for tool in ("invarlock", "torch", "transformers")))


def _inputs(context: Context) -> Mapping[str, digest.Sha256]:
    return {"guards-evidence": digest.of_json(_wants_guards(context))}


def _wants_guards(context: Context) -> bool:
    return context.plan.gates.certify.guards_evidence or settings.switch(_DEBUG)


def _certify(context: Context, work: Work) -> None:
    preset = invarlock03.preset(context.plan, len(scoring.cases_of(context)))
    _require_enough(context, preset)
    for role in scoring.ROLES:
        scoring.view(context, role, work.shown / role)
    (work.shown / "data.jsonl").symlink_to(context.data().resolve())
    files.write_json(work.tmp / "preset.yaml", preset)
    argv = (
        "invarlock", "certify", "--adapter", invarlock03.ADAPTER,
        "--baseline", invarlock03.shown("baseline"), "--subject", invarlock03.shown("candidate"),
        "--device", context.plan.release.certify.device, "--profile", context.plan.release.certify.profile,
        "--tier", invarlock03.TIER, "--preset", "preset.yaml", "--out", "runs", "--cert-out", "certificate", "--no-color",
    )  # fmt: skip
    variables = {_DEBUG: "1"} if _wants_guards(context) else {}
    work.run("certify", CERTIFY.name, argv, cwd=work.tmp, variables=variables)
    _keep(context, work, preset)


def _require_enough(context: Context, preset: dict[str, Any]) -> None:
    """Raise UsageError when the profile is not one of 0.3.7's, or when it wants more windows than the texts can give."""
    profile, name = context.plan.profile, context.plan.release.certify.profile
    if name not in ("ci", "release"):
        raise UsageError(f"certify.profile: got {name!r}, expected ci or release, which InvarLock 0.3.7 knows")
    got = preset["dataset"]["final_n"]
    if got < profile.min_windows:
        raise UsageError(
            f"data: its texts give {got} windows for each half, profile {name} wants {profile.min_windows}; add about "
            f"{math.ceil((profile.min_windows - got) * 2 / 0.88)} texts"
        )


def _keep(context: Context, work: Work, preset: dict[str, Any]) -> None:
    """Keep what 0.3.7 left: as it is beside the evidence, and without what varies as evidence. Raises ToolFailed."""
    written = {
        invarlock03.CERTIFICATE: work.tmp / "certificate" / invarlock03.CERTIFICATE,
        **{f"{role}-report.json": _one(work.tmp / "runs" / run) for role, run in _RUNS.items()},
    }
    originals = files.empty_folder(context.out / "originals" / "certify")
    folder = files.empty_folder(work.out / "certificate")
    left: dict[str, list[str]] = {}
    for name, path in written.items():
        if not path.is_file():
            raise ToolFailed(f"invarlock certify: it ended well but left no {name}; see its log")
        data = files.read_bytes(path, "invarlock certify")
        files.write_bytes(originals / name, data)
        value, left[name] = invarlock03.steady(data, name)
        kept = folder if name == invarlock03.CERTIFICATE else work.out
        files.write_json(kept / name, invarlock03.identified(value) if name == invarlock03.CERTIFICATE else value)
    if _wants_guards(context):
        guards = files.read_bytes(work.tmp / "certificate" / _GUARDS, "invarlock certify")
        files.write_bytes(originals / _GUARDS, guards)
        if context.plan.gates.certify.guards_evidence:
            files.write_json(work.out / _GUARDS, invarlock03.steady(guards, _GUARDS)[0])
    files.write_json(work.out / invarlock03.LEFT_OUT, left)
    files.write_json(folder / invarlock03.PRESET, preset)
    files.write_json(folder / invarlock03.MANIFEST, invarlock03_verify.manifest(context, work.out))


def _one(folder: Path) -> Path:
    """Return the report below *folder*, in whose run the time is the name."""
    return next(iter(sorted(folder.glob("*/report.json"))), folder / "report.json")


def _judge(context: Context) -> Judgement:
    folder = context.evidence("certify")
    certificate = _read(folder / "certificate" / invarlock03.CERTIFICATE, Certificate)
    reports = {role: _read(folder / f"{role}-report.json", Report) for role in scoring.ROLES}
    guards = invarlock03.evaluated(certificate, reports["candidate"])
    return Judgement(
        outcomes=(
            _completed(context, certificate, guards),
            _coverage(context, reports, guards),
            _regression(context, certificate, reports),
        )
    )


def _read[T](path: Path, kind: type[T]) -> T:
    if not path.is_file():
        raise ToolFailed(f"certify: there is no {path.name}; run `nox -s certify` again")
    return files.decode(files.read_bytes(path, "certify"), kind, path.name, ToolFailed)


def _completed(context: Context, certificate: Certificate, guards: tuple[str, ...]) -> Outcome:
    profile = context.plan.release.certify.profile
    lock = venvs.lock_path(context.root, CERTIFY.name)
    versions = {tool: venvs.locked_version(lock, tool) for tool in ("invarlock", "torch", "transformers")}
    absent = ", ".join(name for name in invarlock03.GUARDS if name not in guards)
    said = f"guards evaluated: {', '.join(guards)}; not evaluated: {absent}"
    return check(
        "certify.completed",
        profile == "release" and certificate.meta.profile == profile,
        seen=f"InvarLock {versions['invarlock']} certify on transformers {versions['transformers']} and torch "
        f"{versions['torch']}, profile {certificate.meta.profile}; {said}",
        expected="profile release",
        remedy='Set certify.profile = "release" in release.toml, then run `nox -s certify`.',
        evidence=f"evidence/certify/certificate/{invarlock03.MANIFEST}",
    )


def _coverage(context: Context, reports: Mapping[str, Report], guards: tuple[str, ...]) -> Outcome:
    profile = context.plan.profile
    finals = {role: report.evaluation_windows.final for role, report in reports.items()}
    rungs = [
        rung
        for role, final in finals.items()
        for rung in (
            ladder.at_least(f"windows of the {role}", len(final.window_ids), max(profile.min_windows, profile.min_cases)),
            ladder.at_least(f"tokens of the {role}", sum(final.token_counts), profile.min_tokens),
        )
    ]
    rungs += limits.guards(profile, ENGINE.name, guards)
    counted = "; ".join(f"{role}: {len(w.window_ids)} windows, {sum(w.token_counts)} tokens" for role, w in finals.items())
    return check(
        "certify.coverage",
        ladder.holds(rungs),
        seen=counted if ladder.holds(rungs) else f"{counted}; {ladder.seen(rungs, '')}",
        expected=limits.wanted(profile, ENGINE.name),
        remedy="Add evaluation text until the counts are reached; a window is the beginning of one text.",
        evidence="evidence/certify/baseline-report.json",
    )


def _regression(context: Context, certificate: Certificate, reports: Mapping[str, Report]) -> Outcome:
    profile, metric = context.plan.profile, certificate.primary_metric
    rungs = ladder.climb(lambda: _limits(context, certificate, reports))
    ratio = "none" if metric.ratio_vs_baseline is None else f"{metric.ratio_vs_baseline:.6f}"
    return check(
        "certify.regression",
        ladder.holds(rungs),
        seen=f"perplexity ratio {ratio}; {ladder.seen(rungs, 'its flags, and the interval of the NLL ratio from its windows')}",
        expected=f"every flag true; interval up to {profile.max_ratio} at most, and {profile.max_interval_width} wide at most",
        remedy="Do not ship this candidate; compare the windows that moved most in the two reports of evidence/certify.",
        evidence=f"evidence/certify/certificate/{invarlock03.CERTIFICATE}",
    )


def _limits(context: Context, certificate: Certificate, reports: Mapping[str, Report]) -> Iterator[ladder.Rung]:
    """Yield the checks of the certificate's flags, and of our own interval against the profile."""
    profile = context.plan.profile
    said = {name: certificate.validation.get(name) for name in invarlock03.FLAGS}
    for name, value in said.items():
        yield ladder.same(f"flag {name}", value, True)
    yield ladder.same("other flags", ", ".join(sorted(certificate.validation.keys() - said.keys())) or "none", "none")
    interval = recompute.interval(invarlock03.ratio_pairs(reports))
    yield ladder.at_most("upper end of the NLL ratio's interval", interval.upper, profile.max_ratio)
    yield ladder.at_most("width of the interval", interval.width, profile.max_interval_width)


ENGINE = Engine(
    decision=f"certificate/{invarlock03.CERTIFICATE}",
    name="invarlock-0.3",
    environments=(CERTIFY, invarlock03_verify.VERIFY),
    needs=_needs,
    verify_needs=lambda plan: invarlock03_verify.needs(_needs(plan)),
    inputs=_inputs,
    verify_inputs=invarlock03_verify.inputs,
    certify=_certify,
    judge=_judge,
    verify=invarlock03_verify.verify,
    checks=invarlock03_verify.checks,
    reports=invarlock03_verify.reports,
    pairs=invarlock03_verify.pairs,
)
