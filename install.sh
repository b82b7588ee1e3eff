#!/bin/sh
# Installs execblock, or takes it away: puts files in their places and has systemd run the
# units. Looking at the kernel, loading, taking over what an older version has loaded and
# telling engines is the installed program's own work. docs/install.md tells more.
set -eu
# What is installed everybody may read.
umask 022

usage() {
    cat <<'EOF'
Usage: ./install.sh [--prefix DIR] [--from DIR] [--demo] [--dry-run]
       ./install.sh --uninstall [--prefix DIR] [--purge] [--yes] [--dry-run]

Builds execblock (Debian or Ubuntu, with cargo; a released archive has it built),
installs it, has systemd run it, and says what to do next. Doing it again upgrades:
rules hold meanwhile.

  --prefix DIR   install DIR/bin/execblock, DIR/bin/execblock-runc,
                 DIR/libexec/execblock/execblock-hook and what goes with them below
                 DIR/share (/usr/local)
  --from DIR     take the programs from DIR, and build nothing
  --demo         show it: one command under a rule, and where a containerd with
                 NRI is on the machine, a pod with an annotation
  --uninstall    take everything away, also what is loaded and what engines were told
  --purge        with --uninstall: /etc/execblock and changes of the units as well
  --yes          with --uninstall: ask nothing
  --dry-run      say what would be done, and change nothing
EOF
}

prefix=/usr/local
from=
demo=no
uninstall=no
purge=no
yes=no
dry_run=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --from)
            [ $# -gt 1 ] || { usage >&2; exit 2; }
            case $1 in
                --prefix) prefix=${2%/} ;;
                --from) from=$(cd "$2" && pwd) ;;
            esac
            shift
            ;;
        --demo) demo=yes ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        --yes) yes=yes ;;
        --dry-run) dry_run=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}
# Does it, or says it.
run() {
    if [ "$dry_run" = yes ]; then
        printf '    %s\n' "$*"
    else
        "$@"
    fi
}
# By a rename: whoever starts the program meanwhile gets the old one or the new one.
put() {
    run install -D -m "$1" "$2" "$3.new"
    run mv -f "$3.new" "$3"
}
# What a command prints, as a file.
write() {
    if [ "$dry_run" = yes ]; then
        file=$1
        shift
        printf '    %s > %s\n' "$*" "$file"
    else
        mkdir -p "${1%/*}"
        file=$1
        shift
        "$@" >"$file.new"
        mv -f "$file.new" "$file"
    fi
}
has_systemd() { [ -d /run/systemd/system ]; }
is_packaged() {
    dpkg-query --show --showformat '${Status}' execblock 2>/dev/null | grep -q 'ok installed'
}

