"""Laws of running a stage: evidence first, reuse by digest, verdicts always afresh. Real stages, real programs."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sealrun import cache, digest, files, masking, pipeline, reuse, venvs
from sealrun.errors import InputMissing, ToolFailed, UsageError, VerificationFailed
from sealrun.evidence import keys
from sealrun.evidence import statement as statements
from sealrun.outcome import Judgement, Verdict, check
from sealrun.stage import Context, Stage, Work, context_of

_WORD = "-".join(("horse", "battery", "staple"))
ENVIRONMENT = venvs.Environment(name="probe", smoke=("python",))


@pytest.fixture
def context(repository: Path) -> Context:
    """A context with an environment `probe` whose only program is a shell script that the test writes."""
    (repository / "requirements" / "probe.txt").write_text("probe==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    (repository / ".nox" / "venvs").unlink()  # it is shared with this checkout
    (repository / ".nox" / "venvs").mkdir()
    venv = venvs.locate(repository, "probe")
    (venv.path / "bin").mkdir(parents=True)
    (venv.path / "sealrun-venv.json").write_text("{}")
    tool(repository, 'echo "said" > "$1/report.txt"')
    return context_of(repository, None, Path("build"))


def tool(repository: Path, script: str) -> None:
    """Make `probe` of the environment run *script*."""
    path = venvs.locate(repository, "probe").program("probe")
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def gather(context: Context, work: Work) -> None:
    """Run the tool once."""
    work.run("probe", "probe", ("probe", str(work.out)), seconds=2.0)


def judge(context: Context) -> Judgement:
    """Passed when the tool said what it should."""
    path = context.evidence("probe") / "report.txt"
    if not path.is_file() or not path.read_text():
        raise ToolFailed("report.txt: the tool wrote no report")
    return Judgement(
        outcomes=(
            check("probe.said", path.read_text() == "said\n", seen=path.read_text().strip(), expected="said", remedy="r"),
        ),
        reports={"derived.txt": context.plan.judged_at.isoformat().encode()},
    )


def stage(**changes: object) -> Stage:
    """The stage under test."""
    values: dict[str, object] = {
        "name": "probe", "summary": "s", "controls": ("probe.said",), "inputs": lambda _: {"in": "0" * 64},
        "gather": gather, "judge": judge, "environments": (ENVIRONMENT,), "tools": (("probe", "probe"),),
    }  # fmt: skip
    return Stage(**(values | changes))  # type: ignore[arg-type]


def test_a_stage_leaves_evidence_and_a_statement_that_names_it(context: Context) -> None:
    """Every file below the evidence folder is a subject; tool, lock, plan and network are stated."""
    statement = pipeline.execute(stage(), context)
    assert statement.predicate.verdict is Verdict.PASSED
    assert sorted(statement.digests()) == ["derived.txt", "report.txt"]
    assert statement.predicate.network == "denied"
    assert statement.predicate.tools[0].version == "1.0"
    assert statement.predicate.plan == context.plan.digest
    assert statements.load(context.statement_path("probe")) == statement


def test_a_statement_holds_no_fact_of_the_host(context: Context) -> None:
    """No path, user, host or time stands in a statement."""
    pipeline.execute(stage(), context)
    text = context.statement_path("probe").read_text()
    for fact in (str(context.root), str(Path.home()), os.uname().nodename):
        assert fact not in text


def test_unchanged_tool_output_is_reused_and_judged_again(context: Context, repository: Path) -> None:
    """Under the same key the tool does not run again; the judgement is that of the new day."""
    pipeline.execute(stage(), context)
    tool(repository, "exit 9")
    later = context_of(repository, None, Path("build"))
    moved = msgspec.structs.replace(later.plan, judged_at=later.plan.judged_at.replace(year=2099))
    moved_context = Context(plan=moved, root=later.root, out=later.out)
    statement = pipeline.execute(stage(), moved_context)
    assert statement.predicate.verdict is Verdict.PASSED
    assert pipeline.progress_of(moved_context, "probe").reused
    assert (context.evidence("probe") / "derived.txt").read_text().startswith("2099")


@pytest.mark.parametrize("touch", ["report.txt", "derived.txt", "extra.txt"])
def test_touched_evidence_is_not_believed(context: Context, touch: str) -> None:
    """A changed, or an added, file makes the tools run again."""
    pipeline.execute(stage(), context)
    (context.evidence("probe") / touch).write_text("forged")
    statement = pipeline.execute(stage(), context)
    assert not pipeline.progress_of(context, "probe").reused
    assert (context.evidence("probe") / "report.txt").read_text() == "said\n"
    assert "extra.txt" not in statement.digests()


def test_a_changed_input_or_lock_makes_the_tools_run_again(context: Context, repository: Path) -> None:
    """The reuse key covers inputs, locks, and the plan."""
    pipeline.execute(stage(), context)
    pipeline.execute(stage(inputs=lambda _: {"in": "1" * 64}), context)
    assert not pipeline.progress_of(context, "probe").reused
    (repository / "policy" / "gates.toml").write_text((repository / "policy" / "gates.toml").read_text() + "\n# changed\n")
    changed = context_of(repository, None, Path("build"))
    assert pipeline.rejudge(stage(inputs=lambda _: {"in": "1" * 64}), changed) is None


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo broken >&2; exit 1", "exit code 1"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("exit 0", "wrote no report"),
        ('echo partial > "$1/report.txt"; sleep 30', "still running"),
    ],
)
def test_a_tool_that_fails_is_an_error_never_a_pass(context: Context, repository: Path, script: str, complaint: str) -> None:
    """Crashing, silent and hanging tools end in verdict error, code 4, with the partial output kept."""
    tool(repository, script)
    statement = pipeline.execute(stage(), context)
    assert statement.predicate.verdict is Verdict.ERROR
    assert statement.predicate.error_code == 4
    assert complaint in statement.predicate.error
    assert statement.predicate.outcomes == ()
    if "partial" in script:
        assert (context.evidence("probe") / "report.txt").read_text() == "partial\n"


@pytest.mark.parametrize(
    ("left", "complaint"),
    [
        ('ln -s "{outside}" "$1/report.txt"', "report.txt (a link)"),
        ('mkdir "$1/a"; ln -s "{folder}" "$1/a/door"; echo x > "$1/report.txt"', "a/door (a link)"),
        ('mkfifo "$1/report.txt"', "report.txt (a device, pipe or socket)"),
        ('echo x > "$1/report.txt"; ln "$1/report.txt" "$1/twin.txt"', "2 names, hard links"),
        ('echo x > "$1/report.txt"; echo x > "$1/back\\\\slash"', "an unsafe name"),
        ('echo x > "$1/report.txt"; echo x > "$1/REPORT.txt"', "twins"),
        ('ln -s "{outside}" "$TMPDIR/stolen"; echo x > "$1/report.txt"', "stolen (a link)"),
        ('ln -s "{outside}" "$1/report.txt"; exit 9', "exit code 9"),
    ],
)
def test_what_a_program_leaves_is_plain_or_refused(
    context: Context, repository: Path, tmp_path: Path, left: str, complaint: str
) -> None:
    """A link, pipe, hard link, unsafe name or twin is an error, is not followed, and is gone: no judge reads through it."""
    outside = tmp_path / "outside"
    outside.write_text("kept to itself")
    tool(repository, left.format(outside=outside, folder=tmp_path))
    statement = pipeline.execute(stage(), context)
    assert (statement.predicate.verdict, statement.predicate.error_code) == (Verdict.ERROR, 4)
    assert complaint in statement.predicate.error
    below = [path for path in context.out.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in below)
    assert all(b"kept to itself" not in path.read_bytes() for path in below)
    assert outside.read_text() == "kept to itself"


def test_a_missing_tool_is_an_error(context: Context, repository: Path) -> None:
    """A program that is gone from its environment is error 4."""
    venvs.locate(repository, "probe").program("probe").unlink()
    statement = pipeline.execute(stage(), context)
    assert (statement.predicate.verdict, statement.predicate.error_code) == (Verdict.ERROR, 4)


def test_an_error_is_not_reused(context: Context, repository: Path) -> None:
    """After a tool failed, the next run runs it again."""
    tool(repository, "exit 1")
    pipeline.execute(stage(), context)
    tool(repository, 'echo "said" > "$1/report.txt"')
    assert pipeline.execute(stage(), context).predicate.verdict is Verdict.PASSED


def test_a_gate_that_says_no_is_a_verdict_with_its_reasons(context: Context, repository: Path) -> None:
    """Failed is told apart from error, and says what was seen, expected, and what to do."""
    tool(repository, 'echo other > "$1/report.txt"')
    statement = pipeline.execute(stage(), context)
    assert statement.predicate.verdict is Verdict.FAILED
    (outcome,) = statement.predicate.outcomes
    assert (outcome.seen, outcome.expected, outcome.remedy) == ("other", "said", "r")


@pytest.mark.parametrize("outcomes", [(), (check("probe.other", True, seen="", expected=""),)])
def test_a_stage_judges_exactly_its_controls(context: Context, outcomes: tuple[object, ...]) -> None:
    """A control left out, or judged by the wrong stage, is an error."""
    statement = pipeline.execute(stage(judge=lambda _: Judgement(outcomes=outcomes)), context)  # type: ignore[arg-type]
    assert statement.predicate.verdict is Verdict.ERROR


def forge(context: Context, change: Callable[[dict[str, object]], None]) -> None:
    """Edit the statement on disk."""
    path = context.statement_path("probe")
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_stage_that_cannot_start_leaves_no_earlier_verdict(context: Context) -> None:
    """When an input is gone, the pass of an earlier run does not stay behind."""
    pipeline.execute(stage(), context)

    def gone(_: Context) -> dict[str, str]:
        raise InputMissing("in: gone")

    with pytest.raises(InputMissing):
        pipeline.execute(stage(inputs=gone), context)
    assert not context.statement_path("probe").exists()
    assert pipeline.progress_of(context, "probe").exit_code == 3


def test_a_hand_over_is_checked(context: Context) -> None:
    """A later stage refuses a missing statement, a touched file, another plan, and an error."""
    with pytest.raises(InputMissing, match="nox -s probe"):
        context.upstream("probe")
    pipeline.execute(stage(), context)
    context.upstream("probe")
    forge(context, lambda value: value["predicate"].update(plan="0" * 64))  # type: ignore[attr-defined]
    with pytest.raises(VerificationFailed, match="another plan"):
        context.upstream("probe")
    pipeline.execute(stage(), context)
    (context.evidence("probe") / "report.txt").write_text("forged")
    with pytest.raises(VerificationFailed, match=r"report\.txt"):
        context.upstream("probe")


def test_every_control_of_the_checklist_has_its_stage(context: Context) -> None:
    """Catalogue and stages agree: each control is declared by exactly the stage that it names."""
    declared = {control: name for name, found in pipeline.stages().items() for control in found.controls}
    assert declared == {control.id: control.stage for control in context.plan.checklist.control}


def test_the_stages_are_those_of_the_pipeline() -> None:
    """The order is one that respects every edge."""
    order = list(pipeline.stages())
    assert set(order) == {"lock", "sbom", "audit", "secrets", "model", "certify", "verify", "bundle"}
    for name, found in pipeline.stages().items():
        assert all(order.index(required) < order.index(name) for required in found.requires)


def test_bytecode_is_no_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bytecode that another process is writing, and which may be gone a moment later, takes no part in the source's digest."""
    package = tmp_path / "sealrun"
    (package / "__pycache__").mkdir(parents=True)
    (package / "pipeline.py").write_text("pass\n")
    monkeypatch.setattr(reuse, "__file__", str(package / "reuse.py"))
    before = reuse.own_digest.__wrapped__()
    (package / "__pycache__" / "x.cpython-312.pyc.139773786453648").symlink_to("gone")
    assert reuse.own_digest.__wrapped__() == before


