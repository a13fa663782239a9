# make demo   set up, make a street, train on it, test, draw pictures, label scans    (four minutes on 2 idle cores)
# make test   set up, check style, types and import directions, run the tests (in two processes; JOBS=n for others)
# make docs   write docs/reference/ from the code, and build the pages of docs/ into site/
# make test NATIVE=off    the same without native code; NATIVE=required: an error where it cannot be used
# make sanitize           the tests of the native code, compiled for the sanitizers of the compiler (some minutes)
# make demo-model         train the demo again and publish it into checkpoint/demo, which is in the repository
# make setup | lint | benchmark | format | clean

SHELL := /bin/bash
PYTHON := .venv/bin/python
RUN := demo
JOBS := 2
NATIVE := $(or $(TWODPASS_NATIVE),auto)
DEMO := $(PYTHON) main.py --config config/2DPASS-demo.yaml --log_dir $(RUN)

.PHONY: demo demo-model test sanitize lint format benchmark docs clean setup setup-test
.DEFAULT_GOAL := help

help:
	@sed '/^$$/q; s/^# //' Makefile

setup:
	@bash tools/setup.sh
	@$(PYTHON) -m network.native

demo: setup
	@$(PYTHON) tools/make_demo_data.py
	@$(DEMO)
	@$(DEMO) --test --num_vote 4 --checkpoint best --save_prediction
	@$(PYTHON) tools/demo_summary.py --log_dir $(RUN)
	@$(PYTHON) predict.py --log_dir $(RUN) --checkpoint best dataset/demo/sequences/11/velodyne --overwrite \
		--output logs/SemanticKITTI/$(RUN)/predicted --format label ply

# What checkpoint/demo holds: trained as in `make demo`, published, tested as it is there, and how it was made.
MODEL := checkpoint/demo
demo-model: setup
	@$(PYTHON) tools/make_demo_data.py
	@$(PYTHON) main.py --config config/2DPASS-demo.yaml --log_dir demo-model
	@$(PYTHON) tools/publish.py --log_dir demo-model --checkpoint best --output $(MODEL) --dtype bf16 $(if $(wildcard $(MODEL)/*),--overwrite) \
		--name "2DPASS, demo" --license mit --data "a made-up street (tools/make_demo_data.py), in the layout of SemanticKITTI"
	@$(PYTHON) main.py --test --checkpoint $(MODEL) --log_dir demo-model
	@$(PYTHON) tools/publish.py --checkpoint $(MODEL) --output $(MODEL) --overwrite \
		--scores "$$(ls -d logs/SemanticKITTI/demo-model/test_* | tail -n 1)"
	@$(PYTHON) tools/demo_recipe.py --log_dir demo-model --output $(MODEL)

setup-test: setup
	@bash tools/setup.sh test

lint: setup-test
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PYTHON) -m pyright --pythonpath $(PYTHON) --warnings

# Tests go to the processes in their order, in halves that an idle one takes from: fixtures are made about once.
# One thread each: more only wait for each other. What is skipped is named, with the reason (-rs).
test: lint
	@OMP_NUM_THREADS=1 TWODPASS_NATIVE=$(NATIVE) $(PYTHON) -m pytest -rs -n $(JOBS) --dist worksteal

sanitize: setup-test
	@bash tools/sanitize.sh

format: setup
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

benchmark: setup
	@$(PYTHON) tools/benchmark.py stages

# The builder is installed when it is first wanted: setting up, testing and the demo do without it.
docs: setup
	@$(PYTHON) tools/make_docs.py
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@.venv/bin/zensical build --clean --strict
	@echo "open site/index.html"

clean:
	rm -rf .venv .pytest_cache .ruff_cache .cache site dataset/demo
