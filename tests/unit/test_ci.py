"""Laws of the matrix, of joining its parts, of summaries, and of the files that a CI reads."""

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from sealrun import digest, files, pipeline, result
from sealrun.ci import join, kit, matrix, summary
from sealrun.errors import InputMissing, SealrunError, UsageError, VerificationFailed
from sealrun.evidence import shards
from sealrun.evidence import statement as statements
from sealrun.evidence.shards import Shard, ShardPredicate, ShardStatement
from sealrun.outcome import Outcome, OutcomeKind, Verdict
from sealrun.reports.cyclonedx import Document
from sealrun.stage import Context, context_of

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / "action.yml"]
GITLAB = sorted((ROOT / "ci").glob("*.yml"))
RELEASE = tuple(pipeline.stages())


# The matrix -----------------------------------------------------------------------------------------------------------


def test_a_wave_needs_only_earlier_waves() -> None:
    """Every stage stands once, after all it requires, with their parts as its inputs."""
    made = matrix.matrix(RELEASE, "release", ["3.12"])
    seen: set[str] = set()
    for wave in made.waves:
        for job in wave:
            assert set(job.requires) <= seen
            assert job.inputs == tuple(path for required in job.requires for path in matrix.parts(required))
        seen |= {job.stage for job in wave}
    assert sorted(job.stage for wave in made.waves for job in wave) == sorted(RELEASE)


def test_each_python_gets_every_job_in_the_shapes_of_both_platforms() -> None:
    """Two Pythons double each wave; GitHub's and GitLab's lists say the same jobs."""
    made = matrix.matrix(("lock", "audit"), "supply-chain", ["3.12", "3.13"])
    jobs = [(job.stage, job.python) for job in made.waves[0]]
    assert sorted(jobs) == [("audit", "3.12"), ("audit", "3.13"), ("lock", "3.12"), ("lock", "3.13")]
    assert [(job["stage"], job["python"]) for job in made.github[0]["include"]] == jobs
    assert [(job["STAGE"], job["PYTHON"]) for job in made.gitlab[0]] == jobs


def test_a_split_stage_has_a_job_for_each_shard_and_one_that_takes_them() -> None:
    """Every input is an output of an earlier wave, every output one artifact of its own; of one shard nothing is split."""
    made = matrix.matrix(RELEASE, "release", ["3.12"], {"secrets": 3, "certify": 2})
    left: set[str] = set()
    names: list[str] = []
    for wave, shown in zip(made.waves, made.github, strict=True):
        assert all(left >= set(job.inputs) for job in wave)
        left |= {path for job in wave for path in job.outputs}
        names += [job["part"] for job in shown["include"]]
        for job, said in zip(wave, shown["include"], strict=True):
            assert said["paths"].splitlines() == [f"build/*/{path}" for path in job.outputs]
    jobs = [(job.stage, job.shard) for wave in made.waves for job in wave]
    assert [shard for stage, shard in jobs if stage == "secrets"] == ["1/3", "2/3", "3/3", "all/3"]
    assert [shard for stage, shard in jobs if stage == "certify"] == ["1/2", "2/2", "all/2"]
    assert len(jobs) == len(RELEASE) + 5
    assert sorted(set(names)) == sorted(names) and not any("/" in name for name in names)
    assert matrix.matrix(RELEASE, "release", ["3.12"], {"secrets": 1}) == matrix.matrix(RELEASE, "release", ["3.12"])


@pytest.mark.parametrize("split", [{"model": 2}, {"secrets": 0}, {"secrets": 257}, {"nothing": 2}])
def test_what_cannot_be_split_is_wrong_use(split: dict[str, int]) -> None:
    """The stages that can are named."""
    with pytest.raises(UsageError, match="one of secrets, certify"):
        matrix.matrix(RELEASE, "release", ["3.12"], split)


def test_the_list_is_noxs_own() -> None:
    """What nox lists for the tag is what the matrix has; another tag is wrong use."""
    assert set(matrix.listed(ROOT, "release")) == set(RELEASE)
    assert set(matrix.listed(ROOT, "supply-chain")) == {"lock", "sbom", "audit", "secrets"}
    with pytest.raises(UsageError, match="expected one of release, supply-chain"):
        matrix.listed(ROOT, "nightly")


