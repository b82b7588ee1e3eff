#!/bin/sh
# Quick start without an engine: one command that can't execute a program.
# shellcheck disable=SC2016 # Commands are shown as they are written.
# shellcheck source=examples/quickstart/steps.sh
. "$(dirname "$0")/steps.sh"

refused 'execblock run --deny whoami -- sh -c "id -un; whoami"'
