/* What the parts of this program share. An operation gets its own name as its first word; it
 * returns only when it has failed, and what it returns is the exit status.
 */

#ifndef EVADE_H
#define EVADE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct operation {
        const char *name;
        /* Words it needs besides its name. */
        int words;
        int (*run)(int argc, char **argv);
};

extern const struct operation execs[];
extern const struct operation strings[];
extern const struct operation files[];
extern const struct operation races[];
extern const struct operation traces[];
extern const struct operation images[];

/* An environment with a PATH alone. */
extern char *const environment[];

/* Says what failed, and why. */
int failed(const char *what);
/* Says that this can't be tried here, and ends. */
__attribute__((noreturn)) void not_applicable(const char *why);
/* Waits for a child and says so if it was killed. */
int wait_for(pid_t child);
/* execve with the path as its only word. */
int run_program(const char *path);
/* Copies a file's content to a descriptor. */
int copy_to(const char *from, int to);

int batch(const char *plan, const char *results);

#endif
