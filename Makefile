# Two commands matter: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# What a caller's shell may have set and an environment of our own must not meet; where packages
# come from stays the caller's choice.
unexport PYTHONPATH PYTHONHOME PYTHONWARNINGS PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONUSERBASE
unexport VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_DEPS PIP_REQUIRE_VIRTUALENV
unexport PIP_CONSTRAINT PIP_REQUIREMENT PIP_NO_BINARY PIP_DRY_RUN PIP_PYTHON PIP_QUIET PIP_VERBOSE
PYTHON ?= python3
PY := .venv/bin/python
ARGS ?=

.PHONY: help env env-dev run test check bench oracle lock protos protos-release clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

run: env ## start everything, do the main job once, keep serving (ARGS=--once ends after the job)
	@$(PY) -m services run $(ARGS)

test: env-dev ## the whole test suite on its own PostgreSQL
	@$(PY) -m pytest $(ARGS)

check: env-dev ## the fast gate: lint, format, types, import contracts, proto lint and breaking changes
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@PYTHONPATH=build/gen .venv/bin/lint-imports
	@$(PY) -m pytest tests/house tests/contract $(ARGS)

bench: env-dev ## measure section 6 of the architecture; writes var/bench/report.json (ARGS=--quick)
	@$(PY) -m deploy.bench $(ARGS)

oracle: env-dev ## 10^7 acts by the evaluator and by an independent reader; writes var/oracle/report.json (ARGS="--acts 200000")
	@$(PY) -m tests.calculation.long_oracle $(ARGS)

env: .venv/run.stamp protos ## make the environment that running needs

env-dev: .venv/dev.stamp protos ## make the environment that tests need

# The stamp holds the place: an environment half made, of a python that has gone, or of a checkout
# that was moved is made anew.
ifneq ($(shell test -x .venv/bin/python && cat .venv/made.stamp 2>/dev/null),$(CURDIR))
.PHONY: .venv/made.stamp
endif

.venv/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or later is needed, and $(PYTHON) is: $$($(PYTHON) -V 2>&1). Install it, or say: make PYTHON=/path/to/python3.11"; exit 1; }
	@rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null || { echo "$(PYTHON) cannot make a virtual environment; install its venv module (Debian: apt-get install python3-venv)"; rm -rf .venv; exit 1; }
	@$(PY) -c "import pathlib, site; here = pathlib.Path.cwd(); pathlib.Path(site.getsitepackages()[0], 'carbonaccount.pth').write_text('%s\n%s\n' % (here, here / 'build' / 'gen'))"
	@printf '#!/bin/sh\nexec "%s/.venv/bin/python" -m services "$$@"\n' "$(CURDIR)" > .venv/bin/carbonaccount && chmod +x .venv/bin/carbonaccount
	@printf '%s\n' "$(CURDIR)" > $@

.venv/run.stamp: requirements.lock .venv/made.stamp
	@echo "installing what running needs ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/run.stamp
	@echo "installing what tests need ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

protos: .venv/run.stamp
	@$(PY) -m shared.protogen > /dev/null

protos-release: env-dev ## keep today's contracts as what later ones may not break
	@cp build/carbonaccount.binpb tests/contract/released.binpb

lock: env-dev ## renew the lock files (needs the uv command)
	@uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements.lock
	@uv pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -o requirements-dev.lock

clean: ## remove what was built; var/ with the data stays
	@rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
