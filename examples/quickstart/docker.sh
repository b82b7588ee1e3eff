#!/bin/sh
# Quick start with Docker 25 or later: an annotated container can't execute a program.
# shellcheck disable=SC2016 # Commands are shown as they are written.
# shellcheck source=examples/quickstart/steps.sh
. "$(dirname "$0")/steps.sh"
IMAGE=${IMAGE:-docker.io/library/busybox:latest}

run 'execblock load'
run 'execblock setup docker'
finally 'docker rm --force web'
finally 'execblock setup docker --remove'
finally 'kill -HUP $(cat /run/docker.pid)'
run 'kill -HUP $(cat /run/docker.pid)'
until_true 'docker info --format "{{json .Runtimes}}" | grep -q execblock'
run 'docker run -d --name web --network none --runtime execblock --annotation execblock/deny=whoami --entrypoint sleep $IMAGE 1000000'
run 'docker exec web id -un'
refused 'docker exec web whoami'
