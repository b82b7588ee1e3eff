#!/bin/sh
# Builds and installs execblock on a Debian or Ubuntu machine that has cargo:
# what is missing is installed, what is there is left alone.
set -eu

usage() {
    cat <<'EOF'
Usage: ./install.sh [--demo] [--prefix DIR]

  --demo         show it: one command under a rule, and where a containerd with
                 NRI is on the machine, a pod with an annotation
  --prefix DIR   install DIR/bin/execblock, DIR/bin/execblock-runc and
                 DIR/libexec/execblock/execblock-hook (/usr/local)
EOF
}

demo=no
prefix=/usr/local
while [ $# -gt 0 ]; do
    case $1 in
        --demo) demo=yes ;;
        --prefix)
            [ $# -gt 1 ] || { usage >&2; exit 2; }
            prefix=$2
            shift
            ;;
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

cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || fail "run it as root: it installs packages and loads eBPF programs"
command -v cargo >/dev/null || fail "no cargo: https://rustup.rs installs it"

# cargo needs a C compiler to link with, and the client of containerd protoc.
if ! command -v cc >/dev/null || ! command -v protoc >/dev/null; then
    say "installing a C compiler and protoc"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        gcc libc6-dev protobuf-compiler
fi

say "building"
cargo build --release --locked --package execblock-cli --package execblock-hooks
binary=${CARGO_TARGET_DIR:-target}/release/execblock
install -D -m 0755 "$binary" "$prefix/bin/execblock"
install -D -m 0755 "$binary-runc" "$prefix/bin/execblock-runc"
install -D -m 0755 "$binary-hook" "$prefix/libexec/execblock/execblock-hook"
execblock=$prefix/bin/execblock
say "installed $execblock ($("$execblock" --version))"

say "execblock doctor"
"$execblock" doctor || exit $?

if [ "$demo" = yes ]; then
    say "execblock run --deny whoami -- sh -c 'id -un; whoami'"
    "$execblock" run --deny whoami -- sh -c 'id -un; whoami; echo "whoami: exit status $?"'
    if command -v containerd >/dev/null; then
        say "a pod annotated execblock/deny=whoami, in a containerd of its own"
        cargo run --quiet --release --locked --package execblock-vmtest -- demo "$execblock"
    else
        say "no containerd on this machine: the demo with a pod is left out"
    fi
fi
