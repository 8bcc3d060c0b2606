#!/bin/sh
# Installs the Debian packages that the tests need: Chromium for the dashboard, Mosquitto and its clients for the wire,
# OpenSSL to read and sign beside us, PostgreSQL for telemetry, fish and zsh to complete in, mandoc to read the manual with.
set -eu

wanted=
command -v chromium >/dev/null 2>&1 || wanted="$wanted chromium"
command -v mosquitto_sub >/dev/null 2>&1 || wanted="$wanted mosquitto-clients"
command -v openssl >/dev/null 2>&1 || wanted="$wanted openssl"
for tool in fish mandoc zsh; do
    command -v "$tool" >/dev/null 2>&1 || wanted="$wanted $tool"
done
broker=
[ -x /usr/sbin/mosquitto ] || broker=mosquitto
wanted="$wanted${broker:+ $broker}"
database=
set -- /usr/lib/postgresql/*/bin/initdb
[ -x "$1" ] || database=postgresql
wanted="$wanted${database:+ $database}"
[ -n "$wanted" ] || exit 0

install="apt-get install -y --no-install-recommends$wanted"
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "packages: the tests need$wanted; install them: sudo $install" >&2
    exit 1
fi
echo "packages: installing$wanted"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$sudo $install >/dev/null
# The package starts a broker on 1883. The tests start their own, on free ports.
if [ -n "$broker" ] && [ -d /run/systemd/system ]; then
    $sudo systemctl disable --now --quiet mosquitto
fi
# Nor do they need the package's own cluster: they make theirs, in folders of their own.
if [ -n "$database" ] && [ -d /run/systemd/system ]; then
    $sudo systemctl disable --now --quiet postgresql
fi
