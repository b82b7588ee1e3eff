//! Other cgroups and namespaces, which a privileged container can make.

use super::technique::Expect::{Escapes, Held};
use super::technique::Needs::{Admin, Userns};
use super::technique::Policy::Host;
use super::technique::Technique;
use super::technique::against::{BOTH, MOST, NAME};

pub(super) const TECHNIQUES: &[Technique] = &[
    Technique {
        name: "child",
        about: "a cgroup below the container's",
        needs: Admin,
        script: "[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 c \
                 /sys/fs/cgroup; c=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); \
                 c=$c/evade-$$; mkdir $c && echo $$ >$c/cgroup.procs && $T",
        against: BOTH,
    },
    Technique {
        name: "forty-levels",
        about: "a cgroup forty levels below",
        needs: Admin,
        script: "[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 c \
                 /sys/fs/cgroup; c=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); \
                 for i in $(seq 40); do c=$c/d; mkdir -p $c || exit; done; echo $$ \
                 >$c/cgroup.procs && $T",
        against: MOST,
    },
    Technique {
        name: "as-deep-as-it-gets",
        about: "a cgroup as far below as the kernel lets it be made, 100 levels at most",
        needs: Admin,
        script: "[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 c \
                 /sys/fs/cgroup; c=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); \
                 for i in $(seq 100); do mkdir -p $c/d 2>/dev/null || break; c=$c/d; \
                 done; echo $$ >$c/cgroup.procs && $T",
        against: NAME,
    },
    Technique {
        name: "born-into",
        about: "a child that is born into another cgroup (CLONE_INTO_CGROUP)",
        needs: Admin,
        script: "[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 c \
                 /sys/fs/cgroup; c=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); \
                 c=$c/evade-$$; mkdir $c; evade into-cgroup $c $T",
        against: BOTH,
    },
    Technique {
        name: "threaded",
        about: "a threaded cgroup below",
        needs: Admin,
        script: "[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 c \
                 /sys/fs/cgroup; c=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); \
                 c=$c/evade-$$; mkdir -p $c/t; echo threaded >$c/t/cgroup.type; echo $$ \
                 >$c/cgroup.procs; echo $$ >$c/t/cgroup.threads; $T",
        against: NAME,
    },
    Technique {
        name: "namespace",
        about: "a cgroup namespace of its own",
        needs: Admin,
        script: "evade cgroup-namespace $T",
        against: MOST,
    },
    Technique {
        name: "nested",
        about: "all namespaces of its own in a cgroup below, as an engine in a \
                 container makes them",
        needs: Admin,
        script: "[ -e /sys/fs/cgroup/cgroup.procs ] || mount -t cgroup2 c \
                 /sys/fs/cgroup; c=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); \
                 c=$c/inner/$$; mkdir -p $c; echo $$ >$c/cgroup.procs; unshare -m -p -f \
                 -i -u evade cgroup-namespace $T",
        against: MOST,
    },
    Technique {
        name: "mounted-again",
        about: "another mount of the cgroups, and a group that is made there",
        needs: Admin,
        script: "mkdir g; mount -t cgroup2 g g; g=g$(sed -n s/^0:://p \
                 /proc/self/cgroup); mkdir $g/again; echo $$ >$g/again/cgroup.procs; $T",
        against: NAME,
    },
    Technique {
        name: "user-namespace",
        about: "user, mount and process namespaces of its own",
        needs: Userns,
        script: "unshare -Urmpf $T",
        against: BOTH,
    },
    Technique {
        name: "host-mounts",
        about: "the mount namespace of the machine, entered",
        needs: Admin,
        script: "nsenter -t 1 -m /usr/bin/whoami",
        against: &[(Host, Held)],
    },
    Technique {
        name: "host-namespaces",
        about: "all namespaces of the machine, entered",
        needs: Admin,
        script: "nsenter -t 1 -m /usr/bin/nsenter -t 1 -u -i -n -C /usr/bin/whoami",
        against: &[(Host, Held)],
    },
    Technique {
        name: "host-root",
        about: "the root of the machine's first process, as a new root",
        needs: Admin,
        script: "chroot /proc/1/root /usr/bin/whoami",
        against: &[(Host, Held)],
    },
    Technique {
        name: "host-memfd",
        about: "a memfd as runc's, in the machine's mount namespace",
        needs: Admin,
        script: "sleep 9 & nsenter -t 1 -m /usr/bin/env sh -c \"exec \
                 /proc/$!/root/usr/bin/evade memfd-sealed whoami /proc/$!/root$T\"",
        against: &[(
            Host,
            Escapes("a copy has another name, and the machine is no container"),
        )],
    },
    Technique {
        name: "move-out",
        about: "into a cgroup of the machine",
        needs: Admin,
        // The machines are emulated without cmpxchg16b, and a new kernel then has no memory for
        // the tag that a process carries with it.
        script: "case $(grep -c cx16 /proc/cpuinfo)-$(uname -r) in 0-[5-6].*|[1-9]*) ;; *) echo \
                 'N/A a processor without cmpxchg16b'; exit;; esac; \
                 nsenter -t 1 -m /usr/bin/nsenter -t 1 -C sh -c 'echo $$ \
                 >/sys/fs/cgroup/cgroup.procs; /usr/bin/whoami'",
        against: &[(Host, Held)],
    },
];
