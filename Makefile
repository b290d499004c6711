# Every target is one command that also works without make; `make help` lists them.
VENV := .venv/bin
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
export BACKENDS ?= jax torch
INSTALLED := import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

# A variable on make's command line is text for a program, never code: after
#     make train-mnist CELL=peephole NAME='$(x); "y"' ARGS="--distortion 0"
# this runs, with CELL, NAME and ARGS in its environment as they were typed:
#     .venv/bin/python -m recipes mnist --cell="$CELL" --name="$NAME" --args="$ARGS"
# Variables of the environment do not count (many systems set NAME). The program splits ARGS into flags.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
# For each, `override NAME := $(value NAME)`: else make would expand it, and run what is in $(shell …).
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name))))
export $(GIVEN)
# $(call flags,CELL NAME) is `--name="$NAME"` where only NAME is given. Any other variable is an error.
flags = $(call refuse,$(filter-out $(1) $(OF_ALL),$(GIVEN)),$(1))$(foreach name,$(filter $(1) ARGS,$(GIVEN)),--$(call lower,$(name))="$$$(name)")
lower = $(shell echo $(1) | tr A-Z a-z)
OF_ALL := ARGS PYTHON VENV WORKERS BACKENDS
refuse = $(if $(strip $(1)),$(error $@ takes no $(strip $(1)), but $(strip $(2) ARGS)))
TRAIN := CELL PRESET EPOCHS UNITS BATCH SEED DATA NAME

.DEFAULT_GOAL := help
.PHONY: help setup train-mnist train-imdb resume runs predict-mnist predict-imdb test test-backends bench \
	lint format dist clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo "Variables of the train targets: $(TRAIN) ARGS"
	@echo "Variables of the predict targets: IMAGE TEXT FILE RUN ARGS; of resume: RUN; of export: RUN FORMAT ARGS"
	@echo "Variables of compare: TASK CELLS SEEDS BUDGET WORKERS ARGS; RAY_ADDRESS runs it on a cluster"

setup: .venv/ready  ## make the environment .venv, with CUDA's libraries where there is an NVIDIA GPU
	@$(BUILD_NATIVE)

.venv/ready: requirements.txt
	@test -x $(VENV)/pip || $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "error: PYTHON must name a Python from 3.10 to 3.13, got '$(PYTHON)'" >&2; exit 2; }
	@test -x $(VENV)/pip || $(PYTHON) -m venv .venv
	@echo "Installing the packages of requirements.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@if nvidia-smi >/dev/null 2>&1; then $(VENV)/python -m pip install --quiet --disable-pip-version-check \
		"tensorflow[and-cuda]==$$($(VENV)/python -c 'import importlib.metadata as m; print(m.version("tensorflow"))')"; fi
	@touch $@

# The native kernel is optional. This says in one line that it is built, or why not; where it is
# not, `make setup` tries again.
BUILD_NATIVE = $(VENV)/python -m custom_layers.build_native 2>&1 | tail -n 1; touch .venv/ready-native

.venv/ready-native: .venv/ready $(wildcard $(addprefix custom_layers/engine/native/,*.cc *.h library.py))
	@$(BUILD_NATIVE)

.venv/ready-dev: requirements-dev.txt .venv/ready
	@echo "Installing the packages of requirements-dev.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/ready-docs: requirements-docs.txt .venv/ready
	@echo "Installing the packages of requirements-docs.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

.venv/ready-demo: requirements-demo.txt .venv/ready
	@echo "Installing the packages of requirements-demo.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-demo.txt
	@touch $@

.venv/ready-export: requirements-export.txt .venv/ready
	@echo "Installing the packages of requirements-export.txt into .venv …"
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-export.txt
	@touch $@

train-mnist: .venv/ready .venv/ready-native  ## train on MNIST, read row by row
	@$(VENV)/python -m recipes mnist $(call flags,$(TRAIN))

train-imdb: .venv/ready .venv/ready-native  ## train on the IMDB reviews
	@$(VENV)/python -m recipes imdb $(call flags,$(TRAIN))

resume: .venv/ready .venv/ready-native  ## resume the run RUN, or the unfinished run begun last
	@$(VENV)/python -m recipes resume $(call flags,RUN)

runs: .venv/ready  ## list all runs, the best of each recipe first
	@$(VENV)/python -m recipes runs $(call flags)

.PHONY: compare
compare: .venv/ready  ## train every cell on tasks that need memory, and draw up a table
	@$(VENV)/python -m recipes compare $(call flags,TASK CELLS SEEDS BUDGET WORKERS)

predict-mnist: .venv/ready  ## say which digit is in IMAGE=…
	@$(VENV)/python -m recipes predict mnist $(call flags,IMAGE RUN)

predict-imdb: .venv/ready  ## say whether TEXT="…", or each line of FILE=… or standard input, is a good review
	@$(VENV)/python -m recipes predict imdb $(call flags,TEXT FILE RUN)

.PHONY: export
export: .venv/ready-export  ## write the model of the run RUN as FORMAT=onnx, savedmodel or litert, next to it
	@$(VENV)/python -m recipes export $(call flags,RUN FORMAT)

.PHONY: demo
demo: .venv/ready-demo  ## play in the browser, at 127.0.0.1 only; PORT=… chooses the port
	@$(VENV)/python -m recipes demo $(call flags,PORT)

test: .venv/ready-dev  ## run all tests, on the TensorFlow backend
	$(VENV)/python -m pytest -n $(WORKERS) --dist loadgroup

test-backends: .venv/ready-dev  ## run the cell tests on BACKENDS: JAX, and torch where it is installed
	@for backend in $$BACKENDS; do \
		if $(VENV)/python -c "$(INSTALLED)" "$$backend"; then \
			echo "The cell tests on $$backend:"; KERAS_BACKEND=$$backend $(VENV)/python -m pytest \
				-q -n $(WORKERS) tests/custom_layers custom_layers || exit 1; \
		else echo "$$backend is not installed: its tests do not run"; fi; done

.PHONY: sanitize
sanitize: .venv/ready  ## run the native kernel under the compiler's sanitizers
	@PYTHONPATH=. $(VENV)/python tests/custom_layers/native_fuzz.py

.PHONY: docs
docs: .venv/ready-docs  ## build the pages and the API reference into build/docs
	$(VENV)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/docs

.PHONY: pictures
pictures: .venv/ready-demo .venv/ready-dev  ## make every picture of README and docs, from runs in build/pictures
	$(VENV)/python docs/charts.py
	$(VENV)/python docs/diagrams.py
	$(VENV)/python docs/pictures.py
	$(VENV)/python docs/screenshots.py build/pictures

bench: .venv/ready-dev .venv/ready-native  ## time every layer beside keras.layers.LSTM, new models, and both programs
	@$(VENV)/python -m benchmarks.cpu $(call flags)
	@$(VENV)/python -m benchmarks.models
	@echo && { $(VENV)/python -m benchmarks.native || [ $$? -eq 2 ]; }  # 2: it is not built
	@echo && $(VENV)/python -m benchmarks.recipes

lint: .venv/ready-dev  ## check style, imports and types
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

format: .venv/ready-dev  ## put the code into its standard form
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

dist: .venv/ready-dev  ## build the package's sdist and wheel into dist/
	rm -rf dist
	$(VENV)/python -m build --no-isolation

clean:  ## remove what was installed and built, but no run
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
