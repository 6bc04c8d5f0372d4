"""Arrays of files that anybody may have written: judged by their headers, and refused in a line that names the file."""

import json
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from small_run import episode_of, make_run, small

from doom_rnn.dream import Starts
from rnn.data import LatentDataset
from tools import doctor
from tools.page import source
from tools.release.transfer import export_run
from tools.reporting.runs import read_run
from vae.data import check_episodes, episode_path, read_episode, read_frames, read_outcome
from world_models import training
from world_models.config import UserError
from world_models.runs import integrity
from world_models.runs.arrays import RECORD, open_npz

FRAMES = np.zeros((3, 4), np.float32)


@pytest.mark.parametrize(
    "mu",
    [np.array(1.0, np.float32), FRAMES[:0], FRAMES[:2], FRAMES[:, :3], FRAMES + 1j, FRAMES.astype(int), None],
    ids=["one number", "no row", "fewer rows", "narrow", "complex", "whole", "missing"],
)
def test_first_frames_of_another_kind_are_refused(mu, copied):
    run, config = copied
    frames = {"mu": mu, "logvar": FRAMES[:0] if mu is not None and not mu.size else FRAMES}
    frames = {name: value for name, value in frames.items() if value is not None}
    training.save_arrays(run / "initial_z.npz", frames, integrity.digests(run, "vae"))
    with pytest.raises(UserError, match=r"initial_z\.npz holds no frames to start from"):
        Starts(run, config)
    if mu is not None and mu.ndim < 2:
        with pytest.raises(UserError, match=r"initial_z\.npz does not hold mu and logvar"):
            export_run(run, run / "out")


@pytest.mark.parametrize("content", [b"noise", None, np.zeros(5, np.float16), np.zeros((5, 4), complex)])
def test_the_doctor_names_damaged_latents(content, tmp_path):
    make_run(tmp_path)
    path = tmp_path / "series.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **({"logvar": FRAMES} if content is None else {"mu": content}))
    with pytest.raises(UserError, match=r"series\.npz does not hold latents"):
        doctor.unused(read_run(tmp_path, "run"))


def write_latents(path, actions: int = 3, reward: float = 0.0) -> None:
    mu, lengths = np.zeros((20, 4), np.float16), np.array([10, 10])
    rewards = np.full(20, np.nan, np.float32)
    rewards[3:5] = reward
    LatentDataset(mu, mu, np.zeros((20, actions), np.float32), rewards, lengths, lengths).write(path)


def test_latents_of_other_actions_or_infinite_rewards_are_refused(tmp_path):
    path = tmp_path / "series.npz"
    write_latents(path)
    assert np.isnan(LatentDataset.read(path, 4, 2, 3).reward[0])  # of episodes from before rewards were kept
    with pytest.raises(UserError, match=r"series\.npz holds actions of 3 numbers, expected 1"):
        LatentDataset.read(path, 4, 2, 1)
    write_latents(path, reward=-np.inf)
    with pytest.raises(UserError, match=r"series\.npz: .* NaN or infinity in reward"):
        LatentDataset.read(path, 4, 2, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"000": np.zeros(3, np.complex64)},
        {"000": np.zeros(3)},
        {"000": np.zeros((1, 3), np.float32)},
        {"step": np.array([7])},
        {"step": np.array(7.0)},
        {f"{training.SUM}loss": np.zeros(1 << 20)},
    ],
)
def test_a_checkpoint_of_other_arrays_is_refused(changes, tmp_path):
    variable = tf.Variable(np.ones(3, np.float32))
    checkpoint = training.Checkpoint(tmp_path / "vae.checkpoint.npz", [variable], tmp_path)
    arrays = {"000": np.zeros(3, np.float32), "step": np.array(7), f"{training.SUM}loss": np.array(0.5)}
    training.save_arrays(checkpoint.path, arrays | changes)
    with pytest.raises(UserError, match=r"vae\.checkpoint\.npz does not fit this model: found "):
        checkpoint.restore()
    np.testing.assert_array_equal(variable, np.ones(3))
    training.save_arrays(checkpoint.path, arrays)
    assert checkpoint.restore() == (7, {"loss": 0.5})


def test_complex_numbers_are_not_finite_numbers():
    with pytest.raises(UserError, match="run: expected numbers, found complex64 in mu"):
        integrity.require_finite("run", {"mu": FRAMES.astype(np.complex64)})


def rewrite(path, **changes) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(path, **arrays | changes)


@pytest.mark.parametrize(
    "mask", [np.zeros((5, 64, 64)), np.zeros((4, 64, 64), np.uint8), np.zeros((5, 64, 64, 1), np.uint8)]
)
def test_a_mask_of_another_kind_is_refused(mask, tmp_path):
    episode_of(tmp_path, 0, small())
    path = episode_path(tmp_path, 0)
    rewrite(path, mask=np.zeros((5, 64, 64), np.uint8))
    assert read_frames(path, True).shape == (5, 64, 64, 4)
    rewrite(path, mask=mask)
    with pytest.raises(UserError, match=r"000000\.npz"):
        read_frames(path, True)


@pytest.mark.parametrize(
    "end", [np.array(2**64 - 1, np.uint64), np.array(7), np.array(0), np.array([3]), np.array(3.0)]
)
def test_an_end_that_is_none_is_the_episodes_fault(end, tmp_path):
    episode_of(tmp_path, 0, small())
    path = episode_path(tmp_path, 0)
    assert read_outcome(path, 5, 20, False)[1] == 6
    rewrite(path, end=end)
    with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
        read_outcome(path, 5, 20, False)


def test_a_source_that_is_no_json_is_named(tmp_path):
    for index in range(2):
        episode_of(tmp_path, index, small())
    rewrite(episode_path(tmp_path, 0), source=np.array("{"))
    for read in (
        lambda: source.real_frames(tmp_path, small(), None, None, None),
        lambda: check_episodes([episode_path(tmp_path, 0)], small()),
    ):
        with pytest.raises(UserError, match=r"000000\.npz is not a complete episode"):
            read()


def test_no_memory_is_taken_for_what_no_episode_is(tmp_path):
    path = tmp_path / "000000.npz"
    frames = {"obs": np.zeros((1, 64, 64, 3), np.uint8), "action": np.zeros((1, 3), np.float32)}
    text = np.array("x" * (5 << 20))  # of four bytes a letter
    for name, value in (("obs", np.zeros(1 << 25, np.uint8)), ("source", text), ("made_from", text[None])):
        np.savez_compressed(path, **frames | {name: value})
        tracemalloc.start()
        with pytest.raises((UserError, ValueError), match=f"found {name}"):
            read_episode(path)
            open_npz(path, RECORD)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1 << 21
    np.savez_compressed(path, **frames, source=np.array(json.dumps({})))
    read_episode(path)
