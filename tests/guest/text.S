// SPDX-License-Identifier: Apache-2.0
/* text.S - reading and printing text; included by guest.S, which owns the data. */

/* ZF set when the text at %esi begins with that at %edi; %esi then stands behind it, else where
 * it was. Uses %eax, %edi. */
prefix:
	pushl	%esi
1:	movb	(%edi), %al
	testb	%al, %al
	jz	2f
	cmpb	(%esi), %al
	jne	3f
	incl	%esi
	incl	%edi
	jmp	1b
2:	addl	$4, %esp
	cmpb	%al, %al
	ret
3:	popl	%esi			/* POP leaves the flags: not equal */
	ret

/* %eax = the decimal number at %esi, carry set when there is none or it is over 32 bits. */
number:
	xorl	%eax, %eax
	movzbl	(%esi), %ecx
	subl	$'0', %ecx
	cmpl	$9, %ecx
	ja	8f
1:	movl	$10, %edx
	mull	%edx
	jc	8f
	addl	%ecx, %eax
	jc	8f
	incl	%esi
	movzbl	(%esi), %ecx
	subl	$'0', %ecx
	cmpl	$9, %ecx
	jbe	1b
	clc
	ret
8:	stc
	ret

putc:					/* %al; uses %edx */
	movl	$UART, %edx
	outb	%al, %dx
	ret

puts:					/* %esi; uses %eax, %edx */
	movb	(%esi), %al
	testb	%al, %al
	jz	9f
	call	putc
	incl	%esi
	jmp	puts
9:	ret

put_number:				/* %eax in decimal; uses %eax, %ecx, %edx, %edi */
	movl	$10, %ecx
	movl	$number_end, %edi
1:	xorl	%edx, %edx
	divl	%ecx
	addb	$'0', %dl
	decl	%edi
	movb	%dl, (%edi)
	testl	%eax, %eax
	jnz	1b
2:	movb	(%edi), %al
	call	putc
	incl	%edi
	cmpl	$number_end, %edi
	jb	2b
	ret

put_hex:				/* %eax in eight digits; uses %ecx, %ebx, %edx */
	movl	%eax, %ebx
	movl	$8, %ecx
1:	roll	$4, %ebx
	movl	%ebx, %eax
	andl	$15, %eax
	movb	s_digits(%eax), %al
	call	putc
	decl	%ecx
	jnz	1b
	ret

newline:
	movb	$'\n', %al
	jmp	putc

/* %esi = text, then number %eax and a newline */
put_line:
	pushl	%eax
	call	puts
	popl	%eax
	call	put_number
	jmp	newline

print_count:
	movl	$s_count, %esi
	movl	count, %eax
	jmp	put_line
