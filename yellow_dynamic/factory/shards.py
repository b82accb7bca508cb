"""The shards: which rows each factory file of a platform registers."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from yellow_dynamic.factory.database import ALL_ROWS, Condition
from yellow_dynamic.factory.files import factory_file, is_whole
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rules import factory_file_name

# Streams fall into buckets by a hash of their keys; a bucket belongs to one file.
BUCKETS = 4096
BUCKET_OF_KEY = "('x'||left(encode(sha256(convert_to(stream_key,'UTF8')),'hex'),3))::bit(12)::int"


class Shard(NamedTuple):
    """What a factory file registers.

    Attributes:
        file_count: how many factory files the platform has.
        buckets: those whose streams this file registers, or None for all streams.
    """

    file_count: int
    buckets: frozenset[int] | None

    def condition(self) -> Condition:
        """Return the condition that is true for the rows of these buckets."""
        if self.buckets is None:
            return ALL_ROWS
        bits = bytearray(BUCKETS // 8)
        for bucket in self.buckets:
            bits[bucket // 8] |= 1 << bucket % 8
        return ("get_bit(decode({}, 'hex'), " + BUCKET_OF_KEY + ") = 1", bits.hex())

    def has(self, stream_key: str) -> bool:
        """Return whether the stream is of this shard."""
        return self.buckets is None or hash_key(stream_key) in self.buckets


def current_shard(platform: Platform) -> Shard:
    """Return the shard of the file that runs: by its number of files, and by those beside it.

    Files of two numbers may register the same stream while the number changes: Airflow has it from
    the one that it parsed last.
    """
    count: int = platform.settings["factory_shards"]
    members = active_shards(platform, count)
    if members == (platform.number,):
        return Shard(count, None)
    owners = enumerate(rendezvous_owners(members))
    return Shard(count, frozenset(bucket for bucket, owner in owners if owner == platform.number))


def active_shards(platform: Platform, count: int) -> tuple[int, ...]:
    """Return the numbers of the factory files that register streams, up to that number."""
    numbers = range(1, count + 1)
    here = tuple(
        number for number in numbers if number == platform.number or is_shard(platform, number)
    )
    if missing := [factory_file(platform, each).name for each in numbers if each not in here]:
        log.warning(
            "Platform %s is to have %d factory files, and beside %s there is no complete %s. The "
            "files that are there register its DAGs too; copy what bootstrap wrote.",
            platform.name,
            count,
            platform.file,
            " and no ".join(missing),
        )
    if count < platform.number and here:
        log.warning(
            "Platform %s has %d factory files, so %s registers no DAGs. Delete it.",
            platform.name,
            count,
            platform.file,
        )
    elif extra := extra_files(platform, count):
        log.warning(
            "Platform %s has %d factory files, as %s says, and %s is beside it: they may register "
            "the same DAGs. Finish the change of factoryShards.",
            platform.name,
            count,
            platform.file,
            " and ".join(extra),
        )
    return here or (platform.number,)


def is_shard(platform: Platform, number: int) -> bool:
    """Return whether the factory file of that number is there, and registers a share of streams.

    It does not if only a part of it is there, if it is of another platform, or if its own number of
    files is lower.
    """
    file = factory_file(platform, number)
    try:
        text = file.read_text("utf-8", "replace") if is_whole(file) else ""
    except OSError:
        return False
    is_ours = f"\n    'platform_name': {platform.name!a},\n" in text
    count = re.search(r"^    'factory_shards': (\d+),$", text, re.MULTILINE)
    return is_ours and count is not None and int(count[1]) >= number


def extra_files(platform: Platform, count: int) -> list[str]:
    """Return the names of other factory files that register streams, above that number."""
    start = factory_file_name(platform.name)
    found = {
        int(number)
        for file in platform.file.parent.glob(f"{start}_*.py")
        for number in re.findall(r"_([1-9][0-9]*)$", file.stem)
    }
    above = sorted(number for number in found - {platform.number} if number > count)
    return [factory_file(platform, number).name for number in above if is_shard(platform, number)]


def rendezvous_owners(members: tuple[int, ...]) -> list[int]:
    """Return the number of the file that each bucket belongs to.

    The file of the highest hash has it, so that one more file, or one less, moves no bucket
    between the others.
    """

    def weight(bucket: int, number: int) -> bytes:
        return hashlib.sha256(f"{bucket}/{number}".encode()).digest()

    return [
        max((weight(bucket, number), number) for number in members)[1] for bucket in range(BUCKETS)
    ]


def hash_key(stream_key: str) -> int:
    """Return the bucket of a stream, as BUCKET_OF_KEY computes it in the database."""
    return int(hashlib.sha256(stream_key.encode()).hexdigest()[:3], 16)
