# SPDX-License-Identifier: Apache-2.0
TEST_PROGRAMS += $(B)/tests/bench/bench

$(B)/tests/bench/bench: $(B)/tests/bench/bench.o $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@
