//! The groups that a list may name: the programs that people mean by one word.
//! The lists are data alone; `execblock groups` prints them.
//!
//! Names are those of Alpine, Debian and Red Hat; versioned ones are patterns
//! where one has no other meaning (`pip*` would also be PipeWire). A group is
//! about names, as every rule for a name is.

use crate::annotation::Rule;

/// What the name of a group begins with.
pub const SIGN: char = '@';

/// A named list of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name, without the [`SIGN`].
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// Names of programs, and patterns of them.
    pub members: &'static [&'static str],
}

impl Group {
    /// What it stands for in a list.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        // Each is a rule: a test reads them all.
        self.members.iter().filter_map(|member| member.parse().ok())
    }
}

/// The group of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

/// `@shells, @compilers, …`
#[must_use]
pub fn names() -> String {
    let names: Vec<String> = GROUPS
        .iter()
        .map(|group| format!("{SIGN}{}", group.name))
        .collect();
    names.join(", ")
}

/// All groups.
pub const GROUPS: &[Group] = &[
    Group {
        name: "shells",
        about: "command shells",
        members: SHELLS,
    },
    Group {
        name: "package-managers",
        about: "programs that install software: of distributions and of languages",
        members: PACKAGE_MANAGERS,
    },
    Group {
        name: "network-tools",
        about: "programs that fetch, send, tunnel, scan or show the network",
        members: NETWORK_TOOLS,
    },
    Group {
        name: "compilers",
        about: "compilers, assemblers and linkers",
        members: COMPILERS,
    },
    Group {
        name: "interpreters",
        about: "programs that run a language's source or byte code, shells left out",
        members: INTERPRETERS,
    },
];

#[rustfmt::skip]
const SHELLS: &[&str] = &[
    // Alpine's sh is ash of BusyBox; Debian's is dash, Red Hat's bash.
    "sh", "ash", "hush", "lash", "bash", "bash-static", "rbash", "bashbug", "dash", "posh", "yash",
    "static-sh", "sash",
    "ksh", "ksh93", "ksh93u+m", "ksh2020", "rksh", "rksh93", "pdksh", "oksh", "loksh", "mksh",
    "mksh-static", "lksh", "pfksh", "pfsh",
    "zsh", "zsh5", "zsh-*", "rzsh", "csh", "bsd-csh", "tcsh",
    "fish", "elvish", "nu", "nushell", "xonsh", "osh", "ysh", "oils-for-unix", "ion", "murex",
    "rc", "es", "scsh", "esh", "gash", "mrsh", "brush", "9base-rc",
    "pwsh", "pwsh-preview", "git-shell", "lshell", "rssh",
];

#[rustfmt::skip]
const PACKAGE_MANAGERS: &[&str] = &[
    // Alpine, Wolfi
    "apk", "apk.static", "abuild",
    // Debian
    "apt", "apt-get", "apt-cache", "apt-cdrom", "apt-config", "apt-extracttemplates", "apt-file",
    "apt-key", "apt-mark", "aptitude", "aptitude-curses", "aptdcon", "add-apt-repository", "dpkg",
    "dpkg-deb", "dpkg-split", "dpkg-reconfigure", "dselect", "debootstrap", "mmdebstrap", "gdebi",
    "alien", "synaptic", "unattended-upgrade", "unattended-upgrades", "snap", "snapd",
    // Red Hat, Amazon, Photon, SUSE
    "rpm", "rpm2cpio", "rpm2archive", "rpmbuild", "rpmdb", "rpmkeys", "yum", "yum-3", "yum-4",
    "yumdownloader", "dnf", "dnf-*", "dnf3", "dnf4", "dnf5", "dnf5daemon-client", "microdnf",
    "tdnf", "zypper", "rpm-ostree", "amazon-linux-extras", "subscription-manager", "urpmi",
    // Others
    "pacman", "pacman-key", "pacman-static", "pacstrap", "makepkg", "yay", "paru", "emerge",
    "ebuild", "xbps-install", "xbps-install.static", "xbps-remove", "xbps-query", "opkg", "opkg-cl",
    "ipkg", "swupd", "slackpkg", "installpkg", "upgradepkg", "eopkg", "pkg", "pkg_add",
    "pkg_info", "pkgin", "nix", "nix-*", "guix", "brew", "flatpak", "conda", "conda-*", "mamba",
    "micromamba", "pixi", "spack", "asdf", "mise",
    // Python
    "pip", "pip2", "pip2.*", "pip3", "pip3.*", "pip-3", "pip-3.*", "pipx", "pipenv", "uv", "uvx",
    "poetry", "pdm", "hatch", "easy_install", "easy_install-*", "virtualenv",
    // JavaScript
    "npm", "npx", "yarn", "yarnpkg", "pnpm", "pnpx", "bunx", "corepack", "bower", "nvm",
    // Ruby, Perl, PHP, Lua, Rust, Haskell, Java, .NET, Erlang, R, OCaml
    "gem", "gem2.*", "gem3.*", "gem-*", "bundle", "bundler", "bundle2.*", "bundle3.*", "cpan",
    "cpan5.*", "cpanm", "cpanplus", "cpm", "pecl", "pear", "composer", "composer.phar", "luarocks",
    "luarocks-*", "cargo", "cargo-*", "rustup", "rustup-init", "cabal", "stack", "ghcup", "mvn",
    "mvnw", "coursier", "nuget", "rebar3", "mix", "opam",
];

