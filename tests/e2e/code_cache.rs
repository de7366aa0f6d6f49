//! The cache of compiled code. Compiled code is kept for the next start and never used after tampering. The compiler is a child process
//! that neither outlives its host nor exceeds its time limit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Host, SECRET, binary, component};
use cloakroom_tests::wait::block_until;

/// Longest wait of these tests on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a component, a configuration and, in `code`, the code cache.
struct Place(tempfile::TempDir);

impl Place {
    fn new(component: &[u8], server_keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self(folder);
        fs::write(place.path("guest.wasm"), component).unwrap();
        fs::write(
            place.path("cloakroom.toml"),
            format!(
                "listen = \"127.0.0.1:0\"\n[server]\n{server_keys}\n[store]\nurl = \"memory:\"\n\
                 [guest.it]\ncomponent = \"guest.wasm\"\n[[route]]\npath = \"/{{*rest}}\"\nguest = \"it\"\n"
            ),
        )
        .unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(binary());
        command
            .args([word, "--config", "cloakroom.toml"])
            .current_dir(self.0.path())
            .env("CLOAKROOM_SESSION_SECRETS", SECRET);
        command
    }

    fn start(&self) -> Host {
        Host::spawn(self.command("serve"), tempfile::tempdir().unwrap())
    }

    fn check(&self) -> Output {
        self.command("check").output().unwrap()
    }

    fn spawn(&self) -> Child {
        let mut command = self.command("serve");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Returns the files in the code cache, including unfinished ones.
    fn cached_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("code")) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| !path.ends_with("key"));
        paths
    }
}

const KEEPING: &str = "code_cache = \"code\"";

fn hello() -> Vec<u8> {
    fs::read(component("fixture-hello")).unwrap()
}

/// Returns a `hello` component that takes long to compile: it contains a module of `functions` large functions, which it never
/// instantiates.
fn laborious(functions: usize) -> Vec<u8> {
    let length = |mut n: usize| {
        let mut bytes = Vec::new();
        while n >= 0x80 {
            bytes.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
            n >>= 7;
        }
        bytes.push(u8::try_from(n).unwrap());
        bytes
    };
    let section = |id: u8, content: Vec<u8>| [vec![id], length(content.len()), content].concat();
    // The body: no locals; `local.get 0`, then thousands of `i32.const 7; i32.mul; local.get 0; i32.xor`; end.
    let step = [0x41, 7, 0x6c, 0x20, 0, 0x73];
    let body = [vec![0, 0x20, 0], step.repeat(4000), vec![0x0b]].concat();
    let function = [length(body.len()), body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, [length(functions), vec![0; functions]].concat()),
        section(10, [length(functions), function.repeat(functions)].concat()),
    ]
    .concat();
    [hello(), section(1, module)].concat()
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits until the process that compiles for `host` exists and returns its id.
fn compiler_of(host: u32) -> u32 {
    let children = format!("/proc/{host}/task");
    block_until("the compiler runs", PATIENCE, || {
        let tasks = fs::read_dir(&children)?;
        let listed =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let pids: Vec<u32> = listed
            .flat_map(|list| {
                list.split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        let found = pids.iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').nth(1) == Some("compile"))
        });
        let found = found.with_context(|| format!("children {pids:?}"))?;
        Ok(*found)
    })
}

/// Returns whether a process exists and has not ended.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('Z')
    })
}

