# Two commands: `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run dev test bench pictures lint format messages requirements clean system-venv

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z.]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.run .env ## Start everything: database, worker, web server (PORT=8001 make run chooses the port)
	@$(BIN)/python manage.py serve --demo

dev: .venv/.run .env ## The same, with debug pages, starting again on every change of the code
	@DEBUG=on $(BIN)/python manage.py serve --demo --reload

test: .venv/.dev ## Run the whole test suite on a throw-away PostgreSQL of its own
	@$(BIN)/python -m pytest -n auto $(ARGS)

bench: .venv/.dev ## Measure, as ratios within one run (PARTS="signups writes" chooses)
	@$(BIN)/python -m tests.bench $(PARTS)

pictures: .venv/.dev ## Take the pictures of the README anew, from a running system
	@$(BIN)/python -m tests.pictures

# What a production start would say, without a production machine.
DEPLOY_ENV := ENVIRONMENT=production BASE_URL=https://gatehouse.example EMAIL_URL=smtp+tls://user:word@mail.example:587 \
	TRUSTED_PROXIES=1 SECRET_KEY_SINCE=$$(date -u +%F) SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))')

lint: .venv/.dev ## Check style, types, templates, deployment settings and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(DEPLOY_ENV) $(BIN)/python -m mypy .
	@find templates -name '*.html' -print0 | xargs -0 $(BIN)/djade --target-version 5.2 --check
	@$(DEPLOY_ENV) $(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(DEPLOY_ENV) EMBEDDED_POSTGRES=throwaway $(BIN)/python manage.py makemigrations --check --dry-run

format: .venv/.dev ## Format code and templates
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find templates -name '*.html' -print0 | xargs -0 $(BIN)/djade --target-version 5.2

messages: .venv/.run ## Collect what is to be translated into locale/, and compile what is
	@command -v msgmerge >/dev/null || \
		{ echo "make messages needs gettext. Please ask an administrator to run: apt-get install gettext"; exit 1; }
	@$(DEPLOY_ENV) $(BIN)/python manage.py makemessages --all --no-wrap --no-location --no-obsolete \
		--ignore 'tests/*' --ignore '.*'
	@$(DEPLOY_ENV) $(BIN)/python manage.py compilemessages --ignore '.*'

requirements: .venv/.dev ## Pin and hash the newest versions that requirements.in and -dev.in allow
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url requirements.in -o requirements.txt
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url requirements-dev.in -o requirements-dev.txt

clean: ## Remove what was built; the database in .postgres and .env stay
	rm -rf .venv .static .metrics .mypy_cache .ruff_cache .pytest_cache .artefacts

.env: | .venv/.run
	@umask 077; $(BIN)/python -c 'import secrets; print("# Written by make for development. .env.example explains every variable.\nENVIRONMENT=development\nSECRET_KEY=" + secrets.token_urlsafe(64))' > $@
	@echo "Wrote .env for development, with a fresh secret."

.venv/.run: requirements.txt | $(BIN)/python
	@echo "Installing what Gatehouse runs on ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.dev: requirements-dev.txt | $(BIN)/python
	@echo "Installing what Gatehouse is tested with ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@ .venv/.run

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Gatehouse needs Python 3.11 or newer. Name one: PYTHON=python3.12 make run"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(MAKE) --no-print-directory system-venv
	@$(PYTHON) -m venv .venv

# Debian ships the part of Python that makes environments as a package of its own.
system-venv:
	@echo "This Python cannot make environments yet: installing the system's python3-venv ..."
	@as_root=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); \
	{ $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >/dev/null || \
		{ echo "That needs an administrator. Please ask one to run: apt-get install python3-venv"; exit 1; }
