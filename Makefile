PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled

.PHONY: demo test bench packages clean

demo: $(COMPILED)  ## run the planning chain for one week on a real grid
	$(VENV)/bin/bos demo

test: packages $(COMPILED)  ## everything that CI runs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pytest

bench: packages $(COMPILED)  ## each step beside its peers; ONLY="n1 ..." for some, BUDGET=seconds, DRAW=1 to draw only
	$(VENV)/bin/python tests/benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(DRAW),--draw)

packages:  ## what tests and benchmarks need of the system, where it can be installed
	infra/packages

$(INSTALLED): pyproject.toml setup.py constraints.txt $(wildcard bos_core/grid/native/*)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

# A kernel keeps the constants of other files that it was compiled with: after any change all are compiled anew.
$(COMPILED): $(INSTALLED) $(wildcard bos_core/grid/*.py)
	rm -f bos_core/grid/__pycache__/*.nb[ci]
	$(VENV)/bin/python -m bos_core.grid.compile_kernels
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
