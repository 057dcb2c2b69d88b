# SPDX-License-Identifier: Apache-2.0
# A tracer for the filters of our own processes (it reads x86-64's registers), and our programs with
# filters that tell it about every call: they do nothing without it. Of the objects one differs.
ifneq ($(SAN),1)
TRACED := $(B)/trace
TEST_PROGRAMS += $(B)/tests/filters/follow $(TRACED)/cloisterd $(TRACED)/cloister-shim $(TRACED)/cloister

$(B)/tests/filters/follow: $(B)/tests/filters/follow.o
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@

$(TRACED)/%.o: CPPFLAGS += -DFILTER_TRACE -I$(TRACED)
$(TRACED)/filter_gen.o: common/gen/filter_gen.c
$(TRACED)/filter.o: common/filter.c $(TRACED)/filter_bpf.h
$(TRACED)/filter_gen.o $(TRACED)/filter.o:
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(TRACED)/filter_gen: $(TRACED)/filter_gen.o
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -lseccomp -o $@
$(TRACED)/filter_bpf.h: $(TRACED)/filter_gen
	$(Q)$< >$@.new && $< rows >$(@D)/rows.txt && mv $@.new $@

$(TRACED)/cloisterd: $(B)/supervisor/main.o $(TRACED)/filter.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(SUPERVISOR_LIBS)
$(TRACED)/cloister-shim: $(B)/shim/main.o $(TRACED)/filter.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(SHIM_LIBS)
$(TRACED)/cloister: $(CLI_OBJECTS) $(TRACED)/filter.o $(B)/libsupervisor.a $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcjson -linih -lmd
endif
