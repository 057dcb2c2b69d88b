# SPDX-License-Identifier: Apache-2.0
TEST_PROGRAMS += $(B)/tests/bench/bench

$(B)/tests/bench/bench: $(B)/tests/bench/bench.o $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@

TEST_PROGRAMS += $(B)/tests/bench/slot

$(B)/tests/bench/slot: $(B)/tests/bench/slot.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(SHIM_LIBS) -o $@
