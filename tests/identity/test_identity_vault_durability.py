"""The keyring of files on the disk: nothing is wrapped under a key that a power cut could take."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from services.identity.upstream.key_management import FileKeyManagement

ACCOUNT = 77
KEY = bytes(range(32))


class Disk:
    """What was synced, in its order: a directory by its path and the names in it, or a file."""

    def __init__(self) -> None:
        self.synced: list[tuple[Path, frozenset[str]]] = []
        self._fsync = os.fsync

    def sync(self, descriptor: int) -> None:
        """In the place of os.fsync."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        names = frozenset(os.listdir(descriptor) if is_directory else ())
        self._fsync(descriptor)
        self.synced.append((path, names))

    def keeps(self, path: Path) -> bool:
        """Whether the name was on the disk at the newest sync of what it lies in."""
        of_parent = [names for synced, names in self.synced if synced == path.parent]
        return bool(of_parent) and path.name in of_parent[-1]

    def new(self) -> list[Path]:
        """What was synced since it was last asked."""
        synced, self.synced = self.synced, []
        return [path for path, _ in synced]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.sync)
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_whoever_did_not_make_a_key_syncs_its_name_before_the_first_wrap_alone(
    disk: Disk, directory: Path
) -> None:
    FileKeyManagement(directory)
    other = FileKeyManagement(directory)
    disk.new()
    kek, _ = other.wrap(KEY, ACCOUNT)
    assert disk.keeps(directory / f"{kek}.key")
    assert disk.new() == [directory]
    other.wrap(KEY, ACCOUNT + 1)
    assert disk.new() == []


def test_a_key_that_its_maker_did_not_sync_yet_is_synced_by_whoever_wraps_under_it(
    disk: Disk, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, other = FileKeyManagement(directory), FileKeyManagement(directory)
    other.wrap(KEY, ACCOUNT)
    seen: list[tuple[str, bool]] = []

    def wraps_meanwhile(sync: Callable[[int], None], descriptor: int) -> None:
        """The other process, when the new key has its name and the maker has not synced it."""
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            monkeypatch.setattr(os, "fsync", sync)
            kek, _ = other.wrap(KEY, ACCOUNT)
            seen.append((kek, disk.keeps(directory / f"{kek}.key")))
        sync(descriptor)

    disk.new()
    monkeypatch.setattr(os, "fsync", lambda descriptor: wraps_meanwhile(disk.sync, descriptor))
    name = maker.rotate()
    assert seen == [(name, True)]


def test_a_sync_that_fails_wraps_nothing_and_is_done_again(
    disk: Disk, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FileKeyManagement(directory)
    other = FileKeyManagement(directory)

    def fails(descriptor: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fails)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            other.wrap(KEY, ACCOUNT)
    monkeypatch.setattr(os, "fsync", disk.sync)
    disk.new()
    other.wrap(KEY, ACCOUNT)
    assert disk.new() == [directory]


def test_whoever_made_a_key_has_synced_it_already(disk: Disk, directory: Path) -> None:
    keys = FileKeyManagement(directory)
    disk.new()
    keys.wrap(KEY, ACCOUNT)
    assert disk.new() == []
    name = keys.rotate()
    assert disk.keeps(directory / f"{name}.key")
    assert disk.new() == [directory / "draft", directory]
    assert keys.wrap(KEY, ACCOUNT)[0] == name
    assert disk.new() == []


def test_each_rotation_elsewhere_costs_one_sync(disk: Disk, directory: Path) -> None:
    maker, other = FileKeyManagement(directory), FileKeyManagement(directory)
    for _ in range(3):
        maker.rotate()
        disk.new()
        for account in range(1, 4):
            other.wrap(KEY, account)
        assert disk.new() == [directory]


def test_a_directory_is_on_the_disk_with_all_that_were_made_above_it(
    disk: Disk, tmp_path: Path
) -> None:
    directory = tmp_path / "new" / "keys" / "wrapping"
    FileKeyManagement(directory)
    for made in (tmp_path / "new", tmp_path / "new" / "keys", directory):
        assert disk.keeps(made), made
    first = [path for path, _ in disk.synced].index(directory)
    parents = {tmp_path, tmp_path / "new", tmp_path / "new" / "keys"}
    assert {path for path, _ in disk.synced[:first]} >= parents


def test_a_directory_that_another_process_made_just_now_is_synced_too(
    disk: Disk, directory: Path
) -> None:
    directory.mkdir()
    FileKeyManagement(directory)
    assert disk.keeps(directory)
