"""The keyring of files: several processes, rotation, retirement, and keys that are not there."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.identity.domain.sealing import SealBroken
from services.identity.upstream.key_management import FileKeyManagement, KeyKept, KeyMissing

ACCOUNT = 77
KEY = bytes(range(32))
_STARTS = """
import sys
from pathlib import Path
from services.identity.upstream.key_management import FileKeyManagement
keys = FileKeyManagement(Path(sys.argv[1]))
print(keys.rotate() if sys.argv[2] == "rotate" else keys.current())
"""


def at_once(directory: Path, what: str, processes: int = 6) -> list[str]:
    """What so many processes say that do it at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _STARTS, str(directory), what],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(processes)
    ]
    said = [process.communicate(timeout=60)[0].decode().strip() for process in running]
    assert all(process.returncode == 0 for process in running)
    return said


def test_several_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    said = at_once(tmp_path / "keys", "current")
    assert set(said) == set(FileKeyManagement(tmp_path / "keys").names())
    assert len(set(said)) == 1


def test_several_processes_that_rotate_at_once_make_a_key_each(tmp_path: Path) -> None:
    first = FileKeyManagement(tmp_path / "keys").current()
    said = at_once(tmp_path / "keys", "rotate")
    assert sorted([first, *said]) == FileKeyManagement(tmp_path / "keys").names()
    assert [name[:6] for name in sorted(said)] == [f"{n:06}" for n in range(2, 8)]


def test_keys_are_private_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys = FileKeyManagement(tmp_path / "keys")
        keys.rotate()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for file in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert all((tmp_path / "keys" / f"{n}.key").stat().st_size == 32 for n in keys.names())


def test_a_key_unwraps_for_its_account_and_for_no_other(tmp_path: Path) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    kek, wrapped = keys.wrap(KEY, ACCOUNT)
    assert kek == keys.current()
    assert KEY not in wrapped
    assert keys.unwrap(kek, wrapped, ACCOUNT) == KEY
    with pytest.raises(SealBroken):
        keys.unwrap(kek, wrapped, ACCOUNT + 1)
    assert keys.wrap(KEY, ACCOUNT)[1] != wrapped


def test_a_wrapped_key_cannot_be_changed_at_any_place(tmp_path: Path) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    kek, wrapped = keys.wrap(KEY, ACCOUNT)
    for place in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            keys.unwrap(kek, bytes(changed), ACCOUNT)
        with pytest.raises(SealBroken):
            keys.unwrap(kek, wrapped[:place], ACCOUNT)


def test_a_rotation_elsewhere_is_seen_at_once_and_old_keys_still_unwrap(tmp_path: Path) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    old, wrapped = keys.wrap(KEY, ACCOUNT)
    new = FileKeyManagement(tmp_path / "keys").rotate()
    assert new > old
    assert keys.current() == new
    assert keys.wrap(KEY, ACCOUNT)[0] == new
    assert keys.unwrap(old, wrapped, ACCOUNT) == KEY
    with pytest.raises(SealBroken):
        keys.unwrap(new, wrapped, ACCOUNT)


def test_the_current_key_is_not_retired_and_an_old_one_is(tmp_path: Path) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    old, wrapped = keys.wrap(KEY, ACCOUNT)
    with pytest.raises(KeyKept, match="rotate first"):
        keys.retire(old)
    new = keys.rotate()
    keys.retire(old)
    assert keys.names() == [new]
    with pytest.raises(KeyMissing):
        keys.unwrap(old, wrapped, ACCOUNT)
    with pytest.raises(KeyKept, match="there is no wrapping key"):
        keys.retire(old)


@pytest.mark.parametrize("name", ["../token-signing", "000001", "", "000001-0000000000000000\n"])
def test_what_is_no_name_of_the_keyring_is_never_a_path(tmp_path: Path, name: str) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    with pytest.raises(KeyMissing):
        keys.unwrap(name, bytes(60), ACCOUNT)
    with pytest.raises(KeyKept):
        keys.retire(name)


def test_a_key_that_is_missing_is_asked_for_and_opens_again_when_it_is_back(tmp_path: Path) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    kek, wrapped = keys.wrap(KEY, ACCOUNT)
    file = tmp_path / "keys" / f"{kek}.key"
    held = file.rename(tmp_path / "held")
    for act in (lambda: keys.unwrap(kek, wrapped, ACCOUNT), keys.current, keys.rotate):
        with pytest.raises(KeyMissing) as error:
            act()
        assert error.value.reason == "RETRY_LATER"
        assert error.value.retry_after_ms == 1000
    held.rename(file)
    assert keys.unwrap(kek, wrapped, ACCOUNT) == KEY


@pytest.mark.parametrize("content", [b"", secrets.token_bytes(32), secrets.token_bytes(31)])
def test_a_damaged_key_file_opens_nothing_and_wraps_nothing(tmp_path: Path, content: bytes) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    kek, wrapped = keys.wrap(KEY, ACCOUNT)
    (tmp_path / "keys" / f"{kek}.key").write_bytes(content)
    with pytest.raises(KeyMissing, match="damaged"):
        keys.unwrap(kek, wrapped, ACCOUNT)
    with pytest.raises(KeyMissing, match="damaged"):
        keys.wrap(KEY, ACCOUNT)


def test_a_new_keyring_never_takes_the_name_of_a_lost_key(tmp_path: Path) -> None:
    lost, wrapped = FileKeyManagement(tmp_path / "lost").wrap(KEY, ACCOUNT)
    keys = FileKeyManagement(tmp_path / "new")
    assert keys.current() != lost
    with pytest.raises(KeyMissing):
        keys.unwrap(lost, wrapped, ACCOUNT)


def test_a_draft_that_a_killed_process_left_hinders_nobody(tmp_path: Path) -> None:
    keys = FileKeyManagement(tmp_path / "keys")
    first = keys.current()
    (tmp_path / "keys" / "draft").write_bytes(b"half a k")
    (tmp_path / "keys" / "notes.txt").write_text("of the operator")
    assert FileKeyManagement(tmp_path / "keys").names() == [first]
    second = keys.rotate()
    assert keys.names() == [first, second]
