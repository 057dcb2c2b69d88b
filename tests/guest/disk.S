// SPDX-License-Identifier: Apache-2.0
/*
 * disk.S - virtio block devices for the console's d-commands; included by guest.S.
 *
 * A modern virtio-pci driver (Virtio 1.2, 4.1 and 5.2) as small as it gets: one queue a disk, one
 * request at a time, and the used ring is polled, so that no interrupt is needed. It sets itself up
 * at the first d-command: a guest that never uses a disk costs what it always did.
 *
 * Cloud Hypervisor gives the disks of a boot BARs below 4 GiB (use_64bit_bar_for_virtio_device() in
 * its device manager), so this code needs no paging; a disk whose BAR is elsewhere is passed over.
 */
#define BLK_ID		0x10421af4
#define BLK_F_RO	(1 << 5)
#define BLK_F_FLUSH	(1 << 9)
#define T_IN		0
#define T_OUT		1
#define T_FLUSH		4
#define NO_DISK		255
#define DISKS_MAX	8
#define QUEUE_SIZE	4
#define PIECE		128		/* sectors of one request */
#define COMMAND_MAX	2048		/* sectors of one command */
#define MIX_SEED	0x9e3779b1
#define MIX_WORD	0x85ebca6b

/* the common configuration structure, Virtio 1.2, 4.1.4.3 */
#define C_DEVICE_SELECT	0x00
#define C_DEVICE_BITS	0x04
#define C_DRIVER_SELECT	0x08
#define C_DRIVER_BITS	0x0c
#define C_STATUS	0x14
#define C_QUEUE		0x16
#define C_QUEUE_SIZE	0x18
#define C_QUEUE_ENABLE	0x1c
#define C_NOTIFY_OFF	0x1e
#define C_DESC		0x20
#define C_AVAIL		0x28
#define C_USED		0x30

/* a disk of ours: its rings, then what we keep */
#define D_DESC		0
#define D_AVAIL		64
#define D_AVAIL_IDX	66
#define D_AVAIL_RING	68
#define D_USED		80
#define D_USED_IDX	82
#define D_USED_LEN	88
#define D_NOTIFY	120
#define D_SECTORS	124
#define D_SIZE		128

/* ---- PCI ---- */

/* %eax = 1 << 31 | device << 11 | register; gives its value in %eax. Uses %edx. */
pci_read:
	movl	$0xcf8, %edx
	outl	%eax, %dx
	movl	$0xcfc, %edx
	inl	%dx, %eax
	ret

/* %edi = a capability of device %ebp; gives the address that it speaks of in %eax, or carry when
 * we cannot reach it. Uses %ecx, %edx. */
capability_address:
	leal	4(%ebp, %edi), %eax
	call	pci_read
	movzbl	%al, %ecx
	leal	0x10(%ebp, %ecx, 4), %ecx	/* the BAR's register */
	movl	%ecx, %eax
	call	pci_read
	testl	$4, %eax		/* 64 bits wide? */
	jz	1f
	pushl	%eax
	leal	4(%ecx), %eax
	call	pci_read
	movl	%eax, %edx
	popl	%eax
	testl	%edx, %edx
	jnz	8f
1:	andl	$0xfffffff0, %eax
	movl	%eax, %ecx
	leal	8(%ebp, %edi), %eax
	call	pci_read
	addl	%ecx, %eax
	ret				/* no carry: all of it is below 4 GiB */
8:	stc
	ret

/* Finds the virtio structures of device %ebp: at_common, at_notify, notify_step, at_config. Carry
 * when one is missing. */
find_structures:
	xorl	%eax, %eax
	movl	%eax, at_common
	movl	%eax, at_notify
	movl	%eax, at_config
	leal	0x34(%ebp), %eax
	call	pci_read
	movzbl	%al, %edi
1:	testl	%edi, %edi
	jz	7f
	leal	(%ebp, %edi), %eax
	call	pci_read
	movl	%eax, %esi
	cmpb	$9, %al			/* vendor specific: one of virtio's */
	jne	6f
	call	capability_address
	jc	6f
	movl	%esi, %ecx
	shrl	$24, %ecx
	cmpl	$1, %ecx
	jne	2f
	movl	%eax, at_common
2:	cmpl	$4, %ecx
	jne	3f
	movl	%eax, at_config
