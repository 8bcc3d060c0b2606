#!/bin/sh
# Checks what is in the dependency tree: in a second what `cargo tree` can tell, and all of deny.toml where cargo-deny is
# installed (`scripts/deny.sh --install` puts it into .muster/tools; the build takes some minutes).
set -eu
cd "$(dirname "$0")/.."

tools=$PWD/.muster/tools
PATH=$tools/bin:$PATH

if [ "${1:-}" = --install ]; then
    cargo deny --version >/dev/null 2>&1 || nice cargo install cargo-deny --locked --root "$tools"
fi

bad=0
fail() {
    echo "deny: $*" >&2
    bad=1
}

# Every package of the lock file that is reached on any platform we build for, features as they are unified: "name version".
tree() {
    cargo tree --workspace --locked --target all --edges normal,build --prefix none "$@"
}
packages=$(tree --format '{p}' | cut -d ' ' -f 1,2 | sort -u)

for name in openssl openssl-sys native-tls; do
    ! printf '%s\n' "$packages" | grep -q "^$name " || fail "$name is in the tree; the one TLS here is rustls (cargo tree -i $name)"
done

for name in rustls tokio-rustls aws-lc-rs; do
    count=$(printf '%s\n' "$packages" | grep -c "^$name ") || true
    [ "$count" = 1 ] || fail "$count versions of $name are in the tree; there must be one (cargo tree -d)"
done

# Who may ask for ring, and why, stands in deny.toml.
parents=$(cargo tree --workspace --locked --target all --edges normal,build --prefix depth --depth 1 --invert ring --format ' {p}' |
    sed -n 's/^1 \([^ ]*\).*/\1/p' | sort -u)
[ -n "$parents" ] || fail "nobody asks for ring any more: strike the exceptions here and in deny.toml"
for parent in $parents; do
    case $parent in
    mqtt5 | rustls | rustls-webpki) ;;
    *) fail "$parent asks for ring; find the feature that makes it use aws-lc-rs" ;;
    esac
done

# And nobody but mqtt5 may turn it on in rustls, be it by way of tokio-rustls or hyper-rustls.
askers=$(cargo tree --workspace --locked --target all --edges normal,build,features --prefix depth --depth 3 --no-dedupe --invert rustls |
    awk '/^1/ { inside = ($0 ~ /^1rustls feature "ring"/) }
         inside && /^2/ { passed_on = / feature /; if (!passed_on) print substr($1, 2) }
         inside && /^3/ && passed_on { print substr($1, 2) }' | sort -u)
[ -n "$askers" ] || fail "nobody turns on ring in rustls any more: strike the exceptions here and in deny.toml"
for asker in $askers; do
    [ "$asker" = mqtt5 ] || fail "$asker turns on the feature 'ring' of rustls"
done

[ "$bad" = 0 ] || exit 1
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked --log-level error check bans licenses sources
else
    echo "deny: the tree is as it should be; for licences and the rest: scripts/deny.sh --install"
fi
