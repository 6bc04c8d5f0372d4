"""The commands of README.md and docs/: each is run in small by a test, or the page says when it last ran."""

import re
from pathlib import Path

from conftest import ROOT, SMALL, run_script

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"(?:python \S|docker (?:build|run) |make \w).*")
# A command, or the beginning of several: the test that runs it in small, or the date on its page when it last ran.
RUN_BY = {
    "make ": "2026-1",  # README: in a fresh clone
    "docker": "no Docker daemon",
    "-m examples.rollout": "test_the_rollout_plays_a_shipped_agent_and_films_it",
    "train_all.py --run runs/car --task carracing --preset laptop": "2026-11-24",
    "train_all.py --run runs/car --task carracing --preset paper": "not been run to its end",
    "train_all.py --run runs/own --task gymnasium": "test_all_stages_on_pendulum_and_its_dream",
    "train_all.py --run runs/pendulum": "test_all_stages_on_pendulum_and_its_dream",
    "train_controller.py --run runs/mine --from": "test_another_search_on_a_shipped_v_and_m",
    "train_controller.py --run runs/new-c --from": "test_another_search_on_a_shipped_v_and_m",
    "evaluate.py --run runs/new-c": "test_evaluate_scores_films_and_keeps_its_rows",
    "train_controller.py --run runs/car-z": "test_ablations_start_from_another_runs_v_and_m",
    "train_rnn.py --run runs/car-random-m": "test_ablations_start_from_another_runs_v_and_m",
    "train_controller.py --run runs/further": "test_without_new_episodes_v_and_m_stay_and_c_goes_on",
    "train_controller.py --run runs/car": "test_the_curve_does_not_depend_on_the_number_of_ranks",
    "extract.py --run runs/car --task": "test_extract_writes_every_episode_and_nothing_twice",
    "train_vae.py --run runs/car": "test_training_leaves_weights_curves_and_pictures",
    "train_rnn.py --run runs/car": "test_training_leaves_weights_curves_and_pictures",
    "evaluate.py --run runs/car": "test_evaluate_scores_films_and_keeps_its_rows",
    "evaluate.py --run runs/mine": "test_a_pack_is_a_run_that_cannot_be_changed",
    "evaluate.py --run pretrained/carracing --variant": "test_other_pictures_have_a_row_and_the_curves_a_table",
    "evaluate.py --run pretrained/doom --variant": "test_doom_changes_where_the_variant_says",
    "evaluate.py --run pretrained/carracing": "2026-12-01",
    "evaluate.py --run pretrained/doom": "2026-11-29",
    "extract.py --run runs/car-2 --after": "test_a_round_links_the_recordings_and_adds_the_agents",
    "extract.py --run runs/car-2 --held-out": "test_held_out_episodes_are_of_the_agent_of_now",
    "-m tools.held_out --run runs/car-2": "test_held_out_episodes_are_of_the_agent_of_now",
    "extract.py --run runs/unseen": "test_errors_on_the_episodes_of_another_run",
    "-m tools.held_out --run": "test_errors_on_the_episodes_of_another_run",
    "-m tools.doctor": "test_the_command_says_what_to_look_at",
    "-m tools.report": "test_other_pictures_have_a_row_and_the_curves_a_table",
    "-m tools.pack": "test_a_pack_is_a_run_that_cannot_be_changed",
    "-m tools.convert": "test_the_commands",
    "-m tools.export": "test_minari_loads_and_samples_the_recordings_of_a_run",
    "-m tools.page --run": "test_weights_of_a_run_are_at_most_5_mb",
    "-m tools.page.speed": "2026-11-28",
    "train_controller.py --run runs/to-score": "2026-11-29",
    "-m tools.study": "test_agents_are_compared_at_equal_episodes",
}


def commands(page: Path) -> set[str]:
    """The commands of a page, in blocks and in lines, without launchers and comments."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.S | re.M)
    lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:mpirun|python|srun) [^`]*)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M))
    return {" ".join(found[0].split()).removeprefix("python ") for line in lines if (found := COMMAND.search(line))}


def test_every_command_is_run_in_small_or_dated():
    tests = {name for path in (ROOT / "tests").glob("test_*.py")
             for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)}  # fmt: skip
    used = set()
    for page in PAGES:
        for command in commands(page):
            key = max((key for key in RUN_BY if command.startswith(key)), key=len, default=None)
            assert key, f"{page.name}: no test runs {command}, and the page does not say when it last ran"
            used.add(key)
            how = RUN_BY[key]
            assert how in tests or how in " ".join(page.read_text(encoding="utf-8").split()), (
                f"{page.name}: {command}: {how}"
            )
    assert not RUN_BY.keys() - used


def test_another_search_on_a_shipped_v_and_m(tmp_path):
    small = "--population 4 --rollouts 1 --generations 1 --eval-every 1 --eval-episodes 1 --lanes 4 --dtype float32"
    run = ["--run", tmp_path / "mine", "--from", ROOT / "pretrained/carracing", "--features", "z", "--seed", "1"]
    said = run_script("train_controller.py", *run, *small.split()).stdout
    assert "over 1 held-out episodes, generation 1" in said


def test_errors_on_the_episodes_of_another_run(doom_run, tmp_path):
    unseen = ["--run", tmp_path / "unseen", "--task", "doom", "--preset", "smoke", *SMALL["doom"].split()]
    run_script("extract.py", *unseen, "--seed", "7")
    said = run_script("tools.held_out", "--run", doom_run, "--of", tmp_path / "unseen").stdout
    assert re.match(r"V's squared error \d+\.\d .*; M's loss \d", said)
