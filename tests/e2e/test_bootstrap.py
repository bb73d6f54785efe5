"""scripts/bootstrap.py makes real environments: offline from a wheelhouse, in a small checkout of its own.

The wheelhouse holds one real wheel, uv's, packed again from where it is installed; the lock of the checkout pins that wheel.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

BOOTSTRAP = Path(__file__).resolve().parents[2] / "scripts" / "bootstrap.py"
PROGRAM = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "prefix": sys.prefix, "cwd": os.getcwd(), "file": __file__, "path": sys.path,
    "PYTHONPATH": os.environ.get("PYTHONPATH")}))
"""
NOXFILE = """
import sys
from pathlib import Path
sys.path.append(str(Path(__file__).resolve().parent / "scripts"))
import bootstrap
bootstrap.hand_over("program_of_the_venv")
"""
NETWORK = os.environ.get("INVARLOCK_ALLOW_NETWORK", "").lower() in ("1", "true", "yes", "on")
NOBODY = 65534


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the uv that is installed here."""
    uv = importlib.metadata.distribution("uv")
    assert uv.files
    folder = tmp_path_factory.mktemp("wheels")
    tag = (uv.read_text("WHEEL") or "").split("Tag: ", 1)[1].splitlines()[0]
    with zipfile.ZipFile(folder / f"uv-{uv.version}-{tag}.whl", "w") as wheel:
        for file in uv.files:
            if file.suffix == ".pyc" or file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                continue
            inside = f"uv-{uv.version}.data/scripts/{file.name}" if ".." in file.parts else str(file)
            wheel.write(file.locate(), inside)
        wheel.writestr(f"uv-{uv.version}.dist-info/RECORD", "")
    return folder


class Checkout:
    """A repository with nothing but the bootstrap, a lock, and a program that prints how it was started."""

    def __init__(self, root: Path, wheelhouse: Path) -> None:
        self.root, self.wheelhouse = root, wheelhouse
        (root / "scripts" / "sealrun").mkdir(parents=True)
        shutil.copy(BOOTSTRAP, root / "scripts")
        (root / "scripts" / "sealrun" / "program.py").write_text(PROGRAM)
        (root / "scripts" / "program_of_the_venv.py").write_text(PROGRAM)
        (root / "requirements").mkdir()
        self.lock("")

    def lock(self, comment: str) -> None:
        """Pin the wheel; *comment* makes it another lock."""
        (wheel,) = self.wheelhouse.glob("uv-*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        pin = f"# {comment}\nuv=={wheel.name.split('-')[1]} \\\n    --hash=sha256:{digest}\n"
        (self.root / "requirements" / "runner.txt").write_text(pin)

    def command(self, *arguments: str, python: str = sys.executable) -> list[str]:
        return [python, str(self.root / "scripts" / "bootstrap.py"), *arguments]

    def environment(self, **variables: str | None) -> dict[str, str]:
        """This process's environment without network opt-in, with the wheelhouse and a known interpreter."""
        offline = {
            "INVARLOCK_ALLOW_NETWORK": None,
            "SEALRUN_WHEELHOUSE": str(self.wheelhouse),
            "SEALRUN_PYTHON": sys.executable,
        }
        wanted = {**os.environ, **offline, **variables}
        return {name: value for name, value in wanted.items() if value is not None}

    def start(self, *arguments: str, python: str = sys.executable, **variables: str | None) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(*arguments, python=python), self.environment(**variables)
        return subprocess.run(command, env=environment, cwd=self.root.parent, capture_output=True, text=True, check=False)

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "sealrun.stamp"


@pytest.fixture
def checkout(tmp_path: Path, wheelhouse: Path) -> Checkout:
    return Checkout(tmp_path / "a path with späces", wheelhouse)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Checkout:
    """A checkout whose environment is made; tests that use it leave it so."""
    checkout = Checkout(tmp_path_factory.mktemp("made") / "a path with späces", wheelhouse)
    assert checkout.start().returncode == 0
    return checkout


