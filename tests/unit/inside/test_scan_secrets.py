"""The part of the secret scan that runs beside trufflehog3: nothing is lost in cutting, and a digest is known by its line."""

import pytest

from sealrun.inside.scan_secrets import LONG, OVERLAP, PIECE, Piece, fingerprint, first_left, pieces_of, text_of, windows

LINES = [f"line {number} " + "x" * (number % 97) for number in range(2000)]
ALLOW = [{"id": "hash", "rules": ["high-entropy"], "secret": "[0-9a-f]{8}", "line": r"sha256:SECRET$", "before": ""}]


def test_pieces_hold_every_line_once_under_its_number() -> None:
    """Cutting a text and putting it together again gives the text."""
    pieces = list(pieces_of(("a",), "\n".join(LINES), numbered=True))
    assert [line for piece in pieces for line in piece.lines] == LINES
    assert [number for piece in pieces for number in piece.numbers] == list(range(1, len(LINES) + 1))
    assert len(pieces) > 1
    assert [piece.before for piece in pieces[1:]] == [piece.lines[-1] for piece in pieces[:-1]]
    assert all(sum(map(len, piece.lines)) < 2 * PIECE for piece in pieces)


@pytest.mark.parametrize("text", ["", "\n", "a", "a\n", "a\r\nb\rc\n"])
def test_every_text_has_a_piece(text: str) -> None:
    """An empty file is scanned too, and any line end counts."""
    [piece] = pieces_of(("a",), text, numbered=True)
    assert "\n".join(piece.lines) == text.replace("\r\n", "\n").replace("\r", "\n")


def test_breaks_that_only_python_knows_keep_the_number_of_the_line() -> None:
    """A form feed splits a line for the scanner, not for the reader."""
    [piece] = pieces_of(("a",), "one\x0ctwo\u2028three\nfour", numbered=True)
    assert (piece.lines, piece.numbers) == (["one", "two", "three", "four"], [1, 1, 1, 2])


def test_what_fits_in_the_overlap_stands_whole_in_one_window() -> None:
    """No secret is cut in two, wherever it stands in a long line."""
    line = "".join(chr(33 + (number * 7919) % 94) for number in range(3 * LONG))
    parts = windows(line)
    assert windows("short") == ["short"]
    assert windows("") == [""]
    for start in range(0, len(line) - OVERLAP, 997):
        assert any(line[start : start + OVERLAP] in part for part in parts)


@pytest.mark.parametrize(
    ("data", "read_as", "text"),
    [
        (b"abc", "text", "abc"),
        ("\ufeffabc".encode(), "text", "abc"),
        ("abcdef".encode("utf-16"), "utf-16", "abcdef"),
        (b"caf\xe9", "latin-1", "café"),
        (b"\x00\x01secret\xff", "strings", "secret"),
        (b"\x01\x02" + "secret".encode("utf-16-le"), "strings", "secret"),
    ],
)
def test_any_bytes_have_a_text(data: bytes, read_as: str, text: str) -> None:
    """Every encoding is read; of binary data its strings, wide ones too."""
    assert text_of(data) == (read_as, text)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (["sha256:0123abcd"], None),
        (["0123abcd"], 0),
        (["sha256:0123abcd", "", "0123abcd"], 2),
        (["sha256:0123abcd and more"], 0),
    ],
)
def test_an_allow_entry_takes_a_secret_only_where_every_line_fits(lines: list[str], left: int | None) -> None:
    """One line out of context is a finding."""
    piece = Piece(("a",), lines, list(range(1, len(lines) + 1)))
    assert first_left(piece, "high-entropy", "0123abcd", ALLOW, {}) == left
    assert first_left(piece, "another.rule", "0123abcd", ALLOW, {}) == 0


def test_an_allow_entry_may_ask_for_the_line_before() -> None:
    """It is known at the start of a piece too."""
    allow = [ALLOW[0] | {"line": "SECRET", "before": "^digest:$"}]
    for piece in (Piece(("a",), ["digest:", "0123abcd"], [1, 2]), Piece(("a",), ["0123abcd"], [2], "digest:")):
        assert first_left(piece, "high-entropy", "0123abcd", allow, {}) is None
    assert first_left(Piece(("a",), ["other:", "0123abcd"], [1, 2]), "high-entropy", "0123abcd", allow, {}) == 1


def test_a_scanner_that_reports_what_is_not_there_is_refused() -> None:
    """A finding must stand in the text it is said to be in."""
    with pytest.raises(SystemExit, match="reported text that is not in it"):
        first_left(Piece(("a",), ["nothing"], [1]), "high-entropy", "0123abcd", ALLOW, {})


def test_a_fingerprint_depends_on_rule_and_secret_alone_and_hides_it() -> None:
    """Equal pairs agree, others differ, and the secret cannot be read from it."""
    seen = {fingerprint(pair) for pair in [("a", "hunter2"), ("b", "hunter2"), ("a", "hunter3"), ("a", "hunter2")]}
    assert len(seen) == 3
    assert all(text.startswith("scrypt:") and "hunter" not in text for text in seen)
