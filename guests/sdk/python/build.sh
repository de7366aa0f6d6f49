#!/bin/sh
# Builds the guests in Python to the repository's target/guests/NAME.wasm, each only if one of its sources is newer. Installs the tools in
# target/python. Prints nothing if there is nothing to do.
set -eu

python=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
guests=$(dirname -- "$(dirname -- "$python")")
repository=$(dirname -- "$guests")
components=$repository/target/guests
tools=$repository/target/python
# Python must not write files next to the sources.
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$python"

main() {
    mkdir -p "$components"
    build counter-python "$guests/examples/counter-python/app.py"
    build python-examples "$python/tests/component/app.py" "$python/examples"
}

build() { # build NAME APP [FOLDER]
    component=$components/$1.wasm
    if [ -e "$component" ]; then
        newer=$(find "$(dirname -- "$2")" ${3:+"$3"} "$python/cloakroom" "$python/requirements.txt" "$repository/wit" \
            -name __pycache__ -prune -o -type f -newer "$component" -print)
        [ -n "$newer" ] || return 0
    fi
    "$python/setup.sh" requirements.txt
    "$tools/venv/bin/python" -m cloakroom.build "$2" -o "$component" ${3:+-p "$3"}
    echo "target/guests/$1.wasm"
}

main
