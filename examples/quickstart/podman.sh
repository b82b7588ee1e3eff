#!/bin/sh
# Quick start with Podman: an annotated container can't execute a program.
# shellcheck disable=SC2016 # Commands are shown as they are written.
# shellcheck source=examples/quickstart/steps.sh
. "$(dirname "$0")/steps.sh"
IMAGE=${IMAGE:-docker.io/library/busybox:latest}

run 'execblock load'
run 'execblock setup podman'
finally 'podman rm --force --time 0 web'
finally 'execblock setup podman --remove'
run 'podman run -d --name web --network none --annotation execblock/deny=whoami --entrypoint sleep $IMAGE 1000000'
run 'podman exec web id -un'
refused 'podman exec web whoami'
refused 'podman run --rm --network none --annotation execblock/deny=whoami --entrypoint whoami $IMAGE'
run 'podman run --rm --network none --entrypoint whoami $IMAGE'
