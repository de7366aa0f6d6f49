//! Collects the files that `cloakroom new` writes into a project: the templates and SDKs in `guests/` and the interfaces in
//! `wit/`. They become one table of paths and contents in `OUT_DIR/vendor.rs`. A language whose folder does not exist is
//! left out.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The files and folders that a project may need, relative to the repository's root.
const ROOTS: [&str; 6] = [
    "wit",
    "guests/sdk/rust",
    "guests/sdk/rust-testing",
    "guests/sdk/js",
    "guests/sdk/python",
    "guests/setup-target.sh",
];
/// Build and test artifacts, which are skipped at any depth.
const LEFT_BEHIND: [&str; 13] = [
    "node_modules",
    "target",
    "build",
    "vendor",
    "venv",
    "__pycache__",
    ".venv",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".cloakroom",
    ".git",
    ".DS_Store",
];
/// A folder of sources whose name is in [`LEFT_BEHIND`].
const SOURCES: &str = "guests/sdk/js/build";
/// The folders of an SDK that only its developers need. The tests of a template are kept, because they are an example.
const FOR_WHO_WORKS_ON_IT: [&str; 3] = ["test", "tests", "examples"];

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).ok_or_else(|| io::Error::other(name));
    let repository = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../../..");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for root in ROOTS {
        if repository.join(root).exists() {
            let is_whole = gather(&repository, root, &mut files)?;
            if is_whole {
                watch(&repository, root);
            }
        } else {
            // Cargo treats a missing path as changed, so the script runs on each build until the path exists.
            watch(&repository, root);
        }
    }
    files.sort();
    let mut table = "static FILES: &[(&str, &[u8])] = &[\n".to_owned();
    for file in &files {
        let path = repository.join(file).canonicalize()?;
        let path = path.to_str().ok_or_else(|| unfit(&path, "is not UTF-8"))?;
        let _ = writeln!(table, "    ({file:?}, include_bytes!({path:?})),");
    }
    table += "];\n";
    fs::write(Path::new(&variable("OUT_DIR")?).join("vendor.rs"), table)
}

/// Collects the files below `path`. Returns whether nothing was left out. If something was, the collected files are watched
/// one by one, because cargo watches whole folders.
fn gather(repository: &Path, path: &str, files: &mut Vec<String>) -> io::Result<bool> {
    let full = repository.join(path);
    let kind = fs::symlink_metadata(&full)?;
    if kind.is_file() {
        files.push(path.to_owned());
        return Ok(true);
    }
    if !kind.is_dir() {
        return Err(unfit(&full, "is neither a file nor a folder"));
    }
    let (mut whole, mut is_whole) = (Vec::new(), true);
    for entry in fs::read_dir(&full)? {
        let name = entry?.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| unfit(&full, "holds a name that is not UTF-8"))?;
        let below = format!("{path}/{name}");
        if !is_wanted(path, name) && below != SOURCES {
            is_whole = false;
            continue;
        }
        if gather(repository, &below, files)? {
            whole.push(below);
        } else {
            is_whole = false;
        }
    }
    if !is_whole {
        whole.iter().for_each(|path| watch(repository, path));
    }
    Ok(is_whole)
}

fn is_wanted(folder: &str, name: &str) -> bool {
    let is_sdk = folder != "wit" && ROOTS.contains(&folder);
    let is_left_behind = LEFT_BEHIND.contains(&name)
        || name.ends_with(".pyc")
        || name.ends_with(".egg-info")
        || (is_sdk && FOR_WHO_WORKS_ON_IT.contains(&name));
    !is_left_behind
}

fn watch(repository: &Path, path: &str) {
    println!(
        "cargo::rerun-if-changed={}",
        repository.join(path).display()
    );
}

fn unfit(path: &Path, problem: &str) -> io::Error {
    io::Error::other(format!("{} {problem}", path.display()))
}