3:	cmpl	$2, %ecx
	jne	6f
	movl	%eax, at_notify
	leal	16(%ebp, %edi), %eax
	call	pci_read
	movl	%eax, notify_step
6:	shrl	$8, %esi		/* next */
	movl	%esi, %edi
	andl	$0xfc, %edi
	jmp	1b
7:	cmpl	$1, at_common		/* carry when it is 0 */
	jc	9f
	cmpl	$1, at_notify
	jc	9f
	cmpl	$1, at_config
9:	ret

/* ---- set-up ---- */

/* %esi = common configuration; takes of 32 feature bits those in %ecx. %eax = which 32. */
take_features:
	movl	%eax, C_DEVICE_SELECT(%esi)
	movl	%eax, C_DRIVER_SELECT(%esi)
	movl	C_DEVICE_BITS(%esi), %eax
	andl	%ecx, %eax
	movl	%eax, C_DRIVER_BITS(%esi)
	ret

/* %ebx = disk, %esi = common configuration */
set_up_queue:
	movw	$0, C_QUEUE(%esi)
	movw	$QUEUE_SIZE, C_QUEUE_SIZE(%esi)
	leal	D_DESC(%ebx), %eax
	movl	%eax, C_DESC(%esi)
	movl	$0, C_DESC + 4(%esi)
	leal	D_AVAIL(%ebx), %eax
	movl	%eax, C_AVAIL(%esi)
	movl	$0, C_AVAIL + 4(%esi)
	leal	D_USED(%ebx), %eax
	movl	%eax, C_USED(%esi)
	movl	$0, C_USED + 4(%esi)
	movw	$1, D_AVAIL(%ebx)	/* no interrupts, please */
	movw	C_NOTIFY_OFF(%esi), %ax
	movzwl	%ax, %eax
	mull	notify_step
	addl	at_notify, %eax
	movl	%eax, D_NOTIFY(%ebx)
	movw	$1, C_QUEUE_ENABLE(%esi)
	ret

/* Makes device %ebp the disk at %ebx. Carry when that cannot be. */
set_up_disk:
	call	find_structures
	jc	9f
	leal	4(%ebp), %eax		/* command register: memory space, bus master */
	call	pci_read
	orl	$6, %eax
	outl	%eax, %dx
	movl	at_common, %esi
	movb	$0, C_STATUS(%esi)	/* reset */
	movb	$1, C_STATUS(%esi)	/* seen */
	movb	$3, C_STATUS(%esi)	/* and driven */
	xorl	%eax, %eax
	movl	$(BLK_F_RO | BLK_F_FLUSH), %ecx
	call	take_features
	movl	$1, %eax
	movl	$1, %ecx		/* VIRTIO_F_VERSION_1 is bit 32 */
	call	take_features
	movb	$11, C_STATUS(%esi)	/* features are settled */
	call	set_up_queue
	movb	$15, C_STATUS(%esi)	/* go */
	movl	at_config, %edi
	movl	(%edi), %eax		/* capacity in sectors, cut to 32 bits */
	movl	4(%edi), %ecx
	testl	%ecx, %ecx
	jz	1f
	movl	$0xffffffff, %eax
1:	movl	%eax, D_SECTORS(%ebx)
	clc
9:	ret

/* Once: makes the block devices of bus 0 our disks, in the order of their slots. */
find_disks:
	cmpl	$0, disks_found
	jne	9f
	movl	$1, disks_found
	movl	$0x80000000, %ebp
	movl	$disks, %ebx
1:	movl	%ebp, %eax
	call	pci_read
	cmpl	$BLK_ID, %eax
	jne	2f
	call	set_up_disk
	jc	2f
	addl	$D_SIZE, %ebx
	incl	disk_count
	cmpl	$DISKS_MAX, disk_count
	je	9f
2:	addl	$(1 << 11), %ebp
	cmpl	$(0x80000000 + (32 << 11)), %ebp
	jb	1b
9:	ret

/* %ebx = the disk whose number is the first argument, carry when there is none */
pick_disk:
	call	find_disks
	movl	args, %ebx
	cmpl	disk_count, %ebx
	cmc				/* carry is now: not below */
	jc	9f
	imull	$D_SIZE, %ebx, %ebx
	addl	$disks, %ebx		/* no carry: it is below 4 GiB */
