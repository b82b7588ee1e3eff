/* Files that have no name, another one, or none any more. */

#include "evade.h"

#include <sys/mount.h>
#include <sys/personality.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static int run_fd(int fd)
{
        char *words[] = { "evade-file", NULL };

        fflush(stdout);
        syscall(SYS_execveat, fd, "", words, environment, AT_EMPTY_PATH);
        return failed("execveat");
}

/* The kernel refuses to execute what is open for writing. */
static int read_only(int fd)
{
        char path[64];
        int again;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        again = open(path, O_RDONLY);
        close(fd);
        return again;
}

/* memfd NAME PROGRAM [exec] */
static int op_memfd(int argc, char **argv)
{
        int fd = memfd_create(argv[1], argc > 3 ? MFD_EXEC : 0);

        if (fd < 0)
                return failed("memfd_create");
        if (copy_to(argv[2], fd) < 0)
                return failed(argv[2]);
        return run_fd(fd);
}

/* As runc does it: sealed, named as its own copy is, by its link in /proc. */
static int op_memfd_sealed(int argc, char **argv)
{
        char *words[] = { "runc", "init", NULL };
        int fd = memfd_create(argv[1], MFD_ALLOW_SEALING);
        char path[64];

        (void)argc;
        if (fd < 0 || copy_to(argv[2], fd) < 0)
                return failed("memfd_create");
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        execve(path, words, environment);
        return failed(path);
}

/* tmpfile FOLDER PROGRAM */
static int op_tmpfile(int argc, char **argv)
{
        int fd = open(argv[1], O_TMPFILE | O_RDWR, 0755);

        (void)argc;
        if (fd < 0)
                return failed("O_TMPFILE");
        if (copy_to(argv[2], fd) < 0)
                return failed(argv[2]);
        return run_fd(read_only(fd));
}

/* unlinked FILE: the file goes, its descriptor stays. */
static int op_unlinked(int argc, char **argv)
{
        int fd = open(argv[1], O_RDONLY);

        (void)argc;
        if (fd < 0 || unlink(argv[1]) < 0)
                return failed(argv[1]);
        return run_fd(fd);
}

enum mapping { EXECUTABLE, CHANGED_LATER, READABLE };

static int map_and_jump(int fd, enum mapping how)
{
        /* The first segment of the marker: headers and code in one, linked at 0x10000000. */
        unsigned long base = 0x10000000, entry;
        int protection = how == EXECUTABLE ? PROT_READ | PROT_EXEC : PROT_READ;
        unsigned char head[64];
        size_t size = 16384;
        void *at;

        if (pread(fd, head, sizeof(head), 0) != sizeof(head))
                return failed("read");
        memcpy(&entry, head + 24, sizeof(entry));
        at = mmap((void *)base, size, protection, MAP_PRIVATE | MAP_FIXED, fd, 0);
        if (at == MAP_FAILED)
                return failed("mmap");
        if (how == CHANGED_LATER && mprotect(at, size, PROT_READ | PROT_EXEC) < 0)
                return failed("mprotect");
        fflush(stdout);
        ((void (*)(void))entry)();
        return 1;
}

static int op_map(int argc, char **argv)
{
        (void)argc;
        return map_and_jump(open(argv[1], O_RDONLY), EXECUTABLE);
}

static int op_map_then_protect(int argc, char **argv)
{
        (void)argc;
        return map_and_jump(open(argv[1], O_RDONLY), CHANGED_LATER);
}

/* map-readable FILE: a personality in which what is readable is executable. */
static int op_map_readable(int argc, char **argv)
{
        (void)argc;
        if (personality(READ_IMPLIES_EXEC) < 0)
                return failed("personality");
        return map_and_jump(open(argv[1], O_RDONLY), READABLE);
}

/* Code read into memory that no file is behind, which is what an interpreter does. */
static int op_read_and_jump(int argc, char **argv)
{
        int fd = open(argv[1], O_RDONLY);
        unsigned long entry;
        char *at = mmap((void *)0x10000000, 16384, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);

        (void)argc;
        if (fd < 0 || at == MAP_FAILED || read(fd, at, 16384) < 64)
                return failed(argv[1]);
        memcpy(&entry, at + 24, sizeof(entry));
        if (mprotect(at, 16384, PROT_READ | PROT_EXEC) < 0)
                return failed("mprotect");
        fflush(stdout);
        ((void (*)(void))entry)();
        return 1;
}

/* Data, read through a mapping. */
static int op_map_data(int argc, char **argv)
{
        int fd = open(argv[1], O_RDONLY);
        char *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);

        (void)argc;
        if (at == MAP_FAILED)
                return failed("mmap");
        puts(at[0] == 0x7f ? "EVASION-MARK" : "not what was expected");
        return 0;
}

/* What a compiler at run time does. */
static int op_jit(int argc, char **argv)
{
        static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
        void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);

        (void)argc;
        (void)argv;
        if (at == MAP_FAILED)
                return failed("mmap");
        memcpy(at, code, sizeof(code));
        puts(((int (*)(void))at)() == 42 ? "EVASION-MARK" : "not what was expected");
        return 0;
}

/* detached FOLDER NAME: from a copy of the mount that is attached nowhere. */
static int op_detached(int argc, char **argv)
{
        char *words[] = { "evade-detached", NULL };
        int tree = syscall(SYS_open_tree, AT_FDCWD, argv[1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

        (void)argc;
        if (tree < 0)
                not_applicable("open_tree is refused");
        syscall(SYS_execveat, tree, argv[2], words, environment, 0);
        return failed("execveat");
}

/* detached-overlay LOWER NAME: from an overlay of its own that is attached nowhere, as the one that
 * runc runs itself from.
 */
static int op_detached_overlay(int argc, char **argv)
{
        char *words[] = { "runc", "init", NULL };
        int context = syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC), mount;
        char lower[512];

        (void)argc;
        if (context < 0)
                not_applicable("fsopen is refused");
        snprintf(lower, sizeof(lower), "%s:/opt/other", argv[1]);
        if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "lowerdir", lower, 0) < 0 ||
            syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return failed("fsconfig");
        mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
        if (mount < 0)
                return failed("fsmount");
        syscall(SYS_execveat, mount, argv[2], words, environment, 0);
        return failed("execveat");
}

const struct operation files[] = {
        { "detached", 2, op_detached },
        { "detached-overlay", 2, op_detached_overlay },
        { "memfd", 2, op_memfd },
        { "memfd-sealed", 2, op_memfd_sealed },
        { "tmpfile", 2, op_tmpfile },
        { "unlinked", 1, op_unlinked },
        { "map", 1, op_map },
        { "map-then-protect", 1, op_map_then_protect },
        { "map-readable", 1, op_map_readable },
        { "read-and-jump", 1, op_read_and_jump },
        { "map-data", 1, op_map_data },
        { "jit", 0, op_jit },
        { NULL, 0, NULL },
};
