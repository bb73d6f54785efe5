"""Stage to nox session: the only module that imports nox.

Rules: a session installs, then runs, each by `python -m sealrun` with this interpreter, so that `--install-only` and
`--no-install` mean what they say; edges come from the stages' own `requires`; positional arguments are passed on untouched;
nothing is ever imported from the folder that is judged. Any Python can read this file: `register` hands over to `.venv`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nox

    from sealrun.stage import Stage

    Session = Callable[[nox.Session], None]

_LOCK_MODES = {"--check", "--write", "--upgrade"}
_DEVELOPMENT = {
    "lint": (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)),
    "test": (("pytest",),),
}
_HOME = Path(__file__).resolve().parents[2]
_SEALRUN = (sys.executable, "-P", "-m", "sealrun")  # -P: what lies in the working directory is never imported
_SUPPLY_CHAIN = ("lock", "sbom", "audit", "secrets")


def register(*stages: str, extra: Sequence[str] = ()) -> None:
    """Register the sessions that judge the repository of the calling noxfile: `nox -s lock|sbom|audit|secrets`, each tagged
    `supply-chain` and run without a name, and `nox -s advisories` and `policy` to bring what they need.

    `stages` are the ones wanted (default: these four); `extra` are files of the repository, relative to its noxfile, that
    declare stages of its own. Outside Sealrun's `.venv` this makes it where needed and becomes its nox.
    """
    sys.path.insert(0, str(_HOME / "scripts"))
    import bootstrap

    bootstrap.hand_over("nox")
    import nox

    from sealrun import pipeline

    tree = Path.cwd()
    where = (f"--root={_HOME}", f"--tree={tree}")
    nox.options.tags = ["supply-chain"]
    for name in stages or _SUPPLY_CHAIN:
        _stage(pipeline.stage_named(name), ("supply-chain",), where)
    for file in extra:
        loaded = pipeline.load(tree / file)
        _stage(loaded, ("supply-chain",), (*where, f"--load={tree / file}"))
    command("advisories", "Import an advisory snapshot: nox -s advisories -- --from FILE", *where)
    command("policy", "Fetch what policy/repository.toml names of the organisation's", *where, run="policy.fetch")


def stage(name: str, *tags: str) -> Session:
    """Register the session of stage *name*, tagged `release` and *tags*."""
    from sealrun import pipeline

    return _stage(pipeline.stage_named(name), ("release", *tags), ())


def _stage(described: Stage, tags: Iterable[str], where: Sequence[str]) -> Session:
    name = described.name

    def body(session: nox.Session) -> None:
        posargs = _posargs(session, name)
        if name == "lock" and not where and _LOCK_MODES & set(session.posargs):
            _sealrun(session, "locks", *session.posargs)
            return
        if described.environments or described.also:
            chosen = [f"--anchor={session.invoked_from}", *_config(session.posargs)]
            session.run_install(*_SEALRUN, "install", name, *where, *chosen, external=True)
        _sealrun(session, "stage", name, f"--anchor={session.invoked_from}", *where, *posargs)

    return _register(body, name, described.summary, tags, described.requires)


def command(name: str, summary: str, *options: str, run: str = "") -> Session:
    """Register a session that is one `python -m sealrun` command, *run* or else of the same name."""

    def body(session: nox.Session) -> None:
        _sealrun(session, run or name, f"--anchor={session.invoked_from}", *options, *session.posargs)

    return _register(body, name, summary, [], [])


def script(name: str, summary: str, file: str) -> Session:
    """Register a session that is a script of the checkout, run by this interpreter."""

    def body(session: nox.Session) -> None:
        session.run(sys.executable, file, *session.posargs, external=True)

    return _register(body, name, summary, [], [])


def development(name: str, summary: str) -> Session:
    """Register a session for working on Sealrun itself, in the environment `test`."""

    from sealrun import pipeline, venvs

    def body(session: nox.Session) -> None:
        needed = ["test", *(("fetch", *pipeline.stages()) if name == "test" else ())]  # the tests run the real tools
        session.run_install(*_SEALRUN, "install", *needed, external=True)
        bin_folder = venvs.locate(Path.cwd(), "test").path / "bin"
        for program, *arguments in _DEVELOPMENT[name]:
            session.run(str(bin_folder / program), *arguments, *session.posargs, external=True)

    return _register(body, name, summary, [], [])


def _register(body: Session, name: str, summary: str, tags: Iterable[str], requires: Iterable[str]) -> Session:
    import nox

    from sealrun import masking

    masking.cover_terminal()  # nox says each command that it runs
    body.__doc__ = summary
    registered: Session = nox.session(
        name=name, venv_backend="none", tags=[*tags], requires=[*requires], default=False, allow_parallel=True
    )(body)
    return registered


def _sealrun(session: nox.Session, *arguments: str) -> None:
    session.run(*_SEALRUN, *arguments, external=True)


def _posargs(session: nox.Session, name: str) -> list[str]:
    """Return the positional arguments. Of the sessions of one run only the one that was asked for writes JSON."""
    asked = _asked_for(sys.argv)
    wants_json = [index for index, argument in enumerate(session.posargs) if argument.split("=")[0] == "--json"]
    if not wants_json or asked == {name}:
        return list(session.posargs)
    if len(asked) != 1:
        session.error("--json belongs to one session; use `nox -s NAME -- --json` or `invoke release --json`")
    return _without_json(list(session.posargs), wants_json[0])


def _config(posargs: Sequence[str]) -> list[str]:
    """Return the option `--config` of *posargs* as it stands there: what a release installs depends on it."""
    for index, argument in enumerate(posargs):
        if argument.partition("=")[0] == "--config":
            return list(posargs[index : index + (1 if "=" in argument else 2)])
    return []


def _asked_for(argv: list[str]) -> set[str]:
    """Return the sessions that nox's own command line *argv* names; a tag names none."""
    before = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    named: set[str] = set()
    taking = False
    for argument in before:
        option, _, value = argument.partition("=")
        if option in ("-s", "-e", "--session", "--sessions"):
            taking = True
            named |= {value} if value else set()
        elif argument.startswith("-"):
            taking = False
        elif taking:
            named.add(argument)
    return named


def _without_json(posargs: list[str], index: int) -> list[str]:
    has_value = "=" not in posargs[index] and index + 1 < len(posargs) and not posargs[index + 1].startswith("--")
    return posargs[:index] + posargs[index + 1 + has_value :]
