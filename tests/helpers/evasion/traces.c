/* One process changes what another gives to exec: ptrace, and seccomp's user notification. */

#include "evade.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/user.h>

static char text[4096];

static int write_text(pid_t child, unsigned long at, const char *what)
{
        ssize_t length = strlen(what) + 1, wrote;
        char path[64];
        int memory;

        snprintf(path, sizeof(path), "/proc/%d/mem", child);
        memory = open(path, O_RDWR);
        wrote = pwrite(memory, what, length, at);
        close(memory);
        return wrote == length ? 0 : -1;
}

/* traced PATH INNOCENT: the tracer writes the path at the entry of the child's execve. */
static int op_traced(int argc, char **argv)
{
        struct user_regs_struct registers;
        int status, changed = 0;
        pid_t child;

        (void)argc;
        strcpy(text, argv[2]);
        child = fork();
        if (!child) {
                ptrace(PTRACE_TRACEME, 0, NULL, NULL);
                raise(SIGSTOP);
                _exit(run_program(text));
        }
        waitpid(child, &status, 0);
        if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC) < 0)
                not_applicable("ptrace is refused");
        for (;;) {
                ptrace(PTRACE_SYSCALL, child, NULL, NULL);
                if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
                        break;
                ptrace(PTRACE_GETREGS, child, NULL, &registers);
                if (!changed && registers.orig_rax == SYS_execve) {
                        changed = 1;
                        write_text(child, registers.rdi, argv[1]);
                }
        }
        if (WIFSIGNALED(status)) {
                printf("ended by signal %d\n", WTERMSIG(status));
                return 128 + WTERMSIG(status);
        }
        return WEXITSTATUS(status);
}

/* traced-call PATH: the tracer makes an execve of a call that is none. */
static int op_traced_call(int argc, char **argv)
{
        struct user_regs_struct registers;
        int status, changed = 0;
        pid_t child;

        (void)argc;
        strcpy(text, argv[1]);
        child = fork();
        if (!child) {
                char *words[] = { text, NULL };

                ptrace(PTRACE_TRACEME, 0, NULL, NULL);
                raise(SIGSTOP);
                errno = -syscall(SYS_getppid, text, words, environment);
                _exit(failed("a call that was none"));
        }
        waitpid(child, &status, 0);
        if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESYSGOOD) < 0)
                not_applicable("ptrace is refused");
        for (;;) {
                ptrace(PTRACE_SYSCALL, child, NULL, NULL);
                if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status))
                        break;
                ptrace(PTRACE_GETREGS, child, NULL, &registers);
                if (!changed && registers.orig_rax == SYS_getppid) {
                        changed = 1;
                        registers.orig_rax = SYS_execve;
                        ptrace(PTRACE_SETREGS, child, NULL, &registers);
                        ptrace(PTRACE_SYSCALL, child, NULL, NULL);
                        waitpid(child, &status, 0);
                        if (!WIFSTOPPED(status))
                                break;
                        ptrace(PTRACE_GETREGS, child, NULL, &registers);
                        if ((long)registers.rax < 0) {
                                errno = -(long)registers.rax;
                                failed("the changed call");
                        }
                }
        }
        if (WIFSIGNALED(status)) {
                printf("ended by signal %d\n", WTERMSIG(status));
                return 128 + WTERMSIG(status);
        }
        return WEXITSTATUS(status);
}

static void send_fd(int socket, int fd)
{
        char data = 'x', room[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec part = { &data, 1 };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room,
                                  .msg_controllen = sizeof(room) };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(int));
        sendmsg(socket, &message, 0);
}

static int receive_fd(int socket)
{
        char data, room[CMSG_SPACE(sizeof(int))];
        struct iovec part = { &data, 1 };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room,
                                  .msg_controllen = sizeof(room) };
        int fd;

        if (recvmsg(socket, &message, 0) < 1 || !CMSG_FIRSTHDR(&message))
                return -1;
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
        return fd;
}

/* notified PATH INNOCENT: a supervisor writes the path, then lets the call go on. */
static int op_notified(int argc, char **argv)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };
        struct seccomp_notif asked = { 0 };
        struct seccomp_notif_resp answer = { 0 };
        int pair[2], listener;
        pid_t child;

        (void)argc;
        strcpy(text, argv[2]);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                return failed("socketpair");
        child = fork();
        if (!child) {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                   SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
                if (listener < 0)
                        not_applicable("seccomp has no user notification");
                send_fd(pair[1], listener);
                close(listener);
                _exit(run_program(text));
        }
        close(pair[1]);
        listener = receive_fd(pair[0]);
        if (listener < 0)
                return wait_for(child);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
                return failed("receive a notification");
        write_text(child, asked.data.args[0], argv[1]);
        answer.id = asked.id;
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
        return wait_for(child);
}

/* A filter that answers execve with success does not run it; one that lets all pass is no help. */
static int op_filtered(int argc, char **argv)
{
        struct sock_filter filter[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
        struct sock_fprog program = { 1, filter };

        (void)argc;
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
                not_applicable("seccomp is refused");
        return run_program(argv[1]);
}

const struct operation traces[] = {
        { "traced", 2, op_traced },
        { "traced-call", 1, op_traced_call },
        { "notified", 2, op_notified },
        { "filtered", 1, op_filtered },
        { NULL, 0, NULL },
};
