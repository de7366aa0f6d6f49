"""Makes a component of an application: `python -m cloakroom.build src/app.py -o build/app.wasm`.

The file must have an `App` with the name `app`. Its imports are found in its own folder, in the virtual environment of the
running Python, and in `--python-path`. If the build fails, the old component is not changed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_WIT = _PACKAGE.parent.parent.parent / "wit"
_ENTRY = "cloakroom_entry"
_NO_SOURCES = (".*", "__pycache__", "*.wasm", "build", "node_modules", "vendor")
"""Files and folders next to an application that are not part of it."""


def main() -> int:
    """Returns the exit code: 0, or 1 after printing the error to standard error."""
    parser = argparse.ArgumentParser(prog="python -m cloakroom.build", description="Makes a component of an application.")
    parser.add_argument("app", type=Path, help="the file that has `app = App()`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the component to write: NAME.wasm")
    parser.add_argument("-p", "--python-path", type=Path, action="append", default=[], help="another folder of modules")
    parser.add_argument("--wit", type=Path, default=_WIT, help="the folder of cloakroom:http (default: the SDK's)")
    words = parser.parse_args()
    fault = _fault(words.app, words.wit)
    if fault is not None:
        print(fault, file=sys.stderr)
        return 1
    words.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        made = words.output.with_name(f".{words.output.name}.{os.getpid()}")
        try:
            code = _componentize(words.app, made, words.wit, words.python_path, Path(scratch))
            if code == 0:
                # Renamed into place, so that a host which watches the file never sees half of it.
                made.replace(words.output)
        finally:
            with contextlib.suppress(FileNotFoundError):
                made.unlink()
    return code


def _fault(app: Path, wit: Path) -> str | None:
    """Returns an error that can be found before the slow part, or None."""
    if not app.is_file() or app.suffix != ".py":
        return f"{app}: there is no such Python file"
    if not app.stem.isidentifier() or app.stem in ("cloakroom", "wit_world", "guest", _ENTRY):
        return f"{app}: a module cannot have this name here; use app.py, for example"
    if not (wit / "worlds.wit").is_file():
        return f"{wit}: there is no worlds.wit; --wit names the folder wit/ of Cloakroom"
    if importlib.util.find_spec("componentize_py") is None:
        return f"componentize-py is missing in {sys.prefix}: run '{sys.executable} -m pip install -r requirements.txt'"
    return None


def _componentize(app: Path, made: Path, wit: Path, further: list[Path], scratch: Path) -> int:
    imported = f"from {app.stem} import app"
    entry = f"from cloakroom.wasi import handler\n\n{imported}\n\nIncomingHandler = handler(app)\n"
    names = [app.parent, *further, _PACKAGE.parent]
    paths = [scratch / str(number) for number in range(len(names))]
    # Copied, because the compiler leaves bytecode next to the modules that it imports, and a program that watches the sources
    # must not see it.
    for source, path in zip(names[:-1], paths):
        shutil.copytree(source, path, ignore=shutil.ignore_patterns(*_NO_SOURCES))
    shutil.copytree(_PACKAGE, paths[-1] / _PACKAGE.name, ignore=shutil.ignore_patterns(*_NO_SOURCES))
    (paths[-1] / f"{_ENTRY}.py").write_text(entry)
    if sys.prefix != sys.base_prefix:
        paths += [Path(folder) for folder in site.getsitepackages()]
    command = [sys.executable, "-c", "import componentize_py; componentize_py.script()"]
    command += ["-q", "-d", str(wit), "-w", "cloakroom:http/guest", "componentize", _ENTRY, "-o", str(made)]
    for path in paths:
        command += ["-p", str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = _shortened(done.stdout + done.stderr, imported, names)
        print(told, file=sys.stderr)
        if "ModuleNotFoundError" in told:
            print(f"If it is in requirements.txt, run '{sys.executable} -m pip install -r requirements.txt'.", file=sys.stderr)
    return 1 if done.returncode else 0


def _shortened(output: str, imported: str, names: list[Path]) -> str:
    """Returns the application's own traceback from componentize-py's output, with the file names that the user knows."""
    told = output.rpartition("AssertionError: ")[2].partition("\n\nCaused by:")[0].strip()
    lines = [line for line in told.splitlines() if _ENTRY not in line and line != f"    {imported}"]
    for number, name in enumerate(names):
        lines = [line.replace(f'"/{number}/', f'"{name}/').replace(f"(/{number}/", f"({name}/") for line in lines]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
