/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_COMMON_FDS_H
#define TOOLS_COMMON_FDS_H

/*
 * Makes sure that the descriptors 0, 1 and 2 are open, so that nothing that is opened later (a
 * socket, shared memory) can take the place of standard output and be written to as such. One that
 * was closed stays as good as closed: reading it ends at once, writing it fails with EBADF.
 */
void fds_fill_standard(void);

#endif