fn kill(pid: u32) {
    let status = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_takes_the_code_of_the_first() {
    let place = Place::new(&hello(), KEEPING);
    for code in ["compiled", "kept", "kept"] {
        let host = place.start();
        host.wait_for_log(&format!("code=\"{code}\"")).await;
        assert_eq!(Browser::new().get(&host.url("/")).await.text, "hello\n");
    }
    assert_eq!(place.cached_files().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_was_tampered_with_is_compiled_anew() {
    let place = Place::new(&hello(), KEEPING);
    drop(place.start());
    let harms: [fn(&mut Vec<u8>); 3] = [
        |code| {
            let middle = code.len() / 2;
            code[middle] ^= 1;
        },
        |code| code.truncate(code.len() / 2),
        |code| *code = b"\x7fELF".to_vec(),
    ];
    for harm in harms {
        let path = &place.cached_files()[0];
        let mut code = fs::read(path).unwrap();
        harm(&mut code);
        fs::remove_file(path).unwrap();
        fs::write(path, code).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
        let host = place.start();
        host.wait_for_log("code=\"compiled\"").await;
        let log = host.log();
        assert!(log.contains("cached code is not used"), "{log}");
        assert_eq!(Browser::new().get(&host.url("/")).await.text, "hello\n");
        drop(host);
        // The newly compiled file is valid.
        place.start().wait_for_log("code=\"kept\"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_folder_of_its_own_a_host_keeps_nothing_and_serves() {
    let off = Place::new(&hello(), "code_cache = \"off\"");
    let open = Place::new(&hello(), KEEPING);
    fs::create_dir(open.path("code")).unwrap();
    fs::set_permissions(open.path("code"), fs::Permissions::from_mode(0o777)).unwrap();
    for (place, warns) in [(off, false), (open, true)] {
        let host = place.start();
        host.wait_for_log("code=\"compiled\"").await;
        let log = host.log();
        assert_eq!(log.contains("compiled code is not cached"), warns, "{log}");
        assert_eq!(Browser::new().get(&host.url("/")).await.text, "hello\n");
        assert_eq!(place.cached_files(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_component_that_does_not_compile_is_refused_with_the_compilers_error() {
    // A module with one function that declares a result and returns none.
    let module = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";
    let mut bytes = hello();
    bytes.extend([1, u8::try_from(module.len()).unwrap()]);
    bytes.extend(module);
    let output = Place::new(&bytes, "").check();
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("does not fit this host") && text.contains("type mismatch"),
        "{text}"
    );
}

#[test]
fn compiling_that_takes_too_long_is_ended() {
    let place = Place::new(
        &laborious(2000),
        "code_cache = \"code\"\ncompile_timeout = \"500ms\"",
    );
    let begun = Instant::now();
    let output = place.check();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("took longer than 500ms"), "{text}");
    assert_eq!(place.cached_files(), Vec::<PathBuf>::new());
}

#[test]
fn a_compiler_that_is_killed_is_named_and_leaves_nothing() {
    let place = Place::new(&laborious(2000), KEEPING);
    let host = place.spawn();
    kill(compiler_of(host.id()));
    let output = host.wait_with_output().unwrap();
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("was not compiled") && text.contains("signal: 9"),
        "{text}"
    );
    assert_eq!(place.cached_files(), Vec::<PathBuf>::new());
}

#[test]
fn a_compiler_ends_with_its_host_and_leaves_nothing() {
    let place = Place::new(&laborious(2000), KEEPING);
    let mut host = place.spawn();
    let compiler = compiler_of(host.id());
    host.kill().unwrap();
    host.wait().unwrap();
    block_until("the compiler has ended", PATIENCE, || {
        ensure!(!is_alive(compiler));
        Ok(())
    });
    assert_eq!(place.cached_files(), Vec::<PathBuf>::new());
}

#[test]
fn the_compiler_has_a_low_priority_and_no_environment() {
    let place = Place::new(&laborious(2000), KEEPING);
    let mut host = place.spawn();
    let compiler = compiler_of(host.id());
    let read =
        |what: &str| fs::read_to_string(Path::new("/proc").join(compiler.to_string()).join(what));
    let environment = read("environ").unwrap();
    block_until("the compiler gives way", PATIENCE, || {
        let stat = read("stat").unwrap();
        // The niceness is the 19th field. The second field is the name, in parentheses.
        let niceness = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(16)
            .unwrap();
        let niceness: i32 = niceness.parse().unwrap();
        ensure!(niceness >= 10, "niceness {niceness}");
        Ok(())
    });
    host.kill().unwrap();
    host.wait().unwrap();
    assert_eq!(environment, "");
}