def older_pythons() -> Iterator[str]:
    """Yield the interpreters of this machine that are too old for Sealrun but not for the bootstrap."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser())
    for minor in (8, 9, 10, 11):
        places = [*pyenv.glob(f"versions/3.{minor}.*/bin/python"), shutil.which(f"python3.{minor}", path="/usr/bin")]
        yield from [str(place) for place in places if place][:1]


OLDER = list(older_pythons())


def test_from_nothing_to_the_program(checkout: Checkout) -> None:
    """One command makes the environment from the lock alone and becomes the program, arguments and all."""
    ran = checkout.start("release", "--config", "a b.toml", PYTHONPATH="/elsewhere")

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["argv"] == ["release", "--config", "a b.toml"]
    assert Path(told["prefix"]) == checkout.root / ".venv"
    assert Path(told["file"]) == checkout.root / "scripts" / "sealrun" / "program.py"
    assert told["PYTHONPATH"] is None
    assert told["cwd"] == str(checkout.root.parent)
    assert told["cwd"] not in told["path"], "the folder that the user stands in may be one that is judged"
    installed = {path.name for path in checkout.root.glob(".venv/lib/python*/site-packages/*.dist-info")}
    assert len(installed) == 1, f"expected uv alone, and no pip that nobody locked: {installed}"
    assert [line for line in ran.stderr.splitlines() if not line.startswith("sealrun: ")] == []


def test_later_starts_are_quick_and_install_nothing(made: Checkout) -> None:
    """With the stamp in place a start needs no wheels, no network and no other program, and costs under 0.3 s."""
    before, seconds = made.stamp.stat().st_mtime_ns, []
    for _ in range(5):
        begun = time.perf_counter()
        ran = made.start(SEALRUN_WHEELHOUSE=None, SEALRUN_PYTHON=None, PATH="/nonexistent")
        seconds.append(time.perf_counter() - begun)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert made.stamp.stat().st_mtime_ns == before
    assert min(seconds) < 0.3


@pytest.mark.parametrize("python", OLDER or [pytest.param("", marks=pytest.mark.skip(reason="no Python 3.8 to 3.11 here"))])
def test_an_older_python_can_start_it(made: Checkout, python: str) -> None:
    """Any Python from 3.8 on hands over to the environment of 3.12 or later."""
    ran = made.start("-l", python=python, SEALRUN_PYTHON=None)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["argv"] == ["-l"]


@pytest.mark.skipif(not OLDER, reason="no Python 3.8 to 3.11 here")
def test_an_older_python_can_make_it(checkout: Checkout, tmp_path: Path) -> None:
    """`python3` is too old, the shim on PATH exits with 127, and the real one lies under pyenv: it is found and used."""
    shim = tmp_path / "bin" / "python3.12"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    real = tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python"
    real.parent.mkdir(parents=True)
    real.symlink_to(Path(sys.executable).resolve())

    ran = checkout.start(
        python=OLDER[0], SEALRUN_PYTHON=None, PATH=str(shim.parent), PYENV_ROOT=str(tmp_path / "pyenv"), CONDA_PREFIX=""
    )

    assert ran.returncode == 0, ran.stderr
    assert Path(json.loads(ran.stdout)["prefix"]) == checkout.root / ".venv"


def test_a_changed_lock_installs_again(checkout: Checkout) -> None:
    """A stamp of another lock is no stamp; without wheels that is said, with them it is mended."""
    assert checkout.start().returncode == 0
    checkout.lock("changed")

    refused = checkout.start("release", SEALRUN_WHEELHOUSE=None)
    assert refused.returncode == 3
    assert ".venv is out of date, and the network is off (INVARLOCK_ALLOW_NETWORK is unset)" in refused.stderr
    assert f"INVARLOCK_ALLOW_NETWORK=1 python3 '{checkout.root}/scripts/bootstrap.py' release" in refused.stderr

    mended = checkout.start()
    assert mended.returncode == 0
    assert "making .venv" in mended.stderr
    assert checkout.start().stderr == ""


def test_what_is_half_made_is_made_again(checkout: Checkout) -> None:
    """Without a stamp whatever lies in .venv is thrown away."""
    (checkout.root / ".venv" / "bin").mkdir(parents=True)
    (checkout.root / ".venv" / "bin" / "python").symlink_to("/nonexistent")
    (checkout.root / ".venv" / "left-over").write_text("")

    ran = checkout.start()

    assert ran.returncode == 0, ran.stderr
    assert not (checkout.root / ".venv" / "left-over").exists()


def test_a_moved_checkout_is_made_again(checkout: Checkout) -> None:
    """An environment knows its own path; in another place it is another environment."""
    assert checkout.start().returncode == 0
    moved = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.root = moved

    ran = checkout.start()

    assert "making .venv" in ran.stderr
    assert Path(json.loads(ran.stdout)["prefix"]) == moved / ".venv"


def test_an_exchanged_wheel_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    """A wheel whose digest is not in the lock is not installed, and the environment stays unfinished."""
    other = tmp_path / "exchanged"
    shutil.copytree(checkout.wheelhouse, other)
    (wheel,) = other.glob("*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("uv/more.py", "")

    ran = checkout.start("release", SEALRUN_WHEELHOUSE=str(other))

    assert ran.returncode == 4
    assert "pip failed with exit code 1" in ran.stderr
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in ran.stderr
    assert "bootstrap.py' release" in ran.stderr
    assert not checkout.stamp.exists()


def test_a_pin_without_a_hash_is_refused(checkout: Checkout) -> None:
    """A lock that somebody edited by hand installs nothing that it does not vouch for."""
    lock = checkout.root / "requirements" / "runner.txt"
    lock.write_text(lock.read_text().split(" \\")[0] + "\n")

    ran = checkout.start()

    assert ran.returncode == 4
    assert "Hashes are required" in ran.stderr
    assert not checkout.stamp.exists()


def test_a_missing_wheel_is_a_failed_tool(checkout: Checkout) -> None:
    """uv's own words and the command to type again are in the message."""
    lock = checkout.root / "requirements" / "runner.txt"
    lock.write_text(lock.read_text() + f"absent==1.0 \\\n    --hash=sha256:{'0' * 64}\n")

    ran = checkout.start()

    assert ran.returncode == 4
    assert "uv failed with exit code" in ran.stderr
    assert "absent" in ran.stderr
    assert not checkout.stamp.exists()


