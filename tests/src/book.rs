//! Runs a page of the book as its reader would: writes the files it shows, runs the commands it gives, and compares the output. Contains
//! nothing about a particular page.
//!
//! The attributes after a fenced block's language say what to do with the block:
//!
//! - `sh`: commands, run one after the other. A `cd` also applies to the blocks after it. With `,serves` the last command keeps running,
//!   and the test waits until it prints the address that it serves. With `,fails` the command must fail. With `,until` the block is
//!   repeated until its output contains the lines of the output block after it.
//! - `text,output`: the output of the block before it, line by line and in order; `…` matches anything.
//! - `js,file=src/app.js` (any language): a file, written to this path in the current folder.
//! - `js,from=guests/sdk/js/examples/x.js` (any language): a part of a file of the repository, which has its own tests that build and run
//!   it.
//!
//! A block without any of these attributes is an error, because no test would fail when it is no longer true. `127.0.0.1:3000` is replaced
//! by an address with a free port.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{anyhow, ensure};

use crate::host::{binary, repository};
use crate::port::Port;
use crate::wait::try_block_until;

/// Time limit of each step of a page. The slowest step is the first build of a guest in Rust on a busy machine.
const PATIENCE: Duration = Duration::from_secs(420);
/// Longest time from a signal to the end of a server.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// The address that pages show.
const SHOWN_ADDRESS: &str = "127.0.0.1:3000";
/// The text by which a host reports that it is ready.
const READY: &str = " serves http://";

/// A fenced block of a page.
#[derive(Debug, Clone)]
pub struct Block {
    /// The line number of its fence, from 1.
    pub line: usize,
    /// The language of the block.
    pub language: String,
    /// The attributes after the language, separated by commas.
    pub attributes: Vec<String>,
    /// The lines of the block.
    pub text: String,
}

impl Block {
    /// Returns whether the block has this attribute.
    pub fn is(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|it| it == attribute)
    }

    /// Returns the value of an attribute `name=value`.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.attributes.iter();
        values.find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Returns the fenced blocks of a page in order.
///
/// # Panics
/// If a fence is not closed.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let mut words = info.split(',').map(|word| word.trim().to_owned());
        let mut block = Block {
            line: number + 1,
            language: words.next().unwrap_or_default(),
            attributes: words.collect(),
            text: String::new(),
        };
        loop {
            let (_, line) = lines
                .next()
                .unwrap_or_else(|| panic!("line {}: the block has no end", block.line));
            if line.trim() == "```" {
                break;
            }
            block.text.push_str(line);
            block.text.push('\n');
        }
        blocks.push(block);
    }
    blocks
}

/// Runs all steps of a page in a folder of its own.
///
/// # Panics
/// If a step does not do as the page says. The panic names the line of the page and the output.
pub fn follow(name: &str, page: &str) {
    let mut reader = Reader::new(name);
    let blocks = blocks(page);
    for (index, block) in blocks.iter().enumerate() {
        let expected = blocks.get(index + 1).filter(|next| next.is("output"));
        reader.read(block, expected);
    }
}

/// A reader of the book with a shell.
struct Reader {
    page: String,
    folder: tempfile::TempDir,
    address: String,
    _port: Port,
    servers: Vec<Server>,
    /// The output of the last block.
    output: Output,
}

enum Output {
    Text(String),
    /// A server keeps writing its output to this file.
    Follows(PathBuf),
}

struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The whole process group: a shell, the host and its build processes.
        let group = format!("-{}", self.child.id());
        for signal in ["-INT", "-KILL"] {
            let _ = Command::new("kill").args([signal, "--", &group]).status();
            // A server that does not end is killed by the next signal.
            let _ = try_block_until("the server has ended", END_TIME_MAX, || {
                ensure!(!matches!(self.child.try_wait(), Ok(None)));
                Ok(())
            });
        }
    }
}

impl Reader {
    fn new(page: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = Port::free();
        let address = format!("127.0.0.1:{}", port.number());
        std::fs::write(folder.path().join(".cwd"), ".").expect("the folder is ours");
        Self {
            page: page.to_owned(),
            folder,
            address,
            _port: port,
            servers: Vec::new(),
            output: Output::Text(String::new()),
        }
    }

