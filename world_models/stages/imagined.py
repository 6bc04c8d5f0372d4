"""What M imagines along an episode: dreams that begin at its frames, each as long as the time to the next beginning."""

import numpy as np

from controller.policy import Controller
from doom_rnn.env import Dreams
from world_models.runs.run import Run


def dreams_along(
    run: Run, parameters: list[float], z: np.ndarray, h: np.ndarray, c: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Dreams one after the other, in which C acts as it did in the episode, but on what M makes of it. They have no
    dropout, since they show what M predicts.

    Args:
        run: the run, at whose temperature is dreamt.
        parameters: C's (P,).
        z: (T, Z), V's mu of an episode's frames; h, c: (T, U), M's state from before it had seen each.
        length: steps of a dream (L); it begins at frames 0, L, 2 L ...

    Returns:
        frames, uint8 (T, 64, 64, 3), the first of each dream V's reconstruction of the episode's own, and those after a
        predicted end held; and over, bool (T,): whether M has predicted the end before.
    """
    dreams, rng = Dreams(run.path, run.config.temperature), np.random.default_rng(0)
    controller = Controller.of(run.config)
    count, starts = len(z), np.arange(0, len(z), length)
    z, h, c = (value[starts].astype(np.float32) for value in (z, h, c))
    params = np.repeat(np.array(parameters, float)[None], len(starts), axis=0)
    is_first, over = (starts == 0).astype(np.float32)[:, None], np.zeros(len(starts), bool)
    zs, overs = [z], [over]
    for _ in range(length - 1):
        action = controller.act(params, z, c, h).astype(np.float32)
        draws = rng.random(z.shape, np.float32), rng.standard_normal(z.shape, np.float32)
        after, end, _, h, c = dreams.imagine(action, z, is_first, h, c, *draws)
        z, is_first = np.where(over[:, None], z, after), np.zeros_like(is_first)
        over = over | (end[:, 0] > 0.5)
        zs.append(z)
        overs.append(over)
    rows = np.stack(zs, axis=1).reshape(-1, z.shape[1])[:count]
    frames = np.concatenate([dreams.decode(rows[k : k + 100]) for k in range(0, count, 100)])
    return frames, np.stack(overs, axis=1).reshape(-1)[:count]
