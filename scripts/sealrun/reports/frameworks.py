"""What a release's controls speak to in SLSA, NIST's SSDF and the EU Cyber Resilience Act, for readers who have to tick these.

Rules: a line names the controls behind it, and is met only when all of them passed; what no control looks at is said to be
open. Nothing here is a claim of conformity: who places a product on the market makes that, on more than a bundle can hold.

Source: SLSA v1.1, Build track; NIST SP 800-218 (SSDF) 1.1; Regulation (EU) 2024/2847, Annex I.
"""

from collections.abc import Mapping

from msgspec import Struct

from sealrun.outcome import Outcome, OutcomeKind


class Ask(Struct, frozen=True, kw_only=True):
    """One thing that a framework asks, the controls that speak to it, and what stays open all the same."""

    framework: str
    clause: str
    asks: str
    controls: tuple[str, ...] = ()
    opened: str = ""


class Answer(Struct, frozen=True, kw_only=True):
    """How a release answers: `passed`, `warning`, `failed`, `open` (no control, or none that was judged)."""

    ask: Ask
    outcome: str


_SLSA, _SSDF, _CRA = "SLSA v1.1", "NIST SSDF 1.1", "EU CRA"

ASKS = (
    Ask(
        framework=_SLSA,
        clause="Build L1",
        asks="Provenance exists and names what was built from what",
        controls=("source.commit", "model.digests", "evidence.archived"),
        opened="The provenance is of the release, not of the training",
    ),
    Ask(
        framework=_SLSA,
        clause="Build L2",
        asks="A hosted platform makes and signs the provenance",
        opened="The maker's key signs; a trust folder may say that only a hosted build has it",
    ),
    Ask(
        framework=_SLSA,
        clause="Build L3",
        asks="Runs cannot influence one another or reach the key",
        controls=("network.denied", "runtime.isolated", "runtime.writes"),
        opened="Confinement of tools is shown, that of the build host is not",
    ),
    Ask(
        framework=_SSDF,
        clause="PO.5.1",
        asks="Separate and protect the environments that take part",
        controls=("network.denied", "runtime.isolated"),
    ),
    Ask(
        framework=_SSDF,
        clause="PS.2.1",
        asks="Let those who acquire software verify its integrity",
        controls=("model.digests", "release.key"),
    ),
    Ask(
        framework=_SSDF,
        clause="PS.3.1",
        asks="Archive what is needed for each release",
        controls=("evidence.archived", "evidence.retained"),
    ),
    Ask(
        framework=_SSDF,
        clause="PS.3.2",
        asks="Share provenance data of all components, such as an SBOM",
        controls=("sbom.generated", "sbom.complete", "model.source"),
    ),
    Ask(
        framework=_SSDF,
        clause="PW.4.1",
        asks="Acquire well-secured components, and know which",
        controls=("lock.hashed", "lock.current", "model.formats", "model.code"),
    ),
    Ask(
        framework=_SSDF,
        clause="PW.8.2",
        asks="Test what is to be run, and record the results",
        controls=("certify.completed", "certify.regression", "verify.invarlock", "verify.recomputed"),
    ),
    Ask(
        framework=_SSDF,
        clause="RV.1.1",
        asks="Gather information about vulnerabilities in components",
        controls=("audit.coverage", "audit.clean", "audit.fresh"),
        opened="After the release: `invoke reaudit`",
    ),
    Ask(
        framework=_CRA,
        clause="Annex I, I (2)(a)",
        asks="No known exploitable vulnerabilities when made available",
        controls=("audit.coverage", "audit.clean", "audit.fresh"),
    ),
    Ask(
        framework=_CRA,
        clause="Annex I, I (2)(d), (e)",
        asks="Protection from unauthorised access, confidentiality of data",
        controls=("secrets.clean", "secrets.coverage"),
        opened="Of the product in use: not looked at",
    ),
    Ask(
        framework=_CRA,
        clause="Annex I, I (2)(f)",
        asks="Integrity of programs and data",
        controls=("model.digests", "release.key"),
    ),
    Ask(
        framework=_CRA,
        clause="Annex I, II (1)",
        asks="Identify and document components, with an SBOM",
        controls=("sbom.generated", "sbom.complete"),
    ),
    Ask(
        framework=_CRA,
        clause="Annex I, II (3)",
        asks="Effective and regular tests of security",
        controls=("model.formats", "model.code", "secrets.clean", "audit.clean"),
    ),
    Ask(
        framework=_CRA,
        clause="Annex I, II (5) to (8)",
        asks="Handling, disclosure and updates after the release",
        opened="An organisation's duty; a bundle can be revoked and superseded",
    ),
    Ask(
        framework=_CRA,
        clause="Article 13 (13)",
        asks="Keep technical documentation for ten years or longer",
        controls=("evidence.archived", "evidence.retained"),
        opened="Whether the retention class is long enough is the maker's to say",
    ),
)


def answers(outcomes: Mapping[str, Outcome]) -> tuple[Answer, ...]:
    """Return how a release with these *outcomes* by control answers what the frameworks ask."""
    return tuple(Answer(ask=ask, outcome=_outcome([outcomes.get(name) for name in ask.controls])) for ask in ASKS)


def _outcome(said: list[Outcome | None]) -> str:
    if any(outcome is not None and outcome.outcome is OutcomeKind.FAILED for outcome in said):
        return "failed"
    if not said or any(outcome is None or outcome.outcome is OutcomeKind.NOT_APPLICABLE for outcome in said):
        return "open"
    if any(outcome is not None and (outcome.warning or outcome.outcome is OutcomeKind.WAIVED) for outcome in said):
        return "warning"
    return "passed"