    fn read(&mut self, block: &Block, expected: Option<&Block>) {
        if block.is("output") {
            self.compare(block);
        } else if let Some(path) = block.value("file") {
            self.write(path, &block.text);
        } else if let Some(path) = block.value("from") {
            self.look_up(block, path);
        } else if block.language == "sh" {
            self.run(block, expected);
        } else {
            self.fail(block, "is neither run nor written nor taken from a file");
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory().join(path);
        let parent = path.parent().expect("a file has a folder");
        std::fs::create_dir_all(parent).expect("the folder is ours");
        std::fs::write(&path, self.here(text)).expect("the folder is ours");
    }

    fn look_up(&self, block: &Block, path: &str) {
        let file = std::fs::read_to_string(repository().join(path))
            .unwrap_or_else(|error| self.fail(block, &format!("names {path}: {error}")));
        let stripped = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line.trim().to_owned());
            lines.filter(|line| !line.is_empty()).collect()
        };
        let (file, part) = (stripped(&file), stripped(&block.text));
        let is_there = !part.is_empty() && file.windows(part.len()).any(|lines| lines == part);
        if !is_there {
            self.fail(block, &format!("is not in {path} with this text"));
        }
    }

    fn run(&mut self, block: &Block, expected: Option<&Block>) {
        if block.is("serves") {
            return self.serve(block);
        }
        let (status, text) = self.output_of(block, expected);
        if status.success() == block.is("fails") {
            let servers = self.servers_say();
            self.fail(block, &format!("ended with {status}:\n{text}\n{servers}"));
        }
        self.output = Output::Text(text);
    }

    /// Runs the commands of a block. A block with `until` is repeated until its output is as shown or the time is over.
    fn output_of(&self, block: &Block, expected: Option<&Block>) -> (ExitStatus, String) {
        let mut last = None;
        // The block of the output fails if its lines are still missing.
        let _ = try_block_until("the output is as shown", PATIENCE, || {
            let ran = self.shell(&block.text).output().expect("sh runs");
            let text = [ran.stdout, ran.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            let is_as_shown = expected.is_none_or(|shown| self.shows(&text, shown).is_ok());
            last = Some((ran.status, text));
            ensure!(is_as_shown || !block.is("until"));
            Ok(())
        });
        last.expect("the block ran at least once")
    }

    /// Starts the commands of a block whose last one keeps running, and waits until it serves.
    fn serve(&mut self, block: &Block) {
        let path = self
            .folder
            .path()
            .join(format!("server-{}.log", self.servers.len()));
        let log = std::fs::File::create(&path).expect("the folder is ours");
        let error_log = log.try_clone().expect("a file can be shared");
        let child = self
            .shell(&block.text)
            .stdout(log)
            .stderr(error_log)
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let mut server = Server { child };
        let served = try_block_until("the server is ready", PATIENCE, || {
            let text = std::fs::read_to_string(&path).expect("the log is text");
            let has_ended = !matches!(server.child.try_wait(), Ok(None));
            if has_ended && !text.contains(READY) {
                self.fail(block, &format!("does not serve:\n{text}"));
            }
            ensure!(text.contains(READY), text);
            Ok(())
        });
        if let Err(error) = served {
            self.fail(block, &format!("does not serve: {error}"));
        }
        self.servers.push(server);
        self.output = Output::Follows(path);
    }

    fn compare(&self, block: &Block) {
        let time_max = match &self.output {
            Output::Text(_) => Duration::ZERO,
            Output::Follows(_) => PATIENCE,
        };
        let compared = try_block_until("all lines are printed", time_max, || {
            let text = match &self.output {
                Output::Text(text) => text.clone(),
                Output::Follows(path) => std::fs::read_to_string(path).expect("the log is text"),
            };
            let shown = self.shows(&text, block);
            shown.map_err(|missing| anyhow!("{missing:?} was not said, but:\n{text}"))
        });
        if let Err(error) = compared {
            self.fail(block, &format!("is not true: {error}"));
        }
    }

    /// Checks that all lines of an output block were printed, in order. Returns the first line that was not.
    fn shows(&self, text: &str, block: &Block) -> Result<(), String> {
        let shown = self.here(&block.text);
        let mut text = text.lines();
        for line in shown.lines().filter(|line| !line.trim().is_empty()) {
            if !text.any(|it| is_like(it, line)) {
                return Err(line.to_owned());
            }
        }
        Ok(())
    }

    fn shell(&self, script: &str) -> Command {
        let script = format!(
            "PATH=\"$BESIDE:$PATH\"\ncd \"$(cat .cwd)\"\n{}\npwd > \"$READER/.cwd\"\n",
            self.here(script)
        );
        let binary = binary();
        let beside = binary.parent().expect("the binary is in a folder");
        let mut command = Command::new("sh");
        command
            .args(["-euc", &script])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("READER", self.folder.path())
            .env("BESIDE", beside)
            .env("CLOAKROOM_LISTEN", &self.address)
            // The commands of the page must not inherit the settings of the cargo that runs this test.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .env("NO_COLOR", "1");
        command
    }

    /// Returns the folder that the page's commands run in.
    fn directory(&self) -> PathBuf {
        let path = std::fs::read_to_string(self.folder.path().join(".cwd"));
        let path = path.expect("every block leaves it");
        self.folder.path().join(Path::new(path.trim()))
    }

    /// Returns the text with the page's address replaced by the free one of this test.
    fn here(&self, text: &str) -> String {
        text.replace(SHOWN_ADDRESS, &self.address)
    }

    fn servers_say(&self) -> String {
        let logs = (0..self.servers.len()).map(|number| {
            let path = self.folder.path().join(format!("server-{number}.log"));
            std::fs::read_to_string(path).unwrap_or_default()
        });
        logs.collect::<Vec<_>>().join("\n")
    }

    fn fail(&self, block: &Block, problem: &str) -> ! {
        let (page, line) = (&self.page, block.line);
        panic!("{page}, line {line}: this block {problem}\n{}", block.text);
    }
}

