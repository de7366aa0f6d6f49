//! Phrases that the comments and documents of this project avoid, because they replace a noun that the reader then has to guess.

use crate::tree::{TextFile, Tree};

/// A phrase to avoid is found at most once in this number of words.
pub const WORDS_PER_PHRASE_MIN: usize = 1000;

/// A kind of phrase to avoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phrase {
    /// A clause without the noun that it is about.
    HeadlessClause,
    /// A pronoun for persons.
    PersonalPronoun,
    /// An actor without a name.
    UnnamedActor,
}

impl Phrase {
    /// All kinds.
    pub const ALL: [Self; 3] = [
        Self::HeadlessClause,
        Self::PersonalPronoun,
        Self::UnnamedActor,
    ];

    /// Returns a description with the phrase's words.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::HeadlessClause => "what is/was/has/comes/...",
            Self::PersonalPronoun => "who/whoever/whom",
            Self::UnnamedActor => "nobody/somebody",
        }
    }

    /// Returns whether the phrase begins with `word`, which is followed by `next`.
    fn is_at(self, word: &str, next: &str) -> bool {
        match self {
            Self::HeadlessClause => word == "what" && AFTER_WHAT.contains(&next),
            Self::PersonalPronoun => ["who", "whoever", "whom"].contains(&word),
            Self::UnnamedActor => ["nobody", "somebody"].contains(&word),
        }
    }
}

const AFTER_WHAT: [&str; 18] = [
    "is", "was", "were", "are", "has", "have", "had", "comes", "came", "stands", "goes", "makes",
    "does", "they", "nobody", "others", "fits", "counts",
];

/// The words and the phrases to avoid in the comments of one source file, or in the text of one document.
pub struct PhraseCount<'a> {
    /// The file's path.
    pub file: &'a str,
    /// The number of words.
    pub words: usize,
    /// The number of phrases, in the order of [`Phrase::ALL`].
    pub phrases: [usize; Phrase::ALL.len()],
}

/// Counts the comments of all source files, except those of other projects.
#[must_use]
pub fn comment_counts(tree: &Tree) -> Vec<PhraseCount<'_>> {
    let counts = own_files(tree).filter_map(|file| {
        let marker = comment_marker(file)?;
        Some(count(&file.path, &comments(&file.text, marker)))
    });
    counts.collect()
}

/// Counts the texts of all documents without their code blocks, except those of other projects.
#[must_use]
pub fn document_counts(tree: &Tree) -> Vec<PhraseCount<'_>> {
    let documents = own_files(tree).filter(|file| file.path.ends_with(".md"));
    let counts = documents.map(|file| {
        let lines: Vec<_> = prose_lines(&file.text).map(|(_, line)| line).collect();
        count(&file.path, &lines.join("\n"))
    });
    counts.collect()
}

/// Returns the lines of a document outside of code blocks, with their numbers.
pub fn prose_lines(document: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence = None;
    (1..).zip(document.lines()).filter(move |(_, line)| {
        let rest = line.trim_start().trim_start_matches('`');
        let ticks = line.trim_start().len() - rest.len();
        match fence {
            // A block ends with as many backticks as it begins with, and may contain blocks with fewer.
            Some(opened) if ticks >= opened && rest.is_empty() => fence = None,
            Some(_) => {}
            None if ticks >= 3 => fence = Some(ticks),
            None => return true,
        }
        false
    })
}

fn own_files(tree: &Tree) -> impl Iterator<Item = &TextFile> {
    let foreign = ["wit/deps/", "guests/fixtures/thirdparty/"];
    let files = tree.files.iter();
    files.filter(move |file| !foreign.iter().any(|folder| file.path.starts_with(folder)))
}

/// Returns the characters that begin a comment in the file's language, if it has line comments.
fn comment_marker(file: &TextFile) -> Option<&'static str> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.').map_or(name, |(_, ending)| ending) {
        "rs" | "js" | "mjs" | "cjs" | "ts" | "wit" | "c" => Some("//"),
        "py" | "sh" | "toml" | "yml" | "Makefile" => Some("#"),
        _ => file.text.starts_with("#!").then_some("#"),
    }
}

/// Returns the texts of the comments. A marker within a word, such as that of a URL, begins no comment.
fn comments(text: &str, marker: &str) -> String {
    let comment = |line: &str| {
        let mut starts = line.match_indices(marker).map(|(at, _)| at);
        let start = starts.find(|at| {
            let is_first = line[..*at]
                .chars()
                .next_back()
                .is_none_or(char::is_whitespace);
            is_first && !line[at + marker.len()..].starts_with("!/")
        })?;
        Some(line[start..].trim_start_matches(['/', '#', '!']).to_owned())
    };
    text.lines()
        .filter_map(comment)
        .collect::<Vec<_>>()
        .join("\n")
}

fn count<'a>(file: &'a str, text: &str) -> PhraseCount<'a> {
    let text = text.to_lowercase();
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || "_'-".contains(c);
    let begins_word = |part: &&str| part.starts_with(|c: char| c.is_ascii_alphabetic());
    // A contraction such as `who's` is one word and contains two.
    let parts: Vec<_> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let mut phrases = [0; Phrase::ALL.len()];
    for (at, part) in parts.iter().enumerate() {
        let next = parts.get(at + 1).copied().unwrap_or_default();
        for (phrase, total) in Phrase::ALL.iter().zip(&mut phrases) {
            *total += usize::from(phrase.is_at(part, next));
        }
    }
    PhraseCount {
        file,
        words: text.split(|c| !is_in_word(c)).filter(begins_word).count(),
        phrases,
    }
}

#[cfg(test)]
mod tests {
    use super::{comments, count, prose_lines};

    #[test]
    fn comments_of_a_language_are_counted_and_code_is_not() {
        let rust = "let a = \"http://b\"; // c\n/// d\n#[e]\n//! f";
        assert_eq!(comments(rust, "//"), " c\n d\n f");
        let shell = "#!/bin/sh\n# a\nb=$# # c";
        assert_eq!(comments(shell, "#"), " a\n c");
    }

    #[test]
    fn code_blocks_of_a_document_are_left_out() {
        let text = "a\n````md\n```sh\nb\n```\n````\nc\n```\nd\n```\n`e`";
        let lines: Vec<_> = prose_lines(text).collect();
        assert_eq!(lines, [(1, "a"), (7, "c"), (11, "`e`")]);
    }

    #[test]
    fn each_phrase_is_counted() {
        let text =
            "What is\nhere, and who's there; nobody knows what they do, whom it concerns, somehow";
        assert_eq!(count("", text).phrases, [2, 2, 1]);
    }
}
