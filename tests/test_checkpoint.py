"""Checkpoints: exact round trips, and a clear error for everything else."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

from acbo_ref import AcboError, Trainer
from acbo_ref.errors import RunError
from acbo_ref.files import write_atomically
from acbo_ref.training.checkpoint import load_checkpoint, save_checkpoint
from acbo_ref.verify.data import small_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    trainer = Trainer(small_config(total_episodes=12))
    trainer.train()
    path = tmp_path_factory.mktemp("ckpt") / "c.npz"
    save_checkpoint(trainer.checkpoint(), path)
    return trainer, path


def test_round_trip(trained):
    trainer, path = trained
    loaded = load_checkpoint(path)
    assert loaded.config == trainer.config and loaded.iteration == 2 and loaded.state.step == 8
    for group in ("params", "first_moment", "second_moment"):
        expected, found = getattr(trainer.state, group), getattr(loaded.state, group)
        assert list(found) == list(trainer.state.params)
        assert all((found[k] == v).all() and found[k].dtype == v.dtype for k, v in expected.items())
    assert loaded.progress["episodes"] == 12 and loaded.sha256 and "numpy" in loaded.versions


def test_the_same_state_gives_the_same_file(trained, tmp_path):
    trainer, path = trained
    save_checkpoint(trainer.checkpoint(), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_a_run_folder_means_its_latest(trained, tmp_path):
    save_checkpoint(trained[0].checkpoint(), tmp_path / "latest.npz")
    assert load_checkpoint(tmp_path).sha256 == load_checkpoint(trained[1]).sha256


def test_weights_only_files_load_but_do_not_resume(trained, tmp_path):
    path = tmp_path / "w.npz"
    save_checkpoint(trained[0].checkpoint(), path, moments=False)
    assert path.stat().st_size < trained[1].stat().st_size / 2
    assert not load_checkpoint(path).state.second_moment["embed.weight"].any()
    with pytest.raises(AcboError, match="weights only"):
        Trainer.resume(path)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def rewrite(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


class _Evil:
    def __reduce__(self):
        return (print, ("code was run",))


def tamper(kind, contents):
    header = json.loads(bytes(np.load(io.BytesIO(contents["header.npy"]))))

    def with_header():
        contents["header.npy"] = npy(np.frombuffer(json.dumps(header).encode(), np.uint8))

    if kind == "a changed number":
        contents["params/embed.bias.npy"] = npy(np.full(8, 0.5))
    elif kind == "a changed header":
        header["iteration"] = 999
        with_header()
    elif kind == "a missing array":
        del contents["params/embed.bias.npy"]
    elif kind == "an extra member":
        contents["../../evil.npy"] = b""
    elif kind == "a wrong shape":
        contents["params/embed.bias.npy"] = npy(np.zeros((8, 1)))
    elif kind == "a wrong dtype":
        contents["params/embed.bias.npy"] = npy(np.zeros(8, np.float32))
    elif kind == "a huge declared shape":
        raw = contents["params/embed.bias.npy"]
        contents["params/embed.bias.npy"] = raw.replace(b"(8,)", b"(9**9,)"[:4])
    elif kind == "a pickled payload":
        contents["params/embed.bias.npy"] = npy(np.array([_Evil()], object), allow_pickle=True)
    elif kind == "a pickled header":
        contents["header.npy"] = npy(np.array([_Evil()], object), allow_pickle=True)
    elif kind == "another format":
        header["format"] = "acbo-checkpoint/9"
        with_header()
    elif kind == "a config that is not one":
        header["config"]["polcy"] = {}
        with_header()
    elif kind == "no header":
        del contents["header.npy"]
    elif kind == "a header that is not JSON":
        contents["header.npy"] = npy(np.frombuffer(b"{", np.uint8))
    elif kind == "a header that is a list":
        contents["header.npy"] = npy(np.frombuffer(b"[]", np.uint8))
    elif kind == "a truncated array":
        contents["params/embed.bias.npy"] = contents["params/embed.bias.npy"][:-8]
    elif kind == "a bomb":
        contents["params/embed.bias.npy"] = bytes(200 * 2**20)
    return contents


KINDS = [
    "a changed number", "a changed header", "a missing array", "an extra member", "a wrong shape", "a wrong dtype",
    "a huge declared shape", "a pickled payload", "a pickled header", "another format", "a config that is not one",
    "no header", "a header that is not JSON", "a header that is a list", "a truncated array", "a bomb",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_that_names_the_file(trained, tmp_path, kind, capsys):
    path = tmp_path / "bad.npz"
    compression = zipfile.ZIP_DEFLATED if kind == "a bomb" else zipfile.ZIP_STORED
    rewrite(path, tamper(kind, members(trained[1])), compression)
    with pytest.raises(AcboError, match=r"bad\.npz"):
        load_checkpoint(path)
    assert "code was run" not in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.npz"]


def test_every_truncation_and_many_bit_flips_are_noticed(trained, tmp_path):
    content = trained[1].read_bytes()
    path = tmp_path / "bad.npz"
    rng = np.random.default_rng(0)
    good = load_checkpoint(trained[1])
    for n in range(60):
        data = bytearray(content)
        if n % 2:
            data = data[: int(rng.integers(len(data)))]
        else:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(data))
        try:
            loaded = load_checkpoint(path)
        except AcboError as error:
            assert str(path) in error.message
        else:  # a flip in a zip field that nobody reads, such as a date
            assert loaded.sha256 == good.sha256


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_other_files(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(AcboError, match=r"bad\.npz"):
        load_checkpoint(tmp_path / "bad.npz")


def test_missing(tmp_path):
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(AcboError, match="no checkpoint at"):
            load_checkpoint(path)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("acbo_ref.files.os.fsync", full)
    with pytest.raises(RunError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_of_several_creators_one_wins(tmp_path):
    from acbo_ref.files import write_atomically

    write_atomically(tmp_path / "f", b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "f", b"second", replace=False)
    assert (tmp_path / "f").read_bytes() == b"first" and [p.name for p in tmp_path.iterdir()] == ["f"]
