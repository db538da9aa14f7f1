"""A folder takes the place of another as a whole, whatever the file system can do."""

import errno
from pathlib import Path

import pytest

from lgsfm.files import exchange, replace_folder

CANNOT = OSError(errno.EACCES, "Permission denied")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The new folder, the old one, and a name for it; both hold a file that says which they are."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path / "new", tmp_path / "old", tmp_path / "old.before"


def contents(folders: tuple[Path, Path, Path]) -> dict[str, str]:
    return {path.name: (path / "file").read_text() for path in folders if path.exists()}


def cannot_exchange(first: Path, second: Path) -> bool:
    return False


@pytest.mark.parametrize("way", [exchange, cannot_exchange])
def test_the_old_folder_is_aside_afterwards(folders, monkeypatch, way):
    monkeypatch.setattr("lgsfm.files.exchange", way)
    replace_folder(*folders)
    assert contents(folders) == {"old": "new", "old.before": "old"}


def test_where_there_was_nothing_nothing_is_aside(folders):
    new, old, aside = folders
    (old / "file").unlink()
    old.rmdir()
    replace_folder(new, old, aside)
    assert contents(folders) == {"old": "new"}


def test_an_exchange_that_fails_leaves_both_as_they_were(folders, monkeypatch):
    def failing(first, second):
        raise CANNOT

    monkeypatch.setattr("lgsfm.files.exchange", failing)
    with pytest.raises(PermissionError):
        replace_folder(*folders)
    assert contents(folders) == {"new": "new", "old": "old"}


def test_a_last_step_that_fails_leaves_both_as_they_were(folders, monkeypatch):
    new, old, _ = folders
    rename = Path.rename

    def failing(self, target):
        if (self, target) == (new, old):
            raise CANNOT
        return rename(self, target)

    monkeypatch.setattr("lgsfm.files.exchange", cannot_exchange)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(PermissionError):
        replace_folder(*folders)
    assert contents(folders) == {"new": "new", "old": "old"}
