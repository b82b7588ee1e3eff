#!/bin/sh
# Quick start with a container that runs already and has no annotation; here one of Podman's.
# shellcheck disable=SC2016 # Commands are shown as they are written.
# shellcheck source=examples/quickstart/steps.sh
. "$(dirname "$0")/steps.sh"
IMAGE=${IMAGE:-docker.io/library/busybox:latest}

run 'execblock load'
run 'ID=$(podman run -d --network none --entrypoint sleep $IMAGE 1000000)'
finally 'podman rm --force --time 0 $ID'
run 'podman exec $ID whoami'
run 'execblock deny $ID whoami'
refused 'podman exec $ID whoami'
run 'execblock status $ID'
run 'execblock clear $ID'
run 'podman exec $ID whoami'
