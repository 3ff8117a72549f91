# `make demo` and `make test` do the whole set-up first, in .venv. Another build of torch (CUDA, an index of your own):
#   make demo PIP_TORCH_ARGS="--index-url <your index>"
PYTHON ?= python3
PIP_TORCH_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-slow bench-gpu setup clean

demo: setup
	$(RUN) -m pipelines.run_adni --label-rate 0.1

test: setup
	$(RUN) -m ruff check .
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest -n auto --dist loadfile -m "not slow"

# Those that take a minute or more, and those that need a browser or data of their own.
test-slow: setup
	$(RUN) -m pytest -m slow

# Everything that needs a GPU, into out/gpu/gpu.tsv. A prepared cohort for the study: make bench-gpu PREPARED=out/adni/prepared
bench-gpu: setup
	$(RUN) -m benchmarks.gpu out/gpu $(if $(PREPARED),--prepared $(PREPARED))

setup: $(VENV)/.installed

# torch comes first and alone, so that no other package pulls in a build that was not asked for.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"Python {v[0]}.{v[1]} found; 3.11 to 3.13 is needed (make PYTHON=python3.11 ...)")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_TORCH_ARGS) torch==2.13.0
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) out
