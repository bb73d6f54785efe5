"""The forgery catalogue: edits of a release's evidence by somebody who can write all of it, and the check that names each.

Rules: a forgery starts from evidence that the real tools left, honest or of the damaged candidate; afterwards the statements of
the stages are written anew, as the forger would, so that no file differs from its statement; what the forger does not have is
the verifier's private key, except where the entry says so.

`.venv/bin/python docs/catalogues.py forgeries` writes what each check and InvarLock alone say into the docs.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sealrun import digest
from sealrun.evidence import keys
from sealrun.evidence import statement as statements
from sealrun.outcome import OutcomeKind
from sealrun.reports.records import parse_records, report
from sealrun.stage import Context
from sealrun.stages import verify
from tests.certification import RECORDED, sign_manifest, sign_receipt, state

type Edit = Callable[[Context], None]

ZERO = "0" * 64
REPORT = "certify/certificate/reports/evaluation.report.json"
POLICY = "certify/certificate/inputs/policy.json"
REQUEST = "certify/certificate/request.json"
MANIFEST = "certify/certificate/manifest.json"
SIGNATURE = "certify/certificate/manifest.signature.json"
SUBJECT = "certify/certificate/records/subject.json"
RECORDS = "certify/records/candidate.jsonl"
RECEIPT = "verify/receipt.json"
FIGURES = "verify/recomputed.json"
UNREADABLE = "readable evidence"


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """*target* is what is edited, *what* how; *control* and *rung* name the check that refuses it. `base` is the evidence it
    starts from; `plan` is set when the release itself is another one than the evidence was made for."""

    target: str
    what: str
    edit: Edit
    control: str
    rung: str
    base: str = "candidate"
    plan: str = ""

    @property
    def name(self) -> str:
        """A name for tests."""
        return f"{self.target}: {self.what}"


def commit(forgery: Forgery, context: Context) -> None:
    """Forge, and state certify and verify anew."""
    stated = statements.load(context.statement_path("certify")).predicate
    inputs = {resource.name: resource.digest.sha256 for resource in stated.inputs}
    forgery.edit(context)
    for stage in ("model", "certify", "verify"):
        before = statements.load(context.statement_path(stage)).predicate
        state(context, stage, inputs if stage == "certify" else {})
        if stage == "certify":
            now = statements.load(context.statement_path(stage))
            kept = before if before != stated else now.predicate
            statements.write(
                context.statement_path(stage),
                replace_struct(now, predicate=replace_struct(now.predicate, inputs=kept.inputs, tools=kept.tools)),
            )


def replace_struct[T](value: T, **changes: Any) -> T:
    """Return the msgspec value with *changes*."""
    import msgspec

    return msgspec.structs.replace(value, **changes)  # type: ignore[type-var]


def at(context: Context, name: str) -> Path:
    return context.out / "evidence" / name


def changed(name: str, change: Callable[[Any], object]) -> Edit:
    """Change a JSON file in place."""

    def edit(context: Context) -> None:
        value = json.loads(at(context, name).read_bytes())
        change(value)
        at(context, name).write_bytes(digest.canonical_json(value))

    return edit


def metric(**fields: object) -> Edit:
    """Set fields of the certificate's one metric."""
    return changed(REPORT, lambda value: value["metrics"][0].update(fields))


def nudged(field: str) -> Edit:
    """Move one figure by two billionths."""
    return changed(REPORT, lambda value: value["metrics"][0].update({field: value["metrics"][0][field] + 2e-9}))


def bounds(**fields: object) -> Edit:
    """Set fields of the interval."""
    return changed(REPORT, lambda value: value["metrics"][0]["interval"].update(fields))


def line(number: int, change: Callable[[Any], object], name: str = RECORDS) -> Edit:
    """Change one line of a records file; 0 is the header."""

    def edit(context: Context) -> None:
        lines = at(context, name).read_text().splitlines()
        value = json.loads(lines[number])
        change(value)
        lines[number] = json.dumps(value)
        at(context, name).write_text("\n".join(lines) + "\n")

    return edit


def every_line(**fields: object) -> Edit:
    """Set fields of the header and of every record that has them."""

    def edit(context: Context) -> None:
        values = [json.loads(text) for text in at(context, RECORDS).read_text().splitlines()]
        for value in values:
            value.update({name: new for name, new in fields.items() if name in value})
        at(context, RECORDS).write_text("".join(json.dumps(value) + "\n" for value in values))

    return edit