case $prefix in
    /*) ;;
    *) fail "--prefix $prefix: expected a path from the root" ;;
esac
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || [ "$dry_run" = yes ] ||
    fail "run it as root: it installs programs and loads eBPF programs"

execblock=$prefix/bin/execblock
doc=$prefix/share/doc/execblock
man=$prefix/share/man/man1
unit_dir=/etc/systemd/system
units="execblock-load.service execblock.service"
# What files are put into, those above behind those below.
dirs="libexec/execblock libexec share/bash-completion/completions share/bash-completion
    share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish
    share/doc share/man/man1 share/man share bin ."
# Which of these were not there before: others' are left where they are.
made=$doc/made-directories
pins=/sys/fs/bpf/execblock

build() {
    command -v cargo >/dev/null || fail "no cargo: https://rustup.rs installs it"
    # cargo needs a C compiler to link with, and the client of containerd protoc.
    if ! command -v cc >/dev/null || ! command -v protoc >/dev/null; then
        command -v apt-get >/dev/null ||
            fail "no C compiler or no protoc: install both, or take a released archive"
        say "installing a C compiler and protoc"
        run apt-get update -q
        run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
            gcc libc6-dev protobuf-compiler
    fi
    say "building"
    run cargo build --release --locked --package execblock-cli --package execblock-hooks
    from=${CARGO_TARGET_DIR:-target}/release
}

missing_dirs() {
    # Of an installation before, what that has made.
    cat "$made" 2>/dev/null || true
    for dir in $dirs; do
        [ -d "$prefix/$dir" ] || echo "$dir"
    done
}

copy_files() {
    say "installing below $prefix"
    # Before anything is made. Names of ours, which have no spaces.
    # shellcheck disable=SC2046
    write "$made" printf '%s\n' $(missing_dirs)
    # The command last: whoever finds it finds all.
    put 0755 "$from/execblock-hook" "$prefix/libexec/execblock/execblock-hook"
    put 0755 "$from/execblock-runc" "$prefix/bin/execblock-runc"
    put 0755 "$from/execblock" "$execblock"
    put 0644 examples/config.toml "$doc/examples/config.toml"
    put 0644 LICENSE-MIT "$doc/LICENSE-MIT"
    put 0644 LICENSE-APACHE "$doc/LICENSE-APACHE"
    run "$execblock" manual "$man"
    write "$prefix/share/bash-completion/completions/execblock" "$execblock" completions bash
    write "$prefix/share/zsh/site-functions/_execblock" "$execblock" completions zsh
    write "$prefix/share/fish/vendor_completions.d/execblock.fish" "$execblock" completions fish
}

show() {
    say "execblock run --deny whoami -- sh -c 'id -un; whoami'"
    run "$execblock" run --deny whoami -- \
        sh -c 'id -un; whoami; echo "whoami: exit status $?"'
    if ! command -v containerd >/dev/null; then
        say "no containerd on this machine: the demo with a pod is left out"
    elif [ ! -e tests/Cargo.toml ] || ! command -v cargo >/dev/null; then
        say "no cargo, or no sources: the demo with a pod is left out"
    else
        say "a pod annotated execblock/deny=whoami, in a containerd of its own"
        run cargo run --quiet --release --locked --package execblock-vmtest -- demo "$execblock"
    fi
}

start_units() {
    if ! has_systemd; then
        # What an older version has loaded is replaced, and refuses until then.
        if [ -d "$pins" ]; then
            run "$execblock" load
        fi
        say "systemd does not run here, so nothing starts by itself. At each boot, as root:"
        echo "    $execblock load    pins the programs; enough for Docker and Podman"
        echo "    $execblock nri     the daemon, for containerd and CRI-O"
        return
    fi
    say "enabling $units"
    for unit in $units; do
        write "$unit_dir/$unit" sed "s|/usr/local/bin/|$prefix/bin/|" "examples/systemd/$unit"
    done
    run systemctl daemon-reload
    # Word by word.
    # shellcheck disable=SC2086
    run systemctl enable --quiet $units
    # Its start runs the other one before, which takes over what is loaded.
    run systemctl restart execblock.service ||
        fail "execblock.service did not start: journalctl -u 'execblock*' says why"
}

install_all() {
    [ -n "$from" ] || ! [ -x bin/execblock ] || from=$(pwd)/bin
    [ -n "$from" ] || build
    copy_files
    say "execblock doctor"
    # Its status says why not: 3 where the kernel can't. Nothing is started then.
    run "$execblock" doctor
    if [ "$demo" = yes ]; then
        show
    fi
    start_units
    say "next: tell an engine of it, containers start as before until then"
    echo "    $execblock setup containerd|crio|podman|docker    (--dry-run shows what changes)"
}

confirm() {
    [ "$yes" = no ] && [ "$dry_run" = no ] || return 0
    [ -t 0 ] || fail "$1; --yes goes on"
    printf '%s. Go on? [y/N] ' "$1"
    read -r answer
    case $answer in
        y | Y | yes) ;;
        *) fail "nothing was changed" ;;
    esac
}

# What engines were told, and what is loaded.
undo() {
    if [ ! -x "$execblock" ]; then
        [ ! -d "$pins" ] || fail "$pins is there and $execblock is not: install it again first"
        # What `execblock run` wrote when it ended, after it was taken away.
        run rm -rf /run/execblock
        return
    fi
    engines=
    for engine in containerd crio podman docker; do
        left=$("$execblock" setup "$engine" --remove --dry-run 2>/dev/null) || {
            say "the configuration of $engine is not understood: see to it that it names no execblock"
            continue
        }
        [ "$left" = "nothing to change" ] || engines="$engines $engine"
    done
    if [ -n "$engines" ]; then
        confirm "engines start containers through execblock and are told otherwise:$engines"
    fi
    if [ -d "$pins" ]; then
        "$execblock" status --brief || true
        confirm "programs are loaded; without them nothing is refused any more"
    fi
    for engine in $engines; do
        tell_otherwise "$engine"
    done
    stop_units
    if [ -d "$pins" ]; then
        run "$execblock" unload
    fi
    run rm -rf /run/execblock
}

# A file of the engine's that changes has its backup beside it, which stays. That of a file
# which was ours alone is of no use to anybody.
tell_otherwise() {
    if [ "$dry_run" = yes ]; then
        run "$execblock" setup "$1" --remove
        return
    fi
    said=$("$execblock" setup "$1" --remove) || fail "$1 still starts containers through it"
    printf '%s\n' "$said"
    backups=$(printf '%s\n' "$said" | sed -n 's/^what was there is in //p')
    for backup in $backups; do
        case ${backup##*/} in
            execblock.json.* | 90-execblock.*)
                rm -f "$backup"
                remove_empty "${backup%/*}"
                remove_empty "${backup%/*/*}"
                ;;
        esac
    done
}

stop_units() {
    if has_systemd && [ -e "$unit_dir/execblock.service" ]; then
        # shellcheck disable=SC2086
        run systemctl disable --quiet --now $units
    fi
}

remove_files() {
    say "removing what is below $prefix"
    for unit in $units; do
        run rm -f "$unit_dir/$unit" "$unit_dir/multi-user.target.wants/$unit"
        [ "$purge" = no ] || run rm -rf "$unit_dir/$unit.d"
    done
    if has_systemd; then
        run systemctl daemon-reload
    fi
    run rm -f "$prefix/libexec/execblock/execblock-hook" "$prefix/bin/execblock-runc" \
        "$prefix/share/bash-completion/completions/execblock" \
        "$prefix/share/zsh/site-functions/_execblock" \
        "$prefix/share/fish/vendor_completions.d/execblock.fish" \
        "$man/execblock.1" "$man"/execblock-*.1
    ours=$(cat "$made" 2>/dev/null) || true
    run rm -rf "$doc"
    # Last, so that a removal that was cut off can be called again.
    run rm -f "$execblock"
    for dir in $dirs; do
        if printf '%s\n' "$ours" | grep -qxF "$dir"; then
            remove_empty "$prefix/$dir"
        fi
    done
    if [ "$purge" = yes ]; then
        run rm -rf /etc/execblock
    else
        remove_empty /etc/execblock
        [ ! -d /etc/execblock ] || say "/etc/execblock stays: it is yours (--purge removes it)"
    fi
}

remove_empty() {
    if [ -d "$1" ] && [ -z "$(ls -A "$1")" ]; then
        run rmdir "$(readlink -f "$1")"
    fi
}

# Of the units, of what is loaded and of what engines were told there is one.
if is_packaged; then
    fail "the package execblock is installed: apt-get remove execblock comes first"
fi
if [ "$uninstall" = no ]; then
    install_all
else
    undo
    remove_files
fi
