# The commands make a virtual environment in this clone from the pinned locks. They need nothing but
# Python 3.11 or later, and use uv if it is installed.

VENV := .venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: reproduce test test-all lowest processors lint faults fuzz benchmark docs linkcheck dist locks clean

## reproduce: train, probe, measure and judge the whole paper (ARGS=--quick leaves out the scrutiny)
reproduce: $(VENV)/.core
	$(VENV)/bin/gradquake reproduce --out reproduction $(ARGS)

## test: test the core, without torch
test: $(VENV)/.test
	$(PYTEST) -m "not optional"

## test-all: then add torch, the frameworks and the cluster; run the tests that need them, and kill sweeps
test-all: test $(VENV)/.all
	$(PYTEST) -m optional

## lowest: test the core with the lowest versions of its dependencies (needs Python 3.11)
lowest: $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not optional"

## processors: compare what the sweeps record on emulated processors (more of them with qemu-user)
processors: $(VENV)/.test
	$(PYTHON) tests/validation/processors.py

## lint: check style, format and types
lint: $(VENV)/.all
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

## faults: kill, fill, damage and interrupt sweeps in full; the tests do a part of it
faults: $(VENV)/.all
	GRADQUAKE_FAULTS=100 $(PYTHON) -m pytest tests/faults -n auto

## fuzz: a million executions guided by coverage; the tests do a short form
fuzz: $(VENV)/.all
	@if command -v uv >/dev/null; then uv pip install -q --python $(PYTHON) atheris; \
	else $(PYTHON) -m pip install -q --disable-pip-version-check atheris; fi
	for surface in store files graphs; do $(PYTHON) tests/fuzz/run.py $$surface --executions 300000 || exit 1; done
	$(PYTHON) tests/fuzz/run.py cli --executions 100000

## benchmark: measure every figure of docs/benchmarks.md
benchmark: $(VENV)/.all
	for script in benchmarks/bench_*.py; do $(PYTHON) $$script || exit 1; done

## docs: build the site into docs/_build/html and run its gallery; warnings are errors (needs no network)
docs: $(VENV)-docs/.installed
	$(VENV)-docs/bin/python -m sphinx -b html -n -W --keep-going docs docs/_build/html

## linkcheck: try the links of the site to other sites (needs the network)
linkcheck: $(VENV)-docs/.installed
	$(VENV)-docs/bin/python -m sphinx -b linkcheck -D plot_gallery=False docs docs/_build/linkcheck

## dist: build the wheel and the sdist, and check them (ARGS="--release v0.1.0": as this release)
dist: $(VENV)-dist/.installed
	$(VENV)-dist/bin/python tests/packaging/dist.py $(ARGS)

## locks: resolve the dependencies anew (needs uv); torch's CUDA packages are not pinned
locks:
	uv pip compile --universal --python-version 3.11 -q --no-header --no-annotate --upgrade \
		pyproject.toml -o locks/core.txt
	uv pip compile --universal --python-version 3.11 -q --no-header --no-annotate --upgrade \
		pyproject.toml --group test -o locks/test.txt
	uv pip compile --universal --python-version 3.11 -q --no-header --no-annotate --upgrade \
		pyproject.toml --group all | grep -Ev '^(nvidia|cuda|triton)-?' > locks/all.txt
	uv pip compile --universal --python-version 3.11 -q --no-header --no-annotate --upgrade \
		--group dist -o locks/dist.txt
	uv pip compile --universal --python-version 3.11 -q --no-header --no-annotate --upgrade \
		pyproject.toml --group docs | grep -Ev '^(nvidia|cuda|triton)-?' > locks/docs.txt
	# matplotlib 3.10 uses names that later versions of pyparsing warn of, and a warning is an error in the tests.
	echo 'pyparsing==3.2.5' | uv pip compile --resolution lowest-direct --python-version 3.11 -q --no-header \
		--no-annotate --upgrade pyproject.toml --group test - -o locks/lowest.txt

## clean: remove what the commands made
clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-dist $(VENV)-docs dist reproduction docs/_build docs/api docs/gallery_of

$(VENV)-lowest/.installed: locks/lowest.txt pyproject.toml
	$(call install,locks/lowest.txt,$(VENV)-lowest,python3.11)
	touch $@

$(VENV)-docs/.installed: locks/docs.txt pyproject.toml
	$(call install,locks/docs.txt,$(VENV)-docs)
	touch $@

$(VENV)-dist/.installed: locks/dist.txt
	$(call install,locks/dist.txt,$(VENV)-dist)
	touch $@

$(VENV)/.core: locks/core.txt pyproject.toml
	$(call install,locks/core.txt,$(VENV))
	touch $@

$(VENV)/.test: locks/test.txt pyproject.toml
	$(call install,locks/test.txt,$(VENV))
	touch $@ $(VENV)/.core

$(VENV)/.all: locks/all.txt pyproject.toml
	$(call install,locks/all.txt,$(VENV))
	touch $@ $(VENV)/.test $(VENV)/.core

# Install a lock and this package into an environment; the third argument may name the Python.
define install
	@echo "Installing into $(2); this takes a minute or two, once."
	@if command -v uv >/dev/null; then \
		test -x $(2)/bin/python || uv venv -q $(if $(3),-p $(3)) $(2); \
		uv pip install -q --python $(2)/bin/python -r $(1) && \
		uv pip install -q --python $(2)/bin/python --no-deps -e .; \
	else \
		test -x $(2)/bin/python || $(or $(3),python3) -m venv $(2); \
		$(2)/bin/python -m pip install -q --disable-pip-version-check --no-compile -r $(1) && \
		$(2)/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .; \
	fi
endef
