"""Laws of commands: declared once, and alike by `python -m sealrun` and as invoke tasks."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from sealrun import __main__ as program_main
from sealrun import commands, program
from sealrun.command import Command, config_option, json_option

ROOT = Path(__file__).resolve().parents[2]


def declared(parser: argparse.ArgumentParser) -> None:
    """Options of every kind."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("parts", nargs="*", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--key", action="append")
    config_option(parser)
    json_option(parser)


COMMAND = Command(name="some.thing", summary="Do it", arguments=declared, run=lambda options: 0)


def test_every_command_is_found_by_its_name() -> None:
    """A name finds the command that bears it, and nothing else."""
    assert {"release", "verify", "stage", "policy.pin"} <= set(commands.names())
    for name in commands.names():
        found = commands.find(name)
        assert found is not None and found.name == name
    assert commands.find("policy") is None and commands.find("nowhere.at_all") is None


def test_a_task_hands_on_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What invoke parsed becomes the words that the command's own parser takes, for every kind of option."""
    said: list[list[str]] = []
    monkeypatch.setattr(program.commands, "find", lambda name: COMMAND)
    monkeypatch.setattr(program, "run_command", lambda argv: said.append(argv) or 0)
    task = program.task_of("some.thing")
    assert (task.name, task.__doc__) == ("thing", "Do it.")  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        task.body(None, bundle="b.tar", parts=["p"], dry_run=True, from_="f", key=["k1", "k2"], config=None, json=None)  # type: ignore[attr-defined]
    assert said == [["some.thing", "b.tar", "p", "--dry-run", "--from=f", "--key=k1", "--key=k2", f"--root={program.ROOT}"]]
    options = COMMAND.parse(said[0][1:])
    assert (options.bundle, options.parts, options.dry_run, options.source, options.key) == (
        Path.cwd() / "b.tar", [Path("p")], True, "f", ["k1", "k2"]
    )  # fmt: skip


def test_paths_are_meant_from_where_the_user_stands(tmp_path: Path) -> None:
    """The folder that nox left counts, for single paths, lists and the place of the JSON; absolute paths stay."""
    argv = ["b.tar", "p", "/q", "--config=r.toml", "--json=out.json", f"--anchor={tmp_path}"]
    options = COMMAND.parse(argv)
    assert options.bundle == tmp_path / "b.tar"
    assert options.parts == [tmp_path / "p", Path("/q")]
    assert (options.config, options.json) == (tmp_path / "r.toml", str(tmp_path / "out.json"))
    assert COMMAND.parse(["b.tar", "--json"]).json == "-"


def test_an_unknown_command_is_wrong_use_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and the list on standard error; asked for by `--help`, exit 0 and standard output."""
    assert program_main.main(["relaese"]) == 2
    seen = capsys.readouterr()
    assert "'relaese'" in seen.err and "release" in seen.err and not seen.out
    assert program_main.main(["--help"]) == 0
    assert "policy.pin" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["verify"], ["verify", "b", "--fingerp=x"], ["release", "--bogus"], ["install"]])
def test_wrong_options_are_wrong_use(wrong: list[str]) -> None:
    """A missing, unknown or shortened option ends with 2."""
    with pytest.raises(SystemExit) as ended:
        program_main.main(wrong)
    assert ended.value.code == 2


def test_a_command_is_started_without_what_it_does_not_need() -> None:
    """Nothing heavy is imported to find and parse a command, and invoke is not started for one."""
    script = "import sys; from sealrun import program, commands; commands.names(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"invoke", "nox", "cryptography", "securesystemslib", "jinja2", "rich", "sqlite3", "asyncio"}


def test_an_unchanged_release_loads_nothing_that_it_does_not_need() -> None:
    """To judge what is there takes no template engine, no YAML, no HTTP and no TLS: each costs some of the second."""
    script = "import sys; from sealrun import pipeline, release; pipeline.stages(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert {"jinja2", "yaml", "ssl", "http.client", "urllib.request", "invoke", "nox"} & set(done.stdout.split()) == set()
