import io

import pytest
import torch

from vderain.errors import SinkError, WeightsError
from vderain.training import checkpoint
from vderain.training.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint


def test_a_state_comes_back_and_no_half_file_stays(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 3, "network": {"w": torch.arange(4)}})
    assert load_checkpoint(path)["step"] == 3
    assert torch.equal(load_checkpoint(path)["network"]["w"], torch.arange(4))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert checkpoint_path(tmp_path) == path == checkpoint_path(path)


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 3})

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(SinkError, match=r"No space left.*before it is whole"):
        save_checkpoint(path, {"step": 4})
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def foreign():
    buffer = io.BytesIO()
    torch.save({"weights": 1}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"rain", foreign()[:-300], foreign()], ids=range(4))
def test_a_file_that_is_no_whole_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no such checkpoint"):
        load_checkpoint(checkpoint_path(tmp_path))


def test_a_changed_byte_is_found(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"network": {"w": torch.full((4096,), 7.0)}})
    content = bytearray(path.read_bytes())
    where = content.find(torch.full((4,), 7.0).numpy().tobytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: damaged.*checksum"):
        load_checkpoint(path)


def test_a_checkpoint_of_a_newer_version_is_not_to_be_thrown_away(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr(checkpoint, "SCHEMA", checkpoint.SCHEMA + 1)
    save_checkpoint(path, {"step": 3})
    monkeypatch.undo()
    with pytest.raises(WeightsError, match=r"another version.*use that version"):
        load_checkpoint(path)