#[rustfmt::skip]
const NETWORK_TOOLS: &[&str] = &[
    // Fetch and send
    "curl", "curlie", "wcurl", "wget", "wget2", "aria2c", "axel", "lftp", "lftpget", "ftp", "ftp-*",
    "ftpget", "ftpput", "inetutils-ftp", "netkit-ftp", "tnftp", "pftp", "ncftp", "ncftpget",
    "ncftpput", "tftp", "tftp-hpa", "atftp", "rsync", "rsync-ssl", "rclone", "http", "https", "xh",
    "xhs", "httpie", "grpcurl", "websocat", "wscat", "lynx", "links", "links2", "elinks", "w3m",
    "smbclient", "smbget", "uftp", "croc", "magic-wormhole", "wormhole", "transmission-cli",
    // BusyBox's wget asks this one for TLS (Alpine)
    "ssl_client",
    // Shells and sessions elsewhere
    "ssh", "slogin", "scp", "sftp", "sshpass", "autossh", "ssh-copy-id", "ssh-keyscan", "mosh",
    "mosh-client", "dbclient", "dropbear", "dropbearmulti", "sshd", "plink", "pscp", "psftp",
    "telnet", "telnet.netkit", "telnet-ssl", "inetutils-telnet", "telnetd", "rsh", "rlogin", "rcp",
    "netkit-rsh", "rexec",
    // Sockets and tunnels
    "nc", "nc.openbsd", "nc.traditional", "netcat", "ncat", "nc6", "cryptcat", "pwncat", "socat",
    "socat1", "socat2", "rlwrap", "chisel", "gost", "frpc", "frps", "ngrok", "cloudflared",
    "rathole", "ligolo-ng", "proxychains", "proxychains3", "proxychains4", "torsocks",
    "torify", "tor", "tsocks", "stunnel", "stunnel3", "stunnel4", "stunnel5", "redsocks",
    "microsocks", "sshuttle", "iodine", "dnscat", "dnscat2", "ptunnel", "corkscrew",
    "tcpsvd", "udpsvd", "udpxy", "openvpn", "wg", "wg-quick", "tailscale", "tailscaled",
    // Names
    "dig", "host", "nslookup", "delv", "mdig", "nsupdate", "drill", "kdig", "khost",
    "dog", "doggo", "resolvectl", "resolveip", "whois", "whois.md", "dnsdomainname",     "avahi-resolve",
    // Reach
    "ping", "ping4", "ping6", "fping", "fping6", "hping", "hping2", "hping3", "oping", "nping",
    "arping", "arping2", "traceroute", "traceroute6", "traceroute.db", "traceroute6.db", "tcptraceroute",
    "tcptraceroute.db", "tcptraceroute.mt", "lft", "lft.db", "tracepath", "tracepath6", "mtr",
    "mtr-packet", "trippy", "gping", "iperf", "iperf2", "iperf3", "netperf", "netserver",
    // Scan and listen
    "nmap", "zenmap", "masscan", "zmap", "rustscan", "unicornscan", "nbtscan", "arp-scan",
    "netdiscover", "p0f", "nikto", "tcpdump", "tshark", "dumpcap", "wireshark", "ngrep", "tcpflow",
    "tcpick", "ettercap", "bettercap", "dsniff", "arpspoof", "iftop", "nethogs", "iptraf-ng",
    "nload", "sslscan", "mitmproxy", "mitmdump",
    // The node's or the container's own network
    "ip", "ipaddr", "iplink", "ipneigh", "iproute", "iprule", "iptunnel", "ifconfig", "route",
    "arp", "netstat", "ss", "tc", "bridge", "brctl", "ethtool", "mii-tool", "nameif", "slattach",
    "iptables", "iptables-*", "ip6tables", "ip6tables-*", "xtables-*", "nft", "ipset", "ebtables",
    "ebtables-*", "arptables", "conntrack", "iwconfig", "iw", "udhcpc", "udhcpc6", "dhclient",
    "dhcpcd", "nmcli",
];

