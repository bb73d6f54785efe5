"""A private index that asks for a password, under an authority of one's own, behind a proxy: installing works by the usual
settings, and what a stage runs sees none of them."""

import base64
import datetime
import ensurepip
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from packaging.utils import canonicalize_name

from sealrun import digest, files
from tests.conftest import ROOT, checkout

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]

HOST = "index.invalid"  # no name server knows it: it is reached through the proxy or not at all
USER, PASSWORD = "reader", "pa55-of-the-index"
ENVIRONMENTS = ("runner", "audit")
SEES = """
from sealrun import files
from sealrun.outcome import Judgement, check
from sealrun.stage import Stage

WRITE = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"


def gather(context, work):
    work.run("sees", "audit", ("python", "-I", "-c", WRITE, str(work.out / "seen.json")))


def judge(context):
    return Judgement(outcomes=(check("sees.all", True, seen="", expected=""),))


STAGE = Stage(name="sees", summary="What does a tool see?", controls=("sees.all",), inputs=lambda context: {}, gather=gather, judge=judge)
"""


@dataclass
class Asked:
    """What reached the index and the proxy."""

    wheels: list[str] = field(default_factory=list)
    refused: int = 0
    tunnels: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels that two locks pin, from the index of this machine."""
    if os.environ.get("INVARLOCK_ALLOW_NETWORK") != "1":
        pytest.skip("downloads wheels: run with INVARLOCK_ALLOW_NETWORK=1")
    folder = tmp_path_factory.mktemp("wheels")
    (pip,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    for name in ENVIRONMENTS:
        lock = ROOT / "requirements" / f"{name}.txt"
        argv = [
            sys.executable,
            "-I",
            str(pip / "pip"),
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
        ]
        subprocess.run([*argv, f"--dest={folder}", f"--requirement={lock}"], check=True, timeout=900)
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, and `server.pem` that it signed for the index."""
    folder = tmp_path_factory.mktemp("authority")
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        begun = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("our authority"))
        named = begun.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return named.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))

    def usage(*, signs: bool) -> x509.KeyUsage:
        others = (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        )
        return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, crl_sign=signs, **dict.fromkeys(others, False))

    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    known = x509.SubjectKeyIdentifier.from_public_key(ours.public_key())
    root = certificate("our authority", ours).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(usage(signs=True), critical=True).add_extension(known, critical=False)
    names = x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate(HOST, theirs).add_extension(names, critical=False).add_extension(usage(signs=False), critical=True)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known), critical=False)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.sign(ours, hashes.SHA256()).public_bytes(pem))
    private = theirs.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + leaf.sign(ours, hashes.SHA256()).public_bytes(pem))
    return folder


