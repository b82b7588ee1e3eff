/* The program that must not run: it says so, and nothing else.
 *
 * Built three ways: static without libc (MARKER_STATIC; loaded high, so that a program can map it
 * beside itself), as a position independent program of the dynamic loader's, and as a shared
 * library that says it when it is loaded (MARKER_LIBRARY).
 */

#define TEXT "EVASION-MARK\n"

static void say(void)
{
        long ret;

        __asm__ volatile("syscall"
                         : "=a"(ret)
                         : "0"(1L), "D"(1L), "S"(TEXT), "d"(sizeof(TEXT) - 1)
                         : "rcx", "r11", "memory");
}

#if defined(MARKER_STATIC)
__attribute__((noreturn)) void _start(void)
{
        say();
        for (;;)
                __asm__ volatile("syscall" : : "a"(231L), "D"(0L) : "rcx", "r11", "memory");
}
#elif defined(MARKER_LIBRARY)
__attribute__((constructor)) static void loaded(void)
{
        say();
}

/* The loader wants it of what LD_AUDIT names. */
unsigned int la_version(unsigned int version)
{
        return version;
}
#else
int main(void)
{
        say();
        return 0;
}
#endif
