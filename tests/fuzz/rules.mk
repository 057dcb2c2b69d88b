# SPDX-License-Identifier: Apache-2.0
# Every fuzz_X.c is one target, build/.../tests/fuzz/fuzz_X, with its seeds in corpus/X.
#   make SAN=1 fuzz-corpora   each seed once, without libFuzzer: what make check does
#   make fuzz                 FUZZ_SECONDS of libFuzzer for each of FUZZ_TARGETS, by clang
FUZZ_SOURCES   := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_TARGETS   ?= $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=%)
FUZZ_PROGRAMS  := $(FUZZ_SOURCES:%.c=$(B)/%)
FUZZ_SECONDS   ?= 60
FUZZ_ENGINE    ?= $(B)/tests/fuzz/run.o
FUZZ_MAX_LEN   ?= 8192
FUZZ_OUT       ?= build/fuzz

FUZZ_OF_SUPERVISOR := $(addprefix $(B)/tests/fuzz/fuzz_,api config control link store)
FUZZ_OF_CLIENT     := $(B)/tests/fuzz/fuzz_import
FUZZ_OF_SHIM       := $(filter-out $(FUZZ_OF_SUPERVISOR) $(FUZZ_OF_CLIENT),$(FUZZ_PROGRAMS))

$(FUZZ_PROGRAMS): $(filter %.o,$(FUZZ_ENGINE))

# cmocka: what the worlds of the unit tests are made with.
$(FUZZ_OF_SUPERVISOR): $(B)/%: $(B)/%.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(FUZZ_ENGINE) $(filter-out $(FUZZ_ENGINE),$^) \
		$(SUPERVISOR_LIBS) -lcmocka -lm -o $@

$(FUZZ_OF_SHIM): $(B)/%: $(B)/%.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(FUZZ_ENGINE) $(filter-out $(FUZZ_ENGINE),$^) \
		$(SHIM_LIBS) -lcmocka -o $@

$(FUZZ_OF_CLIENT): $(B)/%: $(B)/%.o $(filter-out %/cli_main.o,$(CLI_OBJECTS)) \
		$(B)/libsupervisor.a $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(FUZZ_ENGINE) $(filter-out $(FUZZ_ENGINE),$^) \
		-lcjson -linih -lmd -o $@

$(B)/tests/fuzz/fuzz_import.o: CPPFLAGS += -Isupervisor/cli

.SECONDARY: $(FUZZ_PROGRAMS:%=%.o)

# Without sanitizers they would see little.
ifeq ($(SAN),1)
TEST_PROGRAMS += $(FUZZ_PROGRAMS)
endif

.PHONY: fuzz-programs fuzz-corpora fuzz
fuzz-programs: $(FUZZ_PROGRAMS)
fuzz-corpora: fuzz-programs
	@failed=; for t in $(FUZZ_TARGETS); do \
		$(B)/tests/fuzz/fuzz_$$t tests/fuzz/corpus/$$t || failed="$$failed $$t"; \
	done; \
	[ -z "$$failed" ] || { echo "fuzz corpora failed:$$failed"; exit 1; }; \
	echo "fuzz corpora: all passed"

# New inputs stay in build/fuzz/corpus, what makes a target fail in build/fuzz/found.
fuzz:
	@tests/setup.sh clang
	@$(MAKE) -s -j2 SAN=1 CC=clang B=$(FUZZ_OUT) OPT=-O1 FUZZ_ENGINE=-fsanitize=fuzzer \
		SANFLAGS="-fsanitize=address,undefined,fuzzer-no-link \
			-fno-sanitize-recover=undefined -fno-omit-frame-pointer" fuzz-programs
	@failed=; for t in $(FUZZ_TARGETS); do \
		echo "== $$t"; \
		mkdir -p $(FUZZ_OUT)/corpus/$$t $(FUZZ_OUT)/found; \
		$(FUZZ_OUT)/tests/fuzz/fuzz_$$t -max_total_time=$(FUZZ_SECONDS) \
			-max_len=$(FUZZ_MAX_LEN) -rss_limit_mb=1024 -timeout=10 \
			-print_final_stats=1 -verbosity=0 \
			-artifact_prefix=$(FUZZ_OUT)/found/$$t- \
			$(FUZZ_OUT)/corpus/$$t tests/fuzz/corpus/$$t || failed="$$failed $$t"; \
	done; \
	[ -z "$$failed" ] || { echo "fuzzers found something in:$$failed"; exit 1; }; \
	echo "fuzz: nothing found"
