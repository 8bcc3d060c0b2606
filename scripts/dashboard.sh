#!/bin/sh
# Builds or tests the dashboard with the machine's Node, or with one from PyPI where there is none.
#
#   scripts/dashboard.sh build|test|browser
set -eu
cd "$(dirname "$0")/.."

node=$(scripts/node-env.sh .muster/node)
PATH=$node:$PATH
export PATH
cd fleet/dashboard

# What is installed is what the lock file says, or it is installed anew.
stamp=node_modules/.installed
if ! [ -f "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
    echo "dashboard: installing its packages"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
    cp package-lock.json "$stamp"
fi

case ${1:-} in
build)
    # Built once for each state of the sources.
    now=$(find src public index.html package-lock.json vite.config.ts -type f -exec sha256sum {} + | sort | sha256sum)
    if [ -f dist/index.html ] && [ "$(cat node_modules/.built 2>/dev/null)" = "$now" ]; then
        exit 0
    fi
    echo "dashboard: building"
    npm run --silent build
    echo "$now" >node_modules/.built
    ;;
test)
    npm run --silent lint
    npm run --silent test
    ;;
browser)
    npm run --silent browser
    npm run --silent many
    ;;
*)
    echo "usage: scripts/dashboard.sh build|test|browser" >&2
    exit 2
    ;;
esac
