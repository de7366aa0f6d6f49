//! Advice for build commands that fail because a tool is missing: names the tool and how to install it. Only reads the output
//! of shells and tools, and runs nothing.

use super::build::BuildError;

/// The exit code of a shell that did not find a program.
const NOT_FOUND: i32 = 127;

/// Texts in the output of a command that show that a tool is missing, each with the advice.
const SIGNS: [(&str, &str); 7] = [
    (
        "target may not be installed",
        "the Rust target is missing: `rustup target add wasm32-wasip2`",
    ),
    (
        "can't find crate for `core`",
        "the Rust target is missing: `rustup target add wasm32-wasip2`",
    ),
    (
        "can't find crate for `std`",
        "the Rust target is missing: `rustup target add wasm32-wasip2`",
    ),
    (
        "ensurepip is not",
        "Python's venv module is missing: install it (Debian, Ubuntu: `apt install python3-venv`)",
    ),
    (
        "No module named venv",
        "Python's venv module is missing: install it (Debian, Ubuntu: `apt install python3-venv`)",
    ),
    (
        "No module named pip",
        "pip is missing: install it (Debian, Ubuntu: `apt install python3-pip`)",
    ),
    (
        "Cannot find module",
        "a package is missing: install what package.json names (`npm install`)",
    ),
];

/// Returns one line of advice for a failed command, if its output shows that a tool is missing.
pub fn advice(error: &BuildError) -> Option<String> {
    let BuildError::Failed { status, output, .. } = error else {
        return None;
    };
    if let Some(program) = missing_program(output, status.code()) {
        return Some(format!("{program} is missing: {}", how_to_get(&program)));
    }
    let sign = SIGNS.iter().find(|(sign, _)| output.contains(sign));
    sign.map(|(_, advice)| (*advice).to_owned())
}

/// Returns the program that a shell (`sh: 1: npm: not found`, `bash: npm: command not found`) or `env` (`env: 'node': No such
/// file or directory`) did not find.
fn missing_program(output: &str, code: Option<i32>) -> Option<String> {
    if code != Some(NOT_FOUND) && !output.contains("not found") {
        return None;
    }
    let named = |line: &str| {
        let line = line.trim_end();
        let before = line
            .strip_suffix(": command not found")
            .or_else(|| line.strip_suffix(": not found"))
            .or_else(|| {
                let before = line.strip_suffix(": No such file or directory")?;
                before.contains("env: ").then_some(before)
            })?;
        let word = before
            .rsplit(": ")
            .next()?
            .trim_matches(['\'', '‘', '’', '"', '`']);
        let is_name = !word.is_empty() && !word.contains(char::is_whitespace);
        is_name.then(|| word.to_owned())
    };
    output.lines().rev().find_map(named)
}

fn how_to_get(program: &str) -> &'static str {
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "node" | "npm" | "npx" => "install Node.js 20 or later (https://nodejs.org)",
        "python3" | "python" => "install Python 3.10 or later (https://www.python.org)",
        "pip" | "pip3" => {
            "install it, or use `python3 -m pip` (Debian, Ubuntu: `apt install python3-pip`)"
        }
        "cargo" | "rustc" | "rustup" => {
            "install Rust (https://rustup.rs), then `rustup target add wasm32-wasip2`"
        }
        "jco" | "tsc" | "esbuild" | "rollup" => {
            "it comes with the project's packages: run `npm install` in its folder"
        }
        "componentize-py" => {
            "it comes with the project's packages: remove .venv and start again, or `pip install componentize-py`"
        }
        "wasm-tools" => "`cargo install wasm-tools`",
        "make" | "cc" | "gcc" => {
            "install a C toolchain (Debian, Ubuntu: `apt install build-essential`)"
        }
        _ => "install it, or correct the command under [guest.NAME.build]",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn advice_of(code: i32, output: &str) -> Option<String> {
        advice(&BuildError::Failed {
            command: "x".to_owned(),
            status: ExitStatus::from_raw(code << 8),
            output: output.to_owned(),
        })
    }

    #[test]
    fn a_missing_program_is_named_with_its_remedy() {
        for (output, begins) in [
            ("sh: 1: npm: not found", "npm is missing: install Node.js"),
            (
                "building\nbash: line 1: cargo: command not found",
                "cargo is missing: install Rust",
            ),
            (
                "env: ‘node’: No such file or directory",
                "node is missing: install Node.js",
            ),
            (
                "sh: 1: .venv/bin/python3: not found",
                ".venv/bin/python3 is missing: install Python",
            ),
            (
                "sh: 1: frobnicate: not found",
                "frobnicate is missing: install it, or correct",
            ),
        ] {
            let advice = advice_of(127, output).unwrap();
            assert!(advice.starts_with(begins), "{advice}");
        }
    }

    #[test]
    fn other_missing_tools_are_recognised_by_their_error_messages() {
        for (output, part) in [
            (
                "error[E0463]: can't find crate for `std`\n = note: the `wasm32-wasip2` target may not be installed",
                "rustup target add",
            ),
            (
                "The virtual environment was not created successfully because ensurepip is not\navailable.",
                "python3-venv",
            ),
            ("Error: Cannot find module 'esbuild'", "npm install"),
        ] {
            let advice = advice_of(1, output).unwrap();
            assert!(advice.contains(part), "{advice}");
        }
    }

    #[test]
    fn an_ordinary_build_error_gets_no_advice() {
        for output in [
            "src/app.js:3: a bracket is missing",
            "error[E0425]: cannot find value `x` in this scope",
            "SyntaxError: symbol not found: foo bar",
            "",
        ] {
            assert_eq!(advice_of(1, output), None, "{output}");
        }
    }
}
