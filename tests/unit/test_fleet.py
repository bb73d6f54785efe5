"""Laws of a fleet that need no tool: what is in it, where it runs, and what is said when a release is none."""

import json
from pathlib import Path

import pytest

from sealrun.ci import fleet
from sealrun.errors import InputMissing, UsageError
from sealrun.outcome import Verdict
from sealrun.reports import fleet as report
from sealrun.reports.fleet import Fleet, Member
from tests import small


@pytest.mark.parametrize(
    "on",
    ["dask://", "dask://host", "dask://host:no", "dask://host:1/path", "dask://host:99999", "tcp://127.0.0.1:1", "slurm", ""],
)
def test_a_place_that_is_none_is_wrong_use(on: str) -> None:
    """Only local and a scheduler's host and port are places."""
    with pytest.raises(UsageError, match="expected local, dask://HOST:PORT"):
        fleet._scheduler(on)


def test_another_machine_is_asked_only_when_the_network_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback needs no permission, any other host does."""
    monkeypatch.delenv("INVARLOCK_ALLOW_NETWORK", raising=False)
    assert fleet._scheduler("local") == ""
    assert fleet._scheduler("dask://127.0.0.1:8786") == "tcp://127.0.0.1:8786"
    assert fleet._scheduler("dask+tls://[::1]:8786") == "tls://[::1]:8786"
    with pytest.raises(UsageError, match="INVARLOCK_ALLOW_NETWORK=1"):
        fleet._scheduler("dask://cluster.example:8786")
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", "1")
    assert fleet._scheduler("dask://cluster.example:8786") == "tcp://cluster.example:8786"


def test_a_pattern_that_names_nothing_is_said(tmp_path: Path) -> None:
    """Patterns are taken together, each file once; an empty one is no fleet of zero."""
    for name in ("b.toml", "a.toml"):
        (tmp_path / name).touch()
    assert fleet._matched([f"{tmp_path}/*.toml", f"{tmp_path}/a.toml"]) == [tmp_path / "a.toml", tmp_path / "b.toml"]
    with pytest.raises(InputMissing, match="names no file"):
        fleet._matched([f"{tmp_path}/*.toml", f"{tmp_path}/none/*.toml"])


def named(root: Path, file: str, name: str) -> Path:
    """A release file like the small repository's, of another name."""
    path = root / file
    path.write_text((root / "release.toml").read_text("utf-8").replace('name = "tiny-lm"', f'name = "{name}"'), "utf-8")
    return path


def test_what_is_no_release_does_not_stop_the_others(tmp_path: Path) -> None:
    """A broken file, and both of two releases of one title, are errors of their own; the rest is planned."""
    root = small.repository(tmp_path / "project")
    (root / "broken.toml").write_text("format = 1", "utf-8")
    configs = [named(root, f"{name}.toml", title) for name, title in (("a", "twin"), ("b", "twin"), ("c", "alone"))]
    contexts, unfit = fleet._planned(root, [*configs, root / "broken.toml"], root / "build")
    assert list(contexts) == ["alone-0.1.0"]
    assert sorted(Path(member.config).name for member in unfit) == ["a.toml", "b.toml", "broken.toml"]
    assert all(member.state == "error" and member.exit_code == 2 and member.error for member in unfit)


def test_a_bundle_that_is_not_the_named_one_is_an_error(tmp_path: Path) -> None:
    """What a release or a worker says is believed when the bytes are here; no result at all is a lost worker."""
    root = small.repository(tmp_path / "project")
    (contexts, _), folder = fleet._planned(root, [root / "release.toml"], root / "build"), tmp_path / "fleet"
    (context,) = contexts.values()
    (folder / "results").mkdir(parents=True)
    member = Member(title=context.plan.title, config="release.toml")
    assert fleet._ended(member, context, folder, 1.0, "killed by SIGKILL").error == "killed by SIGKILL"
    context.out.mkdir(parents=True)
    bundle = context.out / f"{member.title}.evidence.tar"
    bundle.write_bytes(b"other bytes")
    said = {"command": "release", "verdict": "passed", "exit_code": 0, "bundle": str(bundle), "digest": f"sha256:{'0' * 64}"}
    (folder / "results" / f"{member.title}.json").write_text(json.dumps(said), "utf-8")
    ended = fleet._ended(member, context, folder, 1.0, "")
    assert (ended.state, ended.exit_code) == ("error", 4)
    assert "differs from the digest" in ended.error
    bundle.unlink()
    assert fleet._ended(member, context, folder, 1.0, "").exit_code == 4


@pytest.mark.parametrize(
    ("ends", "verdict", "code"),
    [
        ([("passed", 0), ("passed", 0)], Verdict.PASSED, 0),
        ([("failed", 1), ("passed", 0)], Verdict.FAILED, 1),
        ([("failed", 1), ("error", 3), ("error", 4)], Verdict.ERROR, 3),
    ],
)
def test_the_summary_is_as_bad_as_its_worst(ends: list[tuple[str, int]], verdict: Verdict, code: int) -> None:
    """An error outweighs a gate that said no, and the first of them gives the exit code."""
    members = tuple(
        Member(title=f"r-{number}", config="x", state=state, exit_code=exit_code)
        for number, (state, exit_code) in enumerate(ends)
    )
    made = fleet._summary("local", "1767225600", 1.0, members)
    assert (made.verdict, made.exit_code, made.judged_at) == (verdict, code, "2026-01-01")


def test_the_page_escapes_what_releases_say() -> None:
    """A name or an error cannot become markup, and nothing is loaded or run."""
    bad = "<script>alert(1)</script>"
    page = report.render(
        Fleet(
            on=bad, judged_at="2026-01-01", seconds=1.0, verdict=Verdict.ERROR, exit_code=4,
            releases=(Member(title=bad, config=bad, state="error", error=bad, failed=(bad,), where=bad),),
        )
    ).decode()  # fmt: skip
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "1 ended in an error" in page
