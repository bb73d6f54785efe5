"""A release of twelve cases for the tests of certify and verify: with the evidence that the real tools left for it, or
with the example's real models, to run the tools again.

`tests/recorded/invarlock/record.py` wrote that evidence by running this very release.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from sealrun import digest, files, pipeline, venvs
from sealrun.evidence import keys
from sealrun.evidence import statement as statements
from sealrun.outcome import Outcome, OutcomeKind, Verdict
from sealrun.policy.load import load_plan
from sealrun.reports.artifacts import Artifacts
from sealrun.reports.records import Records, parse_cases, parse_records, require_cases
from sealrun.stage import INSIDE, Context

CHECKOUT = Path(__file__).resolve().parents[1]
EXAMPLE = CHECKOUT / "examples" / "tiny-lm"
RECORDED = CHECKOUT / "tests" / "recorded" / "invarlock"
_FILES = ("model.onnx", "tokenizer.json")
PROFILE = """\
min_cases = 10
min_windows = 10
min_tokens = 500
min_replicates = 2000
max_ratio = 1.02
max_interval_width = 0.02
max_regression = 0.02
witness_cases = 4
"""


def release(
    tmp: Path, recorded: str = "candidate", *, profile: str = PROFILE, seconds: int = 60, name: str = "release"
) -> Context:
    """Return a context in the new folder *tmp* whose evidence is what *recorded* holds, stated as complete."""
    context = empty_release(tmp, recorded, profile=profile, seconds=seconds, name=name)
    shutil.copytree(RECORDED / recorded, tmp / "copied")
    signer = (tmp / "copied" / "signer.txt").read_text().strip()
    for stage, inputs in (("model", {}), ("certify", {"key/invarlock-evidence": signer}), ("verify", {})):
        shutil.copytree(tmp / "copied" / stage, context.evidence(stage), dirs_exist_ok=True)
        if stage == "verify":
            sign_receipt(context.evidence(stage) / "receipt.json")
        state(context, stage, inputs)
    return context


def sign_receipt(path: Path, change: Callable[[Any], None] = lambda _: None, key: Path | None = None) -> None:
    """Sign the receipt at *path* anew after *change*, with *key* (default: the verifier key of this test's key folder)."""
    private = keys.load_private(key or keys.private("invarlock-verifier"))
    value = json.loads(path.read_bytes())
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = private.public_key().public_bytes_raw()
    value["statement"]["verifier"]["signing_key_fingerprint"] = f"sha256:{digest.of_bytes(raw)}"
    change(value)
    signature = private.sign(digest.canonical_json(value["statement"]))
    value["signature"]["public_key"]["value"] = pem.decode()
    value["signature"]["value"] = base64.b64encode(signature).decode()
    path.write_bytes(digest.canonical_json(value))


def sign_manifest(certificate: Path, key: Path) -> None:
    """Sign *certificate* anew with *key*, its files as they are."""
    private = keys.load_private(key)
    name = f"sha256:{digest.of_bytes(private.public_key().public_bytes_raw())}"
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    manifest = json.loads((certificate / "manifest.json").read_bytes())
    lines = ""
    for entry in sorted(manifest["files"].values(), key=lambda entry: str(entry["path"])):
        sha256 = digest.of_file(certificate / entry["path"])
        entry["digest"] = f"sha256:{sha256}"
        lines += f"{sha256}  {entry['path']}\n"
    (certificate / "checksums.sha256").write_text(lines)
    manifest |= {"checksums_sha256_digest": digest.of_bytes(lines.encode()), "signing_key_fingerprint": name}
    (certificate / "manifest.json").write_bytes(digest.canonical_json(manifest))
    signature = json.loads((certificate / "manifest.signature.json").read_bytes())
    signed = private.sign((certificate / "manifest.json").read_bytes())
    signature["signature"]["value"] = base64.b64encode(signed).decode()
    signature |= {"signing_key_fingerprint": name, "public_key": {"encoding": "pem", "value": pem.decode()}}
    (certificate / "manifest.signature.json").write_bytes(digest.canonical_json(signature))


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


def real_release(tmp: Path, candidate: str = "candidate", *, cases: int = 12, profile: str = PROFILE) -> Context:
    """Return a context in the new folder *tmp* with the example's models and first cases, a model gate that passed, and the
    checkout's environments. An empty *profile* leaves policy as it is."""
    home = tmp / "release"
    for role, source in (("baseline", "baseline"), ("candidate", candidate)):
        (home / role).mkdir(parents=True)
        for name in _FILES:
            shutil.copy(EXAMPLE / source / name, home / role / name)
    lines = (EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines(keepends=True)[:cases]
    (home / "data.jsonl").write_bytes(b"".join(lines))
    for folder in ("policy", "requirements"):
        shutil.copytree(CHECKOUT / folder, tmp / folder)
    if profile:
        write_gates(tmp / "policy" / "gates.toml", profile, 120)
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


def score(tmp: Path, model: Path, data: Path, window: int) -> Records:
    """Return the records of the folder *model* over *data*, by the scorer alone."""
    job = {"model": str(model / "model.onnx"), "tokenizer": str(model / "tokenizer.json"), "data": str(data)}
    how = {"text_field": "text", "reference_field": None, "joiner": " ", "batch": 1, "device": "cpu", "workers": 1}
    files.write_json(tmp / "job.json", {**job, **how, "window": window})
    python = venvs.existing(CHECKOUT, "runtime-onnx").python
    argv = [str(python), "-I", str(INSIDE / "score_onnx.py"), str(tmp / "job.json"), str(tmp / "records.jsonl")]
    subprocess.run(argv, check=True, capture_output=True)
    cases = parse_cases(data.read_bytes(), "text", data.name)
    return require_cases(parse_records((tmp / "records.jsonl").read_bytes(), "records"), cases, "records")


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
            inputs=tuple(named), tools=tools(context, stage), network="denied", verdict=verdict,
            outcomes=(Outcome(control=f"{stage}.digests", outcome=outcome, seen="", expected=""),),
        ),
    )  # fmt: skip
    statements.write(context.statement_path(stage), statement)


def tools(context: Context, stage: str) -> tuple[statements.Tool, ...]:
    """Return the tools that *stage* would state under the locks as they are."""
    return tuple(
        statements.Tool(
            name=name, version=venvs.locked_version(venvs.lock_path(context.root, environment), name), environment=environment,
            lock=venvs.locate(context.root, environment).lock,
        )
        for name, environment in pipeline.stage_named(stage).needs(context.plan).tools
    )  # fmt: skip


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
