PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := build/demo
WORKERS ?= auto

.PHONY: demo test lint zoo zoo-table properties fuzz clean

## demo: a model file becomes an elastic network, which GradAug then trains on real images, with random width and depth
demo: export OMP_WAIT_POLICY ?= PASSIVE# threads that spin while they wait stand still on a busy machine
demo: $(READY)
	$(BIN)/netslim convert examples/mymodel.py --input-shape 1,32,32 -o $(DEMO)/converted.pt
	$(BIN)/gradaug train --model $(DEMO)/converted.pt --mode randwidth --data digits --out $(DEMO)/randwidth --overwrite
	$(BIN)/gradaug train --model $(DEMO)/converted.pt --mode randdepth --data digits --out $(DEMO)/randdepth --overwrite

## test: everything that CI runs; pytest comes last
test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## zoo: the long runs over many real networks
zoo: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) -m zoo

## properties: random layouts and networks, other ones every time (NETSLIM_EXAMPLES of them)
properties: $(READY)
	NETSLIM_EXAMPLES=$${NETSLIM_EXAMPLES:-1000} $(BIN)/python -m pytest tests/test_axes.py tests/properties

## fuzz: thousands of damaged and altered files
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.archive.fuzz

## zoo-table: every torchvision model and two of each timm family; hours. Goes on where it was interrupted
zoo-table: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/zoo.py --models torchvision --models timm \
		--json build/zoo.json --markdown docs/zoo.md --resume

clean:
	rm -rf build $(VENV)

# The environment is made once, and again when the dependencies change.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
