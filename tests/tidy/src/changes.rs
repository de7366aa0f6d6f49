//! Kinds of change that contributors make often, and the files that each of them touches.
//!
//! An earlier change of the kind stands for all: the files that mention it are those that the next one has to touch.

use crate::crates::HostCrate;
use crate::tree::Tree;

/// A kind of change.
pub struct Change {
    /// A description with the change that stands for the kind.
    pub name: &'static str,
    /// The texts that mention it, in lower case and without blanks.
    markers: &'static [&'static str],
    /// Texts that contain a marker and that the next change of the kind does not need.
    except: &'static [&'static str],
    /// Parts of the paths of files that belong to the added thing alone.
    own: &'static [&'static str],
}

/// The kinds of change that are counted.
pub const CHANGES: [Change; 4] = [
    Change {
        name: "a guest limit (log_lines)",
        markers: &["log_lines"],
        // The metric of the lines that were dropped, and the warning about them.
        except: &["log_lines_dropped", "log_lines or log_bytes"],
        own: &[],
    },
    Change {
        name: "a WIT interface (cookies)",
        markers: &[
            "jar",
            "cookies_host",
            "cookies::interface",
            "cookies::link",
            "imports_cookies",
            "grantkind::cookies",
            "self::cookies",
        ],
        except: &["jaro_winkler", " jar"],
        own: &[
            "/interfaces/cookies",
            "/guest/cookies_host",
            "/cookie/",
            "/cookie.rs",
        ],
    },
    Change {
        name: "a store (SQLite)",
        markers: &["sqlite"],
        except: &[],
        own: &["/store-sqlite/", "/store/sqlite", "/stores/sqlite"],
    },
    Change {
        name: "a configuration key ([server] idle_timeout)",
        markers: &["idle_timeout"],
        except: &[],
        own: &[],
    },
];

/// The lines of one file that mention a change.
pub struct Mentions<'a> {
    /// The file's path.
    pub file: &'a str,
    /// The number of lines.
    pub lines: usize,
}

impl Change {
    /// Returns the files that mention the change: sources without comments and tests, manifests, and the example of a configuration.
    #[must_use]
    pub fn mentions<'a>(&self, tree: &'a Tree, crates: &[HostCrate<'a>]) -> Vec<Mentions<'a>> {
        let modules = crates.iter().flat_map(|each| &each.modules);
        let sources = modules.map(|module| (module.file, code_lines(module)));
        let others = tree.below("host/", ".toml").into_iter();
        let others = others.filter(|file| !file.path.starts_with("host/benches/"));
        let others = others.map(|file| (file.path.as_str(), plain_lines(&file.text)));
        let is_own = |file: &str| self.own.iter().any(|part| file.contains(part));
        let counted = sources.chain(others).filter(|(file, _)| !is_own(file));
        let counted = counted.map(|(file, lines)| Mentions {
            file,
            lines: lines.iter().filter(|line| self.is_in(line)).count(),
        });
        counted.filter(|mentions| mentions.lines > 0).collect()
    }

    fn is_in(&self, line: &str) -> bool {
        let rest = self.except.iter();
        let rest = rest.fold(line.to_owned(), |rest, other| rest.replace(other, ""));
        self.markers.iter().any(|marker| rest.contains(marker))
    }
}

/// Returns the lines of a module's code in lower case, without blanks.
fn code_lines(module: &crate::crates::Module<'_>) -> Vec<String> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for token in &module.source.tokens {
        match lines.last_mut() {
            Some((line, text)) if *line == token.line => text.push_str(token.text),
            _ => lines.push((token.line, token.text.to_owned())),
        }
    }
    let texts = lines.into_iter();
    texts.map(|(_, text)| text.to_lowercase()).collect()
}

fn plain_lines(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    lines.map(str::to_lowercase).collect()
}