def both(*edits: Edit) -> Edit:
    def edit(context: Context) -> None:
        for one in edits:
            one(context)

    return edit


def report_anew(context: Context) -> None:
    """Write the candidate's report from its records, as certify would."""
    from sealrun.reports import artifacts

    records = parse_records(at(context, RECORDS).read_bytes(), "records")
    models = artifacts.load(context.evidence("model")).candidate
    at(context, "certify/candidate-report.json").write_bytes(report(records, role="candidate", models=models))


def records_of_the_baseline(context: Context) -> None:
    """Give the candidate the baseline's numbers."""
    theirs = [json.loads(text) for text in at(context, "certify/records/baseline.jsonl").read_text().splitlines()[1:]]
    for number, value in enumerate(theirs, 1):
        line(number, lambda record, value=value: record.update(logprob_sum=value["logprob_sum"]))(context)  # type: ignore[misc]
    report_anew(context)


def figures_of(recorded: str) -> Edit:
    """Take every figure of another certificate's metric."""
    value = json.loads((RECORDED / recorded / REPORT).read_bytes())
    return lambda context: at(context, REPORT).write_bytes(digest.canonical_json(value | _bindings(context)))


def _bindings(context: Context) -> dict[str, Any]:
    return {"bindings": json.loads(at(context, REPORT).read_bytes())["bindings"]}


def copied(name: str, recorded: str) -> Edit:
    """Put a file or folder of other evidence in its place."""

    def edit(context: Context) -> None:
        source, target = RECORDED / recorded / name, at(context, name)
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)

    return edit


def removed(name: str) -> Edit:
    return lambda context: shutil.rmtree(at(context, name)) if at(context, name).is_dir() else at(context, name).unlink()


def text(name: str, old: str, new: str) -> Edit:
    def edit(context: Context) -> None:
        content = at(context, name).read_text()
        assert old in content
        at(context, name).write_text(content.replace(old, new, 1))

    return edit


def signed(change: Callable[[Any], object] = lambda _: None, key: str = "invarlock-verifier") -> Edit:
    """Change the receipt and sign it with the key of that name."""
    return lambda context: sign_receipt(at(context, RECEIPT), change, keys.private(key))


def says_pass(value: Any) -> None:
    """Let a receipt say that all is well."""
    good = {"decision": "pass", "integrity_ok": True, "ok": True, "policy_verdict": "pass", "verification_status": 0}
    value["statement"]["verdict"] = good


def certificate_signed_by(key: str) -> Edit:
    return lambda context: sign_manifest(at(context, "certify/certificate"), keys.private(key))


def stated(**changes: Callable[[Any], Any]) -> Edit:
    """Change fields of certify's statement."""

    def edit(context: Context) -> None:
        path = context.statement_path("certify")
        value = statements.load(path)
        fields = {name: change(getattr(value.predicate, name)) for name, change in changes.items()}
        statements.write(path, replace_struct(value, predicate=replace_struct(value.predicate, **fields)))

    return edit


def tool(**fields: str) -> Edit:
    """Change what certify states about InvarLock."""
    return stated(tools=lambda tools: tuple(replace_struct(t, **fields) if t.name == "invarlock" else t for t in tools))


PASSES = both(metric(decision="pass", reasons=[]), changed(REPORT, lambda value: value.update(decision="pass")))
ANOTHER = "somebody-else"

