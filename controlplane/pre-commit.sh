#!/bin/sh
# Builds tollgate, or finds it built, and lints with it: see .pre-commit-hooks.yaml.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# The version is not that of the repository in which a hook runs.
(cd "$here" && go build -buildvcs=false -o ../.build/pre-commit/tollgate ./cmd/tollgate) || exit 2
exec "$here/../.build/pre-commit/tollgate" lint "$@"
