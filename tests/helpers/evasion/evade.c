/* Runs inside a container and executes a program in the ways that a shell can't.
 *
 *     evade OPERATION WORD...
 *     evade batch PLAN RESULTS
 *     evade idle
 *
 * As the first process of a container it may do any of them.
 */

#include "evade.h"

char *const environment[] = { "PATH=/usr/bin:/bin", NULL };

int failed(const char *what)
{
        int error = errno;

        printf("%s: %s\n", what, strerror(error));
        fflush(stdout);
        return error == EPERM ? 126 : 125;
}

void not_applicable(const char *why)
{
        printf("N/A %s\n", why);
        fflush(stdout);
        _exit(0);
}

int wait_for(pid_t child)
{
        int status;

        if (child < 0)
                return failed("clone");
        while (waitpid(child, &status, __WALL) < 0)
                if (errno != EINTR)
                        return failed("wait");
        if (WIFSIGNALED(status)) {
                printf("ended by signal %d\n", WTERMSIG(status));
                return 128 + WTERMSIG(status);
        }
        return WEXITSTATUS(status);
}

int run_program(const char *path)
{
        char *argv[] = { (char *)path, NULL };

        fflush(stdout);
        execve(path, argv, environment);
        return failed(path);
}

int copy_to(const char *from, int to)
{
        char chunk[16384];
        int file = open(from, O_RDONLY);
        ssize_t got;

        if (file < 0)
                return -1;
        while ((got = read(file, chunk, sizeof(chunk))) > 0)
                if (write(to, chunk, got) != got)
                        return -1;
        close(file);
        return got < 0 ? -1 : 0;
}

/* The first process of a container: it stays, and buries whoever is left behind. */
static void idle(void)
{
        sigset_t all;

        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        for (;;) {
                int signal;

                sigwait(&all, &signal);
                if (signal == SIGTERM)
                        _exit(0);
                while (waitpid(-1, NULL, WNOHANG) > 0)
                        ;
        }
}

static int dispatch(const struct operation *table, int argc, char **argv, int *status)
{
        for (; table->name; table++) {
                if (strcmp(table->name, argv[0]))
                        continue;
                if (argc - 1 < table->words) {
                        printf("%s wants %d words\n", argv[0], table->words);
                        *status = 2;
                } else {
                        *status = table->run(argc, argv);
                }
                return 1;
        }
        return 0;
}

int main(int argc, char **argv)
{
        static const struct operation *const tables[] = { execs, strings, files, races,
                                                          traces, images };
        int status = 2;
        size_t i;

        if (argc < 2) {
                puts("usage: evade OPERATION WORD...");
                return 2;
        }
        if (!strcmp(argv[1], "idle"))
                idle();
        if (!strcmp(argv[1], "batch") && argc == 4)
                return batch(argv[2], argv[3]);
        for (i = 0; i < sizeof(tables) / sizeof(*tables); i++)
                if (dispatch(tables[i], argc - 1, argv + 1, &status)) {
                        fflush(stdout);
                        return status;
                }
        printf("no operation %s\n", argv[1]);
        return 2;
}
