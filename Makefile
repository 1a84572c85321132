# `make demo` and `make test` set up everything that they need; both can be repeated.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Networks' start-up chatter, not ours.
export TF_CPP_MIN_LOG_LEVEL = 3

.PHONY: demo test lint types bench cells lite clean

demo: $(VENV)/core.stamp
	rm -rf demo
	$(BIN)/all-detect score sample_data/smears --out demo
	@echo && head -n 4 demo/cells.csv | cut -d, -f1-5,18-23 && echo "..." && echo && cat demo/images.csv | cut -d, -f1-9

# Windows have a process of their own: TensorFlow and Mesa's software renderer bring different LLVMs, which crash it
# when they meet. Files of tests share what they make, so each stays in one process.
test: lint types
	sh scripts/with_display.sh $(BIN)/python -m pytest tests/gui
	$(BIN)/python -m pytest --ignore=tests/gui --numprocesses=2 --dist=loadfile

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/dev.stamp
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32  # what Python itself lacks there

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.run

# The network that finds cells, from masks and boxes: make cells DATA=/path/to/data (half an hour on two cores)
CELLS := src/napari_all_detect/bundle/builtin/cells
cells: $(VENV)/dev.stamp
	rm -rf $(CELLS)
	$(BIN)/all-detect-train segmenter --masks $(DATA)/wbc_masks/set1_120px --masks $(DATA)/wbc_masks/set2_300px \
		--boxes $(DATA)/bccd --smears $(DATA)/taleqani --hold-out 3 --out $(CELLS) --version 1.1.2

# The shipped bundle of five CNNs, from the data: make lite DATA=/path/to/data (an interrupted one goes on)
LITE := src/napari_all_detect/bundle/builtin/lite
lite: $(VENV)/dev.stamp
	$(BIN)/all-detect-train fit --preset lite --smears $(DATA)/taleqani --classes Benign=Hem,Early=ALL,Pre=ALL,Pro=ALL \
		--mask-corner 32 --trunks $(DATA)/imagenet --out runs/lite
	rm -rf $(LITE)
	$(BIN)/all-detect-train export runs/lite --out $(LITE) --name lite --version 1.2.3 --bf16 \
		--dataset-name "Acute Lymphoblastic Leukemia (ALL) image dataset, Taleqani Hospital, Tehran" \
		--dataset-citation "Ghaderzadeh et al. 2022, Int. J. Intell. Syst. 37:5113-5133" \
		--data-notes training/data_notes/taleqani.md

$(VENV)/bin/pip:
	sh scripts/system_packages.sh python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/core.stamp: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/dev.stamp: pyproject.toml training/pyproject.toml scripts/system_packages.sh | $(VENV)/bin/pip
	sh scripts/system_packages.sh display
	-sh scripts/system_packages.sh browser
	$(BIN)/python -m pip install --quiet -e ".[dev]" -e "./training[bioimageio]"
	touch $@ $(VENV)/core.stamp

clean:
	rm -rf $(VENV) demo build dist
