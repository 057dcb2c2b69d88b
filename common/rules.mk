# SPDX-License-Identifier: Apache-2.0
COMMON_OBJECTS := $(patsubst %.c,$(B)/%.o,$(wildcard common/*.c))

$(B)/libcommon.a: $(COMMON_OBJECTS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# The filters of our own processes: tables of instructions, made by libseccomp once, here.
$(B)/common/gen/filter_gen.o $(B)/common/filter.o: CPPFLAGS += $(FILTERFLAGS)
$(B)/common/gen/filter_gen: $(B)/common/gen/filter_gen.o
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -lseccomp -o $@

$(B)/common/gen/filter_bpf.h: $(B)/common/gen/filter_gen
	$(Q)$< >$@.new && $< rows >$(@D)/filter_rows.txt && mv $@.new $@

$(B)/common/filter.o: CPPFLAGS += -I$(B)/common/gen
$(B)/common/filter.o: $(B)/common/gen/filter_bpf.h
