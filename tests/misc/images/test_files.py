import json
import os
import signal

import pytest

from misc.images import files
from tests import forks


def _fail_half_way(path, error=KeyboardInterrupt):
    with files.write_atomically(path) as temporary:
        temporary.write_text("half")
        raise error


def _die_half_way(path):
    with files.write_atomically(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "result.json"
    files.write_json(path, {"value": 1})
    with pytest.raises(KeyboardInterrupt):
        _fail_half_way(path)
    assert json.loads(path.read_text()) == {"value": 1}
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_folders_appear_whole(tmp_path):
    with files.write_atomically(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("1")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "part").read_text() == "1"


def test_names_may_be_as_long_as_the_system_takes_them(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    files.write_json(path, 1)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept_when_something_is_written_beside_it(tmp_path):
    assert forks.run(lambda: _die_half_way(tmp_path / "a.json")) == -signal.SIGKILL
    assert list(tmp_path.iterdir())
    files.write_json(tmp_path / "b.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_sweeping_leaves_living_processes_and_others_files_alone(tmp_path):
    others = {".a.json.x1y2z3ab.tmp", ".degraded-vision.tmp", "model.tmp", ".degraded-vision.x.tmp"}
    for name in sorted(others)[:-1]:
        (tmp_path / name).mkdir()
    (tmp_path / sorted(others)[-1]).write_text("a file")
    with forks.beside(files.write_atomically(tmp_path / "a.json")):
        living = {path.name for path in tmp_path.iterdir()} - others
        assert len(living) == 1
        with files.write_atomically(tmp_path / "b.json") as temporary:
            temporary.write_text("1")
            files.sweep([tmp_path, tmp_path / "missing"])
            assert temporary.exists()
            names = {path.name for path in tmp_path.iterdir()}
            assert names == others | living | {temporary.parent.name}
    files.sweep([tmp_path])
    assert {path.name for path in tmp_path.iterdir()} == others | {"b.json"}


def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path):
    path = tmp_path / "result.json"
    files.write_json(path, "before")
    with forks.full_disk(1000), pytest.raises(files.DiskFullError) as caught:
        files.write_json(path, "x" * 2000)
    assert str(caught.value) == f"{path} cannot be written: File too large"
    assert json.loads(path.read_text()) == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_full_disk_is_taken_for_one(tmp_path):
    with pytest.raises(RuntimeError):
        _fail_half_way(tmp_path / "a", RuntimeError("Permission denied"))
    with pytest.raises(PermissionError):
        _fail_half_way(tmp_path / "a", PermissionError(13, "Permission denied"))
    # Libraries tell it in their own exceptions.
    with pytest.raises(files.DiskFullError, match="a cannot be written: No space left on device"):
        _fail_half_way(tmp_path / "a", RuntimeError("{{node}} /b; No space left on device [Op]"))


def test_results_that_a_run_could_not_finish_are_no_hindrance(tmp_path):
    names = ("scores.json", "scores.csv", "scores.png")
    files.check_free(tmp_path, names, overwrite=False)
    files.write_json(tmp_path / "scores.json", {"images": []})
    files.check_free(tmp_path, names, overwrite=False)
    files.write_text(tmp_path / "scores.csv", "a,b")
    files.check_free(tmp_path, names, overwrite=False)
    (tmp_path / "scores.png").touch()
    with pytest.raises(FileExistsError, match=r"scores\.json exists.*--overwrite"):
        files.check_free(tmp_path, names, overwrite=False)
    files.check_free(tmp_path, names, overwrite=True)
    # What others wrote is kept.
    (tmp_path / "scores.png").unlink()
    (tmp_path / "scores.json").write_text("[1, 2]")
    with pytest.raises(FileExistsError, match=r"scores\.json exists"):
        files.check_free(tmp_path, names, overwrite=False)
    (tmp_path / "scores.json").unlink()
    with pytest.raises(FileExistsError, match=r"scores\.csv exists"):
        files.check_free(tmp_path, names, overwrite=False)


def test_json_without_infinity(tmp_path):
    files.write_json(tmp_path / "a.json", {"psnr": [float("inf"), 1.5], "x": {"y": float("nan")}})
    read = json.loads((tmp_path / "a.json").read_text())
    assert read == {"psnr": ["inf", 1.5], "x": {"y": "nan"}}


def test_json_holds_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.png")
    files.write_json(tmp_path / "a.json", [name])
    text = (tmp_path / "a.json").read_bytes().decode()  # valid UTF-8
    assert "é.png" in text
    assert json.loads(text) == [name]


def test_texts_and_json_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b\r\n")
    assert files.read_text(path) == "a,b\n"
    path.write_bytes(b"a\xff")
    with pytest.raises(ValueError, match=r"table\.csv is no UTF-8 text"):
        files.read_text(path)
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"table\.csv is too large .* 1099\.5 GB"):
        files.read_text(path)
    for content in ("", "{", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"table\.csv is damaged"):
            files.read_json(path)


def test_many_files_go_through_one_folder(tmp_path):
    with files.open_writer(tmp_path) as write:
        for number in range(3):
            write(tmp_path / f"a{number}" / "x.bin", bytes([number]))
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert len(left) == 1
        # A living process keeps what it works with.
        files.sweep([tmp_path])
        write(tmp_path / "a0" / "x.bin", b"another")
    assert (tmp_path / "a0" / "x.bin").read_bytes() == b"another"
    assert {path.name for path in tmp_path.iterdir()} == {"a0", "a1", "a2"}
