# SPDX-License-Identifier: Apache-2.0
# The debugger of the matrix of faults. Never built with sanitizers: it looks at those that are.
FAULTS_CFLAGS ?= -std=gnu17 -O2 -g $(WARNINGS) -D_GNU_SOURCE
TEST_PROGRAMS += $(B)/tests/faults/step

$(B)/tests/faults/step: tests/faults/step.c tests/faults/calls.c tests/faults/calls.h
	@mkdir -p $(@D)
	$(CC) $(FAULTS_CFLAGS) -o $@ $(filter %.c,$^)

# cloisterd and its shim with a malloc that fails when it is told to.
NOMEM := $(B)/tests/faults/nomem
TEST_PROGRAMS += $(NOMEM)/cloisterd $(NOMEM)/cloister-shim

$(NOMEM)/cloisterd: $(B)/supervisor/main.o $(B)/libsupervisor.a $(B)/libcommon.a
$(NOMEM)/cloister-shim: $(B)/shim/main.o $(B)/libshim.a $(B)/libcommon.a
$(NOMEM)/cloisterd: NOMEM_LIBS = $(SUPERVISOR_LIBS)
$(NOMEM)/cloister-shim: NOMEM_LIBS = $(SHIM_LIBS)
$(NOMEM)/%: tests/faults/nomem.c
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fno-builtin $(LDFLAGS) -o $@ $(filter %.o %.c,$^) \
		$(filter %.a,$^) $(NOMEM_LIBS)
