"""Which rows each factory file of a platform registers."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from yellow_dynamic.factory.database import ALL_ROWS
from yellow_dynamic.factory.files import END_OF_FILE
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.shards import (
    BUCKETS,
    Shard,
    current_shard,
    hash_key,
    rendezvous_owners,
)
from yellow_dynamic.rendering import python_literal

KEYS = [f"S{number}" for number in range(200)]


def file(folder: Path, number: int, shards: int) -> Platform:
    """Write a factory file of that number, and return the platform as it has it."""
    path = folder / f"yellowlive_factory_dag{'' if number == 1 else f'_{number}'}.py"
    settings = {
        "platform_name": "yellowlive", "original_platform_name": "Y", "factory_shards": shards,
    }  # fmt: skip
    path.write_bytes(f"PLATFORM = {python_literal(settings)}\n".encode() + END_OF_FILE)
    return Platform(settings, str(path))


def keys(shard: Shard) -> set[str]:
    return {key for key in KEYS if shard.has(key)}


def test_one_file_has_all_rows(tmp_path: Path) -> None:
    shard = current_shard(file(tmp_path, 1, 1))

    assert (shard.buckets, shard.condition()) == (None, ALL_ROWS)
    assert keys(shard) == set(KEYS)


def test_each_stream_is_of_one_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [file(tmp_path, number, 3) for number in (1, 2, 3)]
    shards = [current_shard(each) for each in files]

    assert set.union(*map(keys, shards)) == set(KEYS)
    assert sum(len(keys(shard)) for shard in shards) == len(KEYS)
    assert {shard.file_count for shard in shards} == {3}
    assert caplog.text == ""


def test_files_that_are_there_take_over_the_share_of_a_missing_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [file(tmp_path, number, 3) for number in (1, 2)]
    half = file(tmp_path, 3, 3).file
    half.write_bytes(half.read_bytes().removesuffix(END_OF_FILE))

    assert keys(current_shard(files[0])) | keys(current_shard(files[1])) == set(KEYS)
    assert "no complete yellowlive_factory_dag_3.py" in caplog.text


def test_file_above_the_number_registers_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file(tmp_path, 1, 1)

    assert keys(current_shard(file(tmp_path, 2, 1))) == set()
    assert "registers no DAGs. Delete it" in caplog.text


def test_file_above_the_number_that_is_alone_registers_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert keys(current_shard(file(tmp_path, 3, 2))) == set(KEYS)
    assert "no complete" in caplog.text
    assert "Delete it" not in caplog.text


def test_file_beside_which_there_is_one_too_many_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = file(tmp_path, 1, 1)
    file(tmp_path, 4, 4)

    assert keys(current_shard(first)) == set(KEYS)
    assert "yellowlive_factory_dag_4.py is beside it" in caplog.text
    assert "Finish the change of factoryShards" in caplog.text


@pytest.mark.parametrize("counts", list(product(range(4), repeat=3)))
def test_no_stream_is_lost_while_files_of_several_counts_are_there(
    tmp_path: Path, counts: tuple[int, ...]
) -> None:
    """A count of 0 is a file that is missing."""
    files = [file(tmp_path, n, count) for n, count in enumerate(counts, start=1) if count]

    found = set().union(*(keys(current_shard(each)) for each in files))

    serves = any(count >= number for number, count in enumerate(counts, start=1) if count)
    assert found == (set(KEYS) if serves else found)
    assert found in (set(KEYS), set())


def test_file_of_another_platform_is_no_shard(tmp_path: Path) -> None:
    first, second = file(tmp_path, 1, 2), file(tmp_path, 2, 2)
    text = second.file.read_text().replace("'platform_name': 'yellowlive'", "'platform_name': 'x'")
    second.file.write_text(text)

    assert keys(current_shard(first)) == set(KEYS)


def test_file_is_a_shard_whatever_bytes_it_has_besides(tmp_path: Path) -> None:
    first, second = file(tmp_path, 1, 2), file(tmp_path, 2, 2)
    second.file.write_bytes(b"# \xff\n" + second.file.read_bytes())

    assert len(keys(current_shard(first))) < len(KEYS)


def test_file_that_cannot_be_read_is_no_shard(tmp_path: Path, mocker: MockerFixture) -> None:
    first, _ = file(tmp_path, 1, 2), file(tmp_path, 2, 2)
    mocker.patch.object(Path, "read_text", side_effect=PermissionError)

    assert keys(current_shard(first)) == set(KEYS)


def test_files_have_about_equal_shares() -> None:
    owners = rendezvous_owners(tuple(range(1, 21)))

    counts = [owners.count(number) for number in range(1, 21)]
    assert min(counts) > 0.75 * sum(counts) / 20
    assert max(counts) < 1.25 * sum(counts) / 20


def test_one_more_file_moves_no_stream_between_the_others() -> None:
    before, after = rendezvous_owners((1, 2)), rendezvous_owners((1, 2, 3))

    assert all(new in (old, 3) for old, new in zip(before, after, strict=True))


def test_the_share_of_a_stream_is_the_same_on_every_machine() -> None:
    """A release that computed it otherwise would move DAGs between the files."""
    assert [hash_key(key) for key in ("Store1", "Store2_dataset")] == [2039, 2516]
    assert rendezvous_owners((1, 2, 3))[:10] == [3, 2, 2, 3, 1, 3, 2, 1, 2, 3]


def test_condition_has_a_bit_for_each_bucket() -> None:
    where, bits = Shard(2, frozenset({0, 1, 9, BUCKETS - 1})).condition()

    assert re.fullmatch(r"get_bit\(decode\(\{\}, 'hex'\), .*::int\) = 1", where)
    found = bytes.fromhex(bits)
    assert (found[0], found[1], found[-1]) == (3, 2, 128)
    assert sum(byte.bit_count() for byte in found) == 4