#[rustfmt::skip]
const COMPILERS: &[&str] = &[
    // C and C++
    "cc", "c++", "c89", "c99", "c89-gcc", "c99-gcc", "gcc", "gcc-*", "gcc.real", "g++", "g++-*",
    "*-gcc", "*-g++", "*-cc", "*-c++", "x86_64-linux-gnu-gcc-*", "x86_64-linux-gnu-g++-*",
    "x86_64-redhat-linux-gcc-*", "aarch64-linux-gnu-gcc-*", "aarch64-linux-gnu-g++-*",
    "aarch64-redhat-linux-gcc-*", "cpp", "cpp-*", "*-cpp", "cc1", "cc1plus", "cc1obj",
    "cc1objplus", "lto1", "lto-wrapper", "collect2", "clang", "clang-*", "clang++", "clang++-*",
    "tcc", "*-tcc", "pcc", "bcc", "chibicc", "cproc", "icc", "icpc", "icx", "icpx", "musl-gcc",
    "musl-clang", "klcc", "nvcc", "hipcc", "emcc", "em++", "zig", "zig-*", "ccache",
    "distcc", "sccache",
    // Assemblers and linkers
    "as", "*-as", "nasm", "yasm", "fasm", "fasm.x64", "llvm-mc", "llvm-mc-*", "ld", "*-ld", "ld.bfd",
    "*-ld.bfd", "ld.gold", "*-ld.gold", "gold", "ld.lld", "ld.lld-*", "lld", "lld-*", "ld.mold",
    "mold", "dwp", "llc", "llc-*", "llvm-link", "llvm-link-*",
    // Other languages
    "go", "go-*", "go1.*", "gccgo", "gccgo-*", "cgo", "tinygo", "rustc", "rustdoc", "gccrs",
    "gccrs-*", "gfortran", "gfortran-*", "*-gfortran", "f77", "f95", "flang", "flang-*",
    "flang-new", "gnat", "gnat-*", "gnatmake", "gnatmake-*", "gnatbind", "gnatlink", "gdc", "gdc-*",
    "dmd", "ldc2", "ldmd2", "gm2", "gm2-*", "fpc", "ppcx64", "ghc", "ghc-*", "ocamlc", "ocamlc.*",
    "ocamlopt", "ocamlopt.*", "javac", "ecj", "gcj", "kotlinc", "scalac", "groovyc", "swiftc",
    "nim", "crystal", "vala", "valac", "valac-*", "mcs", "dmcs", "gmcs", "csc", "vbc", "fsc", "ilasm",
    "erlc", "elixirc", "tsc", "luac", "luac5*", "luac-5*", "mlton", "polyc", "chez", "csc-chicken",
    "gsc", "odin", "vlang", "haxe", "iverilog", "ghdl", "cython", "cython3", "cythonize",
    "cythonize3", "bison", "yacc", "byacc", "flex", "lex",
];

