"""The strict reader of locks."""

from pathlib import Path

import pytest

from sealrun.errors import InputMissing, UsageError
from sealrun.reports.lockfiles import lock_files, read_locks
from sealrun.reports.requirements import parse_lock

ROOT = Path(__file__).resolve().parents[2]
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_a_pin_has_canonical_name_normal_version_and_sorted_hashes() -> None:
    """What pip reads as one requirement over several lines is one pin, whatever its spelling."""
    (pin,) = parse_lock(f"Some_Pkg.Name[Extra_One]==01.0.RC1 \\\n    --hash={B} \\\n    --hash={A}\n    # via x\n", "lock")
    assert (pin.name, pin.version, pin.hashes, pin.extras, pin.line) == ("some-pkg-name", "1.0rc1", (A, B), ("extra-one",), 1)
    assert pin.flaw == "" and pin.applies and pin.purl == "pkg:pypi/some-pkg-name@1.0rc1"


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        ("a==1", "no hash"),
        (f"a>=1 --hash={A}", "not pinned to one version"),
        (f"a==1.* --hash={A}", "not pinned to one version"),
        (f"a==1,!=2 --hash={A}", "not pinned to one version"),
        ("a", "not pinned to one version"),
        (f"a @ https://example.invalid/a.whl --hash={A}", "a URL"),
        ("-e ./a", "an editable"),
        ("--editable=./a", "an editable"),
        ("-r other.txt", "an include"),
        ("-rother.txt", "an include"),
        ("a==1 --hash=md5:" + "0" * 32, "a hash that is not sha256, sha384 or sha512"),
        ("a==1 --hash=sha256:ABC", "a hash that is not sha256, sha384 or sha512"),
        (f"a==1 --hash={A} --config-settings=x=y", "the option --config-settings=x=y"),
    ],
)
def test_a_requirement_that_is_no_hashed_pin_is_kept_with_its_flaw(line: str, flaw: str) -> None:
    """Nothing that would be installed is dropped because it is not locked properly."""
    (pin,) = parse_lock(f"# a comment\n{line}\n", "lock")
    assert (pin.flaw, pin.line) == (flaw, 2)


def test_a_name_listed_twice_is_flawed_unless_markers_tell_the_lines_apart() -> None:
    """Two lines of one name are only right when each has a condition of its own."""
    twice = parse_lock(f"a==1 --hash={A}\nA==1 --hash={A}\n", "lock")
    apart = parse_lock(f"a==1 ; sys_platform == 'linux' --hash={A}\na==2 ; sys_platform != 'linux' --hash={A}\n", "lock")
    overlapping = parse_lock(f"a==1 --hash={A}\na==2 ; sys_platform == 'linux' --hash={A}\n", "lock")
    assert [pin.flaw for pin in twice] == ["listed twice"] * 2
    assert [(pin.flaw, pin.applies) for pin in apart] == [("", True), ("", False)]
    assert [pin.flaw for pin in overlapping] == ["listed twice"] * 2


def test_options_that_name_no_package_are_no_pins() -> None:
    """Where files come from is not what is installed."""
    assert parse_lock("--only-binary :all:\n--index-url https://example.invalid/\n-c other.txt\n\n# nothing\n", "lock") == ()


@pytest.mark.parametrize("line", ["===", "a==1 b==2", "--unknown-option", "a=1"])
def test_a_line_that_means_nothing_is_refused_with_its_number(line: str) -> None:
    """An unreadable line is an error that says where."""
    with pytest.raises(UsageError, match=r"some\.txt:3"):
        parse_lock(f"\n\n{line}\n", "some.txt")


def test_every_lock_of_this_project_is_clean() -> None:
    """The reader finds no flaw in the locks that pip-compile and uv wrote."""
    locks = read_locks(ROOT)
    assert {"runner", "audit", "sbom"} <= {lock.environment for lock in locks}
    assert [(lock.path, pin.name, pin.flaw) for lock in locks for pin in lock.pins if pin.flaw] == []


def test_targets_are_named_below_the_folder_they_share(tmp_path: Path) -> None:
    """Two files of one name stay apart, and no absolute path is left in their names."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "requirements.txt").write_text(f"a==1 --hash={A}\n", encoding="utf-8")
    targets = (tmp_path / "two" / "requirements.txt", tmp_path / "one" / "requirements.txt")
    assert [lock.path for lock in read_locks(tmp_path, targets)] == ["one/requirements.txt", "two/requirements.txt"]
    assert list(lock_files(tmp_path, targets[:1])) == ["requirements.txt"]


def test_no_lock_and_no_text_are_errors(tmp_path: Path) -> None:
    """A missing lock is an input to make; a lock that is no UTF-8 is wrong."""
    with pytest.raises(InputMissing, match="nox -s lock"):
        read_locks(tmp_path)
    (tmp_path / "lock.txt").write_bytes(b"a==1\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_locks(tmp_path, (tmp_path / "lock.txt",))
