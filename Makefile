# Everything that a machine with only Python and make needs: each target sets up .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: setup demo perceptual test test-all soak lint format clean

setup: $(VENV)/installed

# The lock file lists every package, so pip has nothing left to choose.
$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@touch $@

demo: setup
	$(RUN) -m misc.demo

perceptual: setup
	$(RUN) -m misc.perceptual_demo

# Files are shared out, in order, among a process for each core; one needs 5 GB, the others 2.
PYTEST := $(RUN) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST)

test-all: setup
	$(PYTEST) -m "not soak"

# An hour on two cores: kills at random moments, and damaged files. SOAK_KILLS=400 SOAK_SEED=1 make
# it another one.
soak: setup
	$(PYTEST) --dist worksteal -m soak tests/soak

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV)
