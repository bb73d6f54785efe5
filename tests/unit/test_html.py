"""The report: deterministic, closed in itself, escaped, and readable in a browser."""

import html
import re
import shutil
import subprocess
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from sealrun import digest, files
from sealrun.errors import SealrunError
from sealrun.evidence import statement as statements
from sealrun.outcome import Finding, Outcome, OutcomeKind, Severity, Verdict
from sealrun.policy.load import load_plan
from sealrun.policy.model import Plan, Waiver
from sealrun.reports import frameworks
from sealrun.reports import html as report

ROOT = Path(__file__).resolve().parents[2]
FINGERPRINT = f"sha256:{'ab' * 32}"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{7*7}}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_SCHEMES = {"light": ("--blink-settings=preferredColorScheme=1",), "dark": ("--blink-settings=preferredColorScheme=0",),
            "print": ("--blink-settings=preferredColorScheme=1",)}  # fmt: skip
COMPARISON = {
    "format": "invarlock/multi-metric-comparison-v1",
    "decision": "pass",
    "bindings": dict.fromkeys(("baseline", "subject", "policy"), f"sha256:{'1' * 64}"),
    "limitations": [],
    "metrics": [
        {
            "name": "nll", "slice": "all", "kind": "normalized_nll_per_utf8_byte", "unit": "nats_per_utf8_byte",
            "direction": "lower", "aggregation": "mean", "scoring_assurance": "recomputed", "interval_unit": "ratio",
            "count": 1000, "missing_ids": [], "baseline_mean": 0.5, "subject_mean": 0.501, "delta": 0.001, "ratio": 1.002,
            "interval": {"lower": 1.001, "upper": 1.003, "mass": 0.95, "method": "bootstrap", "replicates": 2048},
            "decision": "pass", "reasons": [],
        }
    ],
}  # fmt: skip

