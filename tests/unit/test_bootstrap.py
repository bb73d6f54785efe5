"""Laws of scripts/bootstrap.py that need no environment to be made."""

import ast
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

import bootstrap
from sealrun import network

BROKEN_SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
OLD_PYTHON = '#!/bin/sh\necho \'[[3, 11, 2], "/usr/bin/python3", ["/pip.whl"]]\'\n'
NEWER_PYTHON = '#!/bin/sh\necho \'[[3, 13, 0], "/usr/local/bin/python3.13", ["/pip.whl"]]\'\n'
NEWEST_PYTHON = '#!/bin/sh\necho \'[[3, 15, 0], "/usr/local/bin/python3.15", ["/pip.whl"]]\'\n'
WITHOUT_PIP = "#!/bin/sh\necho '[[3, 12, 3], \"/usr/bin/python3\", []]'\n"
CHATTY = "#!/bin/sh\necho welcome\n"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with an empty PATH, an empty home, and an interpreter that is too old."""
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_", "PYENV_", "CONDA_", "XDG_", "SEALRUN_", "INVARLOCK_"))]:
        monkeypatch.delenv(name)
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "SSL_CERT_FILE",
        "SSL_CLIENT_CERT",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc"))
    monkeypatch.setattr(sys, "executable", str(program(tmp_path / "start" / "python3", OLD_PYTHON)))
    return tmp_path


def real_python(path: Path) -> Path:
    """Put the real interpreter that runs the tests at *path*, as a link."""
    path.parent.mkdir(parents=True)
    path.symlink_to(Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))
    return path


def test_it_reads_as_python_3_8() -> None:
    """The file that has to say "your Python is too old" parses on that Python."""
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))
    imported = {n.module for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)}
    assert "__future__" in imported


@pytest.mark.parametrize(
    "place", ["home/.pyenv/versions/3.12.1/bin/python", "home/.local/share/uv/python/cpython-3.12/bin/python3"]
)
def test_it_looks_behind_a_broken_shim(bare: Path, place: str) -> None:
    """`python3` is 3.11 and the shim of 3.12 exits with 127: the real one is found where it lies."""
    program(bare / "bin" / "python3", OLD_PYTHON)
    program(bare / "bin" / "python3.12", BROKEN_SHIM)
    real_python(bare / place)

    found = bootstrap._find_python()

    assert found.version == sys.version_info[:3]
    assert Path(found.pip_wheel).is_file()


@pytest.mark.parametrize("variable, place", [
    ("PYENV_ROOT", "versions/3.12.9/bin/python"),
    ("UV_PYTHON_INSTALL_DIR", "cpython-3.12/bin/python3"),
    ("CONDA_PREFIX", "bin/python"),
    ("CONDA_PREFIX", "envs/model/bin/python"),
])  # fmt: skip
def test_it_looks_where_the_host_says(bare: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str) -> None:
    """The folders that pyenv, uv and conda are told to use are searched, also with odd names."""
    monkeypatch.setenv(variable, str(bare / "odd [name]"))
    real_python(bare / "odd [name]" / place)

    assert bootstrap._find_python().version == sys.version_info[:3]


def test_3_12_is_preferred_then_the_oldest_newer_one(bare: Path) -> None:
    """The locks were compiled on 3.12; every step away from it is a risk."""
    program(bare / "bin" / "python3", NEWEST_PYTHON)
    program(bare / "bin" / "python3.13", NEWER_PYTHON)
    assert bootstrap._find_python().version == (3, 13, 0)

    program(bare / "home/.pyenv/versions/3.12.1/bin/python", NEWER_PYTHON.replace("3, 13, 0", "3, 12, 1"))
    assert bootstrap._find_python().version == (3, 12, 1)


def test_no_python_names_everything_tried(bare: Path) -> None:
    """Where nothing fits, the message lists each try with its reason, the places, and the way out."""
    shim = program(bare / "bin" / "python3.12", BROKEN_SHIM)
    stripped = program(bare / "home/.pyenv/versions/3.12.3/bin/python", WITHOUT_PIP)
    chatty = program(bare / "home/miniforge3/bin/python", CHATTY)

    with pytest.raises(bootstrap.Stop) as stop:
        bootstrap._find_python()

    said = str(stop.value)
    assert stop.value.code == 3
    assert f"this interpreter: {sys.executable}: is Python 3.11.2" in said
    assert f"PATH: {shim}: exits with 127 (pyenv: python3.12: command not found)" in said
    assert f"pyenv: {stripped}: bundles no pip" in said
    assert f"conda: {chatty}: does not answer like a Python" in said
    assert f"{bare}/home/.local/share/uv/python/*/bin/python3" in said
    assert "SEALRUN_PYTHON=/path/to/python3.12" in said


def test_folders_of_another_user_are_passed_over(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PYENV_ROOT or a home that this user may not read holds no Python; it is no error of its own."""
    closed = bare / "closed"
    real_python(closed / "versions" / "3.12.1" / "bin" / "python")
    monkeypatch.setenv("PYENV_ROOT", str(closed))
    closed.chmod(0)
    user = os.geteuid()
    try:
        os.seteuid(user or 65534)
        with pytest.raises(bootstrap.Stop, match="no usable Python"):
            bootstrap._find_python()
    finally:
        os.seteuid(user)
        closed.chmod(0o755)
    assert bootstrap._find_python().version == sys.version_info[:3]


