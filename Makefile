OPT ?= kron,adam,novograd
SMALL ?= /tmp/grand-small

check:     ; ruff check . && ruff format --check . && pyright && lint-imports  ## lint, format, types, floors
test:      ; python -m pytest                                                  ## what runs on every change
outside:   ; python -m pytest tests/test_outside.py -m "slow or not slow"      ## a newcomer's own things, outside the repository
test-all:  ; python -m pytest -m "slow or not slow"                            ## and the full product
bench:     ; python -m pytest tests/bench -s -n 0 $(BENCH)                     ## the engine against hand-written loops
against:   ; python -m tests.bench.against $(OLD)                              ## the engine against that of commit OLD
reliability: ; python -m tests.reliability $(EACH)                             ## faults and bad input, counted: docs/reliability.md
power:     ; python -m tests.mutants                                           ## what optbench check catches: docs/gate.md
docs:      ; mkdocs build --strict                                             ## the site, in build/site, warnings are errors
conformance: ; python -m tests.matrix $(or $(OPTS),"") $(CHECKS)                ## the matrix of docs/conformance.md (OPTS=kron CHECKS=use, OPTS=heavyball)
report:      ## the sample report: its runs, the claims, the pages, the picture (OPT=kron,adam,novograd)
	optbench run --suite quickstart --opt $(OPT)
	optbench run --suite paths --opt $(OPT)
	optbench claims --strict --out reports/sample
	optbench report --suite quickstart --opt $(OPT) --figures --out reports/sample
	python -m tests.picture reports/sample/quickstart
grand:       ## forty optimizers on twelve tasks, some hours on two cores; interrupted, it goes on
	optbench run --suite grand --results reports/grand/rows
	optbench merge reports/grand/rows --into reports/grand/rows --bits 7
	optbench report --suite grand --results reports/grand/rows --out reports
grand-small: ## the same in miniature, in $(SMALL)
	optbench run --suite grand --task quadratic_100,zipf --opt sgd,adam,lion,muon --trials 3 --seeds 2 --steps 60 --results $(SMALL)/rows
	optbench report --suite grand --task quadratic_100,zipf --trials 3 --steps 60 --results $(SMALL)/rows --out $(SMALL)
help:      ; @grep -E "^[a-z-]+:" Makefile | sed -E "s/:.*## /\t/" | expand -t 12 ## these lines
.PHONY: check test outside test-all bench against reliability power docs conformance report grand grand-small help
