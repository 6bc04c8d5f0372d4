"""V and M of a run together: made for its task, loaded with its weights, and one time step of each kind.

`observe` is a step in an environment, `imagine` one in a dream. Both take C as a function act(z, c, h) -> actions.
"""

import math
from pathlib import Path

import tensorflow as tf

from rnn import mdn
from rnn.model import MDNRNN
from vae.model import VAE, sample
from world_models import tasks
from world_models.config import Config
from world_models.runs import config_file
from world_models.runs.integrity import check_made_from
from world_models.runs.run_dir import need
from world_models.training import load_weights


class WorldModel:
    """V and M.

    Args:
        vae: V; None where only dreams are played, in which nothing is encoded.
        rnn: M.
        dream_reward: reward of a step in a dream where M has no head for it.
        dream_end: when a dream ends, "cutoff" or "draw".
    """

    def __init__(self, vae: VAE | None, rnn: MDNRNN, dream_reward: float = 0.0, dream_end: str = "cutoff"):
        self.vae, self.rnn, self.dream_reward, self.dream_end = vae, rnn, dream_reward, dream_end

    @classmethod
    def load(cls, run: Path, config: Config, dtype: str = "float32") -> "WorldModel":
        """The run's; `dtype` is that of V's encoder. UserError as of `load_vae` and `load_rnn`."""
        return cls(load_vae(run, config, dtype), load_rnn(run, config))

    @classmethod
    def load_dream(cls, run: Path, config: Config) -> "WorldModel":
        """The run's M, to dream with: nothing is encoded there."""
        return cls(None, load_rnn(run, config), tasks.get(config.task).dream_reward or 0.0, config.dream_end)

    def observe(self, act, mu, logvar, noise, is_first, h, c):
        """One time step of B agents in their environments: z from V, the action from C, the next h from M.

        As in the paper's pseudo-code, C acts on the state from before M has seen z; M then steps on (z, action).

        Args:
            act: C, act(z, c, h) -> actions (B, A).
            mu, logvar: (B, Z), V's code of the frame.
            noise: (B, Z), from N(0, 1).
            is_first: (B, 1), 1 at an episode's first step, before which the state is zeroed.
            h, c: (B, U), M's state.

        Returns:
            action (B, A), and the next h and c.
        """
        h, c = h * (1 - is_first), c * (1 - is_first)
        z = sample(mu, logvar, noise)
        action = act(z, c, h)
        h, c = self.rnn.step(z, action, is_first, h, c)
        return action, h, c

    def imagine(self, act, z, is_first, h, c, tau, uniform, noise):
        """One time step of B agents in M's dream: the action from C, the next h and then the next z from M.

        Args:
            act: C, act(z, c, h) -> actions (B, A).
            z: (B, Z).
            is_first: (B, 1), 1 at a dream's first step.
            h, c: (B, U), M's state.
            tau: the temperature.
            uniform, noise: (B, Z), from U[0, 1) and N(0, 1).

        Returns:
            The next z; end (B, 1), 1.0 where the dream ends (always 0.0 without a head for it); reward (B, 1), what M
            expects; and the next h and c.
        """
        action = act(z, c, h)
        h, c = self.rnn.step(z, action, is_first, h, c)
        output = self.rnn.head(h)
        z = mdn.sample(*self.rnn.split(output), tau, uniform, noise)
        end, reward = tf.zeros_like(is_first), tf.fill(tf.shape(is_first), self.dream_reward)
        if "end" in self.rnn.heads:
            end = tf.cast(self.ends(self.rnn.end_logit(output), uniform), tf.float32)
        if "reward" in self.rnn.heads:
            reward = self.rnn.reward(output)
        return z, end, reward, h, c

    def ends(self, logit, uniform):
        """Whether dreams end, (B, 1), by M's logit (B, 1); uniform (B, Z) as of `imagine`.

        The weight of ends in M's loss multiplies their odds; a draw takes it out again.
        """
        if self.dream_end == "cutoff":
            return logit > 0
        # Uniform numbers' sum has a uniform fraction, independent of all but one of them: none need be drawn for it.
        chance = tf.math.floormod(tf.reduce_sum(uniform, axis=1, keepdims=True), 1.0)
        return chance < tf.sigmoid(logit - math.log(self.rnn.end_weight))

    def surprise(self, z, h):
        """Negative log-likelihood of z under M's prediction: z (B, Z), h (B, U) from before it -> (B,), mean over
        z's dimensions, in nats."""
        return -tf.reduce_mean(mdn.mixture(*self.rnn.split(self.rnn.head(h))).log_prob(z), axis=1)


def make_vae(config: Config, dtype: str = "float32") -> VAE:
    return VAE(config.z_size, dtype)


def make_rnn(config: Config) -> MDNRNN:
    sizes = (config.z_size, tasks.get(config.task).action_size, config.rnn_units, config.mixtures)
    joined = tasks.get(config.task).stops_at_end
    return MDNRNN(*sizes, config.rnn_heads, config.restart_weight, config.optimism_weight, joined)


def load_vae(run: Path, config: Config, dtype: str = "float32") -> VAE:
    """V with the run's weights; UserError saying what to run if there are none, or they are damaged, or another's."""
    command = f"python train_vae.py --run {run}"
    model = make_vae(config, dtype)
    path = need(run / "vae.weights.h5", command)
    made_from = load_weights(model, path, f"V with z of {config.z_size} numbers", command)
    check_made_from(path, made_from, run, (), task=config.task, pixels=config.pixels, **own_settings(run, "vae"))
    return model


def load_rnn(run: Path, config: Config) -> MDNRNN:
    """M with the run's weights; UserError as for V."""
    command = f"python train_rnn.py --run {run}"
    model = make_rnn(config)
    expected = f"M of {config.rnn_units} units for {config.task} and z of {config.z_size} numbers"
    path = need(run / "rnn.weights.h5", command)
    made_from = load_weights(model, path, expected, command)
    check_made_from(path, made_from, run, ("vae",), task=config.task, **own_settings(run, "rnn"))
    return model


def own_settings(run: Path, name: str) -> dict:
    """What V ("vae") or M ("rnn") must say of where it is from: the digest of the settings that it depends on; and, in
    a run that is known not to have begun `--from` another, its seed and round. {} without config.json, or where V and
    M are those of an earlier round (--episodes 0), and say its settings."""
    path = run / "config.json"
    if not path.exists():
        return {}
    own, origin = config_file.parse(path)  # not `config`: the round before has its V in a folder of its own
    if own.models_stay:
        return {}
    settings = {"settings": config_file.settings_digest(own, name)}
    return settings if origin is None or "from" in origin else {"seed": own.seed, "round": own.round} | settings
