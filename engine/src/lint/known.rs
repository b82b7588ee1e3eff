//! What `lint` knows of programs: data.

/// Applets of BusyBox as Alpine, Debian and the BusyBox image build it, in order.
#[rustfmt::skip]
pub(super) const APPLETS: &[&str] = &[
    "[", "[[", "acpid", "addgroup", "adduser", "adjtimex", "ar", "arch", "arp", "arping", "ascii",
    "ash", "awk", "base64", "basename", "bbconfig", "bc", "beep", "blkdiscard", "blkid", "blockdev",
    "bootchartd", "brctl", "bunzip2", "bzcat", "bzip2", "cal", "cat", "chattr", "chgrp", "chmod",
    "chown", "chpasswd", "chpst", "chroot", "chvt", "cksum", "clear", "cmp", "comm", "cp", "cpio",
    "crc32", "crond", "crontab", "cryptpw", "cttyhack", "cut", "date", "dc", "dd", "deallocvt",
    "delgroup", "deluser", "depmod", "devmem", "df", "diff", "dirname", "dmesg", "dnsd",
    "dnsdomainname", "dos2unix", "dpkg", "dpkg-deb", "du", "dumpkmap", "dumpleases", "echo", "ed",
    "egrep", "eject", "env", "envdir", "envuidgid", "ether-wake", "expand", "expr", "factor",
    "fakeidentd", "fallocate", "false", "fatattr", "fbset", "fbsplash", "fdflush", "fdformat",
    "fdisk", "fgrep", "find", "findfs", "flock", "fold", "free", "freeramdisk", "fsck", "fsfreeze",
    "fstrim", "fsync", "ftpd", "ftpget", "ftpput", "fuser", "getopt", "getty", "grep", "groups",
    "gunzip", "gzip", "halt", "hd", "hdparm", "head", "hexdump", "hostid", "hostname", "httpd",
    "hush", "hwclock", "i2cdetect", "i2cdump", "i2cget", "i2cset", "i2ctransfer", "id", "ifconfig",
    "ifdown", "ifenslave", "ifup", "inetd", "init", "inotifyd", "insmod", "install", "ionice",
    "iostat", "ip", "ipaddr", "ipcalc", "ipcrm", "ipcs", "iplink", "ipneigh", "iproute", "iprule",
    "iptunnel", "kbd_mode", "kill", "killall", "killall5", "klogd", "lash", "last", "less", "link",
    "linux32", "linux64", "linuxrc", "ln", "loadfont", "loadkmap", "logger", "login", "logname",
    "logread", "losetup", "lpd", "lpq", "lpr", "ls", "lsattr", "lsmod", "lsof", "lsscsi", "lsusb",
    "lzcat", "lzma", "lzop", "lzopcat", "makemime", "man", "md5sum", "mdev", "mesg", "microcom",
    "mim", "minips", "mkdir", "mkdosfs", "mke2fs", "mkfifo", "mkfs.ext2", "mkfs.minix", "mkfs.vfat",
    "mknod", "mkpasswd", "mkswap", "mktemp", "modinfo", "modprobe", "more", "mount", "mountpoint",
    "mpstat", "mt", "mv", "nameif", "nanddump", "nandwrite", "nbd-client", "nc", "netstat", "nice",
    "nl", "nmeter", "nohup", "nologin", "nproc", "nsenter", "nslookup", "ntpd", "nuke", "od",
    "openvt", "partprobe", "passwd", "paste", "patch", "pgrep", "pidof", "ping", "ping6",
    "pipe_progress", "pivot_root", "pkill", "pmap", "popmaildir", "poweroff", "powertop",
    "printenv", "printf", "ps", "pscan", "pstree", "pwd", "pwdx", "raidautorun", "rdate", "rdev",
    "readahead", "readlink", "readprofile", "realpath", "reboot", "reformime", "remove-shell",
    "renice", "reset", "resize", "resume", "rev", "rfkill", "rm", "rmdir", "rmmod", "route", "rpm",
    "rpm2cpio", "rtcwake", "run-init", "run-parts", "runsv", "runsvdir", "rx", "script",
    "scriptreplay", "sed", "sendmail", "seq", "sestatus", "setarch", "setconsole", "setfattr",
    "setfont", "setkeycodes", "setlogcons", "setpriv", "setserial", "setsid", "setuidgid", "sh",
    "sha1sum", "sha256sum", "sha3sum", "sha512sum", "showkey", "shred", "shuf", "slattach", "sleep",
    "softlimit", "sort", "split", "ssl_client", "start-stop-daemon", "stat", "strings", "stty",
    "su", "sulogin", "sum", "sv", "svc", "svlogd", "svok", "swapoff", "swapon", "switch_root",
    "sync", "sysctl", "syslogd", "tac", "tail", "tar", "taskset", "tc", "tcpsvd", "tee", "telnet",
    "telnetd", "test", "tftp", "tftpd", "time", "timeout", "top", "touch", "tr", "traceroute",
    "traceroute6", "tree", "true", "truncate", "ts", "tty", "ttysize", "tunctl", "tune2fs",
    "ubirename", "udhcpc", "udhcpc6", "udhcpd", "udpsvd", "uevent", "umount", "uname", "uncompress",
    "unexpand", "uniq", "unix2dos", "unlink", "unlzma", "unlzop", "unshare", "unxz", "unzip",
    "uptime", "users", "usleep", "uudecode", "uuencode", "vconfig", "vi", "vlock", "volname", "w",
    "wall", "watch", "watchdog", "wc", "wget", "which", "who", "whoami", "whois", "xargs", "xxd",
    "xz", "xzcat", "yes", "zcat", "zcip",
];

