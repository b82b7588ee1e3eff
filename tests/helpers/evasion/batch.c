/* Runs the techniques of a plan one after another, each in a shell of its own, and writes down what
 * it said and how it ended.
 *
 * The plan is a row of strings that end in NUL, four for each technique: its name, its needs
 * ("admin" keeps all capabilities, anything else those that containers have by default), the milliseconds that
 * it may take, and the script. The results are three for each: the name, the end ("exit N",
 * "signal N" or "late") and the output.
 */

#include "evade.h"

#include <dirent.h>
#include <ftw.h>
#include <linux/capability.h>
#include <mntent.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <time.h>

#define SCRATCH "/tmp/ev"
#define OUTPUT_MAX 16384

/* What containerd and Docker leave a container by default. */
static const int kept[] = { CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER,
                            CAP_MKNOD,   CAP_NET_RAW,      CAP_SETGID, CAP_SETUID,
                            CAP_SETFCAP, CAP_SETPCAP,      CAP_KILL,   CAP_NET_BIND_SERVICE,
                            CAP_SYS_CHROOT, CAP_AUDIT_WRITE };

static long long now(void)
{
        struct timespec time;

        clock_gettime(CLOCK_MONOTONIC, &time);
        return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static int drop_capabilities(void)
{
        struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct data[2] = { { 0 } };
        size_t i;
        int cap;

        for (i = 0; i < sizeof(kept) / sizeof(*kept); i++)
                data[kept[i] / 32].permitted |= 1u << kept[i] % 32;
        for (cap = 0; cap <= 63; cap++)
                if (!(data[cap / 32].permitted & 1u << cap % 32))
                        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        for (i = 0; i < 2; i++) {
                data[i].effective = data[i].permitted;
                data[i].inheritable = 0;
        }
        return syscall(SYS_capset, &header, data);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *at)
{
        (void)st;
        (void)flag;
        if (at->level > 0)
                remove(path);
        return 0;
}

/* An empty folder, whatever the technique before has left mounted on it. */
static void clean(void)
{
        char *mounts[64];
        struct mntent *entry;
        int count = 0;
        FILE *list = setmntent("/proc/self/mounts", "r");

        while (list && (entry = getmntent(list)) && count < 64)
                if (!strncmp(entry->mnt_dir, SCRATCH, strlen(SCRATCH)))
                        mounts[count++] = strdup(entry->mnt_dir);
        if (list)
                endmntent(list);
        while (count-- > 0) {
                umount2(mounts[count], MNT_DETACH);
                free(mounts[count]);
        }
        mkdir(SCRATCH, 0777);
        chmod(SCRATCH, 0777);
        nftw(SCRATCH, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void end_children(pid_t group)
{
        char path[64], list[4096];
        ssize_t got;
        char *at;
        int tries, file;

        kill(-group, SIGKILL);
        /* What has left the group: as their subreaper we are their parent. */
        for (tries = 0; tries < 64; tries++) {
                snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
                file = open(path, O_RDONLY);
                got = file < 0 ? 0 : read(file, list, sizeof(list) - 1);
                close(file);
                if (got <= 0)
                        return;
                list[got] = 0;
                for (at = strtok(list, " "); at; at = strtok(NULL, " ")) {
                        kill(atoi(at), SIGKILL);
                        waitpid(atoi(at), NULL, __WALL);
                }
        }
}

static pid_t start(const char *needs, char *script, int output)
{
        char *argv[] = { "sh", "-c", script, NULL };
        char *envp[] = { "PATH=/usr/bin:/bin", "D=" SCRATCH, "HOME=/root", NULL };
        pid_t child = fork();
        int null;

        if (child)
                return child;
        setpgid(0, 0);
        null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(output, 1);
        dup2(output, 2);
        if (null > 2)
                close(null);
        if (chdir(SCRATCH) < 0 || (strcmp(needs, "admin") && drop_capabilities() < 0))
                _exit(failed("prepare"));
        /* Not by the shell's own name: what is attacked is what the script does. */
        execve("/bin/busybox", argv, envp);
        _exit(failed("/bin/busybox"));
}

static void take(const char *name, const char *needs, int limit, char *script, FILE *results)
{
        static char output[OUTPUT_MAX];
        size_t length = 0, i;
        long long until = now() + limit;
        int ends[2], status = 0, ended = 0, late = 0;
        pid_t child;

        clean();
        if (pipe2(ends, O_CLOEXEC) < 0)
                exit(failed("pipe"));
        child = start(needs, script, ends[1]);
        close(ends[1]);
        for (;;) {
                struct pollfd wait = { ends[0], POLLIN, 0 };
                char chunk[1024];
                ssize_t got;

                if (!ended && waitpid(child, &status, WNOHANG) == child) {
                        ended = 1;
                        /* Somebody may hold the pipe for ever. */
                        if (until > now() + 500)
                                until = now() + 500;
                }
                if (now() >= until) {
                        late = !ended;
                        break;
                }
                if (poll(&wait, 1, ended ? 20 : 10) <= 0)
                        continue;
                got = read(ends[0], chunk, sizeof(chunk));
                if (got <= 0)
                        break;
                for (i = 0; i < (size_t)got && length < OUTPUT_MAX; i++)
                        output[length++] = chunk[i] ? chunk[i] : '?';
        }
        close(ends[0]);
        if (late)
                kill(child, SIGKILL);
        if (!ended)
                waitpid(child, &status, 0);
        end_children(child);
        fprintf(results, "%s%c", name, 0);
        if (late)
                fprintf(results, "late%c", 0);
        else if (WIFSIGNALED(status))
                fprintf(results, "signal %d%c", WTERMSIG(status), 0);
        else
                fprintf(results, "exit %d%c", WEXITSTATUS(status), 0);
        fwrite(output, 1, length, results);
        fputc(0, results);
        fflush(results);
}

int batch(const char *plan, const char *results_path)
{
        static char text[512 * 1024];
        int file = open(plan, O_RDONLY | O_CLOEXEC);
        ssize_t length = 0, got;
        FILE *results = fopen(results_path, "we");
        char *at, *end;

        if (file < 0 || !results)
                return failed(plan);
        while ((got = read(file, text + length, sizeof(text) - length)) > 0)
                length += got;
        close(file);
        if (length == sizeof(text)) {
                puts("the plan is too long");
                return 2;
        }
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        umask(0);
        for (at = text, end = text + length; at < end;) {
                char *name = at, *needs, *limit, *script;

                needs = name + strlen(name) + 1;
                limit = needs + strlen(needs) + 1;
                script = limit + strlen(limit) + 1;
                at = script + strlen(script) + 1;
                take(name, needs, atoi(limit), script, results);
        }
        clean();
        return 0;
}
