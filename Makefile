# make run     a campaign on a simulated reactor, then a first policy trained and compared
# make test    everything installed, all tests
# make lint    style and types;   make wheel   the built package in an empty environment
# make docs    the documentation site, site/index.html; warnings are errors
PYTHON ?= python3
BIN := .venv/bin
PROSE := README.md CONTRIBUTING.md CHANGELOG.md docs benchmarks

.PHONY: run test test-slow lint wheel docs benchmark

.venv/core: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/all: .venv/core
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -e '.[all]' --group dev
	touch $@

.venv/docs: .venv/core
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

run: .venv/core
	rm -rf runs/reactor runs/first
	$(BIN)/python examples/reactor.py runs/reactor
	$(BIN)/acbo train --config quick_test --output runs/first
	$(BIN)/acbo evaluate --checkpoint runs/first --suite simple --suite standardised --methods policy,regress,paths,thompson,oracle
	@echo
	@echo "The campaign's page is runs/reactor/report.html. Your own: $(BIN)/acbo campaign new --help"
	@echo "The policy that ships against other methods: $(BIN)/acbo evaluate --quick"

test: .venv/all
	$(BIN)/python -m pytest -n 2

test-slow: .venv/all
	$(BIN)/python -m pytest --slow

lint: .venv/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mdformat --check $(PROSE)

docs: .venv/docs # never --quiet: warnings would then not be counted, and would not stop it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "The site is site/index.html."

benchmark: .venv/all
	$(BIN)/python -m pytest --benchmark

wheel: .venv/all
	PYTHON=$(PYTHON) .ci/wheel
