# SPDX-License-Identifier: Apache-2.0
# Our programs with other filters, of the same objects but one: in $(B)/trace each call is an event
# for a tracer (nothing works without one), in $(B)/trap a denied call is named in the log.
ifneq ($(SAN),1)
TEST_PROGRAMS += $(B)/tests/filters/follow

# It reads x86-64's registers.
$(B)/tests/filters/follow: $(B)/tests/filters/follow.o
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@

# $(1): the folder, $(2): what common/gen/filter_gen.c and common/filter.c are told
define FILTER_VARIANT
TEST_PROGRAMS += $(1)/cloisterd $(1)/cloister-shim $(1)/cloister

$(1)/filter_gen.o: common/gen/filter_gen.c
$(1)/filter.o: common/filter.c $(1)/filter_bpf.h
$(1)/filter_gen.o $(1)/filter.o:
	@mkdir -p $$(@D)
	@echo "  CC   $$<"
	$$(Q)$$(CC) $$(CPPFLAGS) $(2) -I$(1) $$(CFLAGS) -MMD -MP -c $$< -o $$@

$(1)/filter_gen: $(1)/filter_gen.o
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) $$^ -lseccomp -o $$@
$(1)/filter_bpf.h: $(1)/filter_gen
	$$(Q)$$< >$$@.new && $$< rows >$$(@D)/rows.txt && mv $$@.new $$@

$(1)/cloisterd: $(B)/supervisor/main.o $(1)/filter.o $(B)/libsupervisor.a $(B)/libcommon.a
	@echo "  LD   $$@"
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(SUPERVISOR_LIBS)
$(1)/cloister-shim: $(B)/shim/main.o $(1)/filter.o $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $$@"
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(SHIM_LIBS)
$(1)/cloister: $$(CLI_OBJECTS) $(1)/filter.o $(B)/libsupervisor.a $(B)/libshim.a $(B)/libcommon.a
	@echo "  LD   $$@"
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ -lcjson -lcap-ng -linih -lmd
endef

$(eval $(call FILTER_VARIANT,$(B)/trace,-DFILTER_TRACE))
$(eval $(call FILTER_VARIANT,$(B)/trap,-DFILTER_TRAP))

.PHONY: trap
trap: $(B)/trap/cloisterd $(B)/trap/cloister-shim $(B)/trap/cloister
endif
