/* Calls execve of the same path again and again.
 *
 *     again TIMES PATH
 *
 * Prints how many calls failed with EPERM. A call that succeeds ends it, as does any other error,
 * with that errno.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        char *const arguments[] = {argv[2], NULL};
        char *const environment[] = {NULL};
        long times, refused;

        if (argc != 3)
                return EINVAL;
        times = atol(argv[1]);
        for (refused = 0; refused < times; refused++) {
                execve(argv[2], arguments, environment);
                if (errno != EPERM)
                        return errno;
        }
        printf("%ld\n", refused);
        return 0;
}
