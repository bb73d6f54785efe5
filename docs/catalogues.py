"""Run the damage and forgery catalogues for real, and write their tables into docs/verification.md.

    .venv/bin/python docs/catalogues.py [damages] [limits] [forgeries] [forgeries-0.3]   (default: all; ten minutes)

Needs the environments of the stages (`.venv/bin/python -m sealrun install model certify verify`), for
forgeries-0.3 `certify-0.3` and `verify-0.3` as well.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from sealrun import digest, files, venvs  # noqa: E402
from sealrun.evidence import keys  # noqa: E402
from sealrun.evidence.statement import StagePredicate  # noqa: E402
from sealrun.outcome import OutcomeKind  # noqa: E402
from sealrun.policy.model import Gates, Profile  # noqa: E402
from sealrun.reports import recompute  # noqa: E402
from sealrun.reports.records import Record  # noqa: E402
from sealrun.stage import Context  # noqa: E402
from tests import damages, forgeries, forgeries_03  # noqa: E402
from tests.certification import EXAMPLE, PROFILE, release, score  # noqa: E402

PAGE = ROOT / "docs" / "verification.md"
CASES = 400  # the least that the profile release takes
HARMLESS = ("fp16", "bf16", "int8", "candidate")
DRAWS, SEED = 100, 7
PROFILES = ("ci", "release")

type Pairs = dict[str, tuple[float, float]]


def main(wanted: Sequence[str]) -> None:
    """Write the tables asked for."""
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name).resolve()
        os.environ["SEALRUN_KEYS"] = str(tmp / "keys")
        for table in wanted or TABLES:
            (tmp / table).mkdir()
            replace_table(table, list(TABLES[table](tmp / table)))


def damage_table(tmp: Path) -> Iterator[str]:
    """Yield what each gate says of every damage, under the profile release as policy has it."""
    yield "| done to the candidate | model | certify | ratio, 95 % interval | verify | released |"
    yield "|---|---|---|---|---|---|"
    for damage in damages.CATALOGUE:
        context = damages.released(damage, tmp / damage.name, tmp / "shared", cases=CASES, profile="")
        stated = damages.said(context)
        cells = [damage.name, _no(stated["model"]), _no(stated["certify"]), _figures(context), _no(stated["verify"])]
        yield f"| {' | '.join([*cells, 'no' if damages.refusals(stated) else 'yes'])} |"
    yield ""
    passes, refused = smallest_noise(tmp)
    yield (
        f"The smallest damage caught, by bisection over {CASES} cases: noise of strength {_strength(refused)} "
        f"is refused, of {_strength(passes)} passes."
    )


def smallest_noise(tmp: Path) -> tuple[tuple[float, recompute.Comparison], tuple[float, recompute.Comparison]]:
    """Return the strongest noise that passes and the weakest that is refused, a twentieth apart, with what was measured."""
    profile = profiles()["release"]
    baseline = scored(tmp, "copy", "0")
    low, high = 0.03, 0.3
    passes = low, recompute.compare(baseline, scored(tmp, "noise", str(low)))
    refused = high, recompute.compare(baseline, scored(tmp, "noise", str(high)))
    while refused[0] / passes[0] > 1.05:
        middle = (refused[0] * passes[0]) ** 0.5
        found = middle, recompute.compare(baseline, scored(tmp, "noise", f"{middle:.6f}"))
        if within(profile, found[1].interval, found[1].delta):
            passes = found
        else:
            refused = found
    return passes, refused


def limits_table(tmp: Path) -> Iterator[str]:
    """Yield how far harmless casts go, and how often a profile would refuse them on other evaluation texts."""
    everything = len((EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines())
    baseline = scored(tmp, "copy", "0", everything)
    yield (
        "| harmless change | ratio, all cases | "
        + " | ".join(f"`{name}`: highest end, widest, refused" for name in PROFILES)
        + " |"
    )
    yield "|---|---|---|---|"
    total = dict.fromkeys(PROFILES, 0)
    for change in HARMLESS:
        pairs = recompute.paired(baseline, scored(tmp, change, "0", everything))
        cells = []
        for name in PROFILES:
            upper, width, refused = drawn(pairs, profiles()[name])
            total[name] += refused
            cells.append(f"{upper:.5f}, {width:.5f}, {refused} of {DRAWS}")
        title = next(damage.name for damage in damages.CATALOGUE if damage.change == change)
        ratio = sum(right for _, right in pairs.values()) / sum(left for left, _ in pairs.values())
        yield f"| {title} | {ratio:.6f} | {' | '.join(cells)} |"
    yield ""
    rates = ", ".join(f"`{name}` {total[name]} of {DRAWS * len(HARMLESS)}" for name in PROFILES)
    yield f"False refusals: {rates}."


def drawn(pairs: Pairs, profile: Profile) -> tuple[float, float, int]:
    """Return the highest upper end, the widest interval and the refusals over many least sets of cases."""
    draw = random.Random(SEED)  # noqa: S311 - drawing wants a seed, not a secret
    highest, widest, refused = 0.0, 0.0, 0
    for _ in range(DRAWS):
        chosen = {case: pairs[case] for case in draw.sample(sorted(pairs), profile.min_cases)}
        interval = recompute.interval(chosen, profile.min_replicates)
        delta = sum(right - left for left, right in chosen.values()) / len(chosen)
        highest, widest = max(highest, interval.upper), max(widest, interval.width)
        refused += not within(profile, interval, delta)
    return highest, widest, refused


def within(profile: Profile, interval: recompute.Interval, delta: float) -> bool:
    """Return whether a comparison is within the limits."""
    narrow = interval.width <= profile.max_interval_width
    return narrow and interval.upper <= profile.max_ratio and delta <= profile.max_regression


def forgery_table(tmp: Path) -> Iterator[str]:
    """Yield which check names each forgery, and what InvarLock alone says with the trust inputs as they lie there."""
    bases = {
        ("candidate", ""): release(tmp / "candidate"),
        ("damaged", ""): release(tmp / "damaged", "damaged"),
        ("candidate", "ci"): release(tmp / "ci", name="ci"),
        ("candidate", "stricter"): release(tmp / "stricter", profile=PROFILE.replace("max_ratio = 1.02", "max_ratio = 1.01")),
    }
    yield from forged(tmp, forgeries.CATALOGUE, lambda one: bases[one.base, one.plan], invarlock_alone)


def forgery_03_table(tmp: Path) -> Iterator[str]:
    """Yield the same for engine invarlock-0.3, from evidence made now, and what 0.3.7's own verifier says."""
    base = forgeries_03.certified(tmp / "build")
    yield from forged(tmp, forgeries_03.CATALOGUE, lambda _: base, invarlock_03_alone)


