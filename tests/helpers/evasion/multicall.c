/* Stands in for toybox and the single binary of coreutils, which no image of the tests has: it
 * finds the applet in its words as they do, and of all applets it has whoami.
 */

#include <stdio.h>
#include <string.h>

static const char *base(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

int main(int argc, char **argv)
{
        static const char option[] = "--coreutils-prog=";
        static const char shebang[] = "--coreutils-prog-shebang=";
        const char *applet = argc > 0 ? base(argv[0]) : "";

        if (argc > 1 && !strncmp(argv[1], option, sizeof(option) - 1))
                applet = argv[1] + sizeof(option) - 1;
        else if (argc > 1 && !strncmp(argv[1], shebang, sizeof(shebang) - 1))
                applet = argv[1] + sizeof(shebang) - 1;
        else if (argc > 1 && strcmp(applet, "whoami"))
                applet = argv[1];
        if (strcmp(applet, "whoami")) {
                fprintf(stderr, "no applet %s\n", applet);
                return 1;
        }
        puts("EVASION-MARK");
        return 0;
}
