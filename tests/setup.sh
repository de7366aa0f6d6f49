#!/usr/bin/env bash
# Installs the programs that the tests need in addition to cargo: MariaDB's server with Galera, Node.js with the Express peer's packages,
# nginx, HAProxy, faketime, nss_wrapper, curl for the book, and the tools that enable a swap file (tests/e2e/isolation; CLOAKROOM_NO_SWAP=1
# declares that this machine cannot have swap). Installs missing Debian packages as root or through sudo. Where it cannot, it prints one
# line with the command to run.
set -eu
cd "$(dirname "$0")"

fail() {
    echo "tests/setup.sh: $1" >&2
    exit 1
}

# Debian installs mariadbd and mkswap in /usr/sbin, which an ordinary user's PATH may lack.
PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin"

apt_updated=
install() { # install PROGRAM PACKAGE...
    program=$1
    shift
    command -v "$program" >/dev/null && return
    fetch "$program" "$@"
    command -v "$program" >/dev/null || fail "$program is still missing after installing $*"
}

fetch() { # fetch WHAT PACKAGE...
    program=$1
    shift
    command -v apt-get >/dev/null || fail "$program is missing: install it with this system's package manager, then run again"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || fail "$program is missing: run 'apt-get install $*' as root, then run again"
        sudo="sudo -n"
    fi
    echo "tests/setup.sh: installing $* for the tests"
    if [ -z "$apt_updated" ]; then
        $sudo apt-get -q update >/dev/null || fail "apt-get update failed: is the package mirror reachable?"
        apt_updated=1
    fi
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*: install it by hand, then run again"
}

install mariadbd mariadb-server
# Joins three servers to one cluster. A killed server gets its state from another one by rsync, and lsof finds rsync's port.
find /usr/lib /usr/lib64 -name libgalera_smm.so 2>/dev/null | grep -q . || fetch libgalera_smm galera-4
install rsync rsync
install lsof lsof
install curl curl
# The caches and load balancers in front of hosts and of the database.
install nginx nginx-light
install haproxy haproxy
# Moves the clock of a host under test.
install faketime faketime
# Resolves names from a file of the test.
find /usr/lib -name libnss_wrapper.so 2>/dev/null | grep -q . || fetch libnss_wrapper libnss-wrapper
install mkswap util-linux
install swapon mount
install node nodejs
# Debian's nodejs does not include npm; other builds of Node.js do.
install npm npm

major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "node is version $major: the guests in JavaScript need 20 or later"

# npm writes this file last, so an interrupted installation is repeated.
if [ ! -e express/node_modules/.package-lock.json ] || [ express/package-lock.json -nt express/node_modules/.package-lock.json ]; then
    echo "tests/setup.sh: installing the Express peer's packages"
    (cd express && npm ci --no-progress --loglevel=error >/dev/null) || fail "npm ci failed in tests/express: is the npm registry reachable?"
    touch express/node_modules/.package-lock.json
fi