def forged(
    tmp: Path, catalogue: Sequence[forgeries.Forgery], base_of: Callable[[forgeries.Forgery], Context],
    ask: Callable[[Context], str],
) -> Iterator[str]:  # fmt: skip
    """Yield the table of a catalogue."""
    contexts = []
    for number, forgery in enumerate(catalogue):
        context = forgeries.elsewhere(base_of(forgery), tmp / f"forged-{number}")
        forgeries.commit(forgery, context)
        contexts.append(context)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        alone = list(pool.map(ask, contexts))
    yield "| edited | how | refused by | the check that names it | `invarlock verify` alone |"
    yield "|---|---|---|---|---|"
    refused = 0
    for forgery, context, said in zip(catalogue, contexts, alone, strict=True):
        failed, checks = forgeries.broken(context)
        check = next((name for c, name in checks if c == forgery.control and name.startswith(forgery.rung)), "NONE")
        named = check != "NONE" and forgery.control in failed
        refused += named
        yield f"| {forgery.target} | {forgery.what} | `{forgery.control if named else 'NOTHING'}` | {check} | {said} |"
    yield ""
    accepted = sum(said == "accepts" for said in alone)
    yield f"{len(alone)} forgeries; InvarLock alone accepts {accepted} of them, Sealrun {len(alone) - refused}."


