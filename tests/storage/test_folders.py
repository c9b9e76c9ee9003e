"""Files and folders that are complete or absent."""

import fsspec
import pytest

from daskalt.storage.folders import whole_file, whole_folder, write_whole


@pytest.fixture(params=["local", "path", "memory"])
def place(request, tmp_path):
    if request.param == "memory":
        return f"memory://{tmp_path.name}/whole/file"
    return tmp_path / "file" if request.param == "path" else str(tmp_path / "file")


def beside(place):
    filesystem, path = fsspec.core.url_to_fs(str(place))
    found = filesystem.ls(path.rpartition("/")[0], detail=False)
    return {name.rpartition("/")[2]: filesystem.cat_file(name) for name in found}


@pytest.mark.parametrize("lasting", [True, False])
def test_a_file_appears_when_it_is_whole(place, lasting):
    with whole_file(place, lasting=lasting) as file:
        file.write(b"old")
    with whole_file(place, lasting=lasting) as file:
        file.write(b"new")
        assert beside(place)["file"] == b"old"
    assert beside(place) == {"file": b"new"}


def test_a_file_that_fails_leaves_the_older_one(place):
    with whole_file(place) as file:
        file.write(b"old")
    with pytest.raises(TypeError), whole_file(place) as file:
        file.writelines([b"half", 1])
    assert beside(place) == {"file": b"old"}


def test_a_path_is_never_taken_for_a_url(tmp_path):
    (tmp_path / "a::b").mkdir()
    write_whole(tmp_path / "a::b" / "c", "text")
    assert (tmp_path / "a::b" / "c").read_text() == "text"


@pytest.mark.parametrize("before", ["nothing", "a file", "a folder"])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path, before):
    final = tmp_path / "whole"
    if before == "a file":
        final.write_text("old")
    elif before == "a folder":
        final.mkdir()
        (final / "old").touch()
    with whole_folder(final) as work:
        (work / "new").touch()
        assert final.exists() == (before != "nothing")
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("killed", ["while it was written", "between two renames"])
def test_what_a_killed_process_left_is_put_right(tmp_path, killed):
    final = tmp_path / "whole"
    (tmp_path / ".whole.partial").mkdir()
    (tmp_path / ".whole.partial" / "half").touch()
    if killed == "between two renames":
        (tmp_path / ".whole.replaced").mkdir()
        (tmp_path / ".whole.replaced" / "old").touch()
    with pytest.raises(FileNotFoundError), whole_folder(final) as work:
        (work / "half").unlink()
    old = [tmp_path / "whole"] if killed == "between two renames" else []
    assert list(tmp_path.iterdir()) == old
