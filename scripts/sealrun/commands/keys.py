"""`keys.show`, `keys.use`, `keys.rotate`, `keys.revoke`, `keys.cosign`: the key that signs releases, and those of others."""

import argparse
from pathlib import Path

from sealrun.command import Command


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing."""


def _show(options: argparse.Namespace) -> int:
    from sealrun import console
    from sealrun.evidence import signers

    public = signers.release_public()
    print(public.fingerprint)
    console.said(f"{public.kind}, {signers.where()}")
    return 0


def _use_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="file2:PATH, hsm:ID, awskms:ID, azurekms:URL, gcpkms:NAME or hv:NAME")


def _use(options: argparse.Namespace) -> int:
    from sealrun import console
    from sealrun.evidence import signers

    public = signers.use(options.uri)
    print(public.fingerprint)
    console.said(f"{public.kind}; releases are now signed by {signers.where()}, which signed once and was verified")
    return 0


def _rotate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="DAY", help="the new key is the release key from this day on (default: today, UTC)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the revocation and the new release.pub")


def _rotate(options: argparse.Namespace) -> int:
    from sealrun import clock, console
    from sealrun.evidence import rotation

    options.out.mkdir(exist_ok=True)
    old, new, written = rotation.rotate(options.since or clock.now().date().isoformat(), options.out)
    print(new.fingerprint)
    console.said(f"written  {written}, {options.out / 'release.pub'}; {old.fingerprint} signs no longer")
    console.said("next     tell recipients the new fingerprint by a way they trust, and send them the revocation")
    return 0


def _revoke_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, metavar="PUB", help="revoke this key (default: the release key itself)")
    parser.add_argument("--bundle", type=Path, metavar="TAR", help="revoke this bundle, not a key")
    parser.add_argument("--reason", required=True, choices=("compromised", "superseded", "withdrawn"))
    parser.add_argument("--since", metavar="DAY", help="superseded: bundles judged before this day stay good")
    parser.add_argument("--successor", metavar="PUB", type=Path, help="the key that takes its place")
    parser.add_argument("--note", default="", help="a sentence for recipients")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the revocation (default: the present one)")


def _revoke(options: argparse.Namespace) -> int:
    from sealrun import console
    from sealrun.evidence import rotation

    options.out.mkdir(exist_ok=True)
    written = rotation.revoke(
        options.out, key=options.key, bundle=options.bundle, reason=options.reason, since=options.since,
        successor=options.successor, note=options.note,
    )  # fmt: skip
    console.said(f"written  {written}")
    console.said("next     put it into policy/trust/, and send it to everybody who trusts the key: verify --revoked FILE")
    return 0


def _cosign_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    parser.add_argument("--fingerprint", required=True, help="of the key that signed first, got another way than the bundle")


def _cosign(options: argparse.Namespace) -> int:
    from sealrun import console, result
    from sealrun.evidence import rotation
    from sealrun.outcome import Verdict

    found = rotation.cosign(options.bundle, options.fingerprint)
    console.verified(found)
    if found.verdict is not Verdict.PASSED:
        console.said("not co-signed: a gate said no, there is nothing to approve")
        return result.EXIT_FAILED
    return result.EXIT_PASSED


COMMANDS = (
    Command(name="keys.show", summary="Say which key signs releases, and its fingerprint", arguments=_no_arguments, run=_show),
    Command(
        name="keys.use", summary="Let a file, token or key service sign releases, named by a URI", arguments=_use_arguments,
        run=_use,
    ),
    Command(
        name="keys.rotate", summary="Make a new release key, and a signed note that it takes the old one's place",
        arguments=_rotate_arguments, run=_rotate,
    ),
    Command(
        name="keys.revoke", summary="Write a signed revocation of a key or a bundle, which both verifiers take",
        arguments=_revoke_arguments, run=_revoke,
    ),
    Command(
        name="keys.cosign", summary="Verify a bundle and add this user's signature to it", arguments=_cosign_arguments,
        run=_cosign,
    ),
)  # fmt: skip
