# SPDX-License-Identifier: Apache-2.0
# The debugger of the matrix of faults. Never built with sanitizers: it looks at those that are.
FAULTS_CFLAGS ?= -std=gnu17 -O2 -g $(WARNINGS) -D_GNU_SOURCE
TEST_PROGRAMS += $(B)/tests/faults/step

$(B)/tests/faults/step: tests/faults/step.c tests/faults/calls.c tests/faults/calls.h
	@mkdir -p $(@D)
	$(CC) $(FAULTS_CFLAGS) -o $@ $(filter %.c,$^)