SNAPSHOT = {
    "format": "sealrun/advisory-snapshot-v1", "origin": "a test", "licence": "CC0-1.0", "as_of": "2026-01-01",
    "sha256": "7" * 64, "records": 9, "left_out": ["jinja2"], "rejected": [], "facts": 4, "facts_sha256": "8" * 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(ROOT, ROOT / "examples" / "tiny-lm" / "release.toml", date(2026, 1, 2))


class Release:
    """The statements and evidence of a release on disk, by stage; every control passed unless said otherwise."""

    def __init__(self, plan: Plan, evidence: Path, seen: str = "as expected") -> None:
        self.plan, self.evidence = plan, evidence
        self.outcomes = {
            control.id: Outcome(control=control.id, outcome=OutcomeKind.PASSED, seen=seen, expected="that it holds")
            for control in plan.checklist.control
        }
        self.findings: tuple[Finding, ...] = ()
        self.errors: dict[str, str] = {}
        self.networks: dict[str, Literal["denied", "opened", "unused"]] = {}
        self.tool = "invarlock"
        self.missing: set[str] = set()

    def leave(self, name: str, value: object) -> None:
        """Write *value* as the evidence file *name*."""
        (self.evidence / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.evidence / name, value)

    def say(self, control: str, kind: OutcomeKind, **fields: str) -> None:
        """Let *control* end as *kind*."""
        self.outcomes[control] = Outcome(
            control=control, outcome=kind, **{"seen": "something else", "expected": "that it holds"} | fields
        )

    def statement(self, stage: str) -> statements.StageStatement:
        folder = self.evidence / stage
        subjects = digest.describe_files(folder, files.walk_files(folder)) if folder.is_dir() else ()
        ids = [control.id for control in self.plan.checklist.control if control.stage == stage]
        error = self.errors.get(stage, "")
        said = tuple(self.outcomes[name] for name in ids if name not in self.missing and not error)
        return statements.StageStatement(
            subject=statements.resources(subjects),
            predicate=statements.StagePredicate(
                stage=stage, sealrun="0.1.0", python="3.12.1", plan="2" * 64, judged_at="2026-01-02", reuse_key="3" * 64,
                inputs=(), tools=(statements.Tool(name=self.tool, version="0.17.1", environment="certify", lock="4" * 64),),
                network=self.networks.get(stage, "denied"), verdict=Verdict.ERROR if error else Verdict.PASSED, outcomes=said,
                findings=tuple(found for found in self.findings if found.control in ids), error=error,
            ),
        )  # fmt: skip

    def data(self) -> report.ReportData:
        stages = dict.fromkeys(control.stage for control in self.plan.checklist.control)
        return report.report_data(
            self.plan, {stage: self.statement(stage) for stage in stages}, self.evidence, FINGERPRINT, "5" * 64
        )


@pytest.fixture
def release(plan: Plan, tmp_path: Path) -> Release:
    made = Release(plan, tmp_path)
    made.leave("certify/certificate/reports/evaluation.report.json", COMPARISON)
    model = [{"path": "model.onnx", "sha256": "6" * 64, "size": 10}]
    made.leave("model/digests.json", {"baseline": model, "candidate": model, "data": model})
    return made


def page(release: Release) -> str:
    return report.render(release.data()).decode()


def text_of(page: str) -> str:
    """The text that a reader sees, spaces collapsed."""
    body = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_same_values_give_same_bytes(release: Release) -> None:
    """Rendering is a function of its values, ends in one newline and says nothing of the host."""
    first, second = report.render(release.data()), report.render(release.data())
    assert first == second
    assert str(release.evidence).encode() not in first
    assert first.endswith(b"</html>\n")


def test_every_control_is_on_the_page(release: Release) -> None:
    """Each line of the checklist stands on the page with its title, id and what was seen."""
    page_text = text_of(page(release))
    for control in release.plan.checklist.control:
        assert f"{control.title} {control.id} passed as expected" in page_text


def test_a_passed_release_says_passed(release: Release) -> None:
    """All passed: the verdict says so, and nothing is listed as saying no."""
    data = release.data()
    assert data.verdict == "passed"
    assert f"Passed. {len(data.lines)} of {len(data.lines)} controls passed." in text_of(report.render(data).decode())
    assert "What says no" not in page(release)


def test_a_failed_control_leads_the_page(release: Release) -> None:
    """A failed control turns the verdict and stands before the checklist with seen, expected and what to do."""
    release.say("certify.regression", OutcomeKind.FAILED, seen="ratio 3.05", remedy="Do not ship it.")
    seen = text_of(page(release))
    assert release.data().verdict == "failed"
    assert seen.index("ratio 3.05 Expected that it holds What to do Do not ship it.") < seen.index("Checklist")


def test_a_control_without_judgement_is_an_error(release: Release) -> None:
    """A control that no statement speaks of is not judged, and the release is no pass."""
    release.missing.add("audit.clean")
    data = release.data()
    assert data.verdict == "error"
    assert [line.outcome for line in data.lines if line.control == "audit.clean"] == ["not_judged"]
    assert "no judgement from the stage audit" in page(release)


def test_a_stage_that_ended_in_an_error_is_an_error(release: Release) -> None:
    """An error of a stage is the release's, with its message."""
    release.errors["secrets"] = "trufflehog3: printed nothing"
    assert release.data().verdict == "error"
    assert "trufflehog3: printed nothing" in page(release)


@pytest.mark.parametrize(
    ("network", "barrier"),
    [
        ("denied", "a barrier of the kernel's around every program"),
        ("opened", "no barrier that holds"),
        ("unused", "no program ran"),
    ],
)
def test_every_stage_says_network_and_barrier(
    release: Release, network: Literal["denied", "opened", "unused"], barrier: str
) -> None:
    """Both follow from the stage's statement, stage by stage."""
    stages = dict.fromkeys(control.stage for control in release.plan.checklist.control)
    others: Literal["denied", "unused"] = "unused" if network == "denied" else "denied"
    release.networks = dict.fromkeys(stages, others) | {"audit": network}
    assert {row.name: row.network for row in release.data().stages} == release.networks
    row = next(part for part in page(release).split("<tr>") if part.startswith('<th scope="row">audit</th>'))
    assert f"<td>{network}<small>{barrier}</small></td>" in html.unescape(row)


def test_warnings_are_counted_and_shown(release: Release) -> None:
    """A deployment control under the research posture is a warning in words, never a bare pass."""
    release.say("audit.fresh", OutcomeKind.NOT_APPLICABLE, seen="12 days old", warning="would fail in production")
    seen = text_of(page(release))
    assert "1 warning." in seen
    assert "Advisory snapshot recent enough audit.fresh warning 12 days old. would fail in production" in seen


def test_research_is_stamped_not_promotable(release: Release) -> None:
    """The posture research is said in the header."""
    assert "Research release: not promotable." in text_of(page(release))


def test_a_finding_names_where_it_is(release: Release) -> None:
    """A finding shows rule, package or path and line, severity and outcome."""
    release.findings = (
        Finding(
            control="audit.clean", rule="PYSEC-2024-1", outcome=OutcomeKind.WAIVED, message="parser", severity=Severity.HIGH,
            package="jinja2", version="3.1.2", environment="runner",
        ),
        Finding(control="secrets.clean", rule="token", outcome=OutcomeKind.FAILED, message="m", path="a.py", line=3),
    )  # fmt: skip
    seen = text_of(page(release))
    assert "PYSEC-2024-1 audit.clean waived high jinja2 3.1.2 (runner) parser" in seen
    assert "token secrets.clean failed unknown a.py:3 m" in seen


def test_bars_are_drawn_to_scale(release: Release) -> None:
    """The longest value fills the bar; the limit stands at baseline x limit; over the limit is drawn as over."""
    figures = release.data().figures
    assert figures is not None
    baseline, candidate = figures.bars
    assert (baseline.width, candidate.width, figures.limit_at) == (980, 982, 997)
    assert not candidate.over
    worse = {**COMPARISON["metrics"][0], "interval": {**COMPARISON["metrics"][0]["interval"], "upper": 1.03}}  # type: ignore[index]
    release.leave("certify/certificate/reports/evaluation.report.json", {**COMPARISON, "metrics": [worse]})
    figures = release.data().figures
    assert figures is not None
    assert figures.bars[1].over


def test_what_was_looked_at_is_counted(release: Release) -> None:
    """Advisories, audited packages, scanned files and components are counted in the evidence; what is missing is said to be."""
    assert "audit not looked at: no snapshot.json" in text_of(page(release))
    release.leave("audit/snapshot.json", {**SNAPSHOT, "as_of": "2025-12-31"})
    release.leave("audit/questions.json", {"questions": [{"name": "jinja2", "version": "3.1.6", "ids": []}]})
    release.leave("sbom/runner.cdx.json", {"bomFormat": "CycloneDX", "components": [{"name": "jinja2"}, {"name": "nox"}]})
    seen = text_of(page(release))
    assert "Advisory snapshot as of 2025-12-31, 9 records, 4 of them about packages in scope; a test" in seen
    assert "Audited 1 packages" in seen
    assert "SBOM of runner 2 components" in seen


@pytest.mark.parametrize(
    "name",
    [
        "certify/certificate/reports/evaluation.report.json",
        "model/digests.json",
        "audit/snapshot.json",
        "audit/questions.json",
        "secrets/scan.json",
        "sbom/runner.cdx.json",
    ],
)
def test_evidence_that_is_there_must_be_readable(release: Release, name: str) -> None:
    """Garbage in a file that a statement names is an error, never a gap on the page."""
    release.leave(name, {"metrics": "many"})
    with pytest.raises(SealrunError):
        release.data()


def test_a_stage_without_evidence_is_said_to_have_none(plan: Plan, tmp_path: Path) -> None:
    """No certificate and no digests: the page says so."""
    seen = text_of(page(Release(plan, tmp_path)))
    assert "No figures: the stage certify did not complete a comparison." in seen
    assert "No digests: the stage model left none." in seen


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_hostile_values_stay_text(plan: Plan, tmp_path: Path) -> None:
    """Markup in any value is shown as text: it adds no element and no attribute."""
    calm, hostile = Release(plan, tmp_path, seen="calm"), Release(plan, tmp_path, seen=HOSTILE)
    for made, word in ((calm, "calm"), (hostile, HOSTILE)):
        made.findings = (Finding(control="secrets.clean", rule=word, outcome=OutcomeKind.FAILED, message=word, path=word),)
        made.errors["lock"] = made.tool = word
        made.say("model.code", OutcomeKind.FAILED, seen=word, expected=word, remedy=word, evidence=word, warning=word)
    parsed = _Tags(), _Tags()
    for parser, made in zip(parsed, (calm, hostile), strict=True):
        parser.feed(page(made))
    assert parsed[0].tags == parsed[1].tags
    assert parsed[0].attributes == parsed[1].attributes
    assert HOSTILE in html.unescape(page(hostile))


def test_nothing_is_loaded_or_run(release: Release) -> None:
    """No script, no address, no style attribute; the policy in the page allows its one style by digest and nothing else."""
    parser = _Tags()
    parser.feed(page(release))
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(parser.tags)
    names = {name for name, _ in parser.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "style", "srcset", "action"}
    links = {value for name, value in parser.attributes if name == "href"} - {"#main"}
    assert all(re.fullmatch(r"(evidence|statements|policy)/[\w./-]*|plan\.json", link) for link in links)
    assert "http://" not in page(release)
    assert "https://" not in page(release)
    policy = next(value for name, value in parser.attributes if value.startswith("default-src"))
    assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[\w+/]{43}='; base-uri 'none'; form-action 'none'", policy)


def test_a_screen_reader_finds_its_way(release: Release) -> None:
    """Language, one h1, landmarks, labelled sections that exist, and a scope on every table header."""
    seen = page(release)
    parser = _Tags()
    parser.feed(seen)
    assert ("lang", "en") in parser.attributes
    assert [parser.tags.count(tag) for tag in ("h1", "header", "main", "footer")] == [1, 1, 1, 1]
    labels = {value for name, value in parser.attributes if name == "aria-labelledby"}
    assert labels <= {value for name, value in parser.attributes if name == "id"}
    assert len(re.findall(r"<th\b", seen)) == len(re.findall(r"<th\b[^>]*\bscope=", seen))
    assert parser.tags.count("svg") == seen.count('role="img" aria-label=')


@pytest.mark.parametrize(
    ("evidence", "linked"),
    [
        ("evidence/audit/pip-audit.json", True),
        ("statements/", True),
        ("javascript:alert(1)", False),
        ("//example.org/x", False),
        ("https://example.org", False),
        ("evidence/../../etc/passwd", False),
        ("evidence/a b", False),
        ("data:text/html,x", False),
    ],
)
def test_evidence_is_linked_and_nothing_else(release: Release, evidence: str, linked: bool) -> None:
    """A path below the bundle's own folders is a link; whatever else a statement says stays text."""
    release.say("lock.hashed", OutcomeKind.PASSED, evidence=evidence)
    parser = _Tags()
    parser.feed(page(release))
    assert (("href", evidence) in parser.attributes) is linked
    assert html.escape(evidence) in page(release)


def test_what_changed_between_the_models(release: Release) -> None:
    """Each file is the same, changed, added or dropped, with its sizes."""

    def entry(name: str, digit: str, size: int) -> dict[str, object]:
        return {"path": name, "sha256": digit * 64, "size": size}

    old = [entry("a", "1", 10), entry("b", "2", 2000), entry("c", "3", 3)]
    new = [entry("a", "1", 10), entry("b", "4", 1000), entry("d", "5", 5)]
    release.leave("model/digests.json", {"baseline": old, "candidate": new, "data": []})
    assert [(change.name, change.kind) for change in release.data().changes] == [
        ("a", "same"), ("b", "changed"), ("c", "dropped"), ("d", "added"),
    ]  # fmt: skip
    seen = text_of(page(release))
    assert "b changed 2.0 kB before, 1.0 kB now" in seen
    assert "1 more files are the same in both." in seen


def test_waivers_and_the_days_they_have_left(release: Release) -> None:
    """A waiver stands on the page with its end, the days left from the day of judgement, its reason and its owner."""
    ends = {"a": date(2026, 1, 12), "b": date(2026, 1, 1), "c": date(2026, 6, 1)}
    waivers = tuple(
        Waiver(control="audit.clean", rule=f"PYSEC-{name}", target="jinja2", reason=f"Because {name}.", owner="anna@example.org",
               approver="ben@example.org", granted=date(2025, 12, 1), expires=end)
        for name, end in ends.items()
    )  # fmt: skip
    release.plan = msgspec.structs.replace(release.plan, waivers=msgspec.structs.replace(release.plan.waivers, waiver=waivers))
    seen = text_of(page(release))
    assert "PYSEC-b jinja2 audit.clean lapsed until 2026-01-01 Because b. anna@example.org" in seen
    assert "PYSEC-a jinja2 audit.clean 10 until 2026-01-12" in seen
    assert seen.index("PYSEC-b") < seen.index("PYSEC-a") < seen.index("PYSEC-c")


def test_the_interval_is_drawn_to_scale(release: Release) -> None:
    """The interval's ends, its middle, 1 and the limit stand on one axis in their order; beyond the limit is drawn as over."""
    figures = release.data().figures
    assert figures is not None
    at = figures.at
    assert 40 == at["one"] < at["lower"] < at["ratio"] < at["upper"] < at["limit"] == 960
    assert at["ratio"] - at["lower"] == pytest.approx(at["upper"] - at["ratio"], abs=2)


def test_frameworks_follow_the_controls(release: Release) -> None:
    """What a framework asks is met when its controls passed, a warning with one, failed with one, and open without any."""
    known = {control.id for control in release.plan.checklist.control}
    assert all(set(ask.controls) <= known for ask in frameworks.ASKS)
    outcomes = {answer.ask.clause: answer.outcome for answer in release.data().answers}
    assert (outcomes["RV.1.1"], outcomes["Build L2"]) == ("passed", "open")
    release.say("audit.fresh", OutcomeKind.PASSED, warning="old")
    release.say("lock.hashed", OutcomeKind.FAILED)
    outcomes = {answer.ask.clause: answer.outcome for answer in release.data().answers}
    assert (outcomes["RV.1.1"], outcomes["PW.4.1"]) == ("warning", "failed")


def test_keys_are_named(release: Release) -> None:
    """The release key and InvarLock's stand on the page by fingerprint."""
    release.leave("verify/trust.json", {"anchors": {"evidence_signer_fingerprint": f"sha256:{'cd' * 32}"}})
    seen = text_of(page(release))
    assert f"signs this report, the bundle and every statement {FINGERPRINT}" in seen
    assert f"signs the certificate sha256:{'cd' * 32}" in seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(release: Release, scheme: str) -> None:
    """Every text colour reaches 4.5:1 (WCAG AA) on the backgrounds that it is used on."""
    blocks = re.findall(r":root \{(.*?)\}", page(release), flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[("light", "dark").index(scheme)]))
    pairs = [("ink", "paper"), ("soft", "paper"), ("ink", "panel"), ("soft", "panel"), ("good", "good-bg"), ("bad", "bad-bg"),
             ("warn", "warn-bg")]  # fmt: skip
    for ink, ground in pairs:
        assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def _contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two colours."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the page is not rendered")
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (390, "dark"), (1280, "light"), (794, "print")])
def test_a_browser_shows_it_without_overflow(release: Release, tmp_path: Path, width: int, scheme: str) -> None:
    """On a phone, a desk, in the dark and on paper: no wider than the screen, styled by its own policy, its text visible."""
    (tmp_path / "frame.html").write_text(
        f"""<iframe width={width} height=800 srcdoc="{html.escape(page(release))}"></iframe><pre id=probe></pre><script>
        onload = () => {{
          const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
          document.getElementById("probe").textContent = JSON.stringify([
            root.scrollWidth <= root.clientWidth, getComputedStyle(page.body).marginTop,
            getComputedStyle(page.body).backgroundColor,
            page.body.innerText.includes("What this does not prove")]);
        }}</script>""",
        "utf-8",
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
         f"--window-size={width + 100},900", *_SCHEMES[scheme], "--virtual-time-budget=2000", "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    ground = "rgb(15, 20, 25)" if scheme == "dark" else "rgb(255, 255, 255)"
    assert f'<pre id="probe">[true,"0px","{ground}",true]</pre>' in done.stdout
