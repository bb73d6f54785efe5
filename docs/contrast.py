"""Show what a vulnerability scan says when nobody answers: plain pip-audit, then Sealrun with that very pip-audit.

    .venv/bin/python docs/contrast.py

One lock with one vulnerable package. A loopback proxy, which holds a certificate for pypi.org made for this run, answers every
request with 404, as a package index without PyPI's JSON interface does, and PyPI itself for a private package.

1. plain pip-audit behind that proxy;
2. Sealrun's audit stage with a pip-audit behind that proxy;
3. Sealrun's audit stage as it is.

Needs the audit environment: `INVARLOCK_ALLOW_NETWORK=1 .venv/bin/python -m sealrun install audit`. Nothing leaves the machine.
"""

import datetime
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = f"requests==2.30.0 \\\n    --hash=sha256:{'0' * 64}\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_WRAPPER = """#!{fake}/bin/python
import sys
sys.path.insert(0, {docs!r})
import contrast
done = contrast.unanswered({program!r}, sys.argv[1:], {certificate!r})
sys.stderr.write(done.stderr)
sys.exit(done.returncode)
"""


def main() -> int:
    """Print the three answers; the exit code says nothing about them."""
    sys.path.insert(0, str(ROOT / "scripts"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        lock = folder / "requirements.txt"
        lock.write_text(LOCK, "utf-8")
        program, certificate = environment() / "bin" / "pip-audit", make_certificate(folder / "pypi.pem")
        plain = unanswered(str(program), ["--require-hashes", "--disable-pip", "-r", str(lock)], str(certificate))
        say("pip-audit, every request answered with 404", plain)
        say("Sealrun, the same pip-audit, the same 404", audit(deaf_checkout(folder / "deaf", program, certificate), lock))
        say("Sealrun as it is", audit(ROOT, lock, folder / "build"))
    return 0


def say(what: str, done: "subprocess.CompletedProcess[str]") -> None:
    """Print what a program said and its exit code."""
    print(f"{what}: exit code {done.returncode}", *done.stderr.strip().splitlines(), sep="\n    ")


def environment() -> Path:
    """Return the folder of the audit environment, which must be installed."""
    from sealrun import venvs

    return venvs.existing(ROOT, "audit").path


def audit(root: Path, lock: Path, out: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run Sealrun's audit stage of the checkout *root* on *lock*."""
    argv = [sys.executable, "-m", "sealrun", "stage", "audit", str(lock), f"--root={root}", f"--out={out or root / 'build'}"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=300, check=False)


def deaf_checkout(root: Path, program: Path, certificate: Path) -> Path:
    """Make a checkout whose audit environment is ours, but for a pip-audit that gets 404 for everything. Returns *root*."""
    for name in ("policy", "requirements", "examples"):
        shutil.copytree(ROOT / name, root / name)
    fake = root / ".nox" / "venvs" / environment().name
    (fake / "bin").mkdir(parents=True)
    for source in (*environment().iterdir(), *(environment() / "bin").iterdir()):
        target = fake / source.relative_to(environment())
        if source.name not in ("bin", "pip-audit"):
            target.symlink_to(source)
    text = _WRAPPER.format(fake=fake, docs=str(ROOT / "docs"), program=str(program), certificate=str(certificate))
    (fake / "bin" / "pip-audit").write_text(text, "utf-8")
    (fake / "bin" / "pip-audit").chmod(0o755)
    return root


def unanswered(program: str, arguments: list[str], certificate: str) -> "subprocess.CompletedProcess[str]":
    """Run pip-audit against its default service, behind a proxy that answers 404 in that service's name."""
    with tempfile.TemporaryDirectory() as home, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener, certificate), daemon=True).start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        variables = {"HOME": home, "PATH": os.defpath, "HTTPS_PROXY": proxy, "REQUESTS_CA_BUNDLE": certificate}
        argv = [program, "--progress-spinner", "off", "--cache-dir", home, *arguments, "-s", "pypi"]
        return subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=60, check=False)


def answer(listener: socket.socket, certificate: str) -> None:
    """Accept CONNECT, speak TLS as pypi.org, and answer 404 until the listener is closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(65536)
                secured.sendall(_NOT_FOUND)


def make_certificate(path: Path) -> Path:
    """Write a self-signed certificate for pypi.org and its key, good for an hour, to *path*, and return it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pypi.org")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("pypi.org")]), critical=False)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + private)
    return path


if __name__ == "__main__":
    sys.exit(main())
