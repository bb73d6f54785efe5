"""The locks of uv, Poetry, PDM and PEP 751, read as pins."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealrun.errors import UsageError
from sealrun.reports import lock_formats

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64

UV = f"""
version = 1
revision = 3
requires-python = ">=3.12"

[[package]]
name = "the-project"
version = "0.1"
source = {{ editable = "." }}
dependencies = [{{ name = "requests" }}]

[[package]]
name = "requests"
version = "2.30.0"
source = {{ registry = "https://example.invalid/simple" }}
resolution-markers = ["sys_platform == 'linux'"]
sdist = {{ url = "https://example.invalid/r.tar.gz", hash = "{A}", size = 1 }}
wheels = [{{ url = "https://example.invalid/r.whl", hash = "{B}" }}]

[[package]]
name = "six"
version = "1.16.0"
source = {{ registry = "https://example.invalid/simple" }}

[[package]]
name = "own"
version = "1.0"
source = {{ git = "https://example.invalid/own?rev=1#1" }}
"""

POETRY = f"""
[[package]]
name = "Requests"
version = "2.30.0"
optional = false
groups = ["main"]
files = [{{file = "r.whl", hash = "{B}"}}, {{file = "r.tar.gz", hash = "{A}"}}]

[[package]]
name = "six"
version = "1.16.0"
files = []

[[package]]
name = "own"
version = "1.0"
files = []
[package.source]
type = "git"
url = "https://example.invalid/own"

[metadata]
lock-version = "2.1"
"""

POETRY_1 = f"""
[[package]]
name = "requests"
version = "2.30.0"

[[package]]
name = "six"
version = "1.16.0"

[[package]]
name = "own"
version = "1.0"
source = {{type = "directory", url = "own"}}

[metadata.files]
requests = [{{file = "r.whl", hash = "{A}"}}, {{file = "r.tar.gz", hash = "{B}"}}]
six = []
"""

PDM = f"""
[metadata]
lock_version = "4.5.0"

[[package]]
name = "requests"
version = "2.30.0"
marker = "sys_platform == 'linux'"
files = [{{file = "r.whl", hash = "{A}"}}, {{url = "https://example.invalid/r.tar.gz", hash = "{B}"}}]

[[package]]
name = "six"
version = "1.16.0"

[[package]]
name = "own"
version = "1.0"
git = "https://example.invalid/own"
revision = "1"
"""

PYLOCK = f"""
lock-version = "1.0"
created-by = "uv"

[[packages]]
name = "requests"
version = "2.30.0"
marker = "sys_platform == 'linux'"
sdist = {{ url = "https://example.invalid/requests-2.30.0.tar.gz", hashes = {{ sha256 = "{"a" * 64}" }} }}
wheels = [{{ name = "requests-2.30.0-py3-none-any.whl", url = "https://example.invalid/requests-2.30.0-py3-none-any.whl", hashes = {{ sha256 = "{"b" * 64}" }} }}]

[[packages]]
name = "six"
version = "1.16.0"
wheels = [{{ name = "six-1.16.0-py3-none-any.whl", url = "https://example.invalid/six-1.16.0-py3-none-any.whl", hashes = {{ md5 = "{"0" * 32}" }} }}]

[[packages]]
name = "own"
version = "1.0"
vcs = {{ type = "git", url = "https://example.invalid/own", commit-id = "1" }}
"""

LOCKS = {"uv.lock": UV, "poetry.lock": POETRY, "old/poetry.lock": POETRY_1, "pdm.lock": PDM, "pylock.dev.toml": PYLOCK}


@pytest.mark.parametrize("name", LOCKS)
def test_every_format_gives_the_same_pins(name: str) -> None:
    """Names canonical, versions normal, every hash, and a flaw for what has none or comes from elsewhere; never the project."""
    requests, six, own = lock_formats.parse(LOCKS[name], name)
    assert (requests.name, requests.version, requests.hashes, requests.flaw) == ("requests", "2.30.0", (A, B), "")
    assert (six.name, six.version) == ("six", "1.16.0") and six.flaw
    assert (own.name, own.flaw) == ("own", "a local folder" if name.startswith("old") else "a repository")


@pytest.mark.parametrize("name", LOCKS)
def test_a_pin_says_where_it_stands(name: str) -> None:
    """The line is that of the package's heading."""
    lines = LOCKS[name].splitlines()
    for pin in lock_formats.parse(LOCKS[name], name):
        assert f'"{pin.name}"' in lines[pin.line].lower()


@pytest.mark.parametrize("name", ["uv.lock", "pdm.lock", "pylock.dev.toml"])
def test_a_condition_is_kept(name: str) -> None:
    """A pin for one platform alone says so."""
    assert "sys_platform" in lock_formats.parse(LOCKS[name], name)[0].marker


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize(
    "text", ["", "[[package]]\n", "package = 1\n[metadata]\n", "\x00", "[" * 5000, "version = 2\n[[package]]\nname = 1\n"]
)
def test_what_is_no_such_lock_is_refused_or_empty(name: str, text: str) -> None:
    """Anything else is an error that names the file, or pins nothing (which the lock stage refuses)."""
    try:
        assert lock_formats.parse(text, name) == ()
    except UsageError as error:
        assert str(error).startswith(name)


@given(st.sampled_from(sorted(LOCKS)), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_lock_never_crashes_the_reader(name: str, data: st.DataObject) -> None:
    """Bytes cut out or put in: pins, or an error of ours."""
    text = LOCKS[name]
    at = data.draw(st.integers(0, len(text)))
    upto = data.draw(st.integers(at, min(len(text), at + 80)))
    damaged = text[:at] + data.draw(st.text(max_size=8)) + text[upto:]
    try:
        found = lock_formats.parse(damaged, name)
    except UsageError as error:
        assert name in str(error)
    else:
        assert all(pin.flaw or (pin.version and pin.hashes) for pin in found)
