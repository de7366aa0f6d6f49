//! The files of the repository: those of the working tree, or those of a commit.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// A text file of the repository.
pub struct TextFile {
    /// The path below the repository's root, with `/`.
    pub path: String,
    /// The content.
    pub text: String,
}

/// All text files of the repository that git does not ignore.
pub struct Tree {
    /// The files, in the order of their paths.
    pub files: Vec<TextFile>,
    /// All folders and files, including those that are not text.
    paths: BTreeSet<String>,
}

impl Tree {
    /// Reads the working tree, including files that are not committed yet.
    ///
    /// # Panics
    /// If git cannot list the files.
    #[must_use]
    pub fn of_working_tree() -> Self {
        let root = repository();
        let listed = git(&[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]);
        let names = names(&listed);
        let files = names.into_iter().filter_map(|path| {
            // A deleted file is listed until its deletion is staged.
            let content = std::fs::read(root.join(&path)).ok()?;
            Some((path, content))
        });
        Self::new(files.collect())
    }

    /// Reads the files of a commit.
    ///
    /// # Panics
    /// If git does not know the revision.
    #[must_use]
    pub fn of_revision(revision: &str) -> Self {
        let names = names(&git(&["ls-tree", "-r", "-z", "--name-only", revision]));
        let requests: String = names
            .iter()
            .map(|name| format!("{revision}:{name}\n"))
            .collect();
        let mut child = Command::new("git")
            .args(["cat-file", "--batch"])
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("git starts");
        let mut stdin = child.stdin.take().expect("the input is a pipe");
        // A thread of its own: git answers while it reads, and would stop reading once the pipe of its answers is full.
        let writer = thread::spawn(move || stdin.write_all(requests.as_bytes()));
        let output = child.wait_with_output().expect("git ends");
        writer
            .join()
            .expect("the thread ends")
            .expect("git reads all names");
        let mut rest = output.stdout.as_slice();
        let files = names.into_iter().map(|name| (name, next_blob(&mut rest)));
        Self::new(files.collect())
    }

    /// Makes a tree of paths and texts.
    #[cfg(test)]
    pub(crate) fn of_texts<'a>(files: impl Iterator<Item = (String, &'a str)>) -> Self {
        let files = files.map(|(path, text)| (path, text.as_bytes().to_vec()));
        Self::new(files.collect())
    }

    fn new(files: Vec<(String, Vec<u8>)>) -> Self {
        let mut paths = BTreeSet::new();
        for (path, _) in &files {
            let folders = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            paths.extend(folders);
            paths.insert(path.clone());
        }
        let text = |(path, content)| {
            let text = String::from_utf8(content).ok()?;
            Some(TextFile { path, text })
        };
        Self {
            files: files.into_iter().filter_map(text).collect(),
            paths,
        }
    }

    /// Returns the content of a file.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        let found = self.files.iter().find(|file| file.path == path);
        found.map(|file| file.text.as_str())
    }

    /// Returns whether there is a file or a folder with this path.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Returns the paths of all files and folders.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Returns the files in a folder and its subfolders, whose names have this ending.
    #[must_use]
    pub fn below(&self, folder: &str, ending: &str) -> Vec<&TextFile> {
        let is_there =
            |file: &&TextFile| file.path.starts_with(folder) && file.path.ends_with(ending);
        self.files.iter().filter(is_there).collect()
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn git(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("git starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "git {}: {errors}",
        arguments.join(" ")
    );
    output.stdout
}

fn names(listed: &[u8]) -> BTreeSet<String> {
    let listed = String::from_utf8_lossy(listed);
    let names = listed.split('\0').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// Takes one answer of `git cat-file --batch`: a line with the object's id, type and size, the content, and a line end.
fn next_blob(rest: &mut &[u8]) -> Vec<u8> {
    let end = rest
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("an answer for each name");
    let (line, content) = (String::from_utf8_lossy(&rest[..end]), &rest[end + 1..]);
    let size = line.rsplit(' ').next().and_then(|size| size.parse().ok());
    let size: usize = size.unwrap_or_else(|| panic!("git answers `{line}`"));
    *rest = &content[size + 1..];
    content[..size].to_vec()
}
