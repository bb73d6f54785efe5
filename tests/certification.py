"""A release of twelve cases for the tests of certify and verify: with the evidence that the real tools left for it, or
with the example's real models, to run the tools again.

`tests/recorded/invarlock/record.py` wrote that evidence by running this very release.
"""

import shutil
from datetime import date
from pathlib import Path

from sealrun import digest, files, venvs
from sealrun.evidence import statement as statements
from sealrun.outcome import Outcome, OutcomeKind, Verdict
from sealrun.policy.load import load_plan
from sealrun.reports.artifacts import Artifacts
from sealrun.stage import Context

CHECKOUT = Path(__file__).resolve().parents[1]
EXAMPLE = CHECKOUT / "examples" / "tiny-lm"
RECORDED = CHECKOUT / "tests" / "recorded" / "invarlock"
_FILES = ("model.onnx", "tokenizer.json")
PROFILE = "min_cases = 10\nmin_tokens = 500\nmax_ratio = 1.02\nmax_interval_width = 0.02\n"


def release(
    tmp: Path, recorded: str = "candidate", *, profile: str = PROFILE, seconds: int = 60, name: str = "release"
) -> Context:
    """Return a context in the new folder *tmp* whose evidence is what *recorded* holds, stated as complete."""
    context = empty_release(tmp, recorded, profile=profile, seconds=seconds, name=name)
    shutil.copytree(RECORDED / recorded, tmp / "copied")
    signer = (tmp / "copied" / "signer.txt").read_text().strip()
    for stage, inputs in (("model", {}), ("certify", {"key/invarlock-evidence": signer}), ("verify", {})):
        shutil.copytree(tmp / "copied" / stage, context.evidence(stage), dirs_exist_ok=True)
        state(context, stage, inputs)
    return context


def empty_release(
    tmp: Path, recorded: str = "candidate", *, profile: str = PROFILE, seconds: int = 60, name: str = "release"
) -> Context:
    """Return a context in the new folder *tmp*, with a model gate that passed and nothing else."""
    for folder in ("policy", "requirements"):
        shutil.copytree(CHECKOUT / folder, tmp / folder)
    shutil.copytree(RECORDED / recorded / "release", tmp / "release")
    config = tmp / "release" / "release.toml"
    config.write_text(config.read_text().replace('profile = "release"', f'profile = "{name}"'))
    write_gates(tmp / "policy" / "gates.toml", profile, seconds)
    plan = load_plan(tmp, config, date(2026, 1, 1))
    context = Context(plan=plan, root=tmp, out=tmp / "build" / plan.title)
    for model in (plan.release.baseline, plan.release.candidate):
        (plan.base / model.path).mkdir()
        for file in model.files:
            shutil.copy(EXAMPLE / (recorded if model.path == "candidate" else model.path) / file, plan.base / model.path / file)
    shutil.copytree(RECORDED / recorded / "model", context.evidence("model"))
    state(context, "model", {})
    return context


def real_release(tmp: Path, candidate: str = "candidate") -> Context:
    """Return a context in the new folder *tmp* with the example's models and first twelve cases, a model gate that passed, and
    the checkout's environments."""
    home = tmp / "release"
    for role, source in (("baseline", "baseline"), ("candidate", candidate)):
        (home / role).mkdir(parents=True)
        for name in _FILES:
            shutil.copy(EXAMPLE / source / name, home / role / name)
    lines = (EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines(keepends=True)[:12]
    (home / "data.jsonl").write_bytes(b"".join(lines))
    for folder in ("policy", "requirements"):
        shutil.copytree(CHECKOUT / folder, tmp / folder)
    write_gates(tmp / "policy" / "gates.toml", PROFILE, 120)
    (tmp / ".nox").symlink_to(CHECKOUT / ".nox")
    return pinned(tmp)


def pinned(tmp: Path) -> Context:
    """Return the context of the real release in *tmp*, its files pinned and passed by the model gate as they lie there now."""
    home = tmp / "release"
    (home / "release.toml").write_text(_release_toml(home))
    plan = load_plan(tmp, home / "release.toml", date(2026, 1, 1))
    context = Context(plan=plan, root=tmp, out=tmp / "build" / plan.title)
    files.write_json(files.empty_folder(context.evidence("model")) / "digests.json", _describe(context))
    state(context, "model", {})
    return context


def write_gates(path: Path, profile: str, seconds: int) -> None:
    """Replace the limits of both profiles and of time."""
    text = path.read_text()
    kept = text[text.index("[audit]") : text.index("[limits]")]
    head = f'format = "sealrun/gates-v1"\n[profile.ci]\n{profile}[profile.release]\n{profile}'
    path.write_text(f"{head}{kept}[limits]\ndefault = {seconds}\n")


def state(context: Context, stage: str, inputs: dict[str, str], verdict: Verdict = Verdict.PASSED) -> None:
    """State the evidence of *stage* as it lies there."""
    folder = context.evidence(stage)
    named = [
        statements.Resource(name=name, digest=statements.Sha256Set(sha256=value)) for name, value in sorted(inputs.items())
    ]
    outcome = OutcomeKind.PASSED if verdict is Verdict.PASSED else OutcomeKind.FAILED
    statement = statements.StageStatement(
        subject=statements.resources(digest.describe_files(folder, files.walk_files(folder))),
        predicate=statements.StagePredicate(
            stage=stage, sealrun="0", python="3", plan=context.plan.digest, judged_at="2026-01-01", reuse_key="0" * 64,
            inputs=tuple(named), tools=(), network="denied", verdict=verdict,
            outcomes=(Outcome(control=f"{stage}.digests", outcome=outcome, seen="", expected=""),),
        ),
    )  # fmt: skip
    statements.write(context.statement_path(stage), statement)


def fake(context: Context, environment: str, program: str, script: str | None) -> None:
    """Put *script* (a shell script, None for nothing at all) in the place of *program* in a made-up *environment*."""
    venv = venvs.locate(context.root, environment)
    venv.program("").mkdir(parents=True, exist_ok=True)
    (venv.path / "sealrun-venv.json").write_text("{}")
    venv.program(program).unlink(missing_ok=True)
    if script is not None:
        venv.program(program).write_text(f"#!/bin/sh\n{script}\n")
        venv.program(program).chmod(0o755)


def outcomes(said: tuple[Outcome, ...]) -> dict[str, str]:
    """Return control to outcome."""
    return {outcome.control: outcome.outcome.value for outcome in said}


def _describe(context: Context) -> Artifacts:
    """Return the model gate's digests of the files as they lie there."""
    ref, base = context.plan.release, context.plan.base
    return Artifacts(
        baseline=digest.describe_files(base / ref.baseline.path, ref.baseline.files),
        candidate=digest.describe_files(base / ref.candidate.path, ref.candidate.files),
        data=digest.describe_files(base, [ref.data.path]),
    )


def _release_toml(home: Path) -> str:
    head = {"format": "sealrun/release-v1", "name": "twelve", "version": "1", "posture": "research", "retention": "research"}
    lines = [f'{key} = "{value}"' for key, value in head.items()]
    for role in ("baseline", "candidate"):
        lines += [f"[{role}]", f'path = "{role}"', f'artifact = "{_FILES[0]}"', f'tokenizer = "{_FILES[1]}"', f"[{role}.files]"]
        lines += [f'"{name}" = "{digest.of_file(home / role / name)}"' for name in _FILES]
    lines += ["[data]", 'path = "data.jsonl"', f'sha256 = "{digest.of_file(home / "data.jsonl")}"']
    return "\n".join([*lines, "[certify]", 'profile = "release"', ""])
