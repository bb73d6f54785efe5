"""Laws of shards: how one is named, and that its statement says no more than its place does."""

from pathlib import Path

import pytest

from sealrun import files
from sealrun.errors import InputMissing, UsageError, VerificationFailed
from sealrun.evidence import shards
from sealrun.evidence.shards import Shard, ShardPredicate, ShardStatement


def stated(folder: Path, stage: str = "secrets", number: int = 1, of: int = 2) -> Path:
    """Write a statement of a shard without files into *folder*."""
    folder.mkdir(parents=True)
    predicate = ShardPredicate(
        stage=stage, number=number, of=of, python="3.12.1", plan="0" * 64, reuse_key="1" * 64, network="denied"
    )
    files.write_json(folder / shards.STATEMENT, ShardStatement(subject=(), predicate=predicate))
    return folder


@pytest.mark.parametrize("shard", [Shard(1, 1), Shard(2, 3), Shard(256, 256), Shard(0, 4)])
def test_a_shard_is_read_as_it_is_written(shard: Shard) -> None:
    """`parse(str(x)) == x`, all of them included."""
    assert shards.parse(str(shard)) == shard


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "1/257", "all/0", "every/2", "1/2/3", "-1/2", "1 /2", "١/2"])
def test_anything_else_is_wrong_use(text: str) -> None:
    """There is no shard 0, none beyond the last, and no more than 256."""
    with pytest.raises(UsageError, match="expected K/N"):
        shards.parse(text)


def test_a_statement_belongs_to_its_folder(tmp_path: Path) -> None:
    """The stage and the share are those that the folders are named after; nothing else is a statement."""
    assert shards.load(stated(shards.place(tmp_path, "secrets", Shard(1, 2)))).shard == Shard(1, 2)
    for odd in (tmp_path / "a" / "secrets" / "2-of-2", tmp_path / "b" / "certify" / "1-of-2"):
        with pytest.raises(VerificationFailed, match="belongs elsewhere"):
            shards.load(stated(odd))
    with pytest.raises(InputMissing):
        shards.load(tmp_path)
    (tmp_path / shards.STATEMENT).write_text('{"_type": "https://in-toto.io/Statement/v1"}')
    with pytest.raises(VerificationFailed):
        shards.load(tmp_path)
