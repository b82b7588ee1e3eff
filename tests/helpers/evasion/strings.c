/* The string given to exec, in memory where it is hard to read or does not stay. */

#include "evade.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>

static void *page_with(const char *text, int where)
{
        size_t size = sysconf(_SC_PAGESIZE);
        char *pages = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (pages == MAP_FAILED)
                exit(failed("mmap"));
        strcpy(pages + where, text);
        return pages + where;
}

/* A file with the text, mapped and never touched. */
static char *untouched(const char *text, int flags)
{
        char name[] = "/tmp/ev/textXXXXXX";
        int file = mkstemp(name);
        char *at;

        if (file < 0 || ftruncate(file, 4096) < 0 || pwrite(file, text, strlen(text), 0) < 0)
                exit(failed("a file to map"));
        at = mmap(NULL, 4096, PROT_READ, flags, file, 0);
        if (at == MAP_FAILED)
                exit(failed("mmap"));
        return at;
}

static int op_untouched(int argc, char **argv)
{
        (void)argc;
        return run_program(untouched(argv[1], MAP_SHARED));
}

static int op_dropped(int argc, char **argv)
{
        char *at = untouched(argv[1], MAP_PRIVATE);
        volatile char first = *at;

        (void)argc;
        (void)first;
        madvise(at, 4096, MADV_DONTNEED);
        return run_program(at);
}

static int op_across_pages(int argc, char **argv)
{
        int size = sysconf(_SC_PAGESIZE);

        (void)argc;
        return run_program(page_with(argv[1], size - strlen(argv[1]) / 2));
}

/* The last byte before memory that is not there. */
static int op_at_the_end(int argc, char **argv)
{
        int size = sysconf(_SC_PAGESIZE);
        char *at = page_with(argv[1], size - strlen(argv[1]) - 1);

        (void)argc;
        munmap((char *)((uintptr_t)at & -(uintptr_t)size) + size, size);
        return run_program(at);
}

static int op_write_only(int argc, char **argv)
{
        char *at = page_with(argv[1], 0);

        (void)argc;
        mprotect(at, 4096, PROT_WRITE);
        return run_program(at);
}

struct fault {
        int uffd;
        char *page;
        const char *text;
};

static void *answer_fault(void *word)
{
        struct fault *fault = word;
        struct uffd_msg message;
        struct uffdio_copy copy = { 0 };

        if (read(fault->uffd, &message, sizeof(message)) != sizeof(message))
                return NULL;
        copy.dst = (uintptr_t)fault->page;
        copy.src = (uintptr_t)page_with(fault->text, 0);
        copy.len = 4096;
        ioctl(fault->uffd, UFFDIO_COPY, &copy);
        return NULL;
}

/* The page comes when the kernel asks for it. */
static int op_userfaultfd(int argc, char **argv)
{
        struct uffdio_api api = { .api = UFFD_API };
        struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
        static struct fault fault;
        pthread_t thread;

        (void)argc;
        fault.uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
        if (fault.uffd < 0)
                not_applicable("userfaultfd is refused");
        fault.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        fault.text = argv[1];
        range.range.start = (uintptr_t)fault.page;
        range.range.len = 4096;
        if (ioctl(fault.uffd, UFFDIO_API, &api) < 0 || ioctl(fault.uffd, UFFDIO_REGISTER, &range) < 0)
                return failed("userfaultfd");
        pthread_create(&thread, NULL, answer_fault, &fault);
        return run_program(fault.page);
}

static char *shared_text;
static const char *changes[2];
static volatile int stop;

static void write_text(const char *text)
{
        strcpy(shared_text, text);
}

static void *change_text(void *word)
{
        unsigned int turn = 0;

        (void)word;
        while (!stop)
                write_text(changes[turn++ & 1]);
        return NULL;
}

/* changed PATH INNOCENT TRIES: a thread changes the string while others execute it. Both paths have
 * one length, so that each mixture names a file that is not there.
 */
static int op_changed(int argc, char **argv)
{
        pthread_t thread;
        int tries = atoi(argv[3]);

        (void)argc;
        changes[0] = argv[1];
        changes[1] = argv[2];
        shared_text = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        write_text(argv[2]);
        pthread_create(&thread, NULL, change_text, NULL);
        while (tries-- > 0) {
                char *words[] = { "changed", NULL };
                pid_t child = fork();

                if (!child) {
                        execve(shared_text, words, environment);
                        _exit(errno == EPERM ? 99 : 98);
                }
                if (child > 0) {
                        int status;

                        waitpid(child, &status, 0);
                        if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
                                puts("once: Operation not permitted");
                        else if (WIFSIGNALED(status))
                                printf("once: ended by signal %d\n", WTERMSIG(status));
                }
        }
        stop = 1;
        pthread_join(thread, NULL);
        return 0;
}

/* Spelled with so many slashes and dots that it is BYTES long: long-path PATH BYTES. */
static int op_long_path(int argc, char **argv)
{
        size_t bytes = atoi(argv[2]), length = strlen(argv[1]);
        static char path[8192];
        size_t at = 0;

        (void)argc;
        while (at + length + 2 <= bytes && at < sizeof(path) - 512) {
                path[at++] = '/';
                path[at++] = '.';
        }
        while (at + length < bytes)
                path[at++] = '/';
        strcpy(path + at, argv[1]);
        return run_program(path);
}

const struct operation strings[] = {
        { "untouched", 1, op_untouched },
        { "dropped", 1, op_dropped },
        { "across-pages", 1, op_across_pages },
        { "at-the-end", 1, op_at_the_end },
        { "write-only", 1, op_write_only },
        { "userfaultfd", 1, op_userfaultfd },
        { "changed", 3, op_changed },
        { "long-path", 2, op_long_path },
        { NULL, 0, NULL },
};
