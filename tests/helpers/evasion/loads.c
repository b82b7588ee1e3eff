/* An ordinary program of the dynamic loader's: it loads the library that it is told to load. */

#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
        if (argc > 1 && !dlopen(argv[1], RTLD_NOW)) {
                puts(dlerror());
                return 1;
        }
        return 0;
}
