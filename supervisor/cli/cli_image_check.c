// SPDX-License-Identifier: Apache-2.0
#include "cli_image_check.h"

#include "msg.h"
#include "util.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD_BYTES   1024u
#define NOTES_MAX    (1u << 20) /* a kernel's are a few hundred bytes */
#define NOTE_XEN_PVH 18u	/* XEN_ELFNOTE_PHYS32_ENTRY */

#define TO_RAW	    "convert it: qemu-img convert -O raw FILE NEW"
#define UNPACK(how) "unpack it: " how " FILE >NEW"

/* At most size bytes from there; *got says how many there were. */
static int read_at(int fd, void *buf, size_t size, uint64_t offset, size_t *got, struct err *e)
{
	*got = 0;
	while (*got < size) {
		ssize_t n = pread(fd, (char *)buf + *got, size - *got, (off_t)(offset + *got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, errno, "read it");
		if (n == 0)
			break;
		*got += (size_t)n;
	}
	return 0;
}

/* ------------------------------------------------------------------ disks */

struct magic {
	const char *what, *advice;
	size_t offset, length;
	const char *bytes;
	bool last; /* also where the last sector begins */
};

static const struct magic magics[] = {
	{"a qcow2 image", TO_RAW, 0, 4, "QFI\xfb", false},
	{"a QED image", TO_RAW, 0, 4, "QED", false},
	{"a VHD image", TO_RAW, 0, 8, "conectix", true},
	{"a VHDX image", TO_RAW, 0, 8, "vhdxfile", false},
	{"a VMDK image", TO_RAW, 0, 4, "KDMV", false},
	{"a VMDK image", TO_RAW, 0, 4, "COWD", false},
	{"a VMDK descriptor", TO_RAW, 0, 21, "# Disk DescriptorFile", false},
	{"a VDI image", TO_RAW, 64, 4, "\x7f\x10\xda\xbe", false},
	{"compressed with gzip", UNPACK("zcat"), 0, 3, "\x1f\x8b\x08", false},
	{"compressed with xz", UNPACK("xzcat"), 0, 6,
	 "\xfd"
	 "7zXZ",
	 false},
	{"compressed with zstd", UNPACK("zstdcat"), 0, 4, "\x28\xb5\x2f\xfd", false},
};

static bool matches(const struct magic *m, const unsigned char *sector, size_t got)
{
	return got >= m->offset + m->length && memcmp(sector + m->offset, m->bytes, m->length) == 0;
}

static int check_disk(int fd, uint64_t bytes, struct err *e)
{
	unsigned char first[CLI_IMAGE_SECTOR], last[CLI_IMAGE_SECTOR];
	size_t first_got, last_got = 0;
	if (read_at(fd, first, sizeof(first), 0, &first_got, e) < 0)
		return -1;
	if (bytes >= CLI_IMAGE_SECTOR &&
	    read_at(fd, last, sizeof(last), bytes - CLI_IMAGE_SECTOR, &last_got, e) < 0)
		return -1;
	/* Before the size: that of another format's file says nothing. */
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];
		if (matches(m, first, first_got) || (m->last && matches(m, last, last_got)))
			return err_set(e, ERR_INVALID, 0, "it is %s, and disks must be raw; %s",
				       m->what, m->advice);
	}
	if (bytes % CLI_IMAGE_SECTOR)
		return err_set(
			e, ERR_INVALID, 0,
			"it has %llu bytes; a disk must be whole sectors of 512 (truncate -s "
			"%%512 fills it up)",
			(unsigned long long)bytes);
	if (bytes > (uint64_t)MSG_DISK_MIB_MAX << 20)
		return err_set(e, ERR_INVALID, 0, "it has %llu bytes; a disk has %u MiB at most",
			       (unsigned long long)bytes, MSG_DISK_MIB_MAX);
	return 0;
}

/* ------------------------------------------------------------------ kernels */

