// SPDX-License-Identifier: Apache-2.0
/*
 * guest.S - a guest small enough to know by heart: it speaks the tests' console language on the
 * serial port and does on command what real guests do by accident.
 *
 * Entered by the PVH boot protocol (Xen's docs/misc/pvh.pandoc): 32-bit protected mode, no paging,
 * %ebx = physical address of hvm_start_info. The file is an ELF64 that holds 32-bit code, because
 * Cloud Hypervisor's loader takes 64-bit headers only.
 *
 * It is to run where KVM emulates guest kernels instruction by instruction too, so it keeps to plain
 * instructions and needs no IRET: interrupts are open at one place only (the HLT of the main loop),
 * and a handler drops its frame and starts the loop anew.
 *
 * An idle guest costs one wake-up a tick: the timer and the UART both interrupt, nothing polls.
 *
 * Devices (Cloud Hypervisor's devices/ crate): UART 0x3f8 with GSI 4, i8042 0x64, ACPI shutdown
 * and reset 0x600, ACPI PM timer 0x608 (3.579545 MHz), pvpanic as PCI device 1b36:0011, and disks
 * (disk.S).
 */
#define UART	   0x3f8
#define LSR	   (UART + 5)
#define ACPI_PORT  0x600
#define PM_TIMER   0x608
#define PM_PER_MS  3580
#define LAPIC	   0xfee00000
#define IOAPIC	   0xfec00000
#define VEC_TIMER  0x30
#define VEC_SERIAL 0x31
#define VEC_SPUR   0x3f
#define LINE_MAX   120
#define TOUCH_BASE 0x1000000
#define PVPANIC_ID 0x00111b36

/* hvm_start_info and its memory map entries */
#define SI_CMDLINE	  24
#define SI_MEMMAP	  40
#define SI_MEMMAP_ENTRIES 48

	.code32
	.section .note.pvh, "a", @note
	.long	4, 4, 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.long	start

	.text
	.globl	start
start:
	cli
	cld
	movl	$stack_top, %esp
	lgdt	gdt_ptr
	ljmp	$8, $1f
1:	movl	$16, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%ebx, %esi
	/* a reboot in place leaves memory as it was, so the bss is not zero by itself */
	movl	$bss_start, %edi
	xorl	%eax, %eax
2:	movl	%eax, (%edi)
	addl	$4, %edi
	cmpl	$bss_end, %edi
	jb	2b
	movl	$100, tick_ms
	call	find_memory
	call	copy_cmdline
	call	setup_interrupts
	call	calibrate
	movl	$s_guest_up, %esi
	call	puts
	movl	$word_tick, %ebp
	call	each_word
	movl	$word_do, %ebp
	call	each_word
	call	start_timer

main_loop:
	call	drain_serial
	cmpl	$0, tick_due
	je	1f
	movl	$0, tick_due
	incl	count
	call	print_count
1:	sti
	hlt
	cli
	jmp	main_loop

timer_interrupt:
	cmpl	$0, tick_ms
	je	serial_interrupt
	movl	$1, tick_due
serial_interrupt:
	movl	$0, LAPIC + 0xb0	/* end of interrupt */
spurious_interrupt:
	movl	$stack_top, %esp
	jmp	main_loop

/* ---- set-up ---- */

/* %esi = hvm_start_info. touch_limit = MiB of RAM that follow TOUCH_BASE in its own range. */
find_memory:
	movl	SI_MEMMAP(%esi), %edi
	movl	SI_MEMMAP_ENTRIES(%esi), %ecx
1:	testl	%ecx, %ecx
	jz	9f
	cmpl	$1, 16(%edi)		/* RAM */
	jne	8f
	cmpl	$0, 4(%edi)		/* starts above 4 GiB */
	jne	8f
	movl	(%edi), %eax
	cmpl	$TOUCH_BASE, %eax
	ja	8f
	cmpl	$0, 12(%edi)		/* 4 GiB and more: the devices' hole comes first */
	jne	2f
	addl	8(%edi), %eax
	jnc	3f
2:	movl	$0xc0000000, %eax
3:	subl	$TOUCH_BASE, %eax
	jbe	8f
	shrl	$20, %eax
	movl	%eax, touch_limit
8:	addl	$24, %edi
	decl	%ecx
	jmp	1b
