import json

import pytest

from misc.images import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "result.json"
    files.write_json(path, {"value": 1})

    def write_half():
        with files.write_atomically(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert json.loads(path.read_text()) == {"value": 1}
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]


def test_folders_appear_whole(tmp_path):
    with files.write_atomically(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("1")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "part").read_text() == "1"


def test_json_without_infinity(tmp_path):
    files.write_json(tmp_path / "a.json", {"psnr": [float("inf"), 1.5], "x": {"y": float("nan")}})
    read = json.loads((tmp_path / "a.json").read_text())
    assert read == {"psnr": ["inf", 1.5], "x": {"y": "nan"}}
