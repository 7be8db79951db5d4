# `make` lists the commands. Each sets up what it needs in PACKLORE_DEV and nowhere else. That is
# outside the tree, for installers copy a clone as it lies there.
KEY := $(firstword $(shell printf %s '$(CURDIR)' | cksum))
export PACKLORE_DEV ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/packlore-dev/$(KEY)
export HYPOTHESIS_STORAGE_DIRECTORY := $(PACKLORE_DEV)/hypothesis
export MYPY_CACHE_DIR := $(PACKLORE_DEV)/mypy
export PYTEST_ADDOPTS := -o cache_dir=$(PACKLORE_DEV)/pytest
export PYTHONPYCACHEPREFIX := $(PACKLORE_DEV)/compiled
export RUFF_CACHE_DIR := $(PACKLORE_DEV)/ruff

# Which Python a side runs on: asked only where one is needed. What lays one uses another.
python = $(shell scripts/python.sh $(1))
installed = $(shell PACKLORE_DEV= scripts/python.sh $(1))
NEW := $(PACKLORE_DEV)/newest
OLD := $(PACKLORE_DEV)/oldest
PROOFS ?= tests/proofs
# What `make servers` takes from which Debian release: both PgBouncers, since 1.21 changed what holds
# behind one; nginx; and of the newest side alone, Redis and Python. Where its Python is not to be
# had, that side runs on what is installed.
SERVERS := $(PACKLORE_DEV)/servers
UNPACKED := pgbouncer:bookworm:pgbouncer pgbouncer:trixie:pgbouncer nginx:trixie:nginx \
	newest/redis-server:trixie:redis-server+redis-tools
UNPACKED_TODAY := $(subst :trixie:,:sid:,$(UNPACKED))
# A Python of a later release, as in `make servers PY=python3.14`: none by default, for the clients'
# tests want one with pip. ast-grep-py has wheels up to 3.14.
PY ?=
PY_SUITE ?= forky
PY_UNPACKED = newest/$(PY):$(PY_SUITE):$(PY)+$(PY)-minimal+$(PY)-venv+python3-pip-whl
TODAY := $(PACKLORE_DEV)/today
CONSTRAINTS ?= constraints.txt
ASKED := $(patsubst %,--asked benchmarks/finding/%.json,asked phrases everyday tasks earlier outside newer)

# With which the launcher's lock is made, and for which Pythons and machines it must have wheels.
HASHES := $(PACKLORE_DEV)/hashes
LOCK := $(HASHES)/requirements.txt
LOCK_CHECK := $(HASHES)/requirements-check.txt
PYTHONS := 3.11 3.12 3.13 3.14 3.15
PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl \
	aarch64-unknown-linux-musl aarch64-apple-darwin x86_64-apple-darwin x86_64-pc-windows-msvc

.PHONY: help run test test-clients lint format servers proofs proofs-oldest mutants evidence changes build bench bench-finding bench-load bench-memory evals fuzz new hashes release clean

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
	@$(NEW)/bin/packlore lint --strict
	@$(NEW)/bin/packlore build --check $(ASKED)

format: $(NEW)/.test ## format the code
	@$(NEW)/bin/ruff check --fix -q . ; $(NEW)/bin/ruff format .

servers: ## unpack both PgBouncers, an nginx and a Redis from Debian beside the system; PY=python3.14 that, too
	@$(call installed,newest) scripts/unpack.py $(SERVERS) $(UNPACKED)
	@[ -z "$(PY)" ] || $(call installed,newest) scripts/unpack.py $(SERVERS) $(PY_UNPACKED) || \
		echo "no $(PY) of Debian: the newest side runs on the newest Python that is installed" >&2

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

new: $(NEW)/.run ## begin a rule and its proof: RULE=<category>-<name>
	@$(NEW)/bin/packlore new $(RULE)

changes: ## run the proofs on what is newest today, without pins, and say what differs from the record
	@rm -rf $(TODAY)
	-@$(MAKE) servers proofs PACKLORE_DEV=$(TODAY) CONSTRAINTS=/dev/null \
		UNPACKED="$(UNPACKED_TODAY)" PY=python3.14 PY_SUITE=sid \
		PROOFS="$(PROOFS) --record=$(TODAY)/seen --outcomes=$(TODAY)/outcomes.json"
	@$(call python,newest) scripts/changes.py tests/proofs/observed/newest $(TODAY)/seen/newest \
		$(TODAY)/outcomes.json > $(TODAY)/changes.md
	@cat $(TODAY)/changes.md

