# Every target is one command that also works without make; `make help` lists them.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv/bin
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)
# The flags that the variables give: make train-mnist CELL=peephole EPOCHS=2 ARGS="--distortion 0"
FLAGS = $(foreach name,cell preset epochs units batch seed data name,$(call flag,$(name))) $(ARGS)
flag = $(if $(filter command,$(origin $(call upper,$(1)))),--$(1) '$(subst ','\'',$(value $(call upper,$(1))))')
upper = $(shell echo $(1) | tr a-z A-Z)

# Texts and file names go through the environment as they were given: quotes and dollar signs survive.
GIVEN := $(foreach name,TEXT FILE IMAGE RUN,$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
given = $(foreach name,$(filter $(1),$(GIVEN)),--$(shell echo $(name) | tr A-Z a-z)="$$$(name)") $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup train-mnist train-imdb resume runs predict-mnist predict-imdb test test-backends bench \
	lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo "Variables of the train targets: CELL PRESET EPOCHS UNITS BATCH SEED DATA NAME ARGS"
	@echo "Variables of the predict targets: IMAGE TEXT FILE RUN ARGS; of resume: RUN"

setup: .venv/ready  ## make the environment .venv, with CUDA's libraries where there is an NVIDIA GPU

.venv/ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "error: no Python from 3.10 to 3.13 found; name one with PYTHON=" >&2; exit 2; }
	@test -x $(VENV)/pip || $(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@if nvidia-smi >/dev/null 2>&1; then $(VENV)/python -m pip install --quiet --disable-pip-version-check \
		"tensorflow[and-cuda]==$$($(VENV)/python -c 'import importlib.metadata as m; print(m.version("tensorflow"))')"; fi
	@touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	@echo "Installing the packages of requirements-dev.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

train-mnist: .venv/ready  ## train on MNIST, read row by row
	@$(VENV)/python -m recipes.mnist $(FLAGS)

train-imdb: .venv/ready  ## train on the IMDB reviews
	@$(VENV)/python -m recipes.imdb $(FLAGS)

resume: .venv/ready  ## go on with the run RUN, or with the unfinished run begun last
	@$(VENV)/python -m recipes.resume $(call given,RUN)

runs: .venv/ready  ## list all runs, the best of each recipe first
	@$(VENV)/python -m recipes.runs

predict-mnist: .venv/ready  ## say which digit is in IMAGE=…
	@$(VENV)/python -m recipes.predict mnist $(call given,IMAGE RUN)

predict-imdb: .venv/ready  ## say whether TEXT="…", or each line of FILE=… or standard input, is a good review
	@$(VENV)/python -m recipes.predict imdb $(call given,TEXT FILE RUN)

test: .venv/ready-dev  ## run all tests, on the TensorFlow backend
	$(VENV)/python -m pytest -n $(WORKERS) --dist loadgroup

test-backends: .venv/ready-dev  ## run the cell tests on JAX, and on torch where it is installed
	$(VENV)/python -m tests.backends

bench: .venv/ready-dev  ## time every layer beside keras.layers.LSTM, and both programs as a whole
	@$(VENV)/python -m benchmarks.cpu $(ARGS)
	@echo && $(VENV)/python -m benchmarks.recipes

lint: .venv/ready-dev  ## check style and imports
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

format: .venv/ready-dev  ## put the code into its standard form
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

clean:  ## remove what was installed and built, but no run
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