/// Returns whether a line matches the shown line, whose `…` match anything.
fn is_like(line: &str, shown: &str) -> bool {
    let mut parts = shown.trim().split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.trim().strip_prefix(first) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        is_open = true;
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
        is_open &= part.is_empty();
    }
    is_open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_parsed_into_its_language_attributes_and_lines() {
        let page = "# A page\n```js,file=src/app.js\nlet a;\n```\ntext\n```sh,serves\nx\ny\n```\n";
        let blocks = blocks(page);
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].language.as_str(), blocks[0].line), ("js", 2));
        assert_eq!(blocks[0].value("file"), Some("src/app.js"));
        assert!(blocks[1].is("serves") && blocks[1].text == "x\ny\n");
    }

    #[test]
    fn an_ellipsis_matches_any_text() {
        assert!(is_like(
            "  GET /session 200 3.1 ms",
            "GET /session 200 … ms"
        ));
        assert!(is_like("built in 2 s", "built in …"));
        assert!(is_like("same", "same"));
        for (line, shown) in [("longer", "long"), ("a b", "a … c"), ("x a", "a")] {
            assert!(!is_like(line, shown), "{line} / {shown}");
        }
    }

    #[test]
    fn a_page_is_run_written_and_compared() {
        follow(
            "a page",
            "```sh\nmkdir here\ncd here\n```\n```txt,file=a/b.txt\nwritten\n```\n\
             ```sh\ncat a/b.txt; echo more\n```\n```text,output\nwrit…\nmore\n```\n```sh,fails\nexit 3\n```\n",
        );
    }

    #[test]
    #[should_panic(expected = "a page, line 4")]
    fn a_page_with_wrong_output_is_reported_with_its_line() {
        follow("a page", "```sh\necho one\n```\n```text,output\ntwo\n```\n");
    }

    #[test]
    #[should_panic(expected = "neither run nor written")]
    fn a_block_that_is_not_tested_is_a_fault() {
        follow("a page", "```js\nlet a;\n```\n");
    }
}
