/* Programs that are made here: images that name another file as their loader, and a process that
 * changes what it says of itself.
 */

#include "evade.h"

#include <elf.h>
#include <sys/prctl.h>

/* with-interpreter FILE LOADER: a program without code of its own, run by its loader. */
static int op_with_interpreter(int argc, char **argv)
{
        struct {
                Elf64_Ehdr head;
                Elf64_Phdr parts[2];
                char loader[256];
        } image = { 0 };
        int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0755);

        (void)argc;
        if (file < 0)
                return failed(argv[1]);
        memcpy(image.head.e_ident, ELFMAG, SELFMAG);
        image.head.e_ident[EI_CLASS] = ELFCLASS64;
        image.head.e_ident[EI_DATA] = ELFDATA2LSB;
        image.head.e_ident[EI_VERSION] = EV_CURRENT;
        image.head.e_type = ET_EXEC;
        image.head.e_machine = EM_X86_64;
        image.head.e_version = EV_CURRENT;
        image.head.e_entry = 0x20000000;
        image.head.e_phoff = offsetof(__typeof__(image), parts);
        image.head.e_ehsize = sizeof(Elf64_Ehdr);
        image.head.e_phentsize = sizeof(Elf64_Phdr);
        image.head.e_phnum = 2;
        image.parts[0].p_type = PT_INTERP;
        image.parts[0].p_offset = offsetof(__typeof__(image), loader);
        image.parts[0].p_filesz = strlen(argv[2]) + 1;
        image.parts[0].p_memsz = image.parts[0].p_filesz;
        image.parts[1].p_type = PT_LOAD;
        image.parts[1].p_flags = PF_R;
        image.parts[1].p_vaddr = 0x20000000;
        image.parts[1].p_filesz = sizeof(image);
        image.parts[1].p_memsz = sizeof(image);
        image.parts[1].p_align = 4096;
        strncpy(image.loader, argv[2], sizeof(image.loader) - 1);
        if (write(file, &image, sizeof(image)) != sizeof(image))
                return failed(argv[1]);
        close(file);
        return 0;
}

/* exe-file OTHER PATH: /proc/self/exe says OTHER when the path is executed. */
static int op_exe_file(int argc, char **argv)
{
        struct prctl_mm_map map = { 0 };
        char line[512], *at;
        unsigned long first, last;
        FILE *stat;
        int i;

        (void)argc;
        map.exe_fd = open(argv[1], O_RDONLY);
        stat = fopen("/proc/self/stat", "r");
        if (!stat || !fgets(line, sizeof(line), stat))
                return failed("/proc/self/stat");
        /* Fields 26 to 28 and 45 to 51 of proc_pid_stat(5). */
        at = strrchr(line, ')');
        for (i = 3; at && i <= 51; i++) {
                at = strchr(at + 1, ' ');
                first = strtoul(at + 1, NULL, 10);
                if (i == 26)
                        map.start_code = first;
                else if (i == 27)
                        map.end_code = first;
                else if (i == 28)
                        map.start_stack = first;
                else if (i == 45)
                        map.start_data = first;
                else if (i == 46)
                        map.end_data = first;
                else if (i == 47)
                        map.start_brk = first;
                else if (i == 48)
                        map.arg_start = first;
                else if (i == 49)
                        map.arg_end = first;
                else if (i == 50)
                        map.env_start = first;
                else if (i == 51)
                        map.env_end = first;
        }
        last = (unsigned long)sbrk(0);
        map.brk = last;
        if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) < 0)
                not_applicable("PR_SET_MM_MAP is refused");
        return run_program(argv[2]);
}

const struct operation images[] = {
        { "with-interpreter", 2, op_with_interpreter },
        { "exe-file", 2, op_exe_file },
        { NULL, 0, NULL },
};
