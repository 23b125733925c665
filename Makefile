# Each target works from a fresh clone on a machine that has Python; PYTHON=python3.12 chooses another one.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Where only the large CUDA build of torch would come: make test PIP_ARGS="--extra-index-url <torch's CPU index>"
PIP_ARGS ?=

.PHONY: demo graphs test test-all test-wheels lint clean

# What derains; torch comes with the tools of development.
$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e .
	touch $@

$(VENV)/.installed: $(VENV)/.core
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e ".[dev]"
	touch $@

demo: $(VENV)/.core
	mkdir -p demo
	$(BIN)/vderain run samples/rainy_road.mp4 demo/dry_road.mp4 --overwrite --report demo/report.json
	$(BIN)/vderain compare samples/rainy_road.mp4 demo/dry_road.mp4 --still 2 demo/before_after.png --overwrite
	@echo "The video without rain: demo/dry_road.mp4"
	@echo "Before and after:       demo/before_after.png"

# After new weights: what the wheel brings so that they run without torch.
graphs: $(VENV)/.installed
	for weights in vderain/weights/*.safetensors; do $(BIN)/vderain export --graphs $$weights || exit 1; done

# One worker for each core. The tests' networks are tiny: more threads would only wait for each other. A file stays with
# one worker, which makes what its tests share once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest
WORKERS = -n auto --dist loadfile --reruns 1

test: $(VENV)/.installed
	$(PYTEST) $(WORKERS) -m "not slow and not wheels"

# All tests: those of `make test`, then those marked slow.
test-all: test
	$(PYTEST) $(WORKERS) -m "slow and not wheels"

# Our wheel without torch, and calls of the published wheels of Torch-TensorRT; skips with a notice where there is no network.
test-wheels: $(VENV)/.installed
	$(PYTEST) -m wheels tests/wheels

# Types are checked on the installed wheel: the folders engines/ and training/ are mapped at installation.
lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/typing .
	cd build/typing && ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml -p vderain

clean:
	rm -rf $(VENV) build dist demo *.egg-info
