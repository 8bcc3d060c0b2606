#!/bin/sh
# Makes the identity provider of the tests in .muster/oidc: the npm package oidc-provider, as its lock file has it.
set -eu
cd "$(dirname "$0")/.."

node=$(scripts/node-env.sh .muster/node)
PATH=$node:$PATH
export PATH

dir=.muster/oidc
mkdir -p "$dir"
if ! cmp -s fleet/tests/oidc/package-lock.json "$dir/.installed"; then
    cp fleet/tests/oidc/package.json fleet/tests/oidc/package-lock.json "$dir/"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
    cp fleet/tests/oidc/package-lock.json "$dir/.installed"
fi
# Imports are looked for beside the program.
cp fleet/tests/oidc/provider.mjs "$dir/"
ln -sfn "$node" "$dir/node"
