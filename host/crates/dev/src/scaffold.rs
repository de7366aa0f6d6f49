//! `cloakroom new`: writes a project from the templates embedded in this binary. Writes all files or none. Needs no network and
//! no other files.
//!
//! Decision 16 in `host/docs/decisions` has the reasons.

mod name;
mod place;
mod steps;
pub mod tools;
mod vendor;

use std::io;
use std::path::PathBuf;

pub use name::{BadProjectName, ProjectName};

/// The project name used in the template files.
const NAME_IN_TEMPLATES: &str = "hello";
/// The directory of a project that holds the SDK and the interfaces. See [`path_in_vendor`].
const VENDOR: &str = "vendor/cloakroom";
/// The directory of our repository that holds the SDKs.
const SDKS: &str = "guests/sdk";

/// The programming language of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// JavaScript.
    JavaScript,
    /// TypeScript.
    TypeScript,
    /// Python.
    Python,
}

impl Language {
    /// All languages.
    pub const ALL: [Self; 4] = [Self::Rust, Self::JavaScript, Self::TypeScript, Self::Python];

    /// Returns the display name of the language.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::TypeScript => "TypeScript",
            Self::Python => "Python",
        }
    }

    /// Returns the directory of the template in our repository.
    pub fn template(self) -> &'static str {
        match self {
            Self::Rust => "guests/sdk/rust/template",
            Self::JavaScript => "guests/sdk/js/template",
            Self::TypeScript => "guests/sdk/js/template-ts",
            Self::Python => "guests/sdk/python/template",
        }
    }

    /// Returns the paths of our repository that a project in this language needs.
    fn sdk(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &[
                "wit",
                "guests/sdk/rust",
                "guests/sdk/rust-testing",
                "guests/setup-target.sh",
            ],
            Self::JavaScript | Self::TypeScript => &["wit", "guests/sdk/js"],
            Self::Python => &["wit", "guests/sdk/python"],
        }
    }
}

/// A project to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProject {
    /// The name of the project.
    pub name: ProjectName,
    /// The programming language of the guest.
    pub language: Language,
    /// The directory of the project. It must be empty or not exist.
    pub folder: PathBuf,
}

/// Error returned when a project cannot be created. No files were left behind.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The directory exists and is not empty.
    #[error("{} exists and is not empty: nothing was written; name another directory with --path", folder.display())]
    Occupied {
        /// The directory.
        folder: PathBuf,
    },
    /// The parent directory does not exist.
    #[error("{} is not a directory: create it first, or name another one with --path", parent.display())]
    NoPlace {
        /// The directory that should contain the project's directory.
        parent: PathBuf,
    },
    /// The binary does not contain a template for this language.
    #[error("this cloakroom was built without the template for {}", language.title())]
    NotCarried {
        /// The language.
        language: Language,
    },
    /// The operating system returned an error.
    #[error("cannot write {}: {error}; nothing was left behind", folder.display())]
    Failed {
        /// The directory of the project.
        folder: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

impl ScaffoldError {
    /// Returns whether the command-line options caused the error. Otherwise the machine or this program is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Occupied { .. } | Self::NoPlace { .. })
    }
}

impl NewProject {
    /// Writes the project.
    ///
    /// # Errors
    /// Returns a [`ScaffoldError`]. In that case no files are left behind.
    pub fn create(&self) -> Result<(), ScaffoldError> {
        let files = self.files(vendor::files());
        if files.is_empty() {
            let language = self.language;
            return Err(ScaffoldError::NotCarried { language });
        }
        place::write(&self.folder, &files)
    }

    /// Returns the next steps for the developer, and the required tools that are missing.
    pub fn next_steps(&self, tools: &[tools::RequiredTool]) -> String {
        steps::next_steps(self, tools)
    }

    /// Returns the files of the project, or none if there is no template.
    fn files(&self, carried: &[(&str, &[u8])]) -> Vec<place::ProjectFile> {
        let mut files = Vec::new();
        for (path, content) in carried {
            if let Some(path) = below(path, self.language.template()) {
                files.push(place::ProjectFile {
                    path: self.path_in_project(path),
                    content: self.content(content),
                });
            }
        }
        if files.is_empty() {
            return files;
        }
        for (path, content) in carried {
            let is_template = |language: Language| below(path, language.template()).is_some();
            let is_wanted = |root: &&str| path == root || below(path, root).is_some();
            if self.language.sdk().iter().any(is_wanted)
                && !Language::ALL.into_iter().any(is_template)
            {
                files.push(place::ProjectFile {
                    path: path_in_vendor(path),
                    content: content.to_vec(),
                });
            }
        }
        files
    }

