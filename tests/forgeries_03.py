"""The forgery catalogue of engine invarlock-0.3: its certificates are signed by nobody, so each edit is followed by making the
certificate's id and our manifest anew, as a forger would who knows both.

`.venv/bin/python docs/catalogues.py forgeries-0.3` writes what each check and 0.3.7's own verifier say into the docs.
"""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from sealrun import digest, files, pipeline
from sealrun.engines import invarlock03_verify
from sealrun.outcome import Verdict
from sealrun.policy.load import load_plan
from sealrun.reports import invarlock03
from sealrun.stage import Context
from tests.certification import CHECKOUT, EXAMPLE
from tests.forgeries import UNREADABLE, ZERO, Edit, Forgery, at, changed, removed

CERTIFICATE = f"certify/certificate/{invarlock03.CERTIFICATE}"
PRESET = f"certify/certificate/{invarlock03.PRESET}"
MANIFEST = f"certify/certificate/{invarlock03.MANIFEST}"
BASELINE, CANDIDATE = "certify/baseline-report.json", "certify/candidate-report.json"
WITNESS = "verify/witness.json"


def bound(edit: Edit) -> Edit:
    """Edit, then make the certificate's id and the manifest anew."""

    def forged(context: Context) -> None:
        edit(context)
        path = at(context, CERTIFICATE)
        try:
            value = json.loads(path.read_bytes())
            value.pop("run_id", None)
            path.write_bytes(digest.canonical_json(invarlock03.identified(value)))
        except ValueError:
            pass  # not even JSON any more
        manifest = invarlock03_verify.manifest(context, context.evidence("certify"))
        files.write_json(at(context, MANIFEST), manifest)

    return forged


def certificate(change: Callable[[Any], object]) -> Edit:
    return bound(changed(CERTIFICATE, change))


def within(*place: str, **fields: object) -> Edit:
    """Set *fields* of the object at *place* of the certificate."""

    def change(value: Any) -> None:
        for name in place:
            value = value[name]
        value.update(fields)

    return certificate(change)


def scaled(report: str, factor: float) -> Edit:
    """Multiply the losses of every final window of a report."""

    def change(value: Any) -> None:
        final = value["evaluation_windows"]["final"]
        final["logloss"] = [loss * factor for loss in final["logloss"]]

    return changed(report, change)


def ratio_and_final(context: Context) -> None:
    """Let the certificate and the candidate's report say a better perplexity, and the ratio that goes with it."""

    def better(metric: Any) -> None:
        metric["final"] *= 0.999
        metric["ratio_vs_baseline"] *= 0.999

    changed(CERTIFICATE, lambda value: better(value["primary_metric"]))(context)
    changed(CANDIDATE, lambda value: better(value["metrics"]["primary_metric"]))(context)


def no_guards(value: Any) -> None:
    value["guards"] = []