9:	ret

/* ---- requests ---- */

/* %ebx = disk, %eax = type; sector, piece and disk_data are the request's. Gives the device's
 * status in %eax. Uses %ecx, %edx. */
disk_request:
	movl	%eax, head_type
	movl	$0, head_type + 4
	movl	sector, %ecx
	movl	%ecx, head_sector
	movl	$0, head_sector + 4
	movl	$NO_DISK - 1, disk_status	/* what no device says; CH may write 4 bytes here */
	movl	$head_type, D_DESC(%ebx)
	movl	$16, D_DESC + 8(%ebx)
	movl	$0x20001, D_DESC + 12(%ebx)	/* flags: next, which is 2 */
	movl	$disk_status, D_DESC + 32(%ebx)
	movl	$1, D_DESC + 40(%ebx)
	movl	$2, D_DESC + 44(%ebx)		/* flags: the device writes */
	cmpl	$T_FLUSH, %eax
	je	2f
	movl	$0x10001, D_DESC + 12(%ebx)	/* first comes 1, the data */
	movl	$disk_data, D_DESC + 16(%ebx)
	movl	piece, %ecx
	shll	$9, %ecx
	movl	%ecx, D_DESC + 24(%ebx)
	movl	$0x20001, D_DESC + 28(%ebx)
	cmpl	$T_IN, %eax
	jne	2f
	movl	$0x20003, D_DESC + 28(%ebx)
2:	movzwl	D_AVAIL_IDX(%ebx), %ecx
	movl	%ecx, %edx
	andl	$(QUEUE_SIZE - 1), %edx
	movw	$0, D_AVAIL_RING(%ebx, %edx, 2)
	incl	%ecx
	movw	%cx, D_AVAIL_IDX(%ebx)
	movl	D_NOTIFY(%ebx), %edx
	movw	$0, (%edx)
3:	pause
	cmpw	%cx, D_USED_IDX(%ebx)	/* one at a time: then it is this one */
	jne	3b
	movzbl	disk_status, %eax
	ret

/* disk_data becomes the pattern of piece sectors from sector on. Eight words a turn here and below,
 * because a long read would take seconds where instructions are emulated one by one. */
fill_data:
	movl	args + 12, %eax
	imull	$MIX_SEED, %eax, %eax
	movl	sector, %ecx
	shll	$7, %ecx
	imull	$MIX_WORD, %ecx, %ecx
	addl	%ecx, %eax
	call	data_bounds
1:
	.irp	word, 0, 4, 8, 12, 16, 20, 24, 28
	movl	%eax, \word(%edi)
	addl	$MIX_WORD, %eax
	.endr
	addl	$32, %edi
	cmpl	%ecx, %edi
	jb	1b
	ret

add_data:				/* disk_sum = disk_sum * 33 + word, for each */
	call	data_bounds
	movl	disk_sum, %edx
1:
	.irp	word, 0, 4, 8, 12, 16, 20, 24, 28
	imull	$33, %edx, %edx
	addl	\word(%edi), %edx
	.endr
	addl	$32, %edi
	cmpl	%ecx, %edi
	jb	1b
	movl	%edx, disk_sum
	ret

data_bounds:				/* %edi, %ecx = start and end of the piece in disk_data */
	movl	piece, %ecx
	shll	$9, %ecx
	movl	$disk_data, %edi
	addl	%edi, %ecx
	ret

/* What the device has not read is zeros, on every VMM: a file may be too short. The used ring has
 * the number of bytes written, with that of the status. %ebx = disk. */
clear_rest:
	call	data_bounds
	movzwl	D_AVAIL_IDX(%ebx), %eax
	decl	%eax
	andl	$(QUEUE_SIZE - 1), %eax
	movl	D_USED_LEN(%ebx, %eax, 8), %eax
	decl	%eax
	js	1f			/* none at all */
	addl	%eax, %edi
1:	cmpl	%ecx, %edi
	jae	9f
	movb	$0, (%edi)
	incl	%edi
	jmp	1b
9:	ret

