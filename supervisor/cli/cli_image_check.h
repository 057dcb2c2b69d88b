// SPDX-License-Identifier: Apache-2.0
/* What a file must be inside to serve as an image. */
#ifndef CLI_IMAGE_CHECK_H
#define CLI_IMAGE_CHECK_H

#include "err.h"

#include <stdint.h>

#define CLI_IMAGE_SECTOR 512u /* bytes: what a disk is whole multiples of */

enum cli_image_kind { CLI_IMAGE_KERNEL, CLI_IMAGE_INITRAMFS, CLI_IMAGE_DISK, CLI_IMAGE_KINDS };

/*
 * Looks at the first and last bytes of fd, which has that many; where it reads from stays as it is.
 * - A disk: raw and whole sectors of 512 bytes, so none of the formats that other tools write
 *   (headers of QEMU's docs/interop/qcow2.txt and qed_spec, the VHD, VHDX, VMDK and VDI formats),
 *   nor compressed.
 * - A kernel: what Cloud Hypervisor 53 boots on x86-64: an ELF64 with the PVH entry's note
 *   (XEN_ELFNOTE_PHYS32_ENTRY, Xen's public/elfnote.h), or a bzImage (Linux's
 *   Documentation/arch/x86/boot.rst).
 * - An initramfs: not empty; what is in it is between the kernel and whoever made it.
 * -1: ERR_INVALID with what to do about it, or the error of a read.
 */
int cli_image_check(enum cli_image_kind kind, int fd, uint64_t bytes, struct err *e);

#endif
