"""The study of the search: agents compared at equal episodes."""

from conftest import run_script, user_error

from tools import study
from world_models.runs import files
from world_models.runs.begin import begin
from world_models.runs.run import Run


def write_agent(run, seed: int, scores: list[float | None], **settings) -> None:
    """An agent with one line of history a generation, 10 s each."""
    begin(run, {"task": "carracing", "preset": "laptop", "seed": seed} | settings)
    same = dict.fromkeys(("mean", "std", "min", "max", "mean_steps"), 1.0)
    lines = [
        same | {"generation": g, "seconds": 10.0 * g, "evaluation": None if score is None else {"mean": score}}
        for g, score in enumerate(scores, 1)
    ]
    files.write_lines(run / "controller/history.jsonl", lines)


def test_agents_are_compared_at_equal_episodes(tmp_path):
    run = tmp_path / "car"
    write_agent(run, 0, [0, 100, 200, 300], rollouts="4")  # 192 episodes a generation
    write_agent(run / "agents/seed-1", 1, [100, 200, 300, 500], rollouts="4")
    write_agent(run / "agents/rollouts-1", 0, [None, 40, None, 80, None, 120, None, 160], rollouts="1")
    said = run_script("tools.study", "--run", run, "--mark", "150").stdout.splitlines()
    # The budget is 384: what 8 generations of one episode have spent.
    quarters = " | ".join(f"{count} episodes" for count in (96, 192, 288, 384))
    assert said[0] == f"| settings | seeds | {quarters} | episodes to 150 | seconds to 150 |"
    assert said[2] == "| `--rollouts 4` | 2 |  | 50 ± 50 | 100 ± 50 | 150 ± 50 | 480 ± 96 | 25 ± 5 |"
    assert said[3] == "| `--rollouts 1` | 1 | 40 | 80 | 120 | 160 | 384 | 80 |"


def test_a_rising_schedule_spends_more_in_later_generations(tmp_path):
    write_agent(tmp_path, 0, [1, 2, 3, 4], rollouts="1,3:4")
    assert study.read(Run(tmp_path)).scored[:, 0].tolist() == [48, 96, 288, 480]


def test_a_score_outside_of_the_evaluations_is_unknown(tmp_path):
    write_agent(tmp_path, 0, [None, 2], rollouts="1")
    search = study.read(Run(tmp_path))
    assert study.summary([search.at(48)]) == "" and search.at(96) == 2
    assert study.summary(list(search.first(5))) == ""


def test_a_run_without_agents_is_one_line(tmp_path):
    begin(tmp_path / "car", {"task": "carracing", "preset": "laptop"})
    assert "no agent that was evaluated; evolve some with" in user_error("tools.study", "--run", tmp_path / "car")
