"""Where files lie: below the state folder, whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.storage import Identity, Storage

IDENTIFIER = st.one_of(
    st.text(max_size=80), st.sampled_from(["", "..", "../../etc/passwd", "/etc", "a\0b", "1.2/../3"])
)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return Storage(tmp_path_factory.mktemp("state"))


@given(st.tuples(IDENTIFIER, IDENTIFIER, IDENTIFIER, IDENTIFIER))
def test_no_identifier_leaves_the_folder(storage: Storage, identifiers: tuple[str, str, str, str]) -> None:
    relative = storage.instance_path(Identity(*identifiers))
    assert storage.absolute(relative).relative_to(storage.root / "instances").parts[:-1] != ()
    assert len(Path(relative).parts) == 5 and relative.endswith(".dcm")


@given(st.tuples(IDENTIFIER, IDENTIFIER), st.tuples(IDENTIFIER, IDENTIFIER))
def test_two_instances_lie_in_two_places(storage: Storage, one: tuple[str, str], other: tuple[str, str]) -> None:
    paths = {storage.instance_path(Identity("ID", "1.2", *identifiers)) for identifiers in (one, other)}
    assert len(paths) == len({one, other})


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "instances/../../outside"])
def test_a_path_that_leaves_the_folder_is_refused(storage: Storage, path: str) -> None:
    with pytest.raises(ValueError, match="the path leaves the state folder"):
        storage.absolute(path)


def test_what_is_not_moved_on_is_removed(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with storage.incoming(b"content") as path:
        assert path.read_bytes() == b"content"
    assert list((tmp_path / "incoming").iterdir()) == []


def test_what_is_kept_lies_under_its_name_and_nowhere_else(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with storage.incoming(b"content") as path:
        storage.keep(path, "instances/a/b/c.dcm")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / "instances/a/b/c.dcm"]


def test_the_sweep_removes_what_a_crash_left(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for number in range(3):
        (tmp_path / "incoming" / f"{number}.dcm").write_bytes(b"half wri")
    assert storage.sweep() == 3
    assert list((tmp_path / "incoming").iterdir()) == []


def test_removing_takes_the_folders_that_are_empty_after_it(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for name in ("instances/p/s/1.dcm", "instances/p/t/2.dcm"):
        storage.absolute(name).parent.mkdir(parents=True)
        storage.absolute(name).touch()
    storage.remove(["instances/p/s/1.dcm", "instances/gone.dcm"])
    assert sorted(path.name for path in (tmp_path / "instances").rglob("*")) == ["2.dcm", "p", "t"]