9:	ret

/* %esi = hvm_start_info. The command line goes to cmdline, bounded and ended. */
copy_cmdline:
	movl	SI_CMDLINE(%esi), %esi
	movl	$cmdline, %edi
	movl	$(cmdline_end - cmdline - 1), %ecx
	testl	%esi, %esi
	jz	9f
1:	movb	(%esi), %al
	testb	%al, %al
	jz	9f
	movb	%al, (%edi)
	incl	%esi
	incl	%edi
	decl	%ecx
	jnz	1b
9:	movb	$0, (%edi)
	ret

/* %eax = handler, %edi = vector */
set_gate:
	movl	%eax, %edx
	andl	$0xffff, %eax
	orl	$0x80000, %eax
	movl	%eax, idt(, %edi, 8)
	andl	$0xffff0000, %edx
	orl	$0x8e00, %edx
	movl	%edx, idt + 4(, %edi, 8)
	ret

/* Exceptions have no gate: a bug of this guest is a triple fault, which the tests see. */
setup_interrupts:
	movl	$timer_interrupt, %eax
	movl	$VEC_TIMER, %edi
	call	set_gate
	movl	$serial_interrupt, %eax
	movl	$VEC_SERIAL, %edi
	call	set_gate
	movl	$spurious_interrupt, %eax
	movl	$VEC_SPUR, %edi
	call	set_gate
	lidt	idt_ptr
	movl	$(0x100 | VEC_SPUR), LAPIC + 0xf0
	movl	$0, LAPIC + 0x80	/* task priority: let all in */
	movl	LAPIC + 0x20, %eax	/* own APIC id, same place in the IOAPIC's entry */
	andl	$0xff000000, %eax
	movl	$(0x11 + 2 * 4), IOAPIC
	movl	%eax, IOAPIC + 0x10
	movl	$(0x10 + 2 * 4), IOAPIC
	movl	$VEC_SERIAL, IOAPIC + 0x10	/* edge, fixed, not masked */
	movl	$(UART + 3), %edx
	movb	$3, %al
	outb	%al, %dx
	movl	$(UART + 1), %edx
	movb	$1, %al			/* interrupt for received data */
	outb	%al, %dx
	ret

/* timer_per_ms = LAPIC timer counts in a millisecond, measured for 1 ms against the PM timer. */
calibrate:
	movl	$3, LAPIC + 0x3e0	/* divide by 16 */
	movl	$0x10000, LAPIC + 0x320 /* masked */
	movl	$0xffffffff, LAPIC + 0x380
	movl	$PM_TIMER, %edx
	inl	%dx, %eax
	movl	%eax, %ebx
	movl	LAPIC + 0x390, %esi
1:	inl	%dx, %eax
	movl	LAPIC + 0x390, %ecx
	subl	%ebx, %eax
	cmpl	$PM_PER_MS, %eax
	jb	1b
	movl	%eax, %ebx
	subl	%ecx, %esi
	movl	%esi, %eax
	movl	$PM_PER_MS, %ecx
	mull	%ecx
	divl	%ebx
	movl	%eax, timer_per_ms
	movl	$0, LAPIC + 0x380
	ret

/* Periodic at tick_ms. Without ticks the timer still runs once a second, should a serial
 * interrupt ever be lost. */
start_timer:
	movl	tick_ms, %eax
	testl	%eax, %eax
	jnz	1f
	movl	$1000, %eax
1:	mull	timer_per_ms
	testl	%edx, %edx
	jz	2f
	movl	$0xffffffff, %eax
2:	movl	$(0x20000 | VEC_TIMER), LAPIC + 0x320
	movl	%eax, LAPIC + 0x380
	ret

/* ---- command line ---- */

/* Calls %ebp with %esi = each blank-separated word of the command line. */
each_word:
	movl	$cmdline, %ebx
1:	movb	(%ebx), %al
	testb	%al, %al
	jz	9f
	incl	%ebx
	cmpb	$' ', %al
	jbe	1b
	leal	-1(%ebx), %esi
	pushl	%ebx
	pushl	%ebp
	call	*%ebp
	popl	%ebp
	popl	%ebx
2:	movb	(%ebx), %al		/* on to the end of the word */
	testb	%al, %al
	jz	9f
	incl	%ebx
	cmpb	$' ', %al
	ja	2b
	jmp	1b
