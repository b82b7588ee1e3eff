/* Calls execve or execveat through int 0x80, the 32-bit way into a 64-bit kernel.
 *
 *     exec_ia32 PATH [at]
 *
 * With "at" it is execveat(AT_FDCWD, PATH, ...). Exits with the errno when the call fails.
 * Built without libc: gcc -m32 -static -nostdlib.
 */

#define SYS_EXIT 1
#define SYS_EXECVE 11
#define SYS_EXECVEAT 358
#define AT_FDCWD (-100)

__asm__(".globl _start\n"
        "_start:\n"
        "\tmovl %esp, %eax\n"
        "\tandl $-16, %esp\n"
        "\tsubl $12, %esp\n"
        "\tpushl %eax\n"
        "\tcall start\n");

static int call(int nr, long a, long b, long c, long d, long e)
{
        int ret;

        __asm__ volatile("int $0x80"
                         : "=a"(ret)
                         : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                         : "memory");
        return ret;
}

__attribute__((noreturn, used)) void start(int *stack)
{
        int argc = stack[0];
        char **argv = (char **)(stack + 1);
        char *child_argv[2];
        char *child_envp[1];
        int ret = -22;

        if (argc >= 2) {
                child_argv[0] = argv[1];
                child_argv[1] = 0;
                child_envp[0] = 0;
                if (argc >= 3)
                        ret = call(SYS_EXECVEAT, AT_FDCWD, (long)argv[1], (long)child_argv,
                                   (long)child_envp, 0);
                else
                        ret = call(SYS_EXECVE, (long)argv[1], (long)child_argv, (long)child_envp,
                                   0, 0);
        }
        for (;;)
                call(SYS_EXIT, -ret, 0, 0, 0, 0);
}
