# The commands of every day. Nothing is needed beforehand but Python, git, make and the package
# index: each target first builds .venv when it is missing or older than what it is built from.
PYTHON ?= python3
ARGS ?=
TESTS = pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: train test coverage check docs lock audit

train: .venv/.complete
	@.venv/bin/yolo-jax train experiments/configs/quickstart.py $(ARGS)

test: .venv/.complete
	@.venv/bin/python -m $(TESTS)

# The share of lines that tests run, and by file those that none does.
coverage: .venv/.complete
	@.venv/bin/python -m pip install --quiet --progress-bar off -e '.[coverage]'
	@.venv/bin/coverage run -m $(TESTS)
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage report

check: .venv/.complete
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/pyright

# The pages of docs/ with the reference, into site/; a link that leads nowhere is an error.
docs: .venv/.complete
	@.venv/bin/python -m pip install --quiet --progress-bar off -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

# ARGS=--upgrade lets every pin move; else only what pyproject.toml demands. In an environment of its
# own: .venv would be built anew first, under whatever runs from it.
lock:
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --progress-bar off uv
	@build/lock/bin/uv pip compile --quiet $(ARGS) pyproject.toml --extra dev --no-annotate \
		--generate-hashes --custom-compile-command "make lock" -o requirements.txt

# Known vulnerabilities of what requirements.txt pins, by PyPI's list; a package that could not be
# looked up is an error.
audit:
	@$(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet --progress-bar off pip-audit
	@build/audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt

.venv/.complete: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "yolo_jax needs Python 3.11 or newer, and '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1 || true). Name another: make PYTHON=python3.11 ..." >&2; \
		exit 1; }
	@echo "Setting up .venv (once, a few minutes)"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --progress-bar off --require-hashes \
		-r requirements.txt
	@.venv/bin/python -m pip install --quiet --progress-bar off --no-deps -e .
	@touch $@
