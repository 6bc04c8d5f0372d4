"""What a preset changes for every task. Each task adds changes of its own (`Task.presets`)."""

PRESETS: dict[str, dict] = {
    # The published settings.
    "paper": {},
    # Hours on two cores: fewer random episodes, and a search that spends its episodes late. Early, the number of
    # generations counts, and one episode ranks a generation's candidates if all play the same one. Later, noise counts.
    "laptop": dict(
        episodes=1050, vae_epochs=1, rnn_steps=300,
        population=48, rollouts="1,15:2,30:4,50:8", seed_sharing="common", generations=60,
        eval_every=10, eval_episodes=64, lanes=48,
    ),
    # Minutes: every stage is real, and too short to learn anything.
    "smoke": dict(
        episodes=12, max_frames=300, vae_epochs=4,
        rnn_steps=20, rnn_batch=8, rnn_length=150, initial_frames=12,
        population=8, rollouts="2", seed_sharing="common", generations=4,
        eval_every=2, eval_episodes=4, lanes=8,
    ),
}  # fmt: skip