# Joining --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def part(repository: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make the part that a job leaves for the lock stage, in a folder of its own."""
    context = context_of(repository, None, Path("build"))
    pipeline.execute(pipeline.stage_named("lock"), context)

    def make(name: str = "part") -> Path:
        folder = tmp_path / name
        shutil.copytree(context.out / "evidence" / "lock", folder / "evidence" / "lock")
        shutil.copytree(context.out / "statements", folder / "statements")
        return folder

    return make


@pytest.fixture
def empty(repository: Path) -> Context:
    """The context of the job that joins, in another output folder."""
    (repository / "joined").mkdir()
    return context_of(repository, None, Path("joined"))


def test_a_part_lands_byte_for_byte(part: Callable[..., Path], empty: Context) -> None:
    """What was stated is what stands afterwards, and the next stage believes it."""
    made = part()
    assert join.join(empty, [made], ["lock"]) == ("lock",)
    assert empty.statement_path("lock").read_bytes() == (made / "statements" / "lock.json").read_bytes()
    assert empty.upstream("lock").predicate.stage == "lock"


def test_a_part_may_be_the_whole_output_folder(part: Callable[..., Path], empty: Context, tmp_path: Path) -> None:
    """`build/` as it was uploaded is found too."""
    (tmp_path / "build").mkdir()
    part().rename(tmp_path / "build" / empty.out.name)
    assert join.join(empty, [tmp_path / "build"], ["lock"]) == ("lock",)


def changed_evidence(folder: Path) -> None:
    (folder / "evidence" / "lock" / "locks.json").write_bytes(b"{}")


def foreign_file(folder: Path) -> None:
    (folder / "evidence" / "lock" / "more.json").write_bytes(b"{}")


def linked_file(folder: Path) -> None:
    (folder / "evidence" / "lock" / "locks.json").unlink()
    (folder / "evidence" / "lock" / "locks.json").symlink_to("/etc/hostname")


def foreign_evidence(folder: Path) -> None:
    (folder / "evidence" / "other").mkdir()


def renamed(folder: Path) -> None:
    (folder / "statements" / "lock.json").rename(folder / "statements" / "audit.json")


def of_another_plan(folder: Path) -> None:
    path = folder / "statements" / "lock.json"
    said = statements.load(path)
    statements.write(path, msgspec.structs.replace(said, predicate=msgspec.structs.replace(said.predicate, plan="0" * 64)))


def no_statement(folder: Path) -> None:
    shutil.rmtree(folder / "statements")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (changed_evidence, VerificationFailed),
        (foreign_file, VerificationFailed),
        (linked_file, SealrunError),
        (foreign_evidence, VerificationFailed),
        (renamed, VerificationFailed),
        (of_another_plan, VerificationFailed),
        (no_statement, InputMissing),
    ],
)
def test_a_spoilt_part_is_refused_and_nothing_is_placed(
    part: Callable[..., Path], empty: Context, spoil: Callable[[Path], None], error: type[SealrunError]
) -> None:
    """A changed, linked, foreign or missing file, another stage or another plan: an error, and nothing in place."""
    made = part()
    spoil(made)
    with pytest.raises(error):
        join.join(empty, [made], ["lock"])
    assert not empty.statement_path("lock").exists()


def test_a_stage_comes_once_and_none_is_missing(part: Callable[..., Path], empty: Context) -> None:
    """The same stage in two parts is wrong use; a missing one is named with its session."""
    with pytest.raises(UsageError, match="hand over each stage once"):
        join.join(empty, [part("one"), part("two")], ["lock"])
    with pytest.raises(InputMissing, match="missing audit; run `nox -s audit`"):
        join.join(empty, [part("three")], ["lock", "audit"])


def shard(context: Context, folder: Path, number: int, of: int = 3, **changes: str) -> Path:
    """Make the part that the job of one shard of the secret scan leaves."""
    place = shards.place(folder, "secrets", Shard(number, of))
    (place / shards.PART).mkdir(parents=True)
    files.write_bytes(place / shards.PART / "found.json", b"{}")
    predicate = ShardPredicate(
        **{"stage": "secrets", "number": number, "of": of, "python": platform.python_version(), "plan": context.plan.digest,
           "reuse_key": "1" * 64, "network": "denied"} | changes
    )  # fmt: skip
    subject = statements.resources(digest.describe_files(place / shards.PART, ["found.json"]))
    files.write_json(place / shards.STATEMENT, ShardStatement(subject=subject, predicate=predicate))
    return folder


