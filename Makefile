# make setup | demo | test | check | types | bench | clean; every target prepares what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup demo test check types bench clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "setuptools>=77"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

# The type checker wants folders as they are installed: links to those of the checkout, below one name.
TREE := .venv/tree/mouthpiece
types: setup
	rm -rf .venv/tree && mkdir -p $(TREE)
	ln -s $(CURDIR)/mouthpiece/* $(TREE)/
	ln -s $(addprefix $(CURDIR)/,engine face lipsync voice training evaluation configs) $(TREE)/
	cd .venv/tree && $(CURDIR)/$(BIN)/python -m mypy --config-file $(CURDIR)/pyproject.toml -p mouthpiece

bench: setup
	$(BIN)/python benchmarks/animate.py

clean:
	rm -rf build dist *.egg-info demo-out .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
