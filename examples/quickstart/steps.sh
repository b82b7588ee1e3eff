# What the quick starts share, each of which reads this file: every command is shown
# before it runs, and a script ends where one does not do what it should.
# shellcheck shell=sh
set -eu

[ "$(id -u)" = 0 ] || { echo "run it as root: it loads eBPF programs" >&2; exit 1; }

undo=
loaded=no
[ -e /sys/fs/bpf/execblock ] && loaded=yes

# A command that must succeed. It is one word, so that it is shown as it was written.
run() {
    printf '# %s\n' "$1"
    eval "$1"
}

# One that the kernel must refuse: it fails, and says why.
refused() {
    printf '# %s\n' "$1"
    said=$(eval "$1" 2>&1) && fail "it was not refused: $said"
    printf '%s\n' "$said"
    case $said in
        *[Oo]"peration not permitted"*) ;;
        *) fail "it failed, but not for want of permission" ;;
    esac
}

# One that runs at the end, whatever happens: the first that was named comes first.
finally() {
    undo="$undo
$1"
}

# Waits for what sends no event.
until_true() {
    tries=600
    until eval "$1" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited in vain for: $1"
        sleep 0.1
    done
}

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    exit 1
}

at_the_end() {
    status=$?
    trap - EXIT
    set +e
    while IFS= read -r command; do
        [ -z "$command" ] || run "$command" </dev/null || status=1
    done <<UNDO
$undo
UNDO
    # What was loaded before stays.
    if [ "$loaded" = no ] && [ -e /sys/fs/bpf/execblock ]; then
        execblock unload || status=1
    fi
    exit "$status"
}
trap at_the_end EXIT