def test_all_shards_are_put_in_place_whatever_their_order(empty: Context, tmp_path: Path) -> None:
    """Byte for byte, from parts that hold one or several; without being asked for they stay where they are."""
    shard(empty, tmp_path / "one", 1)
    parts = [shard(empty, tmp_path / "two", 3), shard(empty, tmp_path / "one", 2)]
    assert join.join(empty, parts, []) == ()
    assert not (empty.out / "shards").exists()
    assert join.join(empty, parts, [], split="secrets", of=3) == ("secrets 1/3", "secrets 2/3", "secrets 3/3")
    for part, number in ((tmp_path / "two", 3), (tmp_path / "one", 1)):
        there, here = (shards.place(folder, "secrets", Shard(number, 3)) for folder in (part, empty.out))
        assert {name: (there / name).read_bytes() for name in files.walk_files(there)} == {
            name: (here / name).read_bytes() for name in files.walk_files(here)
        }


def missing_shard(context: Context, folder: Path) -> None:
    shutil.rmtree(shards.place(folder, "secrets", Shard(2, 3)))


def repeated_shard(context: Context, folder: Path) -> None:
    shard(context, folder.with_name("more"), 2)


def of_another_division(context: Context, folder: Path) -> None:
    shard(context, folder.with_name("more"), 2, 4)


def made_from_something_else(context: Context, folder: Path) -> None:
    shutil.rmtree(shards.place(folder, "secrets", Shard(2, 3)))
    shard(context, folder, 2, reuse_key="2" * 64)


def of_a_foreign_plan(context: Context, folder: Path) -> None:
    shard(context, folder.with_name("more"), 2, plan="0" * 64)


def on_another_python(context: Context, folder: Path) -> None:
    shutil.rmtree(shards.place(folder, "secrets", Shard(2, 3)))
    shard(context, folder, 2, python="3.99.0")


def changed_shard(context: Context, folder: Path) -> None:
    (shards.place(folder, "secrets", Shard(2, 3)) / shards.PART / "found.json").write_text("[]")


def more_in_a_shard(context: Context, folder: Path) -> None:
    (shards.place(folder, "secrets", Shard(2, 3)) / shards.PART / "more.json").write_text("[]")


def moved_shard(context: Context, folder: Path) -> None:
    place = shards.place(folder, "secrets", Shard(2, 3))
    place.rename(place.with_name("1-of-2"))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (missing_shard, InputMissing),
        (repeated_shard, UsageError),
        (of_another_division, VerificationFailed),
        (made_from_something_else, VerificationFailed),
        (of_a_foreign_plan, VerificationFailed),
        (on_another_python, VerificationFailed),
        (changed_shard, VerificationFailed),
        (more_in_a_shard, VerificationFailed),
        (moved_shard, VerificationFailed),
    ],
)
def test_a_spoilt_shard_is_refused_and_nothing_is_placed(
    empty: Context, tmp_path: Path, spoil: Callable[[Context, Path], None], error: type[SealrunError]
) -> None:
    """A missing, repeated, foreign or changed shard: an error, and nothing in place."""
    for number in (1, 2, 3):
        shard(empty, tmp_path / "parts", number)
    spoil(empty, tmp_path / "parts")
    parts = [path for path in (tmp_path / "parts", tmp_path / "more") if path.exists()]
    with pytest.raises(error):
        join.join(empty, parts, [], split="secrets", of=3)
    assert not (empty.out / "shards").exists()


# Summaries ------------------------------------------------------------------------------------------------------------


def test_a_summary_names_what_failed_and_escapes_what_was_said() -> None:
    """The control, what was seen and what to do; a pipe, a tag or a line end in it stays text."""
    failed = Outcome(
        control="audit.clean", outcome=OutcomeKind.FAILED, seen="a|b\n<img src=x> [link](x)", expected="none", remedy="upgrade"
    )
    text = summary.of_results([result.Result(command="audit", verdict=Verdict.FAILED, exit_code=1, controls=(failed,))])
    assert "a\\|b \\<img src=x\\> \\[link\\](x)" in text and "upgrade" in text
    assert all(line.startswith("| ") for line in text.splitlines() if line)


