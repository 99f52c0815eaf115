# The two commands: `make reproduce` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: reproduce test lint acceptance install clean

reproduce: $(VENV)/.corpus
	$(BIN)/gpt2 reproduce $(ARGS)

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

acceptance: $(VENV)/.dev
	$(BIN)/python -m acceptance $(ARGS)

install: $(VENV)/.corpus

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.corpus: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[corpus]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[corpus,peers,dev]'
	touch $@ $(VENV)/.corpus

clean:
	rm -rf $(VENV) build src/*.egg-info
