"""Engine invarlock-0.3, verified: 0.3.7's own `verify` in a light environment, our recomputation, and a second look at windows.

Rules: 0.3.7's verifier alone accepts almost any edit, so that everything which a release rests on is computed here from the
release, the reports' windows and the model gate's digests, and compared; a sample of windows is scored again from the named
bytes, by code that shares nothing with InvarLock, and every window must begin a text of the data.

Leaves: `verified.json` (what 0.3.7 said), `witness.json` (the windows scored again), `recomputed.json` (our own figures).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sealrun import digest, files, sandbox, scoring, venvs
from sealrun.engines import Checks
from sealrun.errors import ToolFailed, VerificationFailed
from sealrun.reports import artifacts, invarlock03, invarlock03_checks
from sealrun.reports.invarlock03 import Entry, Manifest, Verified
from sealrun.reports.invarlock03_checks import Evidence, Witness
from sealrun.stage import Context, Needs, Work

VERIFY = venvs.Environment(name="verify-0.3", smoke=("invarlock", "--version"))
_ENDS = (0, 1, 2)  # verified; refused; malformed


def needs(certify: Needs) -> Needs:
    """Return what verify needs: the verifier by itself, and what scores windows again."""
    return Needs(environments=(VERIFY, *certify.environments), tools=(("invarlock", VERIFY.name), *certify.tools))


def inputs(context: Context) -> Mapping[str, digest.Sha256]:
    """Return what verify reads beyond the release's own data: the models, windows of which are scored again."""
    return {
        f"{role}/{entry.path}": digest.of_file(scoring.pinned(context, role, entry.path))
        for role in scoring.ROLES
        for entry in artifacts.load(context.evidence("model")).model(role)
    }


def manifest(context: Context, folder: Path) -> Manifest:
    """Return what the certificate in certify's evidence *folder* binds together."""
    found = artifacts.load(context.evidence("model"))

    def named(path: Path) -> str:
        return f"sha256:{digest.of_bytes(files.read_bytes(path, 'certify'))}"

    parts = {"certificate": invarlock03.CERTIFICATE, "preset": invarlock03.PRESET}
    return Manifest(
        files={part: Entry(path=name, digest=named(folder / "certificate" / name)) for part, name in parts.items()},
        reports={role: named(folder / f"{role}-report.json") for role in scoring.ROLES},
        models={role: f"sha256:{digest.of_manifest(found.model(role))}" for role in scoring.ROLES},
        data=f"sha256:{artifacts.sha256_of(found.data, context.plan.release.data.path)}",
    )


def verify(context: Context, work: Work) -> None:
    """Let 0.3.7 verify its certificate, and score a sample of windows again. Raises ToolFailed, VerificationFailed."""
    running = [_start_witness(context, work, role) for role in scoring.ROLES]
    try:
        _verify(context, work)
    finally:
        for started in running:
            work.finish(started)
    said = {role: files.read_bytes(work.tmp / f"{role}-windows.json", "score-windows") for role in scoring.ROLES}
    witnessed = {role: files.decode(data, Witness, f"{role}-windows.json", ToolFailed) for role, data in said.items()}
    files.write_json(work.out / "witness.json", witnessed)


def _verify(context: Context, work: Work) -> None:
    certify = context.evidence("certify").resolve()
    argv = (
        "invarlock", "verify", str(certify / "certificate" / invarlock03.CERTIFICATE), "--profile",
        context.plan.release.certify.profile, "--baseline", str(certify / "baseline-report.json"), "--json",
    )  # fmt: skip
    completed = work.run("verify", VERIFY.name, argv, success=_ENDS)
    said = files.decode(completed.stdout.read_bytes(), Verified, "invarlock verify --json", ToolFailed)
    if said.resolution.get("exit_code") != completed.exit_code or said.summary.get("ok") is not (completed.exit_code == 0):
        raise ToolFailed(f"invarlock verify: exit code {completed.exit_code}, but it says {said.resolution} and {said.summary}")
    results = tuple({name: value for name, value in result.items() if name != "id"} for result in said.results)
    kept = Verified(format_version=said.format_version, summary=said.summary, results=results, resolution=said.resolution)
    files.write_json(work.out / "verified.json", kept)


def _start_witness(context: Context, work: Work, role: str) -> sandbox.Running:
    """Start to score the sample of windows again with the model of *role*."""
    ref, certify = scoring.model_of(context.plan, role), context.plan.release.certify
    shown = scoring.view(context, role, work.shown / role)
    job = {
        "model": str(shown / ref.artifact),
        "tokenizer": str(shown / ref.tokenizer),
        "data": str(context.data().resolve()),
        "text_field": context.plan.release.data.text_field,
        "window": certify.window,
        "device": certify.device,
        "windows": invarlock03_checks.sample(_evidence(context)),
    }
    files.write_json(work.tmp / f"{role}-job.json", job)
    argv = work.inside("score_windows.py", str(work.tmp / f"{role}-job.json"), str(work.tmp / f"{role}-windows.json"))
    return work.start(f"witness-{role}", "certify-0.3", argv)


def checks(context: Context) -> Mapping[str, Checks]:
    """Return the checks of this engine's certificates, by control."""
    evidence = _evidence(context)
    found = {
        control: Checks(summary=summary, look=partial(look, evidence))
        for control, look, summary in (
            ("verify.invarlock", invarlock03_checks.verified, "InvarLock 0.3.7's own verify accepts it"),
            ("verify.settings", invarlock03_checks.settings, "profile, tier, seeds, policy, preset, flags, guards and tools"),
            ("verify.recomputed", invarlock03_checks.figures, "perplexities, ratio and interval recomputed from the windows"),
            ("verify.witnessed", invarlock03_checks.witnessed, "a sample of windows scored again from the named bytes"),
            ("verify.binding", invarlock03_checks.binding, "models, data, preset, reports and certificate agree by digest"),
        )
    }
    unsigned = "InvarLock 0.3.7 signs nothing; the bundle's signature binds its files"
    return {**found, "verify.keys": Checks(summary=unsigned, look=None)}


def reports(context: Context) -> dict[str, bytes]:
    """Return our own figures as a report, none when they cannot be reached."""
    try:
        return {"recomputed.json": files.readable_json(invarlock03_checks.recomputed(_evidence(context)))}
    except VerificationFailed:
        return {}  # the outcome of verify.recomputed says why


def pairs(context: Context) -> Mapping[str, tuple[float, float]]:
    """Return each window's two mean losses, weighed by its tokens. Raises VerificationFailed."""
    return invarlock03.ratio_pairs(_evidence(context).reports)


def _evidence(context: Context) -> Evidence:
    return Evidence(
        plan=context.plan,
        root=context.root,
        certify=context.evidence("certify"),
        verify=context.evidence("verify"),
        bind=partial(manifest, context, context.evidence("certify")),
        cases=len(scoring.cases_of(context)),
    )