/* %eax = type. Moves all sectors that the arguments speak of; the result in disk_result. */
disk_transfer:
	movl	%eax, transfer_type
	movl	$NO_DISK, disk_result
	movl	$0, disk_sum
	call	pick_disk
	jc	9f
	movl	args + 4, %eax
	movl	%eax, sector
	movl	args + 8, %ecx
	movl	%ecx, sectors_left
	cmpl	$COMMAND_MAX, %ecx
	ja	9f
	addl	%ecx, %eax
	jc	9f
	cmpl	D_SECTORS(%ebx), %eax
	ja	9f
	movl	$0, disk_result
1:	movl	sectors_left, %ecx
	testl	%ecx, %ecx
	jz	9f
	cmpl	$PIECE, %ecx
	jbe	2f
	movl	$PIECE, %ecx
2:	movl	%ecx, piece
	cmpl	$T_OUT, transfer_type
	jne	3f
	call	fill_data
3:	movl	transfer_type, %eax
	call	disk_request
	movl	%eax, disk_result
	testl	%eax, %eax
	jnz	9f
	cmpl	$T_OUT, transfer_type
	je	4f
	call	clear_rest
	call	add_data
4:	movl	piece, %eax
	addl	%eax, sector
	subl	%eax, sectors_left
	jmp	1b
9:	ret

/* ---- commands ---- */

/* %esi = word, %ecx = how many of the arguments follow, each with a blank behind it */
put_args:
	pushl	%ecx
	call	puts
	popl	%ecx
	xorl	%ebx, %ebx
1:	pushl	%ecx
	movl	args(, %ebx, 4), %eax
	call	put_number
	movb	$' ', %al
	call	putc
	popl	%ecx
	incl	%ebx
	cmpl	%ecx, %ebx
	jb	1b
	ret

/* "OK", or "ERR" and disk_result */
put_result:
	cmpl	$0, disk_result
	jne	put_error
	movl	$s_ok, %esi
	jmp	puts
put_error:
	movl	$s_err, %esi
	movl	disk_result, %eax
	jmp	put_line

do_dsize:
	movl	$NO_DISK, disk_result
	call	pick_disk
	pushl	%ebx
	pushfl
	movl	$s_DSIZE, %esi
	movl	$1, %ecx
	call	put_args
	popfl
	popl	%ebx
	jc	put_error
	movl	D_SECTORS(%ebx), %eax
	call	put_number
	jmp	newline

do_dwrite:
	movl	$T_OUT, %eax
	call	disk_transfer
	movl	$s_DWRITE, %esi
	movl	$3, %ecx
	call	put_args
	jmp	put_result

do_dread:
	movl	$T_IN, %eax
	call	disk_transfer
	movl	$s_DREAD, %esi
	movl	$3, %ecx
	call	put_args
	cmpl	$0, disk_result
	jne	put_error
	movl	disk_sum, %eax
	call	put_hex
	jmp	newline

do_dflush:
	movl	$NO_DISK, disk_result
	call	pick_disk
	jc	1f
	movl	$0, sector
	movl	$T_FLUSH, %eax
	call	disk_request
	movl	%eax, disk_result
1:	movl	$s_DFLUSH, %esi
	movl	$1, %ecx
	call	put_args
	jmp	put_result

	.section .rodata
s_dsize:	.asciz "dsize "
s_dwrite:	.asciz "dwrite "
s_dread:	.asciz "dread "
s_dflush:	.asciz "dflush "
s_DSIZE:	.asciz "DSIZE "
s_DWRITE:	.asciz "DWRITE "
s_DREAD:	.asciz "DREAD "
s_DFLUSH:	.asciz "DFLUSH "
s_ok:		.asciz "OK\n"
s_err:		.asciz "ERR "

	.bss
	.balign	16
disks:		.skip DISKS_MAX * D_SIZE
head_type:	.skip 8			/* type and a reserved word */
head_sector:	.skip 8
disk_status:	.skip 4
disks_found:	.skip 4
disk_count:	.skip 4
at_common:	.skip 4
at_notify:	.skip 4
notify_step:	.skip 4
at_config:	.skip 4
transfer_type:	.skip 4
sector:		.skip 4
sectors_left:	.skip 4
piece:		.skip 4
disk_result:	.skip 4
disk_sum:	.skip 4

	.section .scratch, "aw", @nobits	/* not cleared at the start: it is always written first */
	.balign	4096
disk_data:	.skip PIECE * 512

	.text
