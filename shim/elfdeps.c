// SPDX-License-Identifier: Apache-2.0
#include "elfdeps.h"

#include "util.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The loader's built-in directories on Debian-like and Fedora-like hosts (ld.so(8)). */
static const char *const default_dirs[] = {
	"/lib/x86_64-linux-gnu",
	"/usr/lib/x86_64-linux-gnu",
	"/lib/aarch64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu",
	"/lib64",
	"/usr/lib64",
	"/lib",
	"/usr/lib",
};

struct image {
	const unsigned char *data;
	size_t size;
	const char *path;
};

/* NULL unless offset..offset+len lies in the file, aligned as every linker aligns its structures.
 */
static const void *at(const struct image *image, uint64_t offset, uint64_t len)
{
	if (offset % _Alignof(uint64_t) || offset > image->size || len > image->size - offset)
		return NULL;
	return image->data + offset;
}

/* A string that ends inside the file, or NULL. */
static const char *string_at(const struct image *image, uint64_t offset)
{
	if (offset >= image->size)
		return NULL;
	const char *s = (const char *)image->data + offset;
	return memchr(s, '\0', image->size - offset) ? s : NULL;
}

static bool known(const struct elfdeps *deps, const char *path)
{
	for (size_t i = 0; i < deps->count; i++)
		if (strcmp(deps->path[i], path) == 0)
			return true;
	return false;
}

static int add(struct elfdeps *deps, const char *path, struct err *e)
{
	if (known(deps, path))
		return 0;
	if (deps->count == ELFDEPS_MAX)
		return err_set(e, ERR_INVALID, 0, "more than %d libraries needed", ELFDEPS_MAX);
	if (!str_copy(deps->path[deps->count], ELFDEPS_PATH_MAX, path))
		return err_set(e, ERR_INVALID, 0, "library path too long: %s", path);
	deps->count++;
	return elfdeps_add(deps, path, e);
}

static bool try_dir(const char *dir, size_t dir_len, const char *name, char *out)
{
	int n = snprintf(out, ELFDEPS_PATH_MAX, "%.*s/%s", (int)dir_len, dir, name);
	return n > 0 && n < ELFDEPS_PATH_MAX && access(out, F_OK) == 0;
}

static int find_library(const char *name, const char *runpath, char *out, const char *wanted_by,
			struct err *e)
{
	if (strchr(name, '/')) {
		/* The loader would take it from its own working directory, a jail has none of ours.
		 */
		if (name[0] != '/')
			return err_set(e, ERR_INVALID, 0,
				       "library %s, needed by %s, is not absolute", name,
				       wanted_by);
		if (!str_copy(out, ELFDEPS_PATH_MAX, name))
			return err_set(e, ERR_INVALID, 0, "library path too long: %s", name);
		return 0;
	}
	while (runpath && *runpath) {
		size_t len = strcspn(runpath, ":");
		/* $ORIGIN has no meaning once the program is bound at another path. */
		if (len && runpath[0] == '/' && try_dir(runpath, len, name, out))
			return 0;
		runpath += len + (runpath[len] == ':');
	}
	for (size_t i = 0; i < ARRAY_SIZE(default_dirs); i++)
		if (try_dir(default_dirs[i], strlen(default_dirs[i]), name, out))
			return 0;
	return err_set(e, ERR_NOT_FOUND, 0,
		       "library %s, needed by %s, is in no directory that the loader searches",
		       name, wanted_by);
}

/* Turns an address of the program into an offset in its file. */
static bool to_offset(const struct image *image, const Elf64_Ehdr *eh, uint64_t addr, uint64_t *out)
{
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		const Elf64_Phdr *ph =
			at(image, eh->e_phoff + (uint64_t)i * sizeof(*ph), sizeof(*ph));
		if (ph && ph->p_type == PT_LOAD && addr >= ph->p_vaddr &&
		    addr - ph->p_vaddr < ph->p_filesz) {
			*out = addr - ph->p_vaddr + ph->p_offset;
			return true;
		}
	}
	return false;
}

static int add_dynamic(struct elfdeps *deps, const struct image *image, const Elf64_Ehdr *eh,
		       const Elf64_Phdr *dynamic, struct err *e)
{
	uint64_t strings = 0, runpath = 0;
	size_t count = dynamic->p_filesz / sizeof(Elf64_Dyn);
	const Elf64_Dyn *dyn = at(image, dynamic->p_offset, dynamic->p_filesz);
	if (!dyn)
		return err_set(e, ERR_INVALID, 0, "%s: damaged dynamic section", image->path);
	for (size_t i = 0; i < count && dyn[i].d_tag != DT_NULL; i++) {
		if (dyn[i].d_tag == DT_STRTAB && !to_offset(image, eh, dyn[i].d_un.d_ptr, &strings))
			return err_set(e, ERR_INVALID, 0, "%s: damaged string table", image->path);
		if (dyn[i].d_tag == DT_RUNPATH || dyn[i].d_tag == DT_RPATH)
			runpath = dyn[i].d_un.d_val;
	}
	const char *dirs = runpath ? string_at(image, strings + runpath) : NULL;
	for (size_t i = 0; i < count && dyn[i].d_tag != DT_NULL; i++) {
		if (dyn[i].d_tag != DT_NEEDED)
			continue;
		const char *name = string_at(image, strings + dyn[i].d_un.d_val);
		char path[ELFDEPS_PATH_MAX];
		if (!name)
			return err_set(e, ERR_INVALID, 0, "%s: damaged library name", image->path);
		if (find_library(name, dirs, path, image->path, e) < 0 || add(deps, path, e) < 0)
			return -1;
	}
	return 0;
}

static int add_image(struct elfdeps *deps, const struct image *image, struct err *e)
{
	const Elf64_Ehdr *eh = at(image, 0, sizeof(*eh));
	if (!eh || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0)
		return 0;
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_phentsize != sizeof(Elf64_Phdr))
		return err_set(e, ERR_INVALID, 0, "%s is not a 64-bit ELF file", image->path);
	for (unsigned i = 0; i < eh->e_phnum; i++) {
		const Elf64_Phdr *ph =
			at(image, eh->e_phoff + (uint64_t)i * sizeof(*ph), sizeof(*ph));
		if (!ph)
			return err_set(e, ERR_INVALID, 0, "%s: damaged headers", image->path);
		if (ph->p_type == PT_INTERP) {
			const char *loader = string_at(image, ph->p_offset);
			if (!loader || loader[0] != '/')
				return err_set(e, ERR_INVALID, 0, "%s: damaged loader path",
					       image->path);
			if (add(deps, loader, e) < 0)
				return -1;
		} else if (ph->p_type == PT_DYNAMIC) {
			if (add_dynamic(deps, image, eh, ph, e) < 0)
				return -1;
		}
	}
	return 0;
}

int elfdeps_add(struct elfdeps *deps, const char *path, struct err *e)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, 0, "%s is not a regular file", path);
	if (st.st_size == 0)
		return 0;
	void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return err_errno(e, errno, "map %s", path);
	struct image image = {.data = data, .size = (size_t)st.st_size, .path = path};
	int result = add_image(deps, &image, e);
	munmap(data, (size_t)st.st_size);
	return result;
}