/// What shells do themselves, with no program that could be refused (POSIX.1-2024
/// and bash(1), ash, dash).
#[rustfmt::skip]
pub(super) const BUILTINS: &[&str] = &[
    ":", "[", "[[", "alias", "bg", "bind", "break", "builtin", "caller", "case", "cd", "command",
    "compgen", "complete", "compopt", "continue", "coproc", "declare", "dirs", "disown", "echo",
    "enable", "eval", "exec", "exit", "export", "false", "fc", "fg", "for", "getopts", "hash",
    "help", "history", "if", "jobs", "kill", "let", "local", "logout", "mapfile", "popd", "printf",
    "pushd", "pwd", "read", "readarray", "readonly", "return", "select", "set", "shift", "shopt",
    "source", "suspend", "test", "time", "times", "trap", "true", "type", "typeset", "ulimit",
    "umask", "unalias", "unset", "until", "wait", "while",
];

/// Programs that run in a container's cgroup before or around its own, and what
/// ends without them.
pub(super) const RUNTIME: &[(&str, &str)] = &[
    (
        "runc",
        "the runtime runs as it in the container: no start, no exec",
    ),
    (
        "crun",
        "the runtime runs as it in the container: no start, no exec",
    ),
    (
        "conmon",
        "CRI-O and Podman watch each exec with it: no exec",
    ),
    ("pause", "it holds the pod's namespaces"),
    ("tini", "it is the first process of many images"),
    ("dumb-init", "it is the first process of many images"),
    (
        "catatonit",
        "it is the first process where Podman is asked for --init",
    ),
    (
        "docker-init",
        "it is the first process where Docker is asked for --init",
    ),
];

/// The dynamic loader: it is what the kernel runs for each program that is not
/// static.
pub(super) const LOADERS: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "ld-linux-armhf.so.3",
    "ld-linux.so.2",
    "ld-musl-x86_64.so.1",
    "ld-musl-aarch64.so.1",
    "ld64.so.2",
    "ld.so",
    "ld-2.31.so",
    "libc.so.6",
    "libc.musl-x86_64.so.1",
];

/// Directories with libraries, which every program that is not static maps.
pub(super) const LIBRARIES: &[&str] = &[
    "/lib/",
    "/lib64/",
    "/usr/lib/",
    "/usr/lib64/",
    "/usr/local/lib/",
    "/lib/x86_64-linux-gnu/",
    "/usr/lib/x86_64-linux-gnu/",
    "/usr/lib/aarch64-linux-gnu/",
];

/// Directories in which images have links to BusyBox.
pub(super) const APPLET_DIRECTORIES: &[&str] = &["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"];

/// Names that are links on most images, and what is behind: names and patterns
/// of which an allow-list needs one.
pub(super) const LINKS: &[(&str, &[&str])] = &[
    ("sh", &["dash", "bash", "busybox", "ash"]),
    ("ash", &["busybox"]),
    ("python", &["python3*", "python2*"]),
    ("python3", &["python3*"]),
    ("python2", &["python2*"]),
    ("awk", &["mawk", "gawk", "busybox"]),
    ("nc", &["nc.openbsd", "nc.traditional", "ncat", "busybox"]),
    ("netcat", &["nc.openbsd", "nc.traditional", "ncat"]),
    ("vi", &["vim.basic", "vim.tiny", "busybox"]),
    ("nodejs", &["node"]),
    ("npm", &["npm-cli.js"]),
    ("npx", &["npx-cli.js"]),
    ("php", &["php8*", "php7*"]),
    ("lua", &["lua5*"]),
    ("tclsh", &["tclsh8*", "tclsh9*"]),
    ("gcc", &["x86_64-linux-gnu-gcc-*", "gcc-*"]),
    ("cc", &["x86_64-linux-gnu-gcc-*", "clang*"]),
];

/// A name that a pattern of [`LINKS`] means.
pub(super) fn example(pattern: &str) -> String {
    pattern.replace('*', ".12")
}

/// Shells, whose `-c` is a script.
pub(super) const SHELLS: &[&str] = &["sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"];

/// Programs that run the program in their arguments.
pub(super) const LAUNCHERS: &[&str] = &[
    "env",
    "exec",
    "nice",
    "nohup",
    "setsid",
    "sudo",
    "su-exec",
    "gosu",
    "tini",
    "dumb-init",
    "catatonit",
    "timeout",
    "chroot",
    "time",
    "xargs",
    "command",
    "busybox",
];
