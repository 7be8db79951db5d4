# `make` lists the commands. Each sets up what it needs in .venv and nowhere else.

# The first of these that is Python 3.11 or later.
CANDIDATES := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python
FOUND := $(shell for each in $(CANDIDATES); do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo "$$each" && break; done)
BIN := .venv/bin
OLD := .venv-oldest/bin
ASKED := --asked benchmarks/finding/asked.json --asked benchmarks/finding/phrases.json

.PHONY: help run test test-clients lint format proofs proofs-oldest evidence build bench bench-finding bench-load release clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

run: .venv/.run ## show the main job: a client asks the server for an error message
	@$(BIN)/python scripts/demo.py

test: .venv/.test .venv-oldest/.test ## run all tests, against real servers of their own
	@$(BIN)/python -m pytest
	@$(OLD)/python -m pytest tests/proofs --environment oldest

test-clients: .venv/.test ## run the tests with all real clients, the large ones too
	@$(BIN)/python -m pytest tests/clients -m "more or not more"

lint: .venv/.test ## check code and pack
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/packlore lint --pack .
	@$(BIN)/packlore build --check --pack . $(ASKED)

format: .venv/.test ## format the code
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format .

proofs: .venv/.test ## run the proofs of all rules on the newest releases
	@$(BIN)/python -m pytest tests/proofs

proofs-oldest: .venv-oldest/.test ## run the proofs on the oldest releases the rules claim
	@$(OLD)/python -m pytest tests/proofs --environment oldest

evidence: .venv/.test .venv-oldest/.test ## run the proofs on both and write references/evidence.md
	@$(BIN)/python -m pytest tests/proofs --record
	@$(OLD)/python -m pytest tests/proofs --environment oldest --record
	@$(BIN)/python -m tests.proofs.evidence

build: .venv/.run ## write what derives from the pack
	@$(BIN)/packlore build --pack . $(ASKED)

bench: .venv/.test ## measure start, search, memory and growth
	@$(BIN)/python -m benchmarks.speed

bench-finding: .venv/.test ## measure how often the right rule comes first
	@$(BIN)/python -m benchmarks.finding

bench-load: .venv/.test ## measure requests a second over HTTP
	@$(BIN)/python -m benchmarks.load

release: ## commit what users need to the branch `skill`
	@$(FOUND) scripts/release.py

clean: ## remove the environments and caches
	rm -rf .venv .venv-oldest .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build

.venv/.made:
	@test -n "$(FOUND)" || { echo "packlore needs Python 3.11 or later: set PYTHON=..." >&2; exit 1; }
	@echo "setting up .venv with $(FOUND)" >&2
	@$(FOUND) -m venv .venv || { echo "the venv module is missing (Debian: python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check "pip>=25.1"
	@touch $@

.venv/.run: .venv/.made pyproject.toml constraints.txt
	@echo "installing the server" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

.venv/.test: .venv/.run
	@echo "installing what the tests and proofs need" >&2
	@$(BIN)/python -m pip install -q -c constraints.txt --group test --group proofs
	@touch $@

.venv-oldest/.test: .venv/.made pyproject.toml constraints-oldest.txt
	@echo "setting up .venv-oldest with the oldest releases the rules claim" >&2
	@$(FOUND) -m venv .venv-oldest
	@$(OLD)/python -m pip install -q --disable-pip-version-check "pip>=25.1"
	@$(OLD)/python -m pip install -q -c constraints-oldest.txt --group proofs \
		markdown-it-py pytest pytest-asyncio pytest-timeout pyyaml
	@touch $@
