#!/bin/sh
# Quick start with containerd's own client: an annotated container can't execute a program.
# shellcheck disable=SC2016 # Commands are shown as they are written.
# shellcheck source=examples/quickstart/steps.sh
. "$(dirname "$0")/steps.sh"
IMAGE=${IMAGE:-docker.io/library/busybox:latest}
ctr images list --quiet | grep -qxF "$IMAGE" || ctr images pull "$IMAGE"

run 'execblock load'
finally 'ctr tasks delete --force web'
finally 'ctr containers delete web'
run 'ctr run -d --runc-binary /usr/local/bin/execblock-runc --annotation execblock/deny=whoami $IMAGE web sleep 1000000'
run 'ctr tasks exec --exec-id one web id -un'
refused 'ctr tasks exec --exec-id two web whoami'