@pytest.fixture
def elsewhere(context: Context, tmp_path: Path) -> Callable[[str], Context]:
    """Return the same release with an output folder of its own and one cache for all."""
    return lambda name: dataclasses.replace(context, out=files.empty_folder(tmp_path / name), cache=tmp_path / "cache")


def test_another_job_takes_from_the_cache_and_judges_itself(
    context: Context, repository: Path, elsewhere: Callable[[str], Context]
) -> None:
    """What one job gathered another need not gather; its statement is the same, its verdict its own."""
    first = pipeline.execute(stage(), elsewhere("first"))
    tool(repository, "exit 9")
    other = elsewhere("other")
    assert pipeline.execute(stage(), other) == first
    assert pipeline.progress_of(other, "probe").reason == "taken from the cache"
    refused = pipeline.execute(
        stage(judge=lambda _: Judgement(outcomes=(check("probe.said", False, seen="s", expected="e", remedy="r"),))),
        elsewhere("third"),
    )
    assert refused.predicate.verdict is Verdict.FAILED


def test_fresh_and_another_key_leave_the_cache_aside(
    context: Context, repository: Path, elsewhere: Callable[[str], Context]
) -> None:
    """`--fresh` gathers again, and so does a changed input."""
    pipeline.execute(stage(), elsewhere("first"))
    tool(repository, 'echo "said otherwise" > "$1/report.txt"')
    assert pipeline.execute(stage(), elsewhere("fresh"), fresh=True).predicate.verdict is Verdict.FAILED
    changed = elsewhere("changed")
    pipeline.execute(stage(inputs=lambda _: {"in": "1" * 64}), changed)
    assert pipeline.progress_of(changed, "probe").reason == "no earlier run; cache: not in the cache"


