"""What M learns from: latents, their batches, and where dreams start."""

import numpy as np
import pytest
from small_rnn import make_series, small
from small_run import new_run

from rnn import data
from rnn.batches import Streams, Windows
from rnn.data import LatentDataset, encode
from vae.data import epoch_episodes
from world_models import tasks
from world_models.config import UserError


def test_streams_join_episodes_and_mark_their_first_frames():
    config = small("doom")
    series = make_series(config, [30, 20, 25, 40])
    streams = Streams(series, 2, 10, seed=0)
    index, restart = streams.order(0)
    assert index.shape == (2, 57) and len(np.unique(index)) == 114
    assert set(index[restart == 1]) <= set(series.starts) and restart.sum() >= 3
    batches = [next(streams(k)) for k in range(streams.pieces)]
    assert [batch[0] for batch in batches] == [True] + [False] * (streams.pieces - 1)
    # The last frame of a piece is the first of the next.
    np.testing.assert_array_equal(batches[0][1][-1], batches[1][1][0])
    # Going on from the middle gives the same batches.
    again = streams(0)
    for batch in batches:
        for ours, other in zip(next(again), batch, strict=True):
            np.testing.assert_array_equal(ours, other)


def test_windows_are_whole_episodes_when_as_long():
    config = small("carracing")
    series = make_series(config, [13, 13, 13, 13, 8])
    _, mu, _, action, restart, *_ = next(Windows(series, 4, 12, seed=0)(0))
    assert mu.shape == (13, 4, config.z_size) and action.shape == (13, 4, 3)
    firsts = {tuple(row) for row in series.mu[series.starts[:4]]}
    assert {tuple(row) for row in mu[0]} == firsts
    assert restart[0].all() and not restart[1:].any()


def test_latents_are_memory_mapped_and_broken_files_named(tmp_path):
    run, config = new_run(tmp_path / "run"), small("carracing")
    series = make_series(config, [13, 20])
    with run.write("series.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, **{name: getattr(series, name) for name in data.KINDS})
    read = LatentDataset.read(run)
    for name in ("mu", "logvar", "action", "lengths"):
        assert isinstance(getattr(read, name), np.memmap)
        np.testing.assert_array_equal(getattr(read, name), getattr(series, name))
    content = (run / "series.npz").read_bytes()
    with run.write("series.npz") as tmp:
        tmp.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"series\.npz does not hold latents"):
        LatentDataset.read(run)


def test_mirrored_episodes_follow_their_own(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (length, 64, 64, 3)).astype(np.uint8) for length in (3, 5)]
    actions = [rng.normal(size=(len(obs), 3)).astype(np.float32) for obs in frames]
    run, paths = new_run(tmp_path / "run"), [tmp_path / f"{k}.npz" for k in range(2)]
    for path, obs, action in zip(paths, frames, actions, strict=True):
        np.savez(path, obs=obs, action=action, reward=np.arange(len(obs), dtype=np.float32), end=np.array(3))

    def encoder(obs):  # z is the brightness of the first column and of the last
        columns = obs[:, :, [0, -1]].mean(axis=(1, 3))
        return columns, -columns

    monkeypatch.setattr(data, "PART", 1)
    (run / "series").mkdir()
    (run / "series/-000001.npz").write_bytes(b"half a part")
    with pytest.raises(UserError, match=r"000001\.npz is broken"):
        encode(run, paths, encoder, tasks.get("carracing").mirror)
    (run / "series/-000001.npz").unlink()
    encode(run, paths, encoder, tasks.get("carracing").mirror)
    series = LatentDataset.read(run)
    assert series.lengths.tolist() == [3, 3, 5, 5]
    for own, other in ((slice(0, 3), slice(3, 6)), (slice(6, 11), slice(11, 16))):
        np.testing.assert_array_equal(series.mu[other], series.mu[own][:, ::-1])
        np.testing.assert_array_equal(series.action[other], series.action[own] * [-1, 1, 1])
    np.testing.assert_array_equal(series.action[6:11], actions[1])
    assert series.ends.tolist() == [3, 3, 3, 3] and not (run / "series").exists()
    np.testing.assert_array_equal(series.reward[6:].reshape(2, 5), [range(5)] * 2)


def test_new_episodes_have_their_share_of_an_epoch():
    lengths = np.array([10] * 40 + [20] * 10)
    for share in (0.25, 0.5, 0.8, 1.0):
        order = epoch_episodes(lengths, 40, share, np.random.default_rng(0))
        assert sorted(order[order >= 40]) == list(range(40, 50)) and len(set(order)) == len(order)
        assert lengths[order[order >= 40]].sum() / lengths[order].sum() == pytest.approx(max(share, 1 / 3), abs=0.02)


def series(lengths: list[int], old: int) -> LatentDataset:
    """mu is 1 where an episode is new."""
    flags = np.repeat(np.arange(len(lengths)) >= old, lengths).astype(np.float16)[:, None]
    numbers = np.array(lengths)
    return LatentDataset(flags, flags, flags.astype(np.float32), flags[:, 0].astype(np.float32), numbers, numbers)


def test_windows_and_streams_take_new_episodes_by_their_share():
    windows = Windows(series([30] * 40 + [30] * 20, 40), 16, 20, 0, 40, 0.75)
    _, mu, *_ = next(windows(0))
    assert mu.shape == (21, 16, 1) and mu[0].sum() == 12
    streams = Streams(series([30] * 40 + [30] * 20, 40), 4, 10, 0, 40, 0.5)
    taken = np.concatenate([mu[:-1].ravel() for _, (_, mu, *_) in zip(range(streams.pieces), streams(0), strict=False)])
    assert taken.mean() == pytest.approx(0.5, abs=0.05)