9:	ret

word_tick:
	movl	$s_word_tick, %edi
	call	prefix
	jne	9f
	call	number
	jc	9f
	movl	%eax, tick_ms
9:	ret

word_do:
	movl	$s_word_do, %edi
	call	prefix
	jne	9f
	movl	$line, %edi
1:	movb	(%esi), %al
	cmpb	$' ', %al
	jbe	3f
	cmpb	$'_', %al
	jne	2f
	movb	$' ', %al
2:	movb	%al, (%edi)
	incl	%esi
	incl	%edi
	cmpl	$(line + LINE_MAX), %edi
	jb	1b
3:	movb	$0, (%edi)
	jmp	run_command
9:	ret

#include "text.S"

/* ---- serial input ---- */

drain_serial:
	movl	$LSR, %edx
	inb	%dx, %al
	testb	$1, %al
	jz	9f
	movl	$UART, %edx
	inb	%dx, %al
	cmpb	$'\n', %al
	je	2f
	cmpb	$'\r', %al
	je	2f
	movl	line_len, %ecx
	cmpl	$LINE_MAX, %ecx
	jae	drain_serial		/* what is over is dropped */
	movb	%al, input(%ecx)
	incl	line_len
	jmp	drain_serial
2:	call	take_line
	jmp	drain_serial
9:	ret

/* An empty line is no line: CR LF would make one of its own. */
take_line:
	movl	line_len, %ecx
	testl	%ecx, %ecx
	jz	9f
	movl	$0, line_len
	xorl	%ebx, %ebx
1:	movb	input(%ebx), %al
	movb	%al, line(%ebx)
	incl	%ebx
	cmpl	%ecx, %ebx
	jb	1b
	movb	$0, line(%ebx)
	movl	$s_echo, %esi
	call	puts
	movl	$line, %esi
	call	puts
	call	newline
	jmp	run_command
9:	ret

/* ---- commands ---- */

/* Carries out the command in line, if it is one. */
run_command:
	movl	$commands, %ebp
1:	movl	(%ebp), %edi
	testl	%edi, %edi
	jz	9f
	movl	$line, %esi
	call	prefix
	jne	2f
	call	take_numbers
	jc	9f
	cmpb	$0, (%esi)		/* something follows: not the command */
	jne	2f
	movl	args, %eax
	jmp	*4(%ebp)
2:	addl	$12, %ebp
	jmp	1b
9:	ret

/* As many numbers with a blank between them as the command at %ebp takes; carry when they are not
 * there. */
take_numbers:
	xorl	%ebx, %ebx
1:	cmpl	8(%ebp), %ebx
	je	9f
	testl	%ebx, %ebx
	jz	2f
	cmpb	$' ', (%esi)
	jne	8f
	incl	%esi
2:	call	number
	jc	9f
	movl	%eax, args(, %ebx, 4)
	incl	%ebx
	jmp	1b
8:	stc
9:	ret

do_poweroff:
	movb	$0x34, %al		/* sleep type 5, sleep enable */
	movl	$ACPI_PORT, %edx
	outb	%al, %dx
	jmp	do_hang

do_reset:
	movb	$0xfe, %al
	outb	%al, $0x64
	movb	$1, %al			/* where there is no i8042 */
	movl	$ACPI_PORT, %edx
	outb	%al, %dx
do_hang:
	cli
	hlt
	jmp	do_hang

do_triple:
	lidt	null_idt
	ud2
	jmp	do_hang

/* Looks through bus 0 for pvpanic and writes "panicked" to its BAR 0. The guest lives on. */
do_panic:
	movl	$0x80000000, %ebp
1:	movl	%ebp, %eax
	call	pci_read
	cmpl	$PVPANIC_ID, %eax
	je	2f
	addl	$(1 << 11), %ebp
	cmpl	$(0x80000000 + (32 << 11)), %ebp
	jb	1b
	movl	$s_no_pvpanic, %esi
	jmp	puts
2:	leal	0x10(%ebp), %eax
	call	pci_read
	andl	$0xfffffff0, %eax
	movb	$1, (%eax)
	ret

/* %eax = MiB, cut to what there is. Page p above TOUCH_BASE gets p * 2654435761 + generation. */
do_touch:
	cmpl	touch_limit, %eax
	jbe	1f
	movl	touch_limit, %eax