def test_a_silent_python_is_given_up(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program called python that never answers costs a time limit, not the whole start."""
    monkeypatch.setattr(bootstrap, "_PROBE_SECONDS", 0.2)
    python, why_not = bootstrap._probe(str(program(bare / "bin" / "python", "#!/bin/sh\nexec /bin/sleep 30\n")))
    assert python is None
    assert "no answer" in why_not


@pytest.mark.parametrize(
    "text, reason", [(OLD_PYTHON, "is Python 3.11.2"), (None, "cannot be started"), (BROKEN_SHIM, "exits with 127")]
)
def test_an_unusable_override_is_an_error(bare: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, reason: str) -> None:
    """SEALRUN_PYTHON is obeyed or refused, never passed over for another interpreter."""
    real_python(bare / "home/.pyenv/versions/3.12.1/bin/python")
    asked = bare / "mine" / "python"
    if text:
        program(asked, text)
    monkeypatch.setenv("SEALRUN_PYTHON", str(asked))

    with pytest.raises(bootstrap.Stop, match=reason) as stop:
        bootstrap._find_python()
    assert stop.value.code == 2


@pytest.mark.parametrize("value", ["1", "true", "YES", "on", " 1 "])
def test_the_network_is_opened_by_a_yes(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """1, true, yes and on open the network for the installation."""
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", value)
    assert bootstrap._network_allowed()


def test_the_network_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset and empty both mean no."""
    monkeypatch.delenv("INVARLOCK_ALLOW_NETWORK", raising=False)
    assert not bootstrap._network_allowed()
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", "")
    assert not bootstrap._network_allowed()


@pytest.mark.parametrize("value", ["0", "no", "false", "maybe", "11"])
def test_any_other_word_about_the_network_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A word that is not a yes is not guessed at."""
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", value)
    with pytest.raises(bootstrap.Stop, match=f"INVARLOCK_ALLOW_NETWORK: got '{value}', expected 1, true, yes or on") as stop:
        bootstrap._network_allowed()
    assert stop.value.code == 2


def test_what_is_installed_over_the_network_is_noted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note is one that the commands' own record is read with; nothing is written through a link."""
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    bootstrap._note_network()
    (note,) = network.opened_since(tmp_path, "2000")
    assert (note["command"], note["opened_for"]) == ("bootstrap", "a package index, for .venv")
    (tmp_path / network.RECORD).unlink()
    (tmp_path / network.RECORD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        bootstrap._note_network()
    assert not (tmp_path / "elsewhere").exists()


def test_uv_alone_is_cut_out_of_the_lock() -> None:
    """The first installation takes uv's pin and all its hashes from the real lock, and nothing else."""
    lock = bootstrap.LOCK.read_text(encoding="utf-8")
    lines = bootstrap._lines_of("uv", lock).splitlines()
    assert re.fullmatch(r"uv==[0-9.]+ \\", lines[0])
    assert len(lines) > 5
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:])
    assert not lines[-1].endswith("\\")


def test_a_lock_without_uv_is_an_error() -> None:
    """A name that only starts like uv is not uv."""
    with pytest.raises(bootstrap.Stop, match="no line for uv") as stop:
        bootstrap._lines_of("uv", "uvicorn==1.0 \\\n    --hash=sha256:00\n")
    assert stop.value.code == 2


