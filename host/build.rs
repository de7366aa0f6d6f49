//! Gathers what `cloakroom new` writes into a project: the templates and SDKs of `guests/` and the interfaces of `wit/`, as
//! one table of paths and contents in `OUT_DIR/vendor.rs`. A language whose folder is not there is left out.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What a project may need, from the repository's root.
const ROOTS: [&str; 6] = [
    "wit",
    "guests/rust",
    "guests/rust-testing",
    "guests/js",
    "guests/python",
    "guests/setup-target.sh",
];
/// What lies about where a project is built and tested, at any depth.
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
/// A folder of sources that is called like one of these.
const SOURCES: &str = "guests/js/build";
/// What stands in an SDK's own folder for those who work on it. A template's tests stay: they are an example.
const FOR_WHO_WORKS_ON_IT: [&str; 3] = ["test", "tests", "examples"];

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).ok_or_else(|| io::Error::other(name));
    let repository = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for root in ROOTS {
        if repository.join(root).exists() {
            let is_whole = gather(&repository, root, &mut files)?;
            if is_whole {
                watch(&repository, root);
            }
        } else {
            // Counts as changed at each build, until it comes.
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

/// Collects the files below `path`. Whether that is all there is; where something is left behind, what is taken is watched
/// piece by piece, because cargo watches folders whole.
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
