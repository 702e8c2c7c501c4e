# Everything that one does with this tree; `make` alone lists it.

.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/made
# tests/conftest.py says which tests may run at the same time.
PYTEST_ARGS ?= -n 2 --dist loadgroup -r s

.PHONY: help demo test bench sim fuzz lint types fmt manifests venv image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## fifty Services at once, on a cluster made of this machine: one minute, with numbers
	@.ci/prepare demo
	@$(BIN)/lbspeaker demo $(ARGS)

test: $(STAMP) ## run all tests, and say which are skipped and why (ARGS= for pytest)
	@.ci/prepare test
	@$(BIN)/pytest $(PYTEST_ARGS) -m "not alone" $(ARGS) || [ $$? = 5 ]
	@$(BIN)/pytest -r s -m alone $(ARGS) || [ $$? = 5 ] # and these need both cores; 5: there are none

bench: $(STAMP) ## measure every number that is promised, into build/bench.json (ONLY=name for one)
	@.ci/prepare test
	@$(BIN)/python -m tests.bench $(ONLY)

fuzz: $(STAMP) ## a million inputs for each parser of what strangers send (ARGS="--seed 2 hello")
	@$(BIN)/python -m tests.fuzz $(ARGS)

sim: $(STAMP) ## simulate clusters in bad weather (SEEDS=10000), and say which seeds fail
	@$(BIN)/python -m tests.sim --seeds $(or $(SEEDS),1000)

lint: $(STAMP) ## check the style of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## check the types
	@$(BIN)/mypy

fmt: $(STAMP) ## format the code, and mend what can be mended by itself
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

manifests: $(STAMP) ## write what is made from the code: CRDs, rules, all in one file, the Helm chart; tables in docs
	@$(BIN)/python -m lbspeaker.config.crds > config/base/crds.yaml
	@.ci/prometheusrule < config/monitoring/rules.yaml > config/monitoring/prometheusrule.yaml
	@{ echo '# Everything of `kubectl apply -k config` in one file, by `make manifests`.'; kubectl kustomize config; } > config/lbspeaker.yaml
	@$(BIN)/python .ci/chart
	@$(BIN)/python .ci/reference docs/configuration.md docs/security.md

image: $(STAMP) ## build the container image without a container engine, into build/image (docs/image.md)
	@.ci/image

venv: $(STAMP) ## make .venv, with exactly the versions of .ci/constraints.txt

$(STAMP): pyproject.toml .ci/constraints.txt
	@.ci/prepare venv $(VENV)
	@touch $@

clean: ## remove everything that was made here
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find lbspeaker tests -name __pycache__ -prune -exec rm -rf {} +
