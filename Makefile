# The commands of the course. `make` alone lists them; README.md says more.
PYTHON =#    the Python to make .venv with, if not the first that is new enough
PIP_ARGS =#  more arguments for pip, at the first start
ARGS =#      more arguments for JupyterLab (make lab) or pytest (make test, make processors)
ONLY =#      make notebooks: only the lessons that begin so, as in ONLY=02
VENV = .venv# an environment of your own instead (conda's, say): nothing is installed into it
WORKERS = 2

export PYTHON PIP_ARGS
RUN = "$(VENV)/bin/python"
ENVIRONMENT = $(if $(filter-out .venv,$(VENV)),,environment)

.PHONY: help lab test test-all processors notebooks format clean environment

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "  %-16s %s\n", $$1, $$2 }'

lab: $(ENVIRONMENT) ## open the course in JupyterLab; your copies of the lessons are in work/
	@$(RUN) tools/lab.py $(ARGS)

test: $(ENVIRONMENT) ## run all tests: the library, every notebook, every exercise and its solution
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-all: ARGS += -m "slow or not slow"
test-all: test ## run the tests that make test leaves out, too: further cases of the same kind, the solutions alone

processors: $(ENVIRONMENT) ## run the tests that are sensitive to the processor as four others would
	@$(RUN) tools/processors.py -n $(WORKERS) $(ARGS)

notebooks: $(ENVIRONMENT) ## build and execute the notebooks from notebooks/source (ONLY=02: one lesson)
	@$(RUN) tools/build_notebooks.py --only "$(ONLY)"

format: $(ENVIRONMENT) ## put the code into the project's style
	@$(RUN) -m ruff check --fix . && $(RUN) -m ruff format .

clean: ## remove .venv and everything that was built; your work/ stays
	@rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	@find . -name __pycache__ -not -path './work/*' -prune -exec rm -rf {} +

environment:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if command -v "$$python" >/dev/null 2>&1; then exec "$$python" tools/environment.py; fi; \
	done; \
	echo "Install Python 3.11 or newer (python.org, or your system's packages) and run this again."; exit 1
