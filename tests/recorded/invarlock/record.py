"""Record anew what the real tools leave for a release of twelve cases: `.venv/bin/python tests/recorded/invarlock/record.py`.

Rules: the stages themselves do the work, in the installed environments `certify` and `runtime-onnx`; keys are made for the
purpose and thrown away; nothing recorded names the folder it was made in.
"""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
sys.path[:0] = [str(CHECKOUT / "scripts"), str(CHECKOUT)]

from sealrun import digest, files, pipeline  # noqa: E402
from sealrun.errors import ToolFailed  # noqa: E402
from sealrun.stage import Context, Work  # noqa: E402
from sealrun.stages import certify, verify  # noqa: E402
from tests import certification  # noqa: E402


def main() -> None:
    for candidate in ("candidate", "damaged"):
        shutil.rmtree(HERE / candidate, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SEALRUN_KEYS"] = str(Path(folder, "keys"))
            record(Path(folder).resolve(), candidate)


def record(tmp: Path, candidate: str) -> None:
    context = certification.real_release(tmp, candidate)
    for stage in (certify.STAGE, verify.STAGE):
        statement = pipeline.execute(stage, context)
        print(candidate, stage.name, statement.predicate.verdict, statement.predicate.error)
    keep(context, HERE / candidate)
    if candidate == "candidate":
        for name, tamper in (("edited", edit), ("incomplete", remove)):
            again = replace(context, out=tmp / name)
            shutil.copytree(context.out, again.out)
            tamper(again.evidence("certify") / "certificate")
            keep_refusal(again, tmp, HERE / candidate / name)


def keep(context: Context, target: Path) -> None:
    """Keep the evidence, the release without its models, the signer, and what evaluate printed (its path replaced)."""
    for stage in ("model", "certify", "verify"):
        shutil.copytree(context.evidence(stage), target / stage)
    (target / "release").mkdir()
    for name in ("release.toml", "data.jsonl"):
        shutil.copy(context.plan.base / name, target / "release" / name)
    inputs = context.upstream("certify").predicate.inputs
    (target / "signer.txt").write_text(next(i.digest.sha256 for i in inputs if i.name.startswith("key/")) + "\n")
    printed = json.loads((context.logs("certify") / "evaluate.stdout").read_bytes())
    (target / "evaluate.json").write_bytes(digest.canonical_json(printed | {"evidence": "/build/certificate"}))


def edit(certificate: Path) -> None:
    path = certificate / "records" / "subject.json"
    path.write_bytes(path.read_bytes().replace(b'"logprob_sum":-', b'"logprob_sum":-1', 1))


def remove(certificate: Path) -> None:
    (certificate / "request.json").unlink()


def keep_refusal(context: Context, tmp: Path, target: Path) -> None:
    """Keep the receipt that verify writes for a certificate it refuses."""
    certification.state(context, "certify", {"key/invarlock-evidence": (HERE / "candidate" / "signer.txt").read_text().strip()})
    target.mkdir()
    out, scratch = files.empty_folder(tmp / "refused"), files.empty_folder(tmp / "scratch")
    files.empty_folder(context.logs("verify"))
    try:
        verify.STAGE.gather(
            context,
            Work(
                stage=verify.STAGE, context=context, out=out, tmp=scratch, shown=files.empty_folder(tmp / "shown"), networks=[]
            ),
        )
    except ToolFailed as error:
        raise SystemExit(f"verify of {target.name}: {error}") from error
    for name in ("receipt.json", "verified.json"):
        shutil.copy(out / name, target / name)


if __name__ == "__main__":
    main()