1:	incl	generation
	cmpl	touched, %eax
	jbe	2f
	movl	%eax, touched
2:	pushl	%eax
	shll	$8, %eax		/* pages */
	movl	generation, %ebx
	movl	$TOUCH_BASE, %edi
3:	testl	%eax, %eax
	jz	4f
	movl	%ebx, (%edi)
	addl	$2654435761, %ebx
	addl	$4096, %edi
	decl	%eax
	jmp	3b
4:	popl	%eax
	movl	$s_touched, %esi
	jmp	put_line

/* sum = sum * 33 + word, over the pages touched since the start */
do_sum:
	movl	touched, %ecx
	shll	$8, %ecx
	xorl	%ebx, %ebx
	movl	$TOUCH_BASE, %edi
1:	testl	%ecx, %ecx
	jz	2f
	movl	%ebx, %eax
	shll	$5, %eax
	addl	%eax, %ebx
	addl	(%edi), %ebx
	addl	$4096, %edi
	decl	%ecx
	jmp	1b
2:	movl	$s_sum, %esi
	call	puts
	movl	%ebx, %eax
	call	put_hex
	jmp	newline

/* Cloud Hypervisor warns about each two-byte write to this one-byte port. */
do_flood:
	movl	%eax, %ecx
	pushl	%eax
	xorl	%eax, %eax
	movl	$ACPI_PORT, %edx
1:	testl	%ecx, %ecx
	jz	2f
	outw	%ax, %dx
	decl	%ecx
	jmp	1b
2:	popl	%eax
	movl	$s_flooded, %esi
	jmp	put_line

do_tick:
	movl	%eax, tick_ms
	movl	$0, tick_due		/* one of the old pace is void */
	jmp	start_timer

#include "disk.S"

	.section .rodata
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_ptr:
	.word	. - gdt - 1
	.long	gdt
idt_ptr:
	.word	(VEC_SPUR + 1) * 8 - 1
	.long	idt
null_idt:
	.word	0
	.long	0
	.balign	4
commands:				/* name, what to do, how many numbers follow */
	.long	s_poweroff, do_poweroff, 0
	.long	s_reset, do_reset, 0
	.long	s_triple, do_triple, 0
	.long	s_panic, do_panic, 0
	.long	s_touch, do_touch, 1
	.long	s_sum_cmd, do_sum, 0
	.long	s_hang, do_hang, 0
	.long	s_flood, do_flood, 1
	.long	s_count_cmd, print_count, 0
	.long	s_tick, do_tick, 1
	.long	s_dsize, do_dsize, 1
	.long	s_dwrite, do_dwrite, 4
	.long	s_dread, do_dread, 3
	.long	s_dflush, do_dflush, 1
	.long	0
s_poweroff:	.asciz "poweroff"
s_reset:	.asciz "reset"
s_triple:	.asciz "triple"
s_panic:	.asciz "panic"
s_touch:	.asciz "touch "
s_sum_cmd:	.asciz "sum"
s_hang:		.asciz "hang"
s_flood:	.asciz "flood "
s_count_cmd:	.asciz "count"
s_tick:		.asciz "tick "
s_guest_up:	.asciz "GUEST UP\n"
s_word_tick:	.asciz "tick="
s_word_do:	.asciz "do="
s_count:	.asciz "COUNT "
s_echo:		.asciz "ECHO "
s_touched:	.asciz "TOUCHED "
s_sum:		.asciz "SUM "
s_flooded:	.asciz "FLOODED "
s_no_pvpanic:	.asciz "NO PVPANIC\n"
s_digits:	.ascii "0123456789abcdef"

	.bss
	.balign	8
idt:		.skip (VEC_SPUR + 1) * 8
tick_ms:	.skip 4
tick_due:	.skip 4
count:		.skip 4
touched:	.skip 4
touch_limit:	.skip 4
generation:	.skip 4
timer_per_ms:	.skip 4
line_len:	.skip 4
args:		.skip 4 * 4
input:		.skip LINE_MAX
line:		.skip LINE_MAX + 4
number_buf:	.skip 12
number_end:
cmdline:	.skip 2048
cmdline_end:
	.balign	16
		.skip 8192
stack_top:
	.section .note.GNU-stack, "", @progbits