    /// Returns the path of a template file in the project. In our repository, `.gitignore` files of templates are named
    /// `gitignore` so that git does not apply them there.
    fn path_in_project(&self, path: &str) -> String {
        let path = name::put(&self.name, path);
        match path.rsplit_once('/') {
            None if path == "gitignore" => ".gitignore".to_owned(),
            Some((folder, "gitignore")) => format!("{folder}/.gitignore"),
            _ => path,
        }
    }

    fn content(&self, content: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(content) {
            Ok(text) => name::put(&self.name, text).into_bytes(),
            Err(_) => content.to_vec(),
        }
    }
}

/// Returns the path in a project of a file of an SDK or an interface. It is the path in our repository, except that a project has
/// the SDKs in `guests` itself. An SDK refers to the interfaces as `../../wit`: our repository has the link `guests/wit` for that.
fn path_in_vendor(path: &str) -> String {
    match below(path, SDKS) {
        Some(path) => format!("{VENDOR}/guests/{path}"),
        None => format!("{VENDOR}/{path}"),
    }
}

/// Returns the rest of a path below a directory.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARRIED: [(&str, &[u8]); 9] = [
        ("guests/sdk/js/package.json", b"{ \"name\": \"hello-sdk\" }"),
        ("guests/sdk/js/template-ts/src/app.ts", b"// typed"),
        (
            "guests/sdk/js/template/cloakroom.toml",
            b"[guest.hello]\ncomponent = \"build/hello.wasm\"\n",
        ),
        ("guests/sdk/js/template/gitignore", b"build/\n"),
        ("guests/sdk/js/template/logo.png", b"\x89PNG hello"),
        (
            "guests/sdk/js/template/src/hello.js",
            b"// othello says hello",
        ),
        ("guests/sdk/rust/Cargo.toml", b""),
        ("guests/setup-target.sh", b"#!/bin/sh\n"),
        ("wit/session.wit", b"package cloakroom:http;"),
    ];

    fn project(language: Language) -> NewProject {
        NewProject {
            name: "shop-2".parse().unwrap(),
            language,
            folder: "shop-2".into(),
        }
    }

    fn paths(files: &[place::ProjectFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_project_gets_its_template_and_the_sdk_files_of_its_language() {
        let files = project(Language::JavaScript).files(&CARRIED);
        assert_eq!(
            paths(&files),
            [
                "cloakroom.toml",
                ".gitignore",
                "logo.png",
                "src/shop-2.js",
                "vendor/cloakroom/guests/js/package.json",
                "vendor/cloakroom/wit/session.wit",
            ]
        );
        let files = project(Language::TypeScript).files(&CARRIED);
        assert_eq!(
            paths(&files),
            [
                "src/app.ts",
                "vendor/cloakroom/guests/js/package.json",
                "vendor/cloakroom/wit/session.wit",
            ]
        );
    }

    #[test]
    fn the_project_name_is_inserted_into_the_template_but_not_the_sdk() {
        let files = project(Language::JavaScript).files(&CARRIED);
        let content = |path: &str| {
            let file = files.iter().find(|file| file.path == path).unwrap();
            String::from_utf8_lossy(&file.content).into_owned()
        };
        assert_eq!(
            content("cloakroom.toml"),
            "[guest.shop-2]\ncomponent = \"build/shop-2.wasm\"\n"
        );
        assert_eq!(content("src/shop-2.js"), "// othello says shop-2");
        assert!(content("logo.png").ends_with("PNG hello"), "it is no text");
        let sdk = content("vendor/cloakroom/guests/js/package.json");
        assert!(sdk.contains("hello-sdk"), "{sdk}");
    }

    #[test]
    fn a_language_without_a_template_has_no_files() {
        assert_eq!(paths(&project(Language::Rust).files(&CARRIED)), [""; 0]);
    }
}
