#!/bin/sh
# Quick start with containerd as Kubernetes asks for containers: an annotated pod can't
# execute a program. `execblock nri` must run, and the image be in containerd's store.
# shellcheck disable=SC2016 # Commands are shown as they are written.
# shellcheck source=examples/quickstart/steps.sh
. "$(dirname "$0")/steps.sh"
cd "$(dirname "$0")"

run 'POD=$(crictl runp pod.json)'
finally 'crictl rmp --force $POD'
run 'WEB=$(crictl create $POD container.json pod.json)'
run 'crictl start $WEB'
run 'crictl exec --sync $WEB id -un'
refused 'crictl exec --sync $WEB whoami'
run 'execblock status $WEB'
