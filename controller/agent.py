"""V, M and C together, as one compiled function over a batch of agents ("lanes")."""

from collections.abc import Callable

import keras
import tensorflow as tf

from controller.policy import Controller
from vae.model import sample
from world_models import tasks
from world_models.config import Config, UserError
from world_models.world_model import WorldModel


def use_one_core() -> None:
    """One TensorFlow thread and no GPU for this process: ranks share the cores, sums keep their order, and each rank
    would claim the whole card for a batch that does not fill it."""
    try:
        if tf.config.get_visible_devices("GPU"):
            tf.config.set_visible_devices([], "GPU")
        if tf.config.threading.get_intra_op_parallelism_threads() != 1:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise UserError(f"TensorFlow's threads and devices were fixed before: {error}") from None


def make_agent(config: Config, model: WorldModel, lanes: int, pushed: bool = False, surprise: bool = False) -> Callable:
    """The agents' step (`WorldModel.observe`), compiled for a fixed number of lanes (B).

    Returns a function (frames uint8 (B, 64, 64, 3), noise (B, Z), params (B, P), is_first (B, 1), h, c (B, U))
    -> (action (B, A), h, c). With `pushed` it takes noise on C's outputs (B, A) as well. With `surprise` it also
    returns M's surprise at z (B,), 0 at an episode's first step.
    """
    controller, vae = Controller.of(config), model.vae
    assert vae is not None
    shapes = dict(noise=config.z_size, params=controller.num_params, is_first=1, h=config.rnn_units, c=config.rnn_units)
    signature = [tf.TensorSpec((lanes, 64, 64, 3), tf.uint8)]
    if pushed:
        shapes["push"] = tasks.get(config.task).action_size
    signature += [tf.TensorSpec((lanes, size), tf.float32) for size in shapes.values()]

    def step(mu, logvar, noise, params, is_first, h, c, push=None):
        if config.z == "mean":
            noise = tf.zeros_like(noise)

        def act(z, c, h):
            return controller.act(params, z, c, h, keras.ops, push)

        results = model.observe(act, mu, logvar, noise, is_first, h, c)
        if surprise:
            results += (model.surprise(sample(mu, logvar, noise), h) * (1 - is_first[:, 0]),)
        return results

    # XLA also makes a lane's numbers independent of its place in the batch, to the bit. But it computes
    # bfloat16 convolutions in float32; TensorFlow itself has oneDNN do them, so they stay outside.
    compiled = config.dtype == "float32"
    if not compiled:
        step = tf.function(step, autograph=False, jit_compile=True)

    @tf.function(input_signature=signature, autograph=False, jit_compile=compiled)
    def agent(frames, *rest):
        return step(*vae.encode(frames), *rest)

    return agent
