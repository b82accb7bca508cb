"""Full disks and read-only disks, real ones: small file systems that are mounted for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Site
from fault_table import FaultTable
from merge_command import Commands
from sqlalchemy.exc import OperationalError
from yellow_models import Store

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small disk"
)
PAGE = 4096


class Disk:
    """A file system of its own, mounted on a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def mount(self, options: str) -> None:
        """Mount it, or with `remount` change how it is mounted."""
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")

    def fill(self) -> None:
        """Leave no room."""
        with self.filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * PAGE)

    def empty(self) -> None:
        self.filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 256 kB; `Site` uses another folder unless the test says so."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = Disk(folder)
    made.mount("size=512k")
    yield made
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def keep_snapshots_on(disk: Disk, site: Site, environment: pytest.MonkeyPatch) -> Path:
    site.snapshots = disk.folder / "snapshots"
    environment.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(site.snapshots))
    return site.snapshots / "yellowlive.json"


def test_full_disk_keeps_the_old_snapshot_and_every_dag(
    installed: Site,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    faults: FaultTable,
) -> None:
    snapshot = keep_snapshots_on(disk, installed, monkeypatch)
    installed.parse()
    old = snapshot.read_bytes()
    installed.model.stores = [Store(f"S{number}") for number in range(20)]
    installed.merge_cleanly()
    disk.fill()

    during = installed.parse()

    [warning] = warnings(caplog)
    assert "No space left on device" in warning
    assert snapshot.read_bytes() == old
    assert list(snapshot.parent.iterdir()) == [snapshot]
    disk.empty()
    started = time.monotonic()
    installed.parse()
    assert b"S19" in snapshot.read_bytes()
    faults.record(
        "full disk under the snapshot",
        injected=1,
        survived=1,
        dags_lost=20 - len(during),
        recovery_seconds=time.monotonic() - started,
    )


def test_read_only_disk_keeps_every_dag_and_still_serves_its_snapshot(
    installed: Site,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    faults: FaultTable,
) -> None:
    snapshot = keep_snapshots_on(disk, installed, monkeypatch)
    before = sorted(installed.parse())
    disk.mount("remount,ro")

    during = sorted(installed.parse())
    with monkeypatch.context() as outage:
        outage.setenv("PGHOSTADDR", "127.77.77.77")
        served = sorted(installed.parse())

    assert "Read-only file system" in warnings(caplog)[0]
    disk.mount("remount,rw")
    installed.model.stores = [Store("New")]
    installed.merge_cleanly()
    started = time.monotonic()
    assert list(installed.parse()) == ["yellowlive__New_ingestion"]
    assert b"New" in snapshot.read_bytes()
    faults.record(
        "read-only disk under the snapshot",
        injected=2,
        survived=(during == before) + (served == before),
        dags_lost=2 * len(before) - len(during) - len(served),
        recovery_seconds=time.monotonic() - started,
    )


def test_read_only_disk_without_a_snapshot_is_one_warning(
    installed: Site,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    faults: FaultTable,
) -> None:
    keep_snapshots_on(disk, installed, monkeypatch)
    disk.mount("remount,ro")

    found = installed.parse()

    [warning] = warnings(caplog)
    assert "YELLOW_DYNAMIC_SNAPSHOT_DIR" in warning
    faults.record("read-only disk from the start", injected=1, survived=1, dags_lost=1 - len(found))


@pytest.mark.embedded
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_bootstrap_that_cannot_write_leaves_the_old_factory_file(
    installed: Site, disk: Disk, faults: FaultTable, state: str
) -> None:
    commands = Commands(installed.folder / "model", installed.model)
    assert commands.bootstrap(0).returncode == 0
    shutil.copytree(commands.output, disk.folder, dirs_exist_ok=True)
    shutil.rmtree(commands.output)
    commands.output.symlink_to(disk.folder)
    name = Path(installed.model.platform, "yellowlive_factory_dag.py")
    old = (disk.folder / name).read_bytes()
    listing = sorted(disk.folder.rglob("*"))
    disk.fill()
    if state == "read-only":
        disk.empty()
        disk.mount("remount,ro")

    done = commands.bootstrap(0)

    assert done.returncode == 1
    assert ("No space left" if state == "full" else "Read-only file system") in done.stderr
    assert "Traceback" not in done.stderr
    assert (disk.folder / name).read_bytes() == old
    assert sorted(path for path in disk.folder.rglob("*") if path != disk.filler) == listing
    if state == "full":
        disk.empty()
    else:
        disk.mount("remount,rw")
    assert commands.bootstrap(0).returncode == 0
    faults.record(f"{state} disk under bootstrap's files", injected=1, survived=1)


def test_merge_on_a_full_database_disk_leaves_the_old_rows(
    installed: Site, disk: Disk, faults: FaultTable
) -> None:
    space = f"small_{installed.database}"
    owner = installed.postgres.data_dir.stat()
    os.chown(disk.folder, owner.st_uid, owner.st_gid)
    disk.mount("remount,size=1m")
    for folder in disk.folder.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    installed.postgres.execute(f"CREATE TABLESPACE {space} LOCATION '{disk.folder}'")
    installed.sql(f"ALTER TABLE {{table}} SET TABLESPACE {space}")
    before = installed.sql("SELECT * FROM {table}")
    installed.model.stores = [Store(f"S{n}", [f"d{n}_{m}" for m in range(9)]) for n in range(200)]
    disk.fill()

    with pytest.raises(OperationalError, match="No space left on device"):
        installed.merge()

    after = installed.sql("SELECT * FROM {table}")
    disk.empty()
    started = time.monotonic()
    installed.merge_cleanly()
    assert installed.sql("SELECT count(*) FROM {table}") == [(200,)]
    recovery = time.monotonic() - started
    installed.sql("ALTER TABLE {table} SET TABLESPACE pg_default")
    installed.postgres.execute("CHECKPOINT")
    installed.postgres.execute(f"DROP TABLESPACE {space}")
    faults.record(
        "full disk under the database, at a merge",
        injected=1,
        survived=int(after == before),
        rows_lost=len(set(before) - set(after)),
        recovery_seconds=recovery,
    )