CATALOGUE = (
    Forgery(target="certificate", what="a regression's flags set to pass", edit=PASSES, base="damaged",
            control="verify.recomputed", rung="pass against the figures"),
    Forgery(target="certificate", what="a regression's figures moved together to good ones", edit=figures_of("candidate"),
            base="damaged", control="verify.recomputed", rung="ratio"),
    Forgery(target="certificate", what="the ratio moved by 2e-9", edit=nudged("ratio"), control="verify.recomputed", rung="ratio"),
    Forgery(target="certificate", what="the baseline's mean moved by 2e-9", edit=nudged("baseline_mean"),
            control="verify.recomputed", rung="baseline mean"),
    Forgery(target="certificate", what="the candidate's mean moved by 2e-9", edit=nudged("subject_mean"),
            control="verify.recomputed", rung="candidate mean"),
    Forgery(target="certificate", what="the difference moved by 2e-9", edit=nudged("delta"),
            control="verify.recomputed", rung="difference"),
    Forgery(target="certificate", what="ratio taken away", edit=metric(ratio=None), control="verify.recomputed", rung="ratio"),
    Forgery(target="certificate", what="more cases than there were", edit=metric(count=400),
            control="verify.recomputed", rung="cases"),
    Forgery(target="certificate", what="upper end of the interval lowered", edit=bounds(upper=0.9965),
            control="verify.recomputed", rung="upper end of the interval"),
    Forgery(target="certificate", what="lower end of the interval raised", edit=bounds(lower=0.9970),
            control="verify.recomputed", rung="lower end of the interval"),
    Forgery(target="certificate", what="interval taken away", edit=metric(interval=None),
            control="verify.recomputed", rung="upper end of the interval"),
    Forgery(target="certificate", what="a 50 % interval", edit=bounds(mass=0.5),
            control="verify.settings", rung="mass of the interval"),
    Forgery(target="certificate", what="ten replicates", edit=bounds(replicates=10),
            control="verify.settings", rung="replicates of the interval"),
    Forgery(target="certificate", what="another method named", edit=bounds(method="by_eye"),
            control="verify.settings", rung="method of the interval"),
    Forgery(target="certificate", what="another slice", edit=metric(slice="easy"), control="verify.settings", rung="slice"),
    Forgery(target="certificate", what="another policy's digest",
            edit=changed(REPORT, lambda value: value["bindings"].update(policy=f"sha256:{ZERO}")),
            control="verify.settings", rung="policy that the decision names"),
    Forgery(target="certificate", what="another candidate's digest",
            edit=changed(REPORT, lambda value: value["bindings"].update(subject=f"sha256:{ZERO}")),
            control="verify.binding", rung="candidate run that the decision names"),
    Forgery(target="certificate", what="another baseline's digest",
            edit=changed(REPORT, lambda value: value["bindings"].update(baseline=f"sha256:{ZERO}")),
            control="verify.binding", rung="baseline run that the decision names"),
    Forgery(target="certificate", what="a case without a number listed", edit=metric(missing_ids=["case-0001"]),
            control="verify.invarlock", rung="cases without a number"),
    Forgery(target="certificate", what="the limitations taken away", edit=changed(REPORT, lambda value: value.update(limitations=[])),
            control="verify.binding", rung="report that the manifest names"),
    Forgery(target="certificate", what="a field that the schema does not know", edit=metric(approved=True),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="certificate", what="a bare NaN for the ratio", edit=text(REPORT, '"ratio":0', '"ratio":NaN,"was":0'),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="certificate", what="its decision removed", edit=removed(REPORT),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="certificate", what="signature of zeros",
            edit=changed(SIGNATURE, lambda value: value["signature"].update(value="A" * 86 + "==")),
            control="verify.keys", rung="signature of the certificate"),
    Forgery(target="certificate", what="re-signed by another key", edit=certificate_signed_by(ANOTHER),
            control="verify.keys", rung="evidence key itself"),
    Forgery(target="certificate", what="figures moved and re-signed by another key, which the statement names",
            edit=both(figures_of("candidate"), certificate_signed_by(ANOTHER), lambda context: stated(
                inputs=lambda _: (statements.Resource(
                    name="key/invarlock-evidence",
                    digest=statements.Sha256Set(sha256=keys.fingerprint(keys.private(ANOTHER)))),))(context)),
            base="damaged", control="verify.recomputed", rung="ratio"),
    Forgery(target="certificate", what="of another candidate, whole", edit=copied("certify/certificate", "damaged"),
            control="verify.binding", rung="candidate run in the certificate"),
    Forgery(target="certificate", what="replayed: made under looser limits", edit=lambda _: None, plan="stricter",
            control="verify.settings", rung="policy of the certificate"),
    Forgery(target="certificate", what="made under the profile ci", edit=lambda _: None, plan="ci",
            control="verify.settings", rung="profile"),
    Forgery(target="its policy", what="a looser ratio", edit=changed(POLICY, lambda value: value["metrics"][0].update(ratio_max=20)),
            control="verify.settings", rung="policy of the certificate"),
    Forgery(target="its policy", what="one case is enough",
            edit=changed(POLICY, lambda value: value["metrics"][0].update(minimum_count=1)),
            control="verify.settings", rung="policy of the certificate"),
    Forgery(target="its policy", what="any width is narrow",
            edit=changed(POLICY, lambda value: value["metrics"][0].update(maximum_interval_width=9)),
            control="verify.settings", rung="policy of the certificate"),
    Forgery(target="its policy", what="another set of cases",
            edit=changed(POLICY, lambda value: value.update(expected_case_set_digest=f"sha256:{ZERO}")),
            control="verify.settings", rung="policy of the certificate"),
    Forgery(target="its request", what="another run asked about",
            edit=changed(REQUEST, lambda value: value["comparison"]["subject"].update(run_digest=f"sha256:{ZERO}")),
            control="verify.settings", rung="request of the certificate"),
    Forgery(target="its manifest", what="another signer's fingerprint",
            edit=changed(MANIFEST, lambda value: value.update(signing_key_fingerprint=f"sha256:{ZERO}")),
            control="verify.keys", rung="evidence key that certify stated"),
    Forgery(target="its manifest", what="another run's digest",
            edit=changed(MANIFEST, lambda value: value["files"]["subject"].update(digest=f"sha256:{ZERO}")),
            control="verify.binding", rung="subject that the manifest names"),
    Forgery(target="its manifest", what="another request's digest",
            edit=changed(MANIFEST, lambda value: value.update(request_digest=f"sha256:{ZERO}")),
            control="verify.settings", rung="request that the manifest names"),
    Forgery(target="its manifest", what="another comparison's id",
            edit=changed(MANIFEST, lambda value: value.update(comparison_id=f"sha256:{ZERO}")),
            control="verify.keys", rung="signature of the certificate"),
    Forgery(target="its manifest", what="another checksum file's digest",
            edit=changed(MANIFEST, lambda value: value.update(checksums_sha256_digest=ZERO)),
            control="verify.binding", rung="files of the certificate"),
    Forgery(target="its manifest", what="unsigned", edit=changed(MANIFEST, lambda value: value.update(authentication="unsigned")),
            control="verify.keys", rung=UNREADABLE),
    Forgery(target="its runs", what="a better score", edit=text(SUBJECT, '"logprob_sum":-2', '"logprob_sum":-1'),
            control="verify.binding", rung="candidate run in the certificate"),
    Forgery(target="its runs", what="the baseline's run for the candidate's",
            edit=lambda context: shutil.copy(at(context, "certify/certificate/records/baseline.json"), at(context, SUBJECT)),
            control="verify.binding", rung="candidate run in the certificate"),
    Forgery(target="its runs", what="an easier text",
            edit=changed("certify/certificate/records/baseline.json", lambda value: value["records"][0].update(expected="Yes.")),
            control="verify.binding", rung=UNREADABLE),
    Forgery(target="records", what="one case better", edit=line(4, lambda record: record.update(logprob_sum=-1.0)),
            control="verify.recomputed", rung="candidate-report.json against the records"),
    Forgery(target="records", what="one case better, the report made anew",
            edit=both(line(4, lambda record: record.update(logprob_sum=-1.0)), report_anew),
            control="verify.recomputed", rung="candidate mean"),
    Forgery(target="records", what="the baseline's numbers, with report and figures made anew",
            edit=both(records_of_the_baseline, figures_of("candidate")), base="damaged",
            control="verify.witnessed", rung="score of the candidate"),
    Forgery(target="records", what="of another model", edit=every_line(model_sha256=ZERO),
            control="verify.binding", rung="candidate model"),
    Forgery(target="records", what="one record of another model", edit=line(4, lambda record: record.update(model_sha256=ZERO)),
            control="verify.binding", rung=UNREADABLE),
    Forgery(target="records", what="of another tokenizer", edit=line(0, lambda header: header.update(tokenizer_sha256=ZERO)),
            control="verify.binding", rung="candidate tokenizer"),
    Forgery(target="records", what="of other data", edit=line(0, lambda header: header.update(data_sha256=ZERO)),
            control="verify.binding", rung="candidate data"),
    Forgery(target="records", what="through another window", edit=line(0, lambda header: header.update(window=7)),
            control="verify.binding", rung="candidate window"),
    Forgery(target="records", what="by another runtime", edit=line(0, lambda header: header.update(runtime_version="0.1")),
            control="verify.settings", rung="runtime of the candidate"),
    Forgery(target="records", what="a hard case left out", edit=lambda context: at(context, RECORDS).write_text(
                "".join(at(context, RECORDS).read_text().splitlines(keepends=True)[:-1])),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="records", what="a bare NaN for a score", edit=text(RECORDS, '"logprob_sum": -', '"logprob_sum": NaN, "was": -'),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="records", what="a score taken away",
            edit=line(4, lambda record: record.update(logprob_sum=None, error="logits are not finite")),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="reports", what="a worse baseline",
            edit=changed("certify/baseline-report.json", lambda value: value["metric"].update(value=1.0)),
            control="verify.recomputed", rung="baseline-report.json against the records"),
    Forgery(target="reports", what="the baseline's of another release",
            edit=lambda context: shutil.copy(at(context, "certify/candidate-report.json"), at(context, "certify/baseline-report.json")),
            control="verify.recomputed", rung="baseline-report.json against the records"),
    Forgery(target="reports", what="no baseline report", edit=removed("certify/baseline-report.json"),
            control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="receipt", what="a refusal edited to a pass", edit=changed(RECEIPT, says_pass), base="damaged",
            control="verify.invarlock", rung=UNREADABLE),
    Forgery(target="receipt", what="a refusal edited and re-signed by another key", edit=signed(says_pass, ANOTHER), base="damaged",
            control="verify.keys", rung="verifier key"),
    Forgery(target="receipt", what="signed by the verifier, pass for a certificate that says regression", edit=signed(says_pass),
            base="damaged", control="verify.invarlock", rung="decision of the certificate"),
    Forgery(target="receipt", what="one key for both", edit=both(certificate_signed_by("invarlock-verifier"), lambda context: stated(
                inputs=lambda _: (statements.Resource(
                    name="key/invarlock-evidence",
                    digest=statements.Sha256Set(sha256=keys.fingerprint(keys.private("invarlock-verifier")))),))(context)),
            control="verify.keys", rung="verifier key against the evidence key"),
    Forgery(target="receipt", what="stale: of another certificate", edit=both(copied(RECEIPT, "candidate"), signed()),
            base="damaged", control="verify.invarlock", rung="certificate that the receipt is about"),
    Forgery(target="receipt", what="not replayed", edit=signed(lambda value: value["statement"].update(replay_status="not_started")),
            control="verify.invarlock", rung="replay"),
    Forgery(target="receipt", what="no scoring assurance",
            edit=signed(lambda value: value["statement"].update(scoring_assurance=None)),
            control="verify.invarlock", rung="scoring assurance"),
    Forgery(target="receipt", what="not intact",
            edit=signed(lambda value: value["statement"]["verdict"].update(integrity_ok=False)),
            control="verify.invarlock", rung="integrity_ok of the receipt"),
    Forgery(target="receipt", what="asked for another request",
            edit=signed(lambda value: value["statement"]["anchors"].update(request_digest=f"sha256:{ZERO}")),
            control="verify.invarlock", rung="request of the receipt"),
    Forgery(target="receipt", what="asked under another policy",
            edit=signed(lambda value: value["statement"]["anchors"].update(policy_digest=f"sha256:{ZERO}")),
            control="verify.invarlock", rung="policy of the receipt"),
    Forgery(target="receipt", what="asked for another signer",
            edit=signed(lambda value: value["statement"]["anchors"].update(signer_fingerprint=f"sha256:{ZERO}")),
            control="verify.invarlock", rung="signer of the receipt"),
    Forgery(target="receipt", what="by somebody else",
            edit=signed(lambda value: value["statement"]["verifier"].update(identity="somebody")),
            control="verify.invarlock", rung="verifier of the receipt"),
    Forgery(target="receipt", what="missing", edit=removed(RECEIPT), control="verify.invarlock", rung=UNREADABLE),
    Forgery(target="receipt", what="the printed result says no",
            edit=changed("verify/verified.json", lambda value: value.update(ok=False)),
            control="verify.invarlock", rung="ok of the result"),
    Forgery(target="trust inputs", what="another candidate's run",
            edit=changed("verify/trust.json", lambda value: value["anchors"].update(subject_run_digest=f"sha256:{ZERO}")),
            control="verify.invarlock", rung="trust inputs"),
    Forgery(target="trust inputs", what="another signer",
            edit=changed("verify/trust.json", lambda value: value["anchors"].update(evidence_signer_fingerprint=f"sha256:{ZERO}")),
            control="verify.invarlock", rung="trust inputs"),
    Forgery(target="trust inputs", what="a looser policy beside them",
            edit=changed("verify/policy.json", lambda value: value["metrics"][0].update(ratio_max=20)),
            control="verify.invarlock", rung="policy beside the trust inputs"),
    Forgery(target="trust inputs", what="missing", edit=removed("verify/trust.json"), control="verify.invarlock", rung=UNREADABLE),
    Forgery(target="model gate", what="another candidate seen",
            edit=changed("model/digests.json", lambda value: value["candidate"][0].update(sha256=ZERO)),
            control="verify.binding", rung="candidate model"),
    Forgery(target="model gate", what="other data seen",
            edit=changed("model/digests.json", lambda value: value["data"][0].update(sha256=ZERO)),
            control="verify.binding", rung="baseline data"),
    Forgery(target="statement", what="another version of InvarLock", edit=tool(version="0.3.7"),
            control="verify.settings", rung="version of invarlock"),
    Forgery(target="statement", what="another lock", edit=tool(lock=ZERO),
            control="verify.settings", rung="lock of certify, for invarlock"),
    Forgery(target="statement", what="no InvarLock among the tools", edit=stated(tools=lambda _: ()),
            control="verify.settings", rung="InvarLock among the tools"),
    Forgery(target="statement", what="no evidence key", edit=stated(inputs=lambda _: ()),
            control="verify.keys", rung="evidence key that certify stated"),
    Forgery(target="witness", what="no second look", edit=removed("verify/witness"), control="verify.witnessed", rung=UNREADABLE),
    Forgery(target="witness", what="the baseline's second look for the candidate's",
            edit=lambda context: shutil.copy(at(context, "verify/witness/baseline.jsonl"), at(context, "verify/witness/candidate.jsonl")),
            control="verify.witnessed", rung="model sha256 of the candidate, scored again"),
    Forgery(target="witness", what="fewer cases than drawn", edit=lambda context: _fewer(at(context, "verify/witness/candidate.jsonl")),
            control="verify.witnessed", rung="cases of the candidate scored again"),
    Forgery(target="our own figures", what="missing", edit=removed(FIGURES), control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="our own figures", what="a mean moved", edit=changed(FIGURES, lambda value: value.update(candidate_mean=0.07)),
            control="verify.recomputed", rung="recomputed.json against the records"),
    Forgery(target="our own figures", what="the interval moved",
            edit=changed(FIGURES, lambda value: value["interval"].update(upper=0.9965)),
            control="verify.recomputed", rung="upper end of the interval"),
    Forgery(target="our own figures", what="of other losses",
            edit=changed(FIGURES, lambda value: value["interval"].update(seed=ZERO, upper=0.9965)),
            control="verify.recomputed", rung="recomputed.json against the records"),
    Forgery(target="our own figures", what="the interval moved with the certificate's, re-signed by another key, which the statement names",
            edit=both(changed(FIGURES, lambda value: value["interval"].update(upper=0.9965)), bounds(upper=0.9965),
                      certificate_signed_by(ANOTHER), lambda context: stated(
                inputs=lambda _: (statements.Resource(
                    name="key/invarlock-evidence",
                    digest=statements.Sha256Set(sha256=keys.fingerprint(keys.private(ANOTHER)))),))(context)),
            control="verify.invarlock", rung="certificate that the receipt is about"),
)  # fmt: skip


def _fewer(path: Path) -> None:
    header, *lines = path.read_text().splitlines(keepends=True)
    fewer = json.loads(header) | {"cases": len(lines) - 1}
    path.write_text("".join((json.dumps(fewer) + "\n", *lines[:-1])))


def broken(context: Context) -> tuple[set[str], list[tuple[str, str]]]:
    """Judge verify, and return the controls that failed and the checks that do not hold, each with its control."""
    judged = verify.STAGE.judge(context)
    failed = {outcome.control for outcome in judged.outcomes if outcome.outcome is OutcomeKind.FAILED}
    lines = json.loads(judged.reports["ladder.json"])
    return failed, [(line["control"], line["name"]) for line in lines if not line["holds"]]


def elsewhere(context: Context, out: Path) -> Context:
    """Return *context* with a copy of its evidence and statements in the new folder *out*."""
    shutil.copytree(context.out, out)
    return replace(context, out=out)
