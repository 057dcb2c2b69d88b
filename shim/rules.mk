# SPDX-License-Identifier: Apache-2.0
SHIM_OBJECTS := $(patsubst %.c,$(B)/%.o,$(filter-out shim/main.c,$(wildcard shim/*.c)))
PROGRAMS += $(B)/cloister-shim

# What its programs and tests link with.
SHIM_LIBS := -lcjson -lcap-ng -lmd -lnftnl -lmnl

$(B)/libshim.a: $(SHIM_OBJECTS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/cloister-shim: $(B)/shim/main.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(SHIM_LIBS) -o $@

# The VMM's outer filter: a table of instructions, made by libseccomp once, here.
$(B)/shim/gen/vmm_filter_gen: $(B)/shim/gen/vmm_filter_gen.o
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -lseccomp -o $@

$(B)/shim/gen/vmm_filter_bpf.h: $(B)/shim/gen/vmm_filter_gen
	$(Q)$< >$@.new && mv $@.new $@

$(B)/shim/vmm_filter.o: CPPFLAGS += -I$(B)/shim/gen
$(B)/shim/vmm_filter.o: $(B)/shim/gen/vmm_filter_bpf.h
