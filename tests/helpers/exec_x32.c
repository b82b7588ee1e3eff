/* Calls execve or execveat of the x32 ABI: 64-bit registers, 32-bit pointers, own call numbers.
 *
 *     exec_x32 PATH [at]
 *
 * With "at" it is execveat(AT_FDCWD, PATH, ...). Exits with the errno when the call fails.
 * Built without libc: gcc -mx32 -static -nostdlib.
 */

#define X32 0x40000000
#define SYS_EXIT (X32 + 60)
#define SYS_EXECVE (X32 + 520)
#define SYS_EXECVEAT (X32 + 545)
#define AT_FDCWD (-100)

__asm__(".globl _start\n"
        "_start:\n"
        "\tmovl %esp, %edi\n"
        "\tandl $-16, %esp\n"
        "\tcall start\n");

static int call(int nr, long long a, long long b, long long c, long long d, long long e)
{
        long long ret;
        register long long r10 __asm__("r10") = d;
        register long long r8 __asm__("r8") = e;

        __asm__ volatile("syscall"
                         : "=a"(ret)
                         : "0"((long long)nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                         : "rcx", "r11", "memory");
        return (int)ret;
}

/* Pointers are 32 bits wide and must not be sign-extended into the registers. */
static long long address(const void *pointer)
{
        return (long long)(unsigned long)pointer;
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
                        ret = call(SYS_EXECVEAT, AT_FDCWD, address(argv[1]), address(child_argv),
                                   address(child_envp), 0);
                else
                        ret = call(SYS_EXECVE, address(argv[1]), address(child_argv),
                                   address(child_envp), 0, 0);
        }
        for (;;)
                call(SYS_EXIT, -ret, 0, 0, 0, 0);
}