class Index(BaseHTTPRequestHandler):
    """A simple repository over a folder of wheels: https://packaging.python.org/specifications/simple-repository-api/."""

    protocol_version = "HTTP/1.1"
    folder: Path
    asked: Asked

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer who knows the password with the links of one project, or with a wheel."""
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.asked.refused += 1
            self.answer(401, "text/plain", b"")
        elif self.path.startswith("/wheels/") and (wheel := self.folder / Path(self.path).name).is_file():
            self.asked.wheels.append(wheel.name)
            self.answer(200, "application/zip", wheel.read_bytes())
        elif self.path.startswith("/simple/"):
            project = canonicalize_name(self.path.strip("/").split("/")[-1])
            files = [path for path in sorted(self.folder.iterdir()) if canonicalize_name(path.name.split("-")[0]) == project]
            links = [f'<a href="/wheels/{path.name}#sha256={digest.of_file(path)}">{path.name}</a>' for path in files]
            self.answer(200 if links else 404, "text/html", "\n".join(["<!DOCTYPE html><html><body>", *links]).encode())
        else:
            self.answer(404, "text/plain", b"")

    def answer(self, code: int, kind: str, body: bytes) -> None:
        """Send one answer."""
        self.send_response(code)
        if code == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Proxy(BaseHTTPRequestHandler):
    """A proxy that knows one host: tunnels to it end at the index."""

    asked: Asked
    port: int

    def do_CONNECT(self) -> None:
        """Open a tunnel."""
        self.asked.tunnels.append(self.path)
        if self.path.partition(":")[0] != HOST:
            self.send_error(403)
            return
        with socket.create_connection(("127.0.0.1", self.port)) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=self.pump, args=(there, self.connection), daemon=True)
            back.start()
            self.pump(self.connection, there)
            back.join()
        self.close_connection = True

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        """Pass on what comes, until there is no more."""
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def settings(wheels: Path, authority: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], Asked]]:
    """What a user sets: index, proxy and authority; the servers run meanwhile."""
    asked = Asked()
    index = Server(("127.0.0.1", 0), type("Ours", (Index,), {"folder": wheels, "asked": asked}))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(authority / "server.pem")
    index.socket = tls.wrap_socket(index.socket, server_side=True, do_handshake_on_connect=False)
    proxy = Server(("127.0.0.1", 0), type("Ours", (Proxy,), {"asked": asked, "port": index.server_port}))
    for server in (index, proxy):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "PIP_INDEX_URL": f"https://{USER}:{PASSWORD}@{HOST}/simple/", "HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_port}",
        "SSL_CERT_FILE": str(authority / "ca.pem"),
    }, asked  # fmt: skip
    for server in (index, proxy):
        server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    """A server that says nothing of clients that turn away."""

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


def run(cwd: Path, home: Path, *argv: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of this machine's settings and caches."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(home), "UV_CACHE_DIR": str(home / "cache"), "PIP_NO_CACHE_DIR": "1",
            "PIP_CONFIG_FILE": os.devnull, "SEALRUN_KEYS": str(home / "keys")}  # fmt: skip
    named = {name: os.environ[name] for name in ("PYENV_ROOT", "SEALRUN_PYTHON") if name in os.environ}
    return subprocess.run(
        [str(word) for word in argv], cwd=cwd, env={**named, **bare, **variables}, capture_output=True, text=True, timeout=900
    )


def test_installing_uses_the_settings_and_running_sees_none(settings: tuple[dict[str, str], Asked], tmp_path: Path) -> None:
    """pip and uv come through proxy, authority and password; a tool of a stage sees no such variable; no log has the password."""
    variables, asked = settings
    home = tmp_path / "home"
    (home / "keys").mkdir(mode=0o700, parents=True)
    tree = checkout(tmp_path / "sealrun")
    bootstrap, opened = tree / "scripts" / "bootstrap.py", {**variables, "INVARLOCK_ALLOW_NETWORK": "1"}
    for name in ("SSL_CERT_FILE", "HTTPS_PROXY"):
        without = {key: value for key, value in opened.items() if key != name}
        refused = run(tree, home, "python3", bootstrap, "--list", PIP_RETRIES="0", PIP_TIMEOUT="5", **without)
        assert refused.returncode == 4 and PASSWORD not in refused.stdout + refused.stderr, name
    assert asked.wheels == []
    made = run(tree, home, "python3", bootstrap, "--list", **opened)
    assert made.returncode == 0, made.stderr
    sealrun = (tree / ".venv" / "bin" / "python", "-P", "-m", "sealrun")
    installed = run(tree, home, *sealrun, "install", "audit", **opened)
    assert installed.returncode == 0, installed.stderr
    assert set(asked.tunnels) == {f"{HOST}:443"}
    assert len(set(asked.wheels)) > 40
    (tmp_path / "sees.py").write_text(SEES)
    asked.tunnels.clear()
    ran = run(tree, home, *sealrun, "stage", "sees", f"--load={tmp_path / 'sees.py'}", **opened)
    assert ran.returncode == 0, ran.stderr
    (found,) = tree.glob("build/*/evidence/sees/seen.json")
    seen = json.loads(found.read_bytes())
    assert not [name for name in seen if name.startswith(("PIP_", "UV_", "SSL_", "INVARLOCK_")) or "PROXY" in name.upper()]
    assert not set(variables.values()) & set(seen.values()) and PASSWORD not in found.read_text()
    assert asked.tunnels == []
    said = "".join(done.stdout + done.stderr for done in (made, installed, ran))
    assert PASSWORD not in said
    for name in files.walk_files(tree / "build"):
        assert PASSWORD.encode() not in (tree / "build" / name).read_bytes(), name