def test_two_at_once_make_it_once(checkout: Checkout) -> None:
    """The second waits for the first, and then finds the environment made."""
    both = [
        subprocess.Popen(checkout.command(str(n)), env=checkout.environment(), stdout=-1, stderr=-1, text=True) for n in (1, 2)
    ]
    told = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sorted(json.loads(out)["argv"][0] for out, _ in told) == ["1", "2"]
    assert sum(err.count("making .venv") for _, err in told) == 1


def test_another_interpreter_asked_for_makes_it_again(checkout: Checkout, tmp_path: Path) -> None:
    """SEALRUN_PYTHON also decides when .venv is there already; one that does not fit is refused."""
    assert checkout.start().returncode == 0
    before = checkout.stamp.read_text()

    refused = checkout.start(SEALRUN_PYTHON=str(tmp_path / "none"))

    assert refused.returncode == 2
    assert "SEALRUN_PYTHON: got" in refused.stderr
    assert checkout.stamp.read_text() == before


def test_a_folder_that_cannot_be_written_is_said(wheelhouse: Path) -> None:
    """A read-only checkout: one message, no traceback."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder) / "checkout", wheelhouse)
        Path(folder).chmod(0o755)
        checkout.root.chmod(0o555)
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        python = sys.executable if os.geteuid() else "/usr/bin/python3"
        if not Path(python).exists():
            pytest.skip("as root this needs a Python that another user may run: /usr/bin/python3")
        ran = subprocess.run(
            checkout.command(python=python), env=checkout.environment(), cwd="/", capture_output=True, text=True, check=False,
            **as_nobody,  # type: ignore[call-overload]
        )  # fmt: skip
        checkout.root.chmod(0o755)
    assert ran.returncode == 2
    assert f"{checkout.root}/.venv: cannot be written" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_word_that_is_no_yes_stops_at_once(made: Checkout) -> None:
    """An INVARLOCK_ALLOW_NETWORK that cannot be understood is an error even where nothing needs installing."""
    ran = made.start(INVARLOCK_ALLOW_NETWORK="0")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "INVARLOCK_ALLOW_NETWORK: got '0'" in ran.stderr


@pytest.mark.parametrize("started_in", [".", "elsewhere"])
def test_any_outer_nox_hands_over(made: Checkout, tmp_path: Path, started_in: str) -> None:
    """A nox from anywhere becomes the environment's own program, with the same arguments in the same folder."""
    (made.root / "noxfile.py").write_text(NOXFILE)
    folder = made.root if started_in == "." else tmp_path
    noxfile = ["-f", os.path.relpath(made.root / "noxfile.py", folder)] if started_in != "." else []

    command = [sys.executable, "-m", "nox", *noxfile, "-s", "audit", "--", "some lock.txt"]
    ran = subprocess.run(command, env=made.environment(), cwd=folder, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["argv"] == command[3:]
    assert told["cwd"] == str(folder)
    assert Path(told["prefix"]) == made.root / ".venv"


@pytest.mark.heavy
@pytest.mark.skipif(not NETWORK, reason="installs over the network: needs INVARLOCK_ALLOW_NETWORK=1")
def test_the_real_lock_installs_over_the_network(checkout: Checkout) -> None:
    """The lock of this repository installs from the host's index, hash by hash."""
    shutil.copy(BOOTSTRAP.parents[1] / "requirements" / "runner.txt", checkout.root / "requirements")

    ran = checkout.start(INVARLOCK_ALLOW_NETWORK="1", SEALRUN_WHEELHOUSE=None)

    assert ran.returncode == 0, ran.stderr
    assert any(checkout.root.glob(".venv/lib/python*/site-packages/msgspec"))
