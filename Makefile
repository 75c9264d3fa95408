# The commands of a developer; `make help` lists them. Everything runs inside .venv, which `tools/environment.py`
# makes from the lock files and remakes only when they change.

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check fuzz bench bench-kubernetes bench-proxy docs picture soak soak-kubernetes cluster kubernetes-binaries image lock clean environment-demo environment-dev

BIN := .venv/bin
CODE = $(wildcard zerogate gateway activator queueproxy autoscaler cli bench tools tests)

# Two for each core: half of what these tests take is waiting for timers and for the kernel. On two cores 68 s with three
# of them, 49 with four.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) * 2 )))

# Without compiled modules each process of each run compiles the tests anew: ten seconds of the minute. `make clean`
# removes them.
unexport PYTHONDONTWRITEBYTECODE

# The first interpreter that is new enough: `python3` may be older than a python3.N beside it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST)

demo: environment-demo ## a real model goes 0 -> 1 -> 0 behind the gateway; KEEP=1 leaves it up
	@$(BIN)/zerogate demo $(if $(KEEP),--keep)

test: environment-dev ## every test, the real model and the real cluster included
	@$(BIN)/python -m pytest $(ARGS)

test-fast: environment-dev ## the tests that need no real processes, on all cores, in a minute; FUZZ=1 tries more at random
	@FUZZ=$(or $(FUZZ),0.1) $(BIN)/python -m pytest -m "not slow and not model and not kubernetes" \
	  --ignore=tests/kubernetes --ignore=tests/e2e -n $(WORKERS) --dist loadscope $(ARGS)

fuzz: environment-dev ## the tests that try at random, for long: FUZZ=100 times what `make test` tries
	@FUZZ=$(or $(FUZZ),100) $(BIN)/python -m pytest -m fuzz --timeout 0 $(ARGS)

check: environment-dev ## lint, format, types, import contracts, purity, links of the documents; under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/python tools/check_purity.py
	$(BIN)/python tools/check_docs.py
	$(BIN)/python -m tools.write_docs --check

bench: environment-dev ## the figures, printed as a table
	@$(BIN)/python -m bench $(ARGS)

bench-kubernetes: environment-dev ## the figures of a real cluster; needs root; ARGS=startup for one part
	@$(BIN)/python -m bench.kubernetes $(ARGS)

bench-proxy: environment-dev ## beside Knative's queue-proxy, nginx, HAProxy and aiohttp; ARGS="small sse" or --quick
	@$(BIN)/python -m bench.peers $(ARGS)

soak: environment-dev ## the long runs (hours); their output is committed in bench/
	@$(BIN)/python -m bench --soak $(ARGS)

soak-kubernetes: environment-dev ## losses and outages on a real node, for minutes each; needs root
	@ZEROGATE_LONG=1 ZEROGATE_ROUNDS=20 $(BIN)/python -m pytest -s tests/kubernetes/test_losses.py \
	  tests/kubernetes/test_autoscaler_faults.py tests/kubernetes/test_end_to_end.py \
	  tests/kubernetes/test_cert_manager.py $(ARGS)

cluster: environment-dev ## a Kubernetes node of its own and a shell with kubectl and helm; gone when the shell ends
	@$(BIN)/python -m tests.kubernetes.harness $(ARGS)

kubernetes-binaries: environment-dev ## build what clusters of the tests run; once, 10 minutes; ARGS=--idle to give way
	@$(BIN)/python -m tests.kubernetes.harness.binaries $(ARGS)

image: ## the image of all processes, by docker, podman or buildah; ARGS="REGISTRY/zerogate:0.1.0 --base …"
	@$(PYTHON) tools/build_image.py $(ARGS)

docs: environment-dev ## write the documents that are generated from code
	@$(BIN)/python -m tools.write_docs

picture: environment-dev ## record the README's picture from a real run of the demonstration
	@$(BIN)/python -m tools.record_demo

lock: environment-dev ## resolve the dependencies anew and pin them
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --upgrade \
	  locks/tools.in -o locks/tools.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --upgrade \
	  --all-extras pyproject.toml -o locks/dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --upgrade \
	  --extra demo -c locks/dev.lock pyproject.toml -o locks/demo.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --upgrade \
	  --extra kubernetes --extra otel -c locks/dev.lock pyproject.toml -o locks/image.lock

clean: ## remove the environment and every cache
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment-demo environment-dev: environment-%:
	@test -n "$(PYTHON)" || { echo "zerogate needs Python 3.11 or newer, and none was found on PATH."; \
	  echo "Install one (for example: apt install python3.11 python3.11-venv), or say which: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "zerogate needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)."; exit 1; }
	@$(PYTHON) tools/environment.py $*
