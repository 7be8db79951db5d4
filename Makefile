# `make` lists the commands. Each sets up what it needs in PACKLORE_DEV and nowhere else. That is
# outside the tree, for installers copy a clone as it lies there.
KEY := $(firstword $(shell printf %s '$(CURDIR)' | cksum))
export PACKLORE_DEV ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/packlore-dev/$(KEY)
export HYPOTHESIS_STORAGE_DIRECTORY := $(PACKLORE_DEV)/hypothesis
export MYPY_CACHE_DIR := $(PACKLORE_DEV)/mypy
export PYTEST_ADDOPTS := -o cache_dir=$(PACKLORE_DEV)/pytest
export PYTHONPYCACHEPREFIX := $(PACKLORE_DEV)/compiled
export RUFF_CACHE_DIR := $(PACKLORE_DEV)/ruff

# The first of these that is Python 3.11 or later.
CANDIDATES := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python
FOUND := $(shell for each in $(CANDIDATES); do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo "$$each" && break; done)
NEW := $(PACKLORE_DEV)/newest
OLD := $(PACKLORE_DEV)/oldest
PROOFS ?= tests/proofs
# One PgBouncer before and one after 1.21, which follows prepared statements: SUITE/PACKAGE/PROGRAM.
PGBOUNCERS := bookworm/pgbouncer/pgbouncer trixie/pgbouncer/pgbouncer
REDIS := trixie/redis-server+redis-tools/redis-server
ASKED := --asked benchmarks/finding/asked.json --asked benchmarks/finding/phrases.json

.PHONY: help run test test-clients lint format servers proofs proofs-oldest mutants evidence build bench bench-finding bench-load release clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "Environments and caches: $(PACKLORE_DEV)"

run: $(NEW)/.run ## show the main job: a client asks the server for an error message
	@$(NEW)/bin/python scripts/demo.py

test: $(NEW)/.test $(OLD)/.test ## run all tests, against real servers of their own
	@$(NEW)/bin/python -m pytest
	@$(OLD)/bin/python -m pytest tests/proofs --environment oldest

test-clients: $(NEW)/.test ## run the tests with all real clients, the large ones too
	@$(NEW)/bin/python -m pytest tests/clients -m "more or not more"

lint: $(NEW)/.test ## check code and pack
	@$(NEW)/bin/ruff check .
	@$(NEW)/bin/ruff format --check .
	@$(NEW)/bin/mypy
	@$(NEW)/bin/packlore lint
	@$(NEW)/bin/packlore build --check $(ASKED)

format: $(NEW)/.test ## format the code
	@$(NEW)/bin/ruff check --fix -q . ; $(NEW)/bin/ruff format .

servers: ## unpack both PgBouncers and a Redis from Debian beside the system, where apt is
	@$(FOUND) scripts/unpack.py $(PACKLORE_DEV)/servers $(PGBOUNCERS)
	@$(FOUND) scripts/unpack.py $(NEW)/servers $(REDIS)

proofs: $(NEW)/.test ## run the proofs on the newest releases; PROOFS=FILE names one
	@$(NEW)/bin/python -m pytest $(PROOFS)

proofs-oldest: $(OLD)/.test ## run the proofs on the oldest releases the rules claim
	@$(OLD)/bin/python -m pytest $(PROOFS) --environment oldest

mutants: $(NEW)/.test ## change Correct blocks and see which proofs notice; RULE=NAME names some
	@$(NEW)/bin/python -m tests.mutants $(or $(RULE),--only-stale)

evidence: $(NEW)/.test $(OLD)/.test ## run the proofs on both and write references/evidence.md
	@$(NEW)/bin/python -m pytest tests/proofs --record
	@$(OLD)/bin/python -m pytest tests/proofs --environment oldest --record
	@$(NEW)/bin/python -m tests.proofs.evidence

build: $(NEW)/.run ## write what derives from the pack
	@$(NEW)/bin/packlore build $(ASKED)

bench: $(NEW)/.test ## measure start, search, memory and growth
	@$(NEW)/bin/python -m benchmarks.speed

bench-finding: $(NEW)/.test ## measure how often the right rule comes first
	@$(NEW)/bin/python -m benchmarks.finding

bench-load: $(NEW)/.test ## measure requests a second over HTTP
	@$(NEW)/bin/python -m benchmarks.load

release: ## commit what users need to the branch `skill`
	@$(FOUND) scripts/release.py

clean: ## remove the environments and caches
	rm -rf $(addprefix $(PACKLORE_DEV)/,newest oldest servers hypothesis mypy pytest compiled ruff)

$(NEW)/.made:
	@test -n "$(FOUND)" || { echo "packlore needs Python 3.11 or later: set PYTHON=..." >&2; exit 1; }
	@echo "setting up $(NEW) with $(FOUND)" >&2
	@$(FOUND) -m venv $(NEW) || { echo "the venv module is missing (Debian: python3-venv)" >&2; exit 1; }
	@$(NEW)/bin/python -m pip install -q --disable-pip-version-check "pip>=25.1"
	@touch $@

$(NEW)/.run: $(NEW)/.made pyproject.toml constraints.txt
	@echo "installing the server" >&2
	@$(NEW)/bin/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(NEW)/.test: $(NEW)/.run
	@echo "installing what the tests and proofs need" >&2
	@$(NEW)/bin/python -m pip install -q -c constraints.txt --group test --group proofs
	@touch $@

$(OLD)/.test: $(NEW)/.made pyproject.toml constraints-oldest.txt
	@echo "setting up $(OLD) with the oldest releases the rules claim" >&2
	@$(FOUND) -m venv $(OLD)
	@$(OLD)/bin/python -m pip install -q --disable-pip-version-check "pip>=25.1"
	@$(OLD)/bin/python -m pip install -q -c constraints-oldest.txt --group proofs \
		markdown-it-py pytest pytest-asyncio pytest-timeout pyyaml
	@touch $@
