"""Download an advisory export: resumable, bounded, whole or not there.

Rules: only https (http on the loopback alone), redirects included; the network must be opted in; what came so far is kept
beside the target and continued only where the server says that it is still the same file; a file that is larger than allowed,
or ends early, is an error.

Source: RFC 9110 (Range, If-Range, Content-Range).
"""

import http.client
import ipaddress
import os
import urllib.request
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from sealrun import files, network
from sealrun.errors import InputMissing, ToolFailed, UsageError

ORIGIN = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"
MAX_BYTES = 1024**3
_PIECE = 1024 * 1024
_SECONDS = 60
_ATTEMPTS = 4
_CONTINUED, _PAST_THE_END = 206, 416


def is_url(text: str) -> bool:
    """Return whether *text* names something on the network."""
    return "://" in text


def download(url: str, target: Path, *, limit: int = MAX_BYTES) -> None:
    """Write the file at *url* to *target*, whole or not at all; what an earlier attempt left is continued.

    Raises UsageError, InputMissing (the network is not opted in) or ToolFailed (what came so far stays for the next time).
    """
    _check(url)
    if not network.may_open(url):
        raise InputMissing(f"advisories: {url} needs the network; set INVARLOCK_ALLOW_NETWORK=1, or name a file with --from")
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.tag")
    problem: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            _attempt(url, part, tag, limit)
            part.replace(target)
            tag.unlink(missing_ok=True)
        except (URLError, OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code != _PAST_THE_END and error.code < 500:
                raise ToolFailed(
                    f"advisories: {url}: the server answers {error.code} {error.reason}; check the address"
                ) from error
            problem = error
        else:
            return
    raise ToolFailed(f"advisories: {url}: {problem}; run the command again, it goes on from {_size(part)} bytes") from problem


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname or "")):
        return
    raise UsageError(f"advisories: got {url}, expected an https address or a file")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _attempt(url: str, part: Path, tag: Path, limit: int) -> None:
    """Fetch what is missing of *part*. Raises OSError when it ends early, ToolFailed when there is too much."""
    have, known = _size(part), tag.read_text("utf-8") if tag.is_file() else ""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})  # noqa: S310 - checked above
    if have and known:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known)
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=_SECONDS)
    except HTTPError as error:
        if error.code == _PAST_THE_END:
            part.unlink(missing_ok=True)
        raise
    with answer:
        continues = answer.status == _CONTINUED
        start = have if continues else 0
        if continues and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise OSError("the server continued somewhere else")
        strong = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        files.write_bytes(tag, b"" if strong.startswith("W/") else strong.encode(), durable=False)
        length = answer.headers.get("Content-Length")
        _append(answer, part, start, None if length is None else start + int(length), limit)


def _append(answer: IO[bytes], part: Path, start: int, expected: int | None, limit: int) -> None:
    if expected is not None and expected > limit:
        raise ToolFailed(f"advisories: the server offers {expected} bytes, expected at most {limit}; name another source")
    with part.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        stream.truncate()
        while piece := answer.read(_PIECE):
            if stream.tell() + len(piece) > limit:
                raise ToolFailed(f"advisories: more than {limit} bytes came; name another source")
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
        if expected is not None and stream.tell() != expected:
            raise OSError(f"got {stream.tell()} of {expected} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
