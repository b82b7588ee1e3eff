/* The calls that execute a program, in all their forms. */

#include "evade.h"

#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/prctl.h>

static int execveat_of(int fd, const char *path, int flags)
{
        char *argv[] = { "evade-execveat", NULL };

        fflush(stdout);
        syscall(SYS_execveat, fd, path, argv, environment, flags);
        return failed("execveat");
}

/* exec PATH ARGV0 ARGV... */
static int op_exec(int argc, char **argv)
{
        (void)argc;
        execve(argv[1], argv + 2, environment);
        return failed(argv[1]);
}

static int op_no_argv(int argc, char **argv)
{
        char *none[] = { NULL };

        (void)argc;
        execve(argv[1], none, environment);
        return failed(argv[1]);
}

static int op_null_argv(int argc, char **argv)
{
        (void)argc;
        syscall(SYS_execve, argv[1], NULL, NULL);
        return failed(argv[1]);
}

/* many-args PATH COUNT */
static int op_many_args(int argc, char **argv)
{
        int count = atoi(argv[2]), i;
        char **words = calloc(count + 1, sizeof(*words));

        (void)argc;
        for (i = 0; words && i < count; i++)
                words[i] = "word";
        execve(argv[1], words, environment);
        return failed(argv[1]);
}

/* long-argv0 PATH BYTES */
static int op_long_argv0(int argc, char **argv)
{
        size_t length = atoi(argv[2]);
        char *words[] = { malloc(length + 1), NULL };

        (void)argc;
        memset(words[0], 'a', length);
        words[0][length] = 0;
        execve(argv[1], words, environment);
        return failed(argv[1]);
}

/* at DIR NAME */
static int op_at(int argc, char **argv)
{
        (void)argc;
        return execveat_of(open(argv[1], O_PATH | O_DIRECTORY), argv[2], 0);
}

static int op_at_cwd(int argc, char **argv)
{
        (void)argc;
        return execveat_of(AT_FDCWD, argv[1], 0);
}

/* The descriptor is of no consequence where the path is absolute. */
static int op_at_absolute(int argc, char **argv)
{
        (void)argc;
        return execveat_of(-1, argv[1], 0);
}

static int op_at_nofollow(int argc, char **argv)
{
        (void)argc;
        return execveat_of(AT_FDCWD, argv[1], AT_SYMLINK_NOFOLLOW);
}

static int op_empty_path(int argc, char **argv)
{
        (void)argc;
        return execveat_of(open(argv[1], O_PATH), "", AT_EMPTY_PATH);
}

static int op_empty_read(int argc, char **argv)
{
        (void)argc;
        return execveat_of(open(argv[1], O_RDONLY), "", AT_EMPTY_PATH);
}

static int op_fexecve(int argc, char **argv)
{
        char *words[] = { "evade-fexecve", NULL };

        (void)argc;
        fexecve(open(argv[1], O_RDONLY), words, environment);
        return failed("fexecve");
}

/* by-fd FOLDER PATH: /proc/self/fd and what leads to it. */
static int op_by_fd(int argc, char **argv)
{
        char path[256];

        (void)argc;
        snprintf(path, sizeof(path), "%s/%d", argv[1], open(argv[2], O_PATH));
        return run_program(path);
}

/* The root and the working folder of another process. */
static int op_others_root(int argc, char **argv)
{
        char path[4200];
        int status;
        pid_t child = fork();

        (void)argc;
        if (!child) {
                /* Who waits for our output must not wait for this. */
                close(1);
                close(2);
                for (;;)
                        pause();
        }
        snprintf(path, sizeof(path), "/proc/%d/root%s", child, argv[1]);
        status = run_program(path);
        kill(child, SIGKILL);
        return status;
}

static int op_vfork(int argc, char **argv)
{
        char *words[] = { argv[1], NULL };
        pid_t child = vfork();

        (void)argc;
        if (!child) {
                execve(argv[1], words, environment);
                _exit(errno);
        }
        if (child > 0) {
                int status;

                waitpid(child, &status, 0);
                errno = WEXITSTATUS(status);
                if (WIFSIGNALED(status)) {
                        printf("ended by signal %d\n", WTERMSIG(status));
                        return 128 + WTERMSIG(status);
                }
                if (!errno)
                        return 0;
        }
        return failed("vfork");
}

static int run_word(void *word)
{
        char *words[] = { word, NULL };

        execve(word, words, environment);
        return errno;
}

static int say_status(int status)
{
        if (status > 0 && status < 128) {
                errno = status;
                return failed("execve");
        }
        return status;
}

/* clone FLAGS PATH, with flags as a number beside CLONE_VM. */
static int op_clone(int argc, char **argv)
{
        char *stack = malloc(65536);
        int flags = strtol(argv[1], NULL, 0);

        (void)argc;
        return say_status(wait_for(clone(run_word, stack + 65536, CLONE_VM | SIGCHLD | flags,
                                         argv[2])));
}

