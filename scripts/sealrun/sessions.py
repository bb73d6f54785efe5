"""Stage to nox session: the only module that imports nox.

Rules: a session installs, then runs, each by `python -m sealrun` with this interpreter, so that `--install-only` and
`--no-install` mean what they say; edges come from the stages' own `requires`; positional arguments are passed on untouched.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import nox

from sealrun import pipeline, venvs

type Session = Callable[[nox.Session], None]

_LOCK_MODES = {"--check", "--write", "--upgrade"}
_DEVELOPMENT = {
    "lint": (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)),
    "test": (("pytest",),),
}


def stage(name: str, *tags: str) -> Session:
    """Register the session of stage *name*, tagged `release` and *tags*."""
    described = pipeline.stage_named(name)

    def body(session: nox.Session) -> None:
        _refuse_shared_json(session)
        if name == "lock" and _LOCK_MODES & set(session.posargs):
            _sealrun(session, "locks", *session.posargs)
            return
        if described.environments:
            session.run_install(sys.executable, "-m", "sealrun", "install", name, external=True)
        _sealrun(session, "stage", name, *_absolute(session))

    return _register(body, name, described.summary, ["release", *tags], list(described.requires))


def command(name: str, summary: str) -> Session:
    """Register a session that is one `python -m sealrun` command."""
    return _register(lambda session: _sealrun(session, name, *_absolute(session)), name, summary, [], [])


def development(name: str, summary: str) -> Session:
    """Register a session for working on Sealrun itself, in the environment `test`."""

    def body(session: nox.Session) -> None:
        session.run_install(sys.executable, "-m", "sealrun", "install", "test", external=True)
        bin_folder = venvs.locate(Path.cwd(), "test").path / "bin"
        for program, *arguments in _DEVELOPMENT[name]:
            session.run(str(bin_folder / program), *arguments, *session.posargs, external=True)

    return _register(body, name, summary, [], [])


def _register(body: Session, name: str, summary: str, tags: list[str], requires: list[str]) -> Session:
    body.__doc__ = summary
    registered: Session = nox.session(
        name=name, venv_backend="none", tags=tags, requires=requires, default=False, allow_parallel=True
    )(body)
    return registered


def _sealrun(session: nox.Session, *arguments: str) -> None:
    session.run(sys.executable, "-m", "sealrun", *arguments, external=True)


def _absolute(session: nox.Session) -> list[str]:
    """Return the positional arguments with existing paths made absolute: nox has left the caller's folder."""
    origin = Path(session.invoked_from)
    if origin == Path.cwd():
        return session.posargs
    return [str(origin / argument) if (origin / argument).exists() else argument for argument in session.posargs]


def _refuse_shared_json(session: nox.Session) -> None:
    """One JSON object per run: with a tag several sessions would write to one place."""
    before = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    by_tag = any(argument in ("-t", "--tags") or argument.startswith("--tags=") for argument in before)
    if by_tag and any(argument.split("=")[0] == "--json" for argument in session.posargs):
        session.error(
            "--json cannot be shared by the sessions of a tag; use `nox -s NAME -- --json` or `invoke release --json`"
        )