def test_changes_are_added_removed_and_other_versions() -> None:
    """Unchanged packages are left out; no change says so."""

    def document(*names: str) -> Document:
        components = [{"name": n, "version": v, "purl": f"pkg:pypi/{n}@{v}"} for n, v in (each.split("==") for each in names)]
        value = {"specVersion": "1.6", "serialNumber": "urn:uuid:0", "components": components}
        return files.convert(value, Document, "test")

    text = summary.of_changes(document("a==1", "b==1", "c==1"), document("a==1", "b==2", "d==1"))
    assert [line.split(" | ") for line in text.splitlines()[2:]] == [
        ["| b", "1", "2 |"], ["| c", "1", "— |"], ["| d", "—", "1 |"],
    ]  # fmt: skip
    assert summary.of_changes(document("a==1"), document("a==1")) == "No package changed.\n"


# The files that a CI reads --------------------------------------------------------------------------------------------


def steps(document: Any) -> Iterator[dict[str, Any]]:
    """Every step of a workflow or composite action."""
    for job in document.get("jobs", {"": document.get("runs", {})}).values():
        yield from job.get("steps", [])


def loaded(path: Path) -> Any:
    """A workflow; YAML 1.1 reads its key `on` as True."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_actions_are_pinned_and_scripts_hold_no_expression(path: Path) -> None:
    """Every action is ours or pinned by commit with its version beside it; no `${{ }}` reaches a shell."""
    for step in steps(loaded(path)):
        if used := step.get("uses"):
            assert used.startswith("./") or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", used), used
        assert "${{" not in step.get("run", "")
    for line in path.read_text("utf-8").splitlines():
        assert "uses: actions/" not in line or re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_permissions_are_least(path: Path) -> None:
    """Nothing at the top; reading for each job; tokens for the attesting job alone, which checks nothing out."""
    document = loaded(path)
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        allowed = job["permissions"]
        if name == "attest":
            assert allowed == {"id-token": "write", "attestations": "write"}
            assert not any("checkout" in step.get("uses", "") for step in job["steps"])
        elif name == "upgrade":
            assert allowed == {"contents": "write", "pull-requests": "write"}
        else:
            assert allowed == {"contents": "read"}
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_the_workflow_has_the_waves_of_the_matrix() -> None:
    """release.yml has a job for each wave but the last, which is the bundle; each waits for the one before. The wave that is
    there where certify is split alone may be skipped, and then the rest runs all the same."""
    jobs = loaded(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    made = matrix.matrix(RELEASE, "release", ["3.12"], {"secrets": 2, "certify": 2})
    whole = matrix.matrix(RELEASE, "release", ["3.12"])
    assert {name for name, job in jobs.items() if "if" in job} == {f"wave{len(whole.waves) - 1}", "bundle", "attest"}
    waves = [f"wave{number}" for number in range(len(made.waves) - 1)]
    assert list(jobs) == ["plan", *waves, "bundle", "attest"]
    assert [job.stage for job in made.waves[-1]] == ["bundle"]
    assert set(jobs["plan"]["outputs"]) == {*waves, "day"}
    for number, wave in enumerate(waves):
        assert jobs[wave]["needs"] == ["plan", *waves[max(0, number - 1) : number]]
        with_ = jobs[wave]["steps"][-1]["with"]
        shown = {name: f"${{{{ matrix.{name} }}}}" for name in ("stage", "shard", "part", "paths")}
        assert with_ == {**shown, "config": "${{ inputs.config }}"}
        assert jobs[wave]["strategy"]["matrix"] == f"${{{{ fromJson(needs.plan.outputs.{wave}) }}}}"
    assert jobs["bundle"]["needs"] == ["plan", *waves] and jobs["attest"]["needs"] == ["bundle"]


def test_gitlabs_pipeline_is_the_matrix_in_jobs_that_there_are() -> None:
    """A stage for each wave, in order; each job is made of one in ci/jobs.gitlab-ci.yml, with no variable that is empty."""
    made = matrix.matrix(RELEASE, "release", ["3.12"], {"secrets": 2, "certify": 2})
    said = matrix.gitlab_pipeline(made, "1767225600")
    jobs = loaded(ROOT / said["include"][0]["local"])
    assert said["stages"] == [f"wave{number}" for number in range(len(made.waves))]
    for name, wave in zip(said["stages"], made.waves, strict=True):
        script = "".join(jobs[said[name]["extends"]]["before_script"] + jobs[said[name]["extends"]]["script"])
        for job, told in zip(wave, said[name].get("parallel", {}).get("matrix", ()), strict=False):
            assert told["STAGE"] == job.stage and told.get("SHARD", "") == job.shard and all(told.values())
            assert told["LEAVES"].split() == [path.rstrip("/") for path in job.outputs]
            assert all(f"${variable}" in script or f"${{{variable}:" in script for variable in told)
    assert said["wave4"] == {"extends": ".sealrun-bundle", "stage": "wave4"}
    assert said["variables"] == {"SOURCE_DATE_EPOCH": "1767225600"}


def test_the_page_shows_files_that_fit() -> None:
    """Each YAML block of docs/ci.md: our files exist, take what they are given, and other people's are pinned as ours pin them."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "ci.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    action, job = yaml.safe_load(blocks[0])[1], yaml.safe_load(blocks[1])["jobs"]["release"]
    assert action == {"uses": "OWNER/sealrun@COMMIT"}
    assert set(re.findall(r"uses: (actions/.*)", blocks[0])) <= set(
        re.findall(r"uses: (actions/.*)", (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    )
    called = loaded(ROOT / job["uses"].removeprefix("./"))
    takes = called[True]["workflow_call"]
    assert job["with"].keys() <= takes["inputs"].keys() and job["secrets"].keys() == takes["secrets"].keys()
    given = {name for one in called["jobs"].values() for name in one["permissions"]}
    assert job["permissions"].keys() == given
    includes = re.findall(r"`include: (\{.*?\})`", (ROOT / "docs" / "ci.md").read_text("utf-8"))
    door, release = (
        loaded(ROOT / yaml.safe_load(include)[key]) for include, key in zip(includes, ("file", "local"), strict=True)
    )
    assert {"SEALRUN_URL", "SEALRUN_COMMIT"} <= door["variables"].keys() and "release" in release


@pytest.mark.parametrize("path", [*WORKFLOWS, *GITLAB], ids=lambda path: path.name)
def test_the_network_is_opened_for_installing_alone(path: Path) -> None:
    """The variable stands in steps that install, fetch or upgrade; a step that runs stages has none."""
    document = loaded(path)
    if path.parent.name == "ci":  # GitLab
        for name in document.keys() & {"sealrun", ".sealrun-stage", ".sealrun-bundle"}:
            assert "INVARLOCK_ALLOW_NETWORK=1" in "".join(document[name]["before_script"])
            assert document[name]["script"][0].startswith("unset INVARLOCK_ALLOW_NETWORK")
        return
    opened = [step["name"] for step in steps(document) if "INVARLOCK_ALLOW_NETWORK" in step.get("env", {})]
    assert all(re.match(r"Install|Upgrade", name) for name in opened)
    assert not any("INVARLOCK_ALLOW_NETWORK" in job.get("env", {}) for job in document.get("jobs", {}).values())


# The kit --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "holds", "lacks"),
    [
        (
            "manylinux_2_28_aarch64",
            {"manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_5_aarch64"},
            "manylinux_2_29_aarch64",
        ),
        ("manylinux_2_12_x86_64", {"manylinux2010_x86_64", "manylinux1_x86_64"}, "manylinux2014_x86_64"),
        ("musllinux_1_2_x86_64", {"musllinux_1_1_x86_64"}, "manylinux2014_x86_64"),
        ("macosx_14_0_arm64", set(), "macosx_15_0_arm64"),
    ],
)
def test_a_platform_takes_the_wheels_of_older_ones(platform: str, holds: set[str], lacks: str) -> None:
    """Itself first, then every older C library under each of its names, and nothing newer or other."""
    tags = kit.compatible(platform)
    assert tags[0] == platform and holds <= set(tags) and lacks not in tags
