#!/bin/sh
# Installs the tools of the Python guests into a virtual environment in the repository's target/python/venv: setup.sh requirements.txt
# Installs missing Debian packages as root or through sudo. Where it cannot, it prints one line with the command to run. Prints nothing if
# everything is installed.
set -eu

python=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
tools=$(dirname -- "$(dirname -- "$(dirname -- "$python")")")/target/python

main() { # main REQUIREMENTS
    mark=$tools/$1.installed
    if [ -e "$mark" ] && [ -x "$tools/venv/bin/python" ] && [ -z "$(find "$python" -name 'requirements*.txt' -newer "$mark")" ]; then
        return
    fi
    check_python
    echo "guests/sdk/python/setup.sh: installing the tools of $1"
    mkdir -p "$tools"
    [ -x "$tools/venv/bin/pip" ] || python3 -m venv --clear "$tools/venv" || fail "python3 could not make a virtual environment"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$python/$1" ||
        fail "pip could not install guests/sdk/python/$1: is the package index reachable?"
    touch "$mark"
}

check_python() {
    command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || install python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$(python3 --version) is too old: the Python guests need 3.10 or later"
    python3 -c 'import venv, ensurepip' 2>/dev/null || fail "python3 has no venv: install this system's package for it (python3-venv)"
}

install() { # install PACKAGE...
    command -v apt-get >/dev/null || fail "python3 with venv is missing: install it with this system's package manager, then run again"
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null ||
            fail "python3 or its venv is missing: run 'apt-get install $*' as root, then run again"
        sudo="sudo -n"
    fi
    echo "guests/sdk/python/setup.sh: installing $*"
    $sudo apt-get -q update >/dev/null || fail "apt-get update failed: is the package mirror reachable?"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*: install it by hand, then run again"
}

fail() {
    echo "guests/sdk/python/setup.sh: $1" >&2
    exit 1
}

main "$1"