def _rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _forged(cache: Path) -> None:
    """Other bytes under their right name, and an entry that lists them."""
    (entry,) = cache.glob("entries/*/*.json")
    (blob,) = cache.glob("files/*")
    data = b"said\nand more\n"
    (cache / "files" / digest.of_bytes(data)).write_bytes(data)
    _rewritten(entry, f'"size": {blob.stat().st_size}', f'"size": {len(data)}')
    _rewritten(entry, blob.name, digest.of_bytes(data))


@pytest.mark.parametrize(
    ("touch", "why"),
    [
        (lambda cache: next(cache.glob("files/*")).write_text("forged"), "was changed"),
        (lambda cache: next(cache.glob("files/*")).unlink(), "cannot be read"),
        (lambda cache: os.mkfifo(_gone(next(cache.glob("files/*")))), "no regular file"),
        (lambda cache: next(cache.glob("entries/*/*.json")).write_text("{"), "not acceptable JSON"),
        (lambda cache: _rewritten(next(cache.glob("entries/*/*.json")), '"denied"', '"opened"'), "is not signed"),
        (lambda cache: _rewritten(next(cache.glob("entries/*/*.json")), "report.txt", "../report.txt"), "is not signed"),
        (lambda cache: _rewritten(next(cache.glob("entries/*/*.json")), '"signature": "', '"signature": "00'), "is not signed"),
        (_forged, "is not signed"),
        (lambda cache: keys.private("cache").unlink(), "is not signed"),
    ],
    ids=["bytes", "gone", "pipe", "entry", "network", "name", "signature", "consistently", "other key"],
)
def test_a_touched_cache_is_not_believed(
    context: Context, elsewhere: Callable[[str], Context], touch: Callable[[Path], object], why: str
) -> None:
    """Whatever was done to it, by whoever lacks the key: the tools run, and it is said why."""
    first = elsewhere("first")
    expected = pipeline.execute(stage(), first)
    assert first.cache
    touch(first.cache)
    other = elsewhere("other")
    assert pipeline.execute(stage(), other) == expected
    progress = pipeline.progress_of(other, "probe")
    assert (progress.reused, why in progress.reason) == (False, True), progress.reason