/* Notes are name size, value size, type, then name and value, each padded to 4 bytes. */
static bool has_pvh_note(const char *notes, size_t size)
{
	size_t at = 0;
	while (size - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		uint64_t name = ((uint64_t)note.n_namesz + 3) & ~3ull;
		uint64_t value = ((uint64_t)note.n_descsz + 3) & ~3ull;
		if (name > size - at)
			return false;
		if (note.n_type == NOTE_XEN_PVH && note.n_namesz == 4 &&
		    memcmp(notes + at, "Xen", 4) == 0)
			return true;
		if (name + value > size - at)
			return false;
		at += name + value;
	}
	return false;
}

/* 1: the program header's notes have it; 0: no; -1: an error of a read. */
static int find_pvh(int fd, const Elf64_Phdr *header, struct err *e)
{
	size_t got;
	if (header->p_type != PT_NOTE || !header->p_filesz || header->p_filesz > NOTES_MAX ||
	    header->p_offset > INT64_MAX)
		return 0;
	char *notes CLEANUP_FREE = malloc(header->p_filesz);
	if (!notes)
		return err_errno(e, ENOMEM, "read its notes");
	if (read_at(fd, notes, header->p_filesz, header->p_offset, &got, e) < 0)
		return -1;
	return has_pvh_note(notes, got);
}

static int check_elf(int fd, const Elf64_Ehdr *elf, struct err *e)
{
	if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_ident[EI_DATA] != ELFDATA2LSB)
		return err_set(e, ERR_INVALID, 0,
			       "it is an ELF file, but not of 64 bits and little-endian");
	for (unsigned i = 0; elf->e_phentsize == sizeof(Elf64_Phdr) && i < elf->e_phnum; i++) {
		Elf64_Phdr header;
		size_t got;
		if (elf->e_phoff > INT64_MAX - UINT32_MAX)
			break;
		if (read_at(fd, &header, sizeof(header), elf->e_phoff + i * sizeof(header), &got,
			    e) < 0)
			return -1;
		int found = got == sizeof(header) ? find_pvh(fd, &header, e) : 0;
		if (found)
			return found < 0 ? -1 : 0;
	}
	return err_set(e, ERR_INVALID, 0,
		       "it is an ELF file without the PVH entry's note, by which Cloud Hypervisor "
		       "starts it; Linux has it with CONFIG_PVH=y");
}

static int check_kernel(int fd, struct err *e)
{
	union {
		Elf64_Ehdr elf;
		unsigned char bytes[HEAD_BYTES];
	} head;
	size_t got;
	if (read_at(fd, &head, sizeof(head), 0, &got, e) < 0)
		return -1;
	if (got >= sizeof(head.elf) && memcmp(head.elf.e_ident, ELFMAG, SELFMAG) == 0)
		return check_elf(fd, &head.elf, e);
	/* The boot sector's mark, and the setup header's. */
	if (got >= 0x206 && memcmp(head.bytes + 0x1fe, "\x55\xaa", 2) == 0 &&
	    memcmp(head.bytes + 0x202, "HdrS", 4) == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (matches(&magics[i], head.bytes, got))
			return err_set(e, ERR_INVALID, 0, "it is %s; %s", magics[i].what,
				       magics[i].advice);
	return err_set(e, ERR_INVALID, 0,
		       "it is no kernel that Cloud Hypervisor starts: that is an ELF file of 64 "
		       "bits with a PVH note (Linux's vmlinux) or a bzImage");
}

int cli_image_check(enum cli_image_kind kind, int fd, uint64_t bytes, struct err *e)
{
	if (bytes == 0)
		return err_set(e, ERR_INVALID, 0, "it is empty");
	if (kind == CLI_IMAGE_DISK)
		return check_disk(fd, bytes, e);
	return kind == CLI_IMAGE_KERNEL ? check_kernel(fd, e) : 0;
}
