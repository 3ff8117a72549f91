# `make demo` and `make test` do the whole set-up first, in .venv. Another build of torch (CUDA, an index of your own):
#   make demo PIP_TORCH_ARGS="--index-url <your index>"
PYTHON ?= python3
PIP_TORCH_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo docs test test-slow coverage fuzz mutants audit bench-gpu setup clean

demo: setup
	$(RUN) -m pipelines.run_adni --label-rate 0.1

test: setup
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest -n auto --dist loadfile -m "not slow"

# The documentation site, into out/site.
docs: $(VENV)/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# Those that take a minute or more, and those that need a browser or data of their own.
test-slow: setup
	$(RUN) -m pytest -m slow

# Everything that needs a GPU, into out/gpu/gpu.tsv. A prepared cohort for the study: make bench-gpu PREPARED=out/adni/prepared
bench-gpu: setup
	$(RUN) -m benchmarks.gpu out/gpu $(if $(PREPARED),--prepared $(PREPARED))

# The tests once more, counting lines: at least 85 % of all, and 90 % of the learner.
coverage: setup
	$(RUN) -m pytest -n auto --dist loadfile -m "not slow" --cov --cov-report= --cov-fail-under=85
	$(RUN) -m coverage report --skip-covered --include="adni_tcgm/*" --fail-under=90
	$(RUN) -m coverage report --skip-covered --fail-under=85

# A thousand broken files of each format (the tests: thirty).
fuzz: setup
	$(RUN) -m benchmarks.fuzz --each 1000

# Faults put into the gain, the aggregator and the labels, which the tests must notice.
mutants: setup
	$(RUN) -m benchmarks.mutants

# Known vulnerabilities of the pinned packages; asks the package index, and keeps its own packages apart from ours.
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

setup: $(VENV)/.installed

# torch comes first and alone, so that no other package pulls in a build that was not asked for.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"Python {v[0]}.{v[1]} found; 3.11 to 3.13 is needed (make PYTHON=python3.11 ...)")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_TORCH_ARGS) torch==2.13.0
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-audit out
