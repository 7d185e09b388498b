# Two commands: `make demo` runs the bookinfo mesh on this machine, `make test` runs every test.
# `make demo-stop` ends what `make demo` started; `make release` builds the programs as they are released, which takes a while.

NAME         ?= demo
GATEWAY_PORT ?= 8080
PROFILE      ?= quick
BIN           = $(CURDIR)/target/$(PROFILE)

.PHONY: demo demo-stop test release

demo:
	@.ci/need
	cargo build --locked --profile $(PROFILE) -p mesh-proxy -p mesh-ctl -p bookinfo
	$(BIN)/meshctl up examples/bookinfo/platform examples/bookinfo/routing --detach --name $(NAME) \
	    --gateway-port 80=$(GATEWAY_PORT)
	@.ci/answers 127.0.0.1 $(GATEWAY_PORT) /productpage
	@echo "The mesh is running: http://127.0.0.1:$(GATEWAY_PORT)/productpage   (end it with: make demo-stop)"

demo-stop:
	$(BIN)/meshctl down --name $(NAME)

test:
	@.ci/need tests
	cargo test --locked --workspace

release:
	@.ci/release
