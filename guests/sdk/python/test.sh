#!/bin/sh
# Tests the Python SDK without a host: runs the unit tests, and checks the types of the package, its tests, the examples, the counter and
# the template. The end-to-end tests are in tests/e2e/python.rs.
set -eu

python=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
repository=$(dirname -- "$(dirname -- "$(dirname -- "$python")")")
tools=$repository/target/python
export PYTHONDONTWRITEBYTECODE=1

"$python/setup.sh" requirements-dev.txt
cd "$python"
"$tools/venv/bin/python" -m unittest --quiet

bindings=$tools/bindings
if [ ! -d "$bindings" ] || [ -n "$(find "$repository/wit" requirements.txt -newer "$bindings")" ]; then
    rm -rf "$bindings"
    "$tools/venv/bin/componentize-py" --quiet --wit-path "$repository/wit" --world cloakroom:http/guest bindings "$bindings"
fi
check() { # check FILE...
    MYPYPATH=$python:$python/examples:$bindings "$tools/venv/bin/mypy" --config-file mypy.ini --cache-dir "$tools/mypy" \
        --no-error-summary "$@"
}
check cloakroom tests examples
check "$repository/guests/examples/counter-python/app.py"
check template
