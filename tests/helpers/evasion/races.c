/* Names that change between the look and the act. Each tries a bounded number of times. */

#include "evade.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

/* Runs `path` again and again while a child of ours does `change`. */
static int race(int tries, const char *path, void (*change)(char **argv), char **argv)
{
        pid_t changer = fork();

        int left;

        if (!changer)
                for (;;)
                        change(argv);
        for (left = tries; left > 0; left--) {
                char *words[] = { "raced", NULL };
                pid_t child = fork();
                int status;

                if (!child) {
                        execve(path, words, environment);
                        _exit(errno == EPERM ? 99 : 98);
                }
                waitpid(child, &status, 0);
                if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
                        puts("once: Operation not permitted");
                else if (WIFSIGNALED(status))
                        printf("once: ended by signal %d\n", WTERMSIG(status));
        }
        kill(changer, SIGKILL);
        waitpid(changer, NULL, 0);
        return 0;
}

static void swap(char **argv)
{
        syscall(SYS_renameat2, AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE);
}

/* swapped ONE OTHER TRIES: the two names are exchanged while one of them is executed. */
static int op_swapped(int argc, char **argv)
{
        (void)argc;
        return race(atoi(argv[3]), argv[1], swap, argv);
}

static void rename_back_and_forth(char **argv)
{
        rename(argv[1], argv[2]);
        rename(argv[2], argv[1]);
}

/* renamed FILE OTHER TRIES: the file changes its name while it is executed by the first. */
static int op_renamed(int argc, char **argv)
{
        (void)argc;
        return race(atoi(argv[3]), argv[1], rename_back_and_forth, argv);
}

const struct operation races[] = {
        { "swapped", 3, op_swapped },
        { "renamed", 3, op_renamed },
        { NULL, 0, NULL },
};
