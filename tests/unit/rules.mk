# SPDX-License-Identifier: Apache-2.0
# Every test_X.c is one cmocka program, build/tests/unit/test_X. `make unit` runs them all, also
# after a failure, and fails at the end if one failed; `make SAN=1 unit` does so under ASan+UBSan.
UNIT_TEST_SOURCES := $(wildcard tests/unit/test_*.c)
UNIT_TESTS += $(UNIT_TEST_SOURCES:%.c=$(B)/%)
UNIT_DEADLINE_S ?= 60

# -O2 hides from the sanitizers what the optimizer has folded away.
ifeq ($(SAN)$(origin OPT),1file)
OPT := -O1
endif

# The tests themselves need no optimizer, and so many of them take long to compile with one.
ifeq ($(SAN),1)
$(UNIT_TESTS:%=%.o): override OPT := -O0
endif

# supervisor/ and shim/ are two programs: no test links both, so that no name can clash.
UNIT_SUPERVISOR_TESTS := $(filter $(B)/tests/unit/test_supervisor_%,$(UNIT_TESTS))
$(UNIT_SUPERVISOR_TESTS): $(B)/%: $(B)/%.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(SUPERVISOR_LIBS) -lcmocka -o $@

$(filter-out $(UNIT_SUPERVISOR_TESTS),$(UNIT_TESTS)): $(B)/%: $(B)/%.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(SHIM_LIBS) -lcmocka -o $@

# What the sanitizers need is in their filters, too.
$(B)/tests/unit/test_filter.o: CPPFLAGS += $(FILTERFLAGS)

# These break a request on its way to the kernel.
$(B)/tests/unit/test_slot_life: LDFLAGS += -Wl,--wrap=netlink_batch_send
$(B)/tests/unit/test_supervisor_store: \
	LDFLAGS += -Wl,--wrap=fsync -Wl,--wrap=renameat -Wl,--wrap=unlinkat

# Kept, so that a second run does not compile again.
.SECONDARY: $(UNIT_TESTS:%=%.o)

.PHONY: unit-tests unit
# Some tests start the shim that lies beside them, and that the stand-in.
unit-tests: $(UNIT_TESTS) $(B)/cloister-shim $(B)/tests/standin/cloud-hypervisor
unit: unit-tests
	@failed=; for t in $(UNIT_TESTS); do \
		echo "== $${t##*/}"; \
		timeout $(UNIT_DEADLINE_S) $$t || failed="$$failed $${t##*/}"; \
	done; \
	[ -z "$$failed" ] || { echo "unit tests failed:$$failed"; exit 1; }; \
	echo "unit tests: all passed"