build: $(NEW)/.run ## write what derives from the pack
	@$(NEW)/bin/packlore build $(ASKED)

bench: $(NEW)/.test ## measure start, search, check, memory and growth; CODE=DIR names a large repository to check
	@$(NEW)/bin/python -m benchmarks.speed $(if $(CODE),--code $(CODE))

bench-finding: $(NEW)/.test ## measure how often the right rule comes first
	@$(NEW)/bin/python -m benchmarks.finding

bench-load: $(NEW)/.test ## measure requests a second over HTTP
	@$(NEW)/bin/python -m benchmarks.load

evals: $(NEW)/.test ## have AGENT='command' do the tasks of evals/, with the pack and without; RULE=NAME names some
	@PYTHONPATH='$(CURDIR)' $(NEW)/bin/python -m benchmarks.evals $(RULE) $(if $(AGENT),--agent '$(AGENT)') $(EVALS)

hashes: $(HASHES)/.uv ## renew server/requirements.txt, from which the launcher installs
	@rm -f $(LOCK) # else uv keeps the hashes that it holds
	@$(HASHES)/bin/uv pip compile -q pyproject.toml -c constraints.txt --universal --python-version 3.11 \
		--generate-hashes --only-binary :all: --emit-build-options --no-annotate \
		--custom-compile-command "make hashes" -o $(LOCK) > /dev/null
	@for python in $(PYTHONS); do for platform in $(PLATFORMS); do \
		$(HASHES)/bin/uv pip install -q --dry-run --target $(HASHES)/nothing --require-hashes \
			--python-version $$python --python-platform $$platform -r $(LOCK) || \
			{ echo "no wheels for Python $$python on $$platform" >&2; exit 1; }; \
	done; done
	@rm -f $(LOCK_CHECK)
	@$(HASHES)/bin/python -c 'import sys, tomllib; print(*tomllib.load(sys.stdin.buffer)["project"]["optional-dependencies"]["check"], sep="\n")' \
		< pyproject.toml > $(HASHES)/check.in
	@$(HASHES)/bin/uv pip compile -q $(HASHES)/check.in -c constraints.txt --universal --python-version 3.11 \
		--generate-hashes --only-binary :all: --emit-build-options --no-annotate \
		--custom-compile-command "make hashes" -o $(LOCK_CHECK) > /dev/null
	@cp $(LOCK) $(LOCK_CHECK) server/

bench-memory: $(NEW)/.test ## measure a server's memory over 50,000 requests; REQUESTS=N sends others
	@$(NEW)/bin/python -m benchmarks.memory $(if $(REQUESTS),--requests $(REQUESTS))

fuzz: $(NEW)/.test ## try made-up packs, queries and messages for SECONDS (60); SEED=N repeats a run
	@$(NEW)/bin/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) \
		--folder $(PACKLORE_DEV)/fuzz $(if $(ONLY),--only "$(ONLY)")

release: ## commit what users need to the branch `skill`
	@$(call python,newest) scripts/release.py

clean: ## remove the environments and caches
	rm -rf $(addprefix $(PACKLORE_DEV)/,newest oldest servers today hashes hypothesis fuzz mypy pytest compiled ruff)

$(NEW)/.python $(OLD)/.python: %/.python:
	@python=$$(scripts/python.sh $(@:$(PACKLORE_DEV)/%/.python=%)) || exit 1; \
	echo "setting up $* with $$python" >&2; "$$python" -m venv --clear $*
	@$*/bin/python -m pip install -q --disable-pip-version-check "pip>=25.1"
	@touch $@

$(HASHES)/.uv: Makefile
	@$(call python,newest) -m venv --clear $(HASHES)
	@$(HASHES)/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9
	@touch $@

$(NEW)/.run: $(NEW)/.python pyproject.toml $(CONSTRAINTS)
	@echo "installing the server" >&2
	@$(NEW)/bin/python -m pip install -q -c $(CONSTRAINTS) -e .
	@touch $@

$(NEW)/.test: $(NEW)/.run
	@echo "installing what the tests and proofs need" >&2
	@$(NEW)/bin/python -m pip install -q -c $(CONSTRAINTS) --group test --group newest
	@touch $@

$(OLD)/.test: $(OLD)/.python pyproject.toml constraints-oldest.txt
	@echo "installing the oldest releases the rules claim" >&2
	@$(OLD)/bin/python -m pip install -q -c constraints-oldest.txt --group oldest \
		markdown-it-py pytest pytest-asyncio pytest-timeout pyyaml
	@touch $@