#[rustfmt::skip]
const INTERPRETERS: &[&str] = &[
    // Python: python3 (Alpine, Debian), python3.12, platform-python (Red Hat)
    "python", "python2*", "python3*", "python-*", "platform-python", "platform-python3*",
    "unversioned-python", "pypy", "pypy2*", "pypy3*", "ipython", "ipython3", "bpython", "bpython3",
    "ptpython", "micropython", "circuitpython", "jython", "graalpy", "pyston",
    // Perl
    "perl", "perl5*", "perl-static", "perl6", "raku", "rakudo", "rakudo-*", "suidperl", "perldebug",
    // Ruby
    "ruby", "ruby1*", "ruby2*", "ruby3*", "ruby-*", "ruby.ruby*", "irb", "irb2*", "irb3*", "erb",
    "jruby", "mruby", "mirb", "truffleruby", "rbx",
    // JavaScript and WebAssembly
    "node", "nodejs", "node-*", "deno", "bun", "qjs", "qjscalc", "quickjs", "njs", "duk", "mujs",
    "jsc", "d8", "gjs", "gjs-console", "cjs", "seed", "rhino", "jjs", "hermes", "ts-node", "tsx",
    "js", "js1*", "js7*", "js9*", "wasmtime", "wasmer", "wasmedge", "wasm3", "iwasm", "wasmi",
    // PHP: php8.2 (Debian), php82 (Alpine)
    "php", "php5*", "php7*", "php8*", "php-cgi", "php-cgi5*", "php-cgi7*", "php-cgi8*", "phpdbg",
    "phpdbg7*", "phpdbg8*", "php.default", "hhvm",
    // Lua, Tcl
    "lua", "lua5*", "lua-5*", "luajit", "luajit-*", "luau", "texlua", "tarantool", "tclsh",
    "tclsh8*", "tclsh9*", "jimsh", "wish", "wish8*", "wish9*", "expect", "tcl",
    // awk
    "awk", "gawk", "gawk-*", "igawk", "pgawk", "mawk", "nawk", "original-awk", "bwk", "goawk",
    "frawk", "zawk",
    // Java and .NET
    "java", "jshell", "jrunscript", "groovy", "groovysh", "groovyclient", "kotlin", "scala", "clj",
    "clojure", "bb", "bsh", "jbang", "dotnet", "dotnet-script", "mono", "mono-sgen", "csharp",
    "csi", "fsi", "fsharpi",
    // Lisp, Scheme, Forth
    "guile", "guile-*", "guile1*", "guile2*", "guile3*", "racket", "gracket", "scheme", "scheme48",
    "mit-scheme", "mit-scheme-*", "gsi", "csi-chicken", "petite", "gosh", "sbcl", "clisp", "ecl",
    "abcl", "ccl", "janet", "newlisp", "picolisp", "pil", "fennel", "hy", "hy3", "gforth", "pforth",
    // Erlang, ML, Haskell and the rest
    "erl", "escript", "elixir", "iex", "beam.smp", "ocaml", "ocamlrun", "ocamlrund", "utop", "ghci",
    "ghci-*", "runghc", "runghc-*", "runhaskell", "runhaskell-*", "hugs", "runhugs",     "swift", "swipl", "gprolog", "yap", "R", "Rscript", "littler", "julia", "octave", "octave-*",
    "gst", "pharo", "squeak", "io", "pike", "pike8*", "rexx", "regina", "lli", "lli-*", "root.exe",
    "cling", "yaegi", "evcxr", "risor", "tengo", "starlark", "nickel", "jsonnet",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::annotation::{RULES_MAX, parse_list};

    #[test]
    fn every_member_is_a_name_or_a_pattern_and_stands_once() {
        for group in GROUPS {
            let rules: BTreeSet<Rule> = group.rules().collect();
            for member in group.members {
                let rule: Rule = member.parse().unwrap_or_else(|error| {
                    panic!("@{}: {member:?}: {error}", group.name);
                });
                assert!(
                    matches!(rule, Rule::Name(_) | Rule::Prefix(_) | Rule::Suffix(_)),
                    "@{}: {member}",
                    group.name
                );
            }
            assert_eq!(rules.len(), group.members.len(), "@{}", group.name);
        }
    }

    /// What runs before, beside or below every program must not be in a group.
    #[test]
    fn no_group_has_what_containers_need() {
        let needed = [
            "runc",
            "crun",
            "conmon",
            "pause",
            "ld.so",
            "ld-linux-x86-64.so.2",
            "ld-musl-x86_64.so.1",
            "busybox",
            "env",
            "tini",
            "dumb-init",
            "docker-init",
            "catatonit",
            "coreutils",
            "cat",
            "containerd-shim-runc-v2",
            "libc.so.6",
            "php-fpm8.2",
            "pipewire",
            "nginx",
            "redis-server",
        ];
        for group in GROUPS {
            for rule in group.rules() {
                for name in needed {
                    let hit = match &rule {
                        Rule::Name(text) => text == name,
                        Rule::Prefix(text) => name.starts_with(text.as_str()),
                        Rule::Suffix(text) => name.ends_with(text.as_str()),
                        Rule::Path(_) | Rule::Directory(_) => false,
                    };
                    assert!(!hit, "@{}: {rule} is {name}", group.name);
                }
            }
        }
    }

    #[test]
    fn all_groups_fit_one_list() {
        let all: Vec<String> = GROUPS
            .iter()
            .map(|group| format!("@{}", group.name))
            .collect();
        let rules = parse_list(&all.join(" ")).unwrap();
        assert!(rules.len() <= RULES_MAX);
    }
}