def _gone(path: Path) -> Path:
    path.unlink()
    return path


def test_what_was_touched_is_mended_by_the_next_who_runs(context: Context, elsewhere: Callable[[str], Context]) -> None:
    """Other bytes of the same length are found out once, and lie there no longer."""
    first = elsewhere("first")
    pipeline.execute(stage(), first)
    assert first.cache
    next(first.cache.glob("files/*")).write_text("dias\n")
    for name, reused in (("second", False), ("third", True)):
        other = elsewhere(name)
        pipeline.execute(stage(), other)
        assert pipeline.progress_of(other, "probe").reused is reused


def test_what_another_machine_gathered_holds_no_secret_of_this_one(
    context: Context, elsewhere: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence out of the cache is refused like evidence gathered here, as another machine knows other secrets."""
    pipeline.execute(stage(gather=_says_more), elsewhere("first"))
    monkeypatch.setenv("DEPLOY_PASSWORD", _WORD)
    for cached in (masking._known, masking._known_forms):
        cached.cache_clear()
    try:
        other = elsewhere("other")
        said = pipeline.execute(stage(gather=_says_more), other).predicate
        assert pipeline.progress_of(other, "probe").reason == "taken from the cache"
        assert (said.verdict, "holds a secret of this machine" in said.error) == (Verdict.ERROR, True)
        assert not (other.evidence("probe") / "more.txt").exists()
    finally:
        monkeypatch.undo()
        for cached in (masking._known, masking._known_forms):
            cached.cache_clear()


def _says_more(context: Context, work: Work) -> None:
    gather(context, work)
    (work.out / "more.txt").write_text(f"{_WORD}\n")


def test_another_kind_of_machine_takes_nothing(
    context: Context, elsewhere: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is installed and what a model answers depend on system and processor, so these are part of the name and signed."""
    first = elsewhere("first")
    pipeline.execute(stage(), first)
    assert first.cache
    (entry,) = first.cache.glob("entries/*/*.json")
    monkeypatch.setattr(cache, "_machine", lambda: "Linux-other")
    other = elsewhere("other")
    pipeline.execute(stage(), other)
    assert pipeline.progress_of(other, "probe").reason == "no earlier run; cache: not in the cache"
    (renamed,) = set(first.cache.glob("entries/*/*.json")) - {entry}
    entry.replace(renamed)
    third = elsewhere("third")
    pipeline.execute(stage(), third)
    assert pipeline.progress_of(third, "probe").reason.endswith("is of something else")


def test_where_the_cache_lies_is_looked_at_first(repository: Path, tmp_path: Path) -> None:
    """A place without a parent, or a file, is refused before anything runs, by its own name."""
    with pytest.raises(UsageError, match=r"--cache: got .*whose parent does not exist"):
        context_of(repository, None, cache=tmp_path / "no" / "where")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--cache: got .*expected a folder"):
        context_of(repository, None, cache=tmp_path / "file")


def _in_the_way(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")


def _loop(cache: Path) -> None:
    cache.mkdir()
    (cache / "entries").symlink_to("entries")


@pytest.mark.parametrize(
    "spoil",
    [_in_the_way, lambda cache: _in_the_way(cache / "files"), lambda cache: _in_the_way(cache / "entries"), _loop],
    ids=["no folder", "files", "entries", "loop"],
)
def test_a_cache_that_cannot_be_used_holds_up_no_run(
    context: Context, elsewhere: Callable[[str], Context], spoil: Callable[[Path], None]
) -> None:
    """What lies in its way, or in that of its folders, costs the cache and not the verdict, and nothing is taken from it."""
    first = elsewhere("first")
    assert first.cache
    spoil(first.cache)
    for name in ("first", "other"):
        again = elsewhere(name)
        assert pipeline.execute(stage(), again).predicate.verdict is Verdict.PASSED
        assert not pipeline.progress_of(again, "probe").reused