def test_uv_is_given_what_pip_is_configured_with(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private index in pip's files works for uv too: later files win, [install], variables, then uv's own settings."""
    program(
        bare / "etc/pip/pip.conf", "[global]\nindex-url = https://old.example/simple\ntrusted-host = a.example\n    b.example\n"
    )
    own = """
[install]
index_url = https://new.example/simple
[global]
index-url = https://general.example/simple
extra-index-url =
    https://x.example/simple
    https://y.example/simple
proxy = http://proxy.example:3128
cert = /etc/corporate.pem
find-links = /wheels /more
"""
    program(bare / "home/.config/pip/pip.conf", own)
    monkeypatch.setenv("PIP_CERT", "/etc/newer.pem")
    monkeypatch.setenv("https_proxy", "http://mine.example")
    monkeypatch.setenv("UV_FIND_LINKS", "/uv-only")

    assert bootstrap.index_environment() == {
        "UV_DEFAULT_INDEX": "https://new.example/simple",
        "UV_INDEX": "https://x.example/simple https://y.example/simple",
        "UV_INSECURE_HOST": "a.example b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "HTTP_PROXY": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/etc/newer.pem",
    }


def test_an_older_pip_believes_whom_the_rest_believes(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE is handed to pip, unless pip has certificates of its own."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert bootstrap.pip_environment() == {}
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ours.pem")
    assert bootstrap.pip_environment() == {"PIP_CERT": "/etc/ours.pem"}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/requests.pem")
    assert bootstrap.pip_environment() == {}
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    program(bare / "home/.config/pip/pip.conf", "[global]\ncert = /etc/corporate.pem\n")
    assert bootstrap.pip_environment() == {}


def test_a_pip_configuration_that_is_named_replaces_the_users(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIP_CONFIG_FILE takes the place of the user's file, and /dev/null of all files, as in pip."""
    program(bare / "home/.config/pip/pip.conf", "[global]\nindex-url = https://user.example/simple\n")
    named = program(bare / "named.conf", "[global]\nno-index = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert "UV_DEFAULT_INDEX" not in bootstrap.index_environment()
    assert bootstrap.index_environment()["UV_NO_INDEX"] == "1"

    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert bootstrap.index_environment() == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_a_broken_pip_configuration_is_an_error(bare: Path) -> None:
    """Settings that cannot be read are not skipped: the wrong index may be asked otherwise."""
    program(bare / "home/.config/pip/pip.conf", "index-url = https://no-section.example\n")
    with pytest.raises(bootstrap.Stop, match="pip's configuration") as stop:
        bootstrap.index_environment()
    assert stop.value.code == 2


def test_what_sends_python_elsewhere_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH and its like reach neither the tools nor the program that is handed over to."""
    for name in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET"):
        monkeypatch.setenv(name, "/elsewhere")
    assert not {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET"} & set(bootstrap._clean_environment())
    assert bootstrap._clean_environment()["PATH"] == os.environ["PATH"]


def test_without_wheels_the_message_names_both_ways_out(bare: Path) -> None:
    """No opt-in and no wheelhouse: the variable, the folder, and commands to type."""
    with pytest.raises(bootstrap.Stop, match="INVARLOCK_ALLOW_NETWORK is unset") as stop:
        bootstrap._wheel_arguments(network=False)
    assert stop.value.code == 3
    assert "INVARLOCK_ALLOW_NETWORK=1 " in str(stop.value)
    assert "SEALRUN_WHEELHOUSE=wheels " in str(stop.value)


def test_a_wheelhouse_that_is_not_there_is_an_error(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong SEALRUN_WHEELHOUSE is not replaced by the network."""
    monkeypatch.setenv("SEALRUN_WHEELHOUSE", str(bare / "none"))
    with pytest.raises(bootstrap.Stop, match="expected a folder of wheels") as stop:
        bootstrap._wheel_arguments(network=True)
    assert stop.value.code == 2


def test_the_probe_is_true_of_a_real_python(bare: Path) -> None:
    """What is believed about an interpreter is what that interpreter said when it was run."""
    python, _ = bootstrap._probe(str(real_python(bare / "bin" / "python")))
    assert python is not None
    assert python.version == sys.version_info[:3]
    assert shutil.which(python.executable)