def invarlock_alone(context: Context) -> str:
    """Return what `invarlock verify` says of the certificate, under the trust inputs in the folder."""
    folder = context.evidence("verify")
    try:
        anchors = json.loads((folder / "trust.json").read_bytes())["anchors"]
    except OSError:
        return "cannot start: no trust inputs"
    argv = (
        venvs.existing(ROOT, "certify").program("invarlock"), "verify", context.evidence("certify") / "certificate",
        "--policy", folder / "policy.json", "--expected-baseline-run", anchors["baseline_run_digest"],
        "--expected-subject-run", anchors["subject_run_digest"], "--expected-request-digest", anchors["request_digest"],
        "--expected-signer", anchors["evidence_signer_fingerprint"],
        "--verifier-signing-key", keys.private("invarlock-verifier"), "--verifier-identity", "alone",
        "--receipt", context.out / "alone.json", "--json",
    )  # fmt: skip
    code = subprocess.run(argv, capture_output=True, check=False).returncode
    return {0: "accepts", 7: "says regression"}.get(code, f"refuses ({code})")


def invarlock_03_alone(context: Context) -> str:
    """Return what 0.3.7's `invarlock verify` says of the certificate, beside the baseline's report as it lies there."""
    certify = context.evidence("certify")
    argv = (
        venvs.existing(ROOT, "verify-0.3").program("invarlock"), "verify", certify / "certificate" / "evaluation.cert.json",
        "--profile", "release", "--baseline", certify / "baseline-report.json", "--json",
    )  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    code = subprocess.run(argv, capture_output=True, check=False, env={**environment, "HOME": str(context.out)}).returncode
    return "accepts" if code == 0 else f"refuses ({code})"


def scored(tmp: Path, change: str, strength: str, cases: int = CASES) -> tuple[Record, ...]:
    """Return the records of a changed model over the first cases of the example."""
    folder, data = tmp / f"{change}-{strength}", tmp / "data.jsonl"
    if not folder.exists():
        damages.make(change, strength, folder)
    data.write_bytes(b"".join((EXAMPLE / "data" / "eval.jsonl").read_bytes().splitlines(keepends=True)[:cases]))
    for earlier in tmp.glob("records.jsonl"):
        earlier.unlink()
    return score(tmp, folder, data, 1024).cases


def profiles() -> Mapping[str, Profile]:
    """Return the profiles of policy."""
    return files.load_toml(ROOT / "policy" / "gates.toml", Gates).profile


def _strength(noise: tuple[float, recompute.Comparison]) -> str:
    strength, found = noise
    return f"{strength:.3f} (ratio {found.ratio:.4f}, interval to {found.interval.upper:.4f})"


def _no(predicate: StagePredicate) -> str:
    """Return the controls of a stage that say no."""
    failed = [outcome.control for outcome in predicate.outcomes if outcome.outcome is OutcomeKind.FAILED]
    return ", ".join(f"`{control}`" for control in failed) or predicate.error or "passed"


def _figures(context: Context) -> str:
    path = context.evidence("verify") / "recomputed.json"
    if not path.is_file():
        return "none"
    found = files.decode(path.read_bytes(), recompute.Comparison, path.name)
    return f"{found.ratio:.4f}, {found.interval.lower:.4f} to {found.interval.upper:.4f}"


def replace_table(name: str, lines: list[str]) -> None:
    """Put *lines* between the marks of the table *name*."""
    page = PAGE.read_text("utf-8")
    begin, end = f"<!-- {name}: written by docs/catalogues.py -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{PAGE}: no marks for {name}")
    files.write_bytes(PAGE, f"{before}{begin}{chr(10).join(lines)}\n{end}{rest.partition(end)[2]}".encode())
    print(f"{name}: {len(lines)} lines, sha256 {digest.of_bytes(chr(10).join(lines).encode())[:16]}", file=sys.stderr)


TABLES: dict[str, Callable[[Path], Iterator[str]]] = {
    "damages": damage_table,
    "limits": limits_table,
    "forgeries": forgery_table,
    "forgeries-0.3": forgery_03_table,
}

if __name__ == "__main__":
    main(sys.argv[1:])
