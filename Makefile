PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled

.PHONY: demo test lint clean

demo: $(COMPILED)  ## run the planning chain for one week on a real grid
	$(VENV)/bin/bos demo

test: $(COMPILED)  ## everything that CI runs
	infra/packages
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pytest

$(INSTALLED): pyproject.toml constraints.txt
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