CATALOGUE = (
    *(
        Forgery(target="certificate", what=f"the flag {flag} false", edit=within("validation", **{flag: False}),
                control="verify.settings", rung=f"flag {flag}")
        for flag in invarlock03.FLAGS
    ),
    Forgery(target="certificate", what="a flag dropped", edit=certificate(lambda value: value["validation"].pop("rmt_stable")),
            control="verify.settings", rung="flag rmt_stable"),
    Forgery(target="certificate", what="ratio and perplexity moved together, in the report too", edit=bound(ratio_and_final),
            control="verify.recomputed", rung="candidate's perplexity"),
    Forgery(target="certificate", what="the ratio alone", edit=within("primary_metric", ratio_vs_baseline=0.99),
            control="verify.recomputed", rung="ratio"),
    Forgery(target="certificate", what="a worse baseline", edit=certificate(
                lambda value: value["baseline_ref"]["primary_metric"].update(final=2.0)),
            control="verify.recomputed", rung="baseline's perplexity"),
    Forgery(target="certificate", what="a lower interval", edit=within("primary_metric", ci=[-0.01, -0.005]),
            control="verify.recomputed", rung="upper end of the interval"),
    Forgery(target="certificate", what="no interval", edit=within("primary_metric", ci=None, display_ci=None),
            control="verify.recomputed", rung="upper end of the interval"),
    Forgery(target="certificate", what="another candidate's name", edit=within("meta", model_id="somebody/else"),
            control="verify.binding", rung="candidate of the certificate"),
    Forgery(target="certificate", what="another baseline's name", edit=within("baseline_ref", model_id="somebody/else"),
            control="verify.binding", rung="baseline of the certificate"),
    Forgery(target="certificate", what="another tokenizer", edit=within("baseline_ref", tokenizer_hash=ZERO[:32]),
            control="verify.binding", rung="tokenizer of the baseline"),
    Forgery(target="certificate", what="another tier", edit=within("auto", tier="aggressive"),
            control="verify.settings", rung="tier"),
    Forgery(target="certificate", what="another profile", edit=within("meta", profile="ci"),
            control="verify.settings", rung="profile"),
    Forgery(target="certificate", what="another seed", edit=within("meta", "seeds", torch=7),
            control="verify.settings", rung="seed of torch"),
    Forgery(target="certificate", what="another policy", edit=within("auto", policy_digest=ZERO[:16]),
            control="verify.settings", rung="policy digest"),
    Forgery(target="certificate", what="other thresholds", edit=within("policy_digest", thresholds_hash=ZERO[:16]),
            control="verify.settings", rung="digest of the thresholds"),
    Forgery(target="certificate", what="another dataset", edit=within("dataset", "hash", dataset=ZERO[:32]),
            control="verify.binding", rung="dataset of the certificate"),
    Forgery(target="certificate", what="fewer windows", edit=within("dataset", "windows", final=200),
            control="verify.settings", rung="final windows"),
    Forgery(target="certificate", what="ten replicates", edit=certificate(
                lambda value: value["dataset"]["windows"]["stats"]["bootstrap"].update(replicates=10)),
            control="verify.settings", rung="interval: replicates"),
    Forgery(target="certificate", what="another schema", edit=certificate(lambda value: value.update(schema_version="v2")),
            control="verify.settings", rung=""),
    Forgery(target="certificate", what="another torch", edit=within("provenance", "env_flags", torch="1.0"),
            control="verify.settings", rung="torch"),
    Forgery(target="certificate", what="an id of its own", edit=changed(CERTIFICATE, lambda value: value.update(run_id=ZERO[:16])),
            control="verify.binding", rung="id of the certificate"),
    Forgery(target="certificate", what="removed", edit=removed(CERTIFICATE), control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="preset", what="other windows asked for",
            edit=bound(changed(PRESET, lambda value: value["dataset"].update(final_n=200))),
            control="verify.binding", rung="preset"),
    Forgery(target="manifest", what="other data", edit=changed(MANIFEST, lambda value: value.update(data=f"sha256:{ZERO}")),
            control="verify.binding", rung="data"),
    Forgery(target="manifest", what="another candidate",
            edit=changed(MANIFEST, lambda value: value["models"].update(candidate=f"sha256:{ZERO}")),
            control="verify.binding", rung="model of the candidate"),
    Forgery(target="reports", what="the baseline's missing", edit=removed(BASELINE), control="verify.recomputed", rung=UNREADABLE),
    Forgery(target="reports", what="the candidate's for the baseline's",
            edit=bound(lambda context: at(context, BASELINE).write_bytes(at(context, CANDIDATE).read_bytes())),
            control="verify.binding", rung="model of the baseline's report"),
    Forgery(target="reports", what="another model's", edit=bound(changed(
                CANDIDATE, lambda value: value["meta"].update(model_id="somebody/else"))),
            control="verify.binding", rung="model of the candidate's report"),
    Forgery(target="reports", what="better losses", edit=bound(scaled(CANDIDATE, 0.9)),
            control="verify.recomputed", rung="candidate's perplexity"),
    Forgery(target="reports", what="worse losses of the baseline", edit=bound(scaled(BASELINE, 1.1)),
            control="verify.witnessed", rung="loss of the baseline"),
    Forgery(target="reports", what="other texts in the windows", edit=bound(changed(
                CANDIDATE, lambda value: value["evaluation_windows"]["final"]["input_ids"][0].__setitem__(1, 5))),
            control="verify.binding", rung="final windows: tokens"),
    Forgery(target="reports", what="no guard ran", edit=bound(changed(CANDIDATE, no_guards)),
            control="verify.settings", rung="guard"),
    Forgery(target="reports", what="another InvarLock", edit=bound(changed(
                CANDIDATE, lambda value: value["meta"].update(invarlock_version="0.3.6"))),
            control="verify.settings", rung="InvarLock of the candidate"),
    Forgery(target="its verdict", what="refused", edit=changed("verify/verified.json", lambda value: value["summary"].update(ok=False)),
            control="verify.invarlock", rung="verdict of invarlock verify"),
    Forgery(target="its verdict", what="about another ratio", edit=changed(
                "verify/verified.json", lambda value: value["results"][0].update(ratio_vs_baseline=0.9)),
            control="verify.invarlock", rung="ratio it saw"),
    Forgery(target="its verdict", what="missing", edit=removed("verify/verified.json"), control="verify.invarlock", rung=UNREADABLE),
    Forgery(target="model gate", what="another candidate seen",
            edit=changed("model/digests.json", lambda value: value["candidate"][0].update(sha256=ZERO)),
            control="verify.binding", rung="model of the candidate"),
    Forgery(target="witness", what="no second look", edit=removed(WITNESS), control="verify.witnessed", rung=UNREADABLE),
    Forgery(target="witness", what="a window that no text begins with", edit=changed(
                WITNESS, lambda value: value["candidate"].update(foreign=["400"])),
            control="verify.witnessed", rung="windows of the candidate that begin no text"),
    Forgery(target="witness", what="other losses", edit=changed(
                WITNESS, lambda value: value["candidate"].update(losses=dict.fromkeys(value["candidate"]["losses"], 0.1))),
            control="verify.witnessed", rung="loss of the candidate"),
)  # fmt: skip


def certified(out: Path) -> Context:
    """Return the context of the example's release by this engine in the new folder *out*, its three stages run for real."""
    plan = load_plan(CHECKOUT, EXAMPLE / "invarlock-0.3.toml", date(2026, 1, 1))
    context = Context(plan=plan, root=CHECKOUT, out=out / plan.title)
    for name in ("model", "certify", "verify"):
        predicate = pipeline.execute(pipeline.stage_named(name), context).predicate
        assert predicate.verdict is Verdict.PASSED, (name, predicate.error, predicate.outcomes)
    return context
