# Everything runs in $(VENV); `setup` is done once and again only when the two files beside it change. uv installs several
# times as fast as pip, and a second environment takes no further disk; where it cannot, pip does.
# Another Python: make test-threads PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.emozoo-setup
export NO_ALBUMENTATIONS_UPDATE = 1
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: setup demo web test test-threads test-slow soak test-floors test-newest lint docs tables bench suite wheel licences sbom audit

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(VENV) -c constraints.txt -e ".[dev,docs]" \
		|| $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs]"
	touch $@

# A drawn clip, predicted by weights that know drawn faces: they see what is acted. Files beside it: plot, video, table.
demo: setup
	$(BIN)/python examples/predict_clip.py demo_out/drawn.mp4
	@echo "Look at demo_out/drawn.emozoo.png and demo_out/drawn.emozoo.mp4."
	@echo "Your own clip: $(BIN)/emozoo predict my.mp4 --model ceflnet --out out --plot --video"

web: setup
	$(BIN)/emozoo demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow and not soak"

test-threads: setup
	$(BIN)/python -m pytest -q tests/test_threads.py

# For a nightly job of an hour: what is marked slow(seconds), the shortest first. In all about 25 minutes of one core,
# 15 on two. What a change must not break (wheel, two processes, export) is in `test`.
test-slow: setup
	OMP_NUM_THREADS=1 timeout -s INT 60m $(BIN)/python -m pytest -q -n auto --maxschedchunk 1 --durations=15 -m slow

# What breaks programs, for most of an hour: damaged media, kills, full disks, a loaded web page, drawn files of strangers.
# Each part writes its row into the table that docs/reliability.md shows.
soak: setup
	OMP_NUM_THREADS=1 EMOZOO_SOAK_TABLE=benchmarks/results/soak.csv timeout -s INT 60m \
		$(BIN)/python -m pytest -q -n auto --maxschedchunk 1 --durations=20 -m soak; code=$$?; \
		cat benchmarks/results/soak.csv; $(BIN)/python benchmarks/tables.py; exit $$code

# The oldest versions that pyproject.toml takes, and the newest ones, whatever constraints.txt says: each in an environment
# of its own (7 GB), removed afterwards.
test-floors: VERSIONS = lowest-direct
test-newest: VERSIONS = highest
test-floors test-newest:
	$(PYTHON) -m venv .venv-versions
	.venv-versions/bin/python -m pip install --quiet uv
	.venv-versions/bin/uv pip install --quiet --python .venv-versions --resolution $(VERSIONS) -e ".[dev]"
	OMP_NUM_THREADS=1 .venv-versions/bin/python -m pytest -q -n auto --dist worksteal -m "not slow and not soak"
	rm -rf .venv-versions

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html
	! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="(https?:)?//' --include=*.html docs/_build/html  # nothing is fetched
	@echo "docs/_build/html/index.html"

tables: setup
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/leaderboard_pages.py

# Every measurement of speed in benchmarks/speed, for a machine that has nothing else to do.
bench: setup
	$(BIN)/python benchmarks/speed

suite: setup
	$(BIN)/emozoo benchmark --json demo_out/benchmark.json

wheel: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

licences: setup
	$(BIN)/python benchmarks/supply.py licences

sbom: setup
	$(BIN)/python benchmarks/supply.py sbom > sbom.json

# Known faults of what is installed; asks a database of them over the network.
audit: setup
	$(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit
	.venv-audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip
	rm -rf .venv-audit