static int op_spawn(int argc, char **argv)
{
        char *words[] = { argv[1], NULL };
        pid_t child;

        (void)argc;
        errno = posix_spawn(&child, argv[1], NULL, NULL, words, environment);
        return errno ? failed("posix_spawn") : wait_for(child);
}

static void *run_in_thread(void *word)
{
        errno = run_word(word);
        exit(failed("execve"));
}

static int op_thread(int argc, char **argv)
{
        pthread_t thread;

        (void)argc;
        errno = pthread_create(&thread, NULL, run_in_thread, argv[1]);
        if (errno)
                return failed("pthread_create");
        pthread_join(thread, NULL);
        return 1;
}

/* The leader has ended; the thread takes over its number. */
static int op_thread_without_leader(int argc, char **argv)
{
        pthread_t thread;

        (void)argc;
        errno = pthread_create(&thread, NULL, run_in_thread, argv[1]);
        if (errno)
                return failed("pthread_create");
        pthread_exit(NULL);
}

static int op_small_stack(int argc, char **argv)
{
        struct rlimit limit = { 256 * 1024, 256 * 1024 };

        (void)argc;
        setrlimit(RLIMIT_STACK, &limit);
        return run_program(argv[1]);
}

/* Everything else at its lowest. */
static int op_small_limits(int argc, char **argv)
{
        static const int limits[] = { RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_SIGPENDING,
                                      RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO };
        struct rlimit none = { 0, 0 };
        size_t i;

        (void)argc;
        for (i = 0; i < sizeof(limits) / sizeof(*limits); i++)
                setrlimit(limits[i], &none);
        return run_program(argv[1]);
}

static int op_signals_blocked(int argc, char **argv)
{
        sigset_t all;
        int signal;

        (void)argc;
        for (signal = 1; signal < 65; signal++)
                sigaction(signal, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        return run_program(argv[1]);
}

/* comm NAME PATH */
static int op_comm(int argc, char **argv)
{
        (void)argc;
        prctl(PR_SET_NAME, argv[1], 0, 0, 0);
        return run_program(argv[2]);
}

static int op_undumpable(int argc, char **argv)
{
        (void)argc;
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        return run_program(argv[1]);
}

/* chroot ROOT PATH */
static int op_chroot(int argc, char **argv)
{
        (void)argc;
        if (chroot(argv[1]) < 0 || chdir("/") < 0)
                return failed("chroot");
        return run_program(argv[2]);
}

/* fchdir DIR PATH */
static int op_fchdir(int argc, char **argv)
{
        (void)argc;
        if (fchdir(open(argv[1], O_PATH)) < 0)
                return failed("fchdir");
        return run_program(argv[2]);
}

/* into-cgroup FOLDER PATH: the child is born in another group. */
static int op_into_cgroup(int argc, char **argv)
{
        struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
        pid_t child;

        (void)argc;
        args.cgroup = open(argv[1], O_RDONLY | O_DIRECTORY);
        child = syscall(SYS_clone3, &args, sizeof(args));
        if (!child)
                _exit(run_program(argv[2]));
        return wait_for(child);
}

static int op_cgroup_namespace(int argc, char **argv)
{
        (void)argc;
        if (unshare(CLONE_NEWCGROUP) < 0)
                return failed("unshare");
        return run_program(argv[1]);
}

/* search NAME: on PATH, as a shell would. */
static int op_search(int argc, char **argv)
{
        char *words[] = { argv[1], NULL };

        (void)argc;
        execvp(argv[1], words);
        return failed(argv[1]);
}

const struct operation execs[] = {
        { "search", 1, op_search },
        { "cgroup-namespace", 1, op_cgroup_namespace },
        { "into-cgroup", 2, op_into_cgroup },
        { "exec", 2, op_exec },
        { "no-argv", 1, op_no_argv },
        { "null-argv", 1, op_null_argv },
        { "many-args", 2, op_many_args },
        { "long-argv0", 2, op_long_argv0 },
        { "at", 2, op_at },
        { "at-cwd", 1, op_at_cwd },
        { "at-absolute", 1, op_at_absolute },
        { "at-nofollow", 1, op_at_nofollow },
        { "empty-path", 1, op_empty_path },
        { "empty-read", 1, op_empty_read },
        { "fexecve", 1, op_fexecve },
        { "by-fd", 2, op_by_fd },
        { "others-root", 1, op_others_root },
        { "vfork", 1, op_vfork },
        { "clone", 2, op_clone },
        { "spawn", 1, op_spawn },
        { "thread", 1, op_thread },
        { "thread-without-leader", 1, op_thread_without_leader },
        { "small-stack", 1, op_small_stack },
        { "small-limits", 1, op_small_limits },
        { "signals-blocked", 1, op_signals_blocked },
        { "comm", 2, op_comm },
        { "undumpable", 1, op_undumpable },
        { "chroot", 2, op_chroot },
        { "fchdir", 2, op_fchdir },
        { NULL, 0, NULL },
};
