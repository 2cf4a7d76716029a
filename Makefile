# The commands of a developer. `make help` lists them; each prepares .venv first when that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extra arguments for pytest, as in: make pytest ARGS="-k softmax -x"
ARGS ?=

PY_FILES := python tests tools examples benchmarks docs
PY_PRESENT := $(wildcard $(PY_FILES))
CPP_FILES = $(shell find cpp include metal tests/cpp \( -name '*.h' -o -name '*.cpp' -o -name '*.mm' -o -name '*.metal' \) 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-cuda pytest cpp-test lint format bench docs wheel check-macos random-modules mutants fuzz clean distclean

help: ## show this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /|/' | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'
	@echo "  variables: PYTHON=python3.12 (used when .venv is created), ARGS='...' (passed to pytest)"

setup: ## create or update .venv, and build the extension
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "error: $(PYTHON) not found; install Python 3.10 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) tools/dev_env.py

demo: setup ## extract, execute and verify a real model
	@echo "==> running examples/demo.py"
	@$(BIN)/python examples/demo.py

test: setup lint cpp-test pytest ## everything that must pass: lint, C++ tests, Python tests (half an hour or so on two cores)

test-slow: setup ## only the tests marked slow: full-size models, wheels, long fuzzing
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints-dev.txt -r tests/requirements-slow.txt
	@echo "==> pytest (slow tests)"
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-cuda: ## what needs an NVIDIA GPU, with PYTHON as it is: nothing is installed (ARGS="--only ops --list")
	@$(PYTHON) tools/test_cuda.py $(ARGS)

pytest: setup ## the Python tests only, on all cores (ARGS="-n0 ..." for one, as a debugger needs)
	@echo "==> pytest"
	@$(BIN)/python -m pytest -n auto --dist worksteal --durations=20 --durations-min=15 $(ARGS)

cpp-test: setup ## the C++ tests: plain, with address and undefined-behaviour sanitizers, with the thread sanitizer
	@$(BIN)/python tools/cpp_tests.py

lint: setup ## ruff, clang-format and mypy, changing nothing
	@echo "==> ruff check, ruff format --check"
	@$(BIN)/ruff check -q $(PY_PRESENT)
	@$(BIN)/ruff format -q --check $(PY_PRESENT) || { echo "error: files are not formatted; run make format" >&2; exit 1; }
	@echo "==> clang-format"
	@$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	@echo "==> mypy"
	@$(BIN)/mypy

format: setup ## format all Python and C++ files, and apply the safe fixes of ruff
	@$(BIN)/ruff check -q --fix $(PY_PRESENT) || true
	@$(BIN)/ruff format $(PY_PRESENT)
	@$(BIN)/clang-format -i $(CPP_FILES)

bench: setup ## run every benchmarks/bench_*.py
	@set -e; found=; for script in benchmarks/bench_*.py; do [ -e "$$script" ] || continue; found=1; \
	  echo "==> $$script"; $(BIN)/python "$$script"; done; [ -n "$$found" ] || echo "there are no benchmarks yet"

docs: setup ## build the site of the documentation in build/docs/site, and fail on a broken link
	@$(BIN)/python tools/build_docs.py

wheel: setup ## build dist/*.tar.gz and dist/*.whl
	@$(BIN)/python -m build --outdir dist

check-macos: setup ## compile and link the C++ core for macOS and Linux on arm64
	@$(BIN)/python tools/check_macos.py

random-modules: setup ## compare random modules with eager PyTorch (ARGS="--count 20000 --seed 0")
	@NPU_CHECK_PLAN=1 $(BIN)/python -m tests.random_modules $(ARGS)

mutants: setup ## break the kernels in small ways, and see whether the tests notice (after cpp-test; about 10 minutes)
	@$(BIN)/python tools/mutate_kernels.py $(ARGS)

fuzz: setup ## feed damaged files to all readers, under libFuzzer and sanitizers (half an hour; ARGS="--runs 100000" for fewer)
	@$(BIN)/python tools/fuzz.py $(ARGS)

clean: ## remove build results, not .venv
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find python tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV)
