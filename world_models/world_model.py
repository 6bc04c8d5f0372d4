"""V and M of a run together: made for its task, loaded with its weights, and one time step of each kind.

`observe` is a step in an environment, `imagine` one in a dream. Both take C as a function act(z, c, h) -> actions.
"""

from collections.abc import Callable

import tensorflow as tf
from tensorflow import Tensor

from rnn import mdn
from rnn.model import MDNRNN
from vae.model import VAE, sample
from world_models import tasks
from world_models.config import Config
from world_models.runs import weights
from world_models.runs.artifacts import M, V
from world_models.runs.run import Run

Act = Callable[[Tensor, Tensor, Tensor], Tensor]


class WorldModel:
    """V and M.

    Args:
        vae: V; None where only dreams are played, in which nothing is encoded.
        rnn: M.
        dream_reward: reward of a step in a dream where M has no head for it.
    """

    def __init__(self, vae: VAE | None, rnn: MDNRNN, dream_reward: float = 0.0):
        self.vae, self.rnn, self.dream_reward = vae, rnn, dream_reward

    @classmethod
    def load(cls, run: Run, dtype: str = "float32") -> "WorldModel":
        """A run's V and M; `dtype` is that of V's encoder. UserError as in `load_vae` and `load_rnn`."""
        return cls(load_vae(run, dtype), load_rnn(run))

    @classmethod
    def load_dream(cls, run: Run) -> "WorldModel":
        """A run's M, to dream with. Nothing is encoded in a dream."""
        return cls(None, load_rnn(run), tasks.get(run.config.task).dream_reward or 0.0)

    def observe(
        self, act: Act, mu: Tensor, logvar: Tensor, noise: Tensor, is_first: Tensor, h: Tensor, c: Tensor
    ) -> tuple:
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
        h, c = self.rnn.step(z, action, is_first, (h, c))
        return action, h, c

    def imagine(
        self,
        act: Act,
        z: Tensor,
        is_first: Tensor,
        h: Tensor,
        c: Tensor,
        tau: Tensor | float,
        uniform: Tensor,
        noise: Tensor,
        dropout: Tensor | None = None,
    ) -> tuple:
        """One time step of B agents in M's dream: the action from C, the next h and then the next z from M.

        Args:
            act: C, act(z, c, h) -> actions (B, A).
            z: (B, Z).
            is_first: (B, 1), 1 at a dream's first step.
            h, c: (B, U), M's state.
            tau: the temperature.
            uniform, noise: (B, Z), from U[0, 1) and N(0, 1).
            dropout: (B, 4, Z + U), the dreams' dropout masks of z and h for each gate of M; None: no dropout.

        Returns:
            The next z; end (B, 1), 1.0 where the dream ends (always 0.0 without a head for it); reward (B, 1), what M
            expects; and the next h and c.
        """
        action = act(z, c, h)
        h, c = self.rnn.step(z, action, is_first, (h, c), dropout)
        output = self.rnn.head(h)
        z = mdn.sample(*self.rnn.split(output), tau, uniform, noise)
        end, reward = tf.zeros_like(is_first), tf.fill(tf.shape(is_first), self.dream_reward)
        if "end" in self.rnn.heads:
            end = tf.cast(self.rnn.end_logit(output) > 0, tf.float32)
        if "reward" in self.rnn.heads:
            reward = self.rnn.reward(output)
        return z, end, reward, h, c

    def surprise(self, z: Tensor, h: Tensor) -> Tensor:
        """Negative log-likelihood of z under M's prediction: z (B, Z), h (B, U) from before it -> (B,), mean over
        z's dimensions, in nats."""
        return -tf.reduce_mean(mdn.mixture(*self.rnn.split(self.rnn.head(h))).log_prob(z), axis=1)


def make_vae(config: Config, dtype: str = "float32") -> VAE:
    return VAE(config.z_size, dtype)


def make_rnn(config: Config) -> MDNRNN:
    task = tasks.get(config.task)
    return MDNRNN(config, task.action_size, joined=task.stops_at_end)


def load_vae(run: Run, dtype: str = "float32") -> VAE:
    """V with a run's weights. UserError that says what to run if they are missing, damaged, or of another run."""
    model = make_vae(run.config, dtype)
    weights.load(model, run, V, f"V with z of {run.config.z_size} numbers")
    return model


def load_rnn(run: Run) -> MDNRNN:
    """M with a run's weights. UserError as for V."""
    config, model = run.config, make_rnn(run.config)
    weights.load(model, run, M, f"M of {config.rnn_units} units for {config.task} and z of {config.z_size} numbers")
    return model
