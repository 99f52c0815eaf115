# `make reproduce` does the main job, `make test` proves that it works; each first sets up .venv by itself.
#
#   make reproduce [ARGS="--minutes 30"]    the paper on this machine, see `gpt2 reproduce --help`
#   make test      [ARGS="-k tokens"]       formatting, types and tests; ends in pytest's summary
#   make acceptance [ARGS=tokenizer]        the long proofs, kept in docs/results/
#   make install                            only the set-up
#   make clean                              back to the fresh clone, but for what jobs made
#
# PYTHON=python3.12 chooses another interpreter. Nothing is compiled, so no compiler is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP := $(BIN)/pip --disable-pip-version-check --no-input install --quiet -c constraints.txt -e

# pip 23 stops at packages that ask for one extra under two spellings (lxml[html_clean] and lxml[html-clean])
PIP_ITSELF := $(BIN)/pip --disable-pip-version-check --no-input install --quiet pip==25.3

.PHONY: reproduce test lint acceptance install clean

reproduce: $(VENV)/.corpus
	$(BIN)/gpt2 reproduce $(ARGS)

# two processes, each a file of tests at a time: much of a test is waiting for a program to start
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary

acceptance: $(VENV)/.dev
	$(BIN)/python -m acceptance $(ARGS)

install: $(VENV)/.corpus

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@$(PIP_ITSELF)

$(VENV)/.corpus: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV), once; this takes a few minutes"
	@$(PIP) '.[corpus]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV), once; this takes a few minutes"
	@$(PIP) '.[corpus,peers,dev]'
	@touch $@ $(VENV)/.corpus

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests acceptance benchmarks -name __pycache__ -type d -exec rm -rf {} +
