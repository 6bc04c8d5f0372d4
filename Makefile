# Each target makes .venv and installs before it starts; a second run does not install again.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
TASK ?= carracing
PRESET ?= smoke
RUN ?= runs/$(TASK)-$(PRESET)
# As many ranks as there are cores, but no more than there are episodes for (of a generation: in laptop, 48 at first
# and 192 from the thirtieth on; smoke has few), and than fit into memory at a gigabyte each. A container's limits count.
CORES ?= $(shell $(PYTHON) -I world_models/limits.py cores)
GIGABYTES ?= $(shell $(PYTHON) -I world_models/limits.py gigabytes)
EPISODES = $(if $(filter smoke,$(PRESET)),16,$(if $(filter paper,$(PRESET)),1024,192))
RANKS ?= $(shell printf '%s\n' $(CORES) $(GIGABYTES) $(EPISODES) | sort -n | awk 'NR == 1 {print ($$1 > 1 ? $$1 : 1)}')
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# Another MPI is used with, say, MPIRUN=mpirun.
MPIRUN ?= $(BIN)/mpirun

.PHONY: run check test bench evaluate page faults soak

run: $(READY)
	$(MPIRUN) -n $(RANKS) $(BIN)/python train_all.py --run $(RUN) --task $(TASK) --preset $(PRESET)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: $(READY)
	$(BIN)/python -m tools.bench

faults: $(READY)
	$(BIN)/python tests/faults/run.py --task $(TASK)

soak: $(READY)
	$(BIN)/python tests/faults/soak.py --task $(TASK)

evaluate: EPISODES = 100
evaluate: $(READY)
	for task in carracing doom; do \
		$(MPIRUN) -n $(RANKS) $(BIN)/python evaluate.py --run pretrained/$$task --episodes 100 --no-save || exit 1; \
	done

# The dreams of the shipped agents, to be played in a browser; its last line says how to open it.
page: $(READY)
	$(BIN)/python -m tools.page --run pretrained/doom pretrained/carracing --out site

$(READY): requirements.txt requirements-dev.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
		"error: Python 3.11 to 3.13 is needed, found %s; say which: make PYTHON=..." % sys.version.split()[0])'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)  # Debian without python3-venv leaves one that lacks pip
	$(BIN)/pip install --disable-pip-version-check -q -r requirements.txt -r requirements-dev.txt -c requirements.lock
	touch $(READY)
