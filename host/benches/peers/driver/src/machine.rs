//! Describes the machine, the programs and the date of a run. The description never names the machine or its folders.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::arguments::Arguments;
use crate::mariadb::Mariadb;
use crate::process::output;

/// The versions of the peers' packages.
const LOCK: &str = include_str!("../../Cargo.lock");
/// The packages of the Express peer.
const NODE_PACKAGES: &str = "tests/express/node_modules";

/// The conditions of the measurements.
#[derive(Debug)]
pub struct Setting {
    /// The day, in UTC.
    pub date: String,
    /// The processors, memory and system.
    pub machine: String,
    /// The number of processors.
    pub n_processors: usize,
    /// The programs and their versions.
    pub versions: Vec<String>,
    /// The load and the times.
    pub plan: String,
    /// The number of rounds.
    pub rounds: u32,
}

/// Describes this machine and the installed programs.
pub fn describe(arguments: &Arguments, mariadb: &Mariadb) -> anyhow::Result<Setting> {
    let n_processors = std::thread::available_parallelism()?.get();
    let plan = arguments.plan;
    Ok(Setting {
        date: output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
        machine: machine(n_processors)?,
        n_processors,
        versions: versions(arguments, mariadb)?,
        plan: format!(
            "{} keep-alive connections, {} sessions, one load generator on the same machine; {:.1} s of warm-up and {:.1} s counted",
            plan.size.connections,
            plan.size.sessions,
            plan.warm_up.as_secs_f64(),
            plan.time.as_secs_f64(),
        ),
        rounds: arguments.rounds,
    })
}

/// Describes the processors, memory and system.
pub fn machine(n_processors: usize) -> anyhow::Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let model = field(&cpuinfo, "model name").unwrap_or("unknown model");
    let virtual_ = if cpuinfo.contains(" hypervisor") {
        "virtual "
    } else {
        ""
    };
    let memory = field(&meminfo, "MemTotal").context("/proc/meminfo has no MemTotal")?;
    let memory: f64 = memory.trim_end_matches(" kB").parse()?;
    // The rest of the release may identify the kernel's vendor.
    let kernel: Vec<_> = release.trim().splitn(3, '.').take(2).collect();
    Ok(format!(
        "{n_processors} {virtual_}processors ({model}), {:.0} GiB of memory, Linux {}",
        memory / f64::from(1 << 20),
        kernel.join("."),
    ))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn versions(arguments: &Arguments, mariadb: &Mariadb) -> anyhow::Result<Vec<String>> {
    let mut versions = vec![cloakroom_version(&arguments.tools.cloakroom)?];
    versions.push(format!(
        "Node.js {}",
        output(Command::new("node").arg("--version"))?
    ));
    for package in [
        "express",
        "express-session",
        "express-mysql-session",
        "mysql2",
    ] {
        versions.push(format!("{package} {}", node_version(package)?));
    }
    for package in [
        "axum",
        "tower-sessions",
        "tower-sessions-sqlx-store",
        "sqlx",
        "tokio",
    ] {
        versions.push(format!("{package} {}", crate_version(package)?));
    }
    if let Some(wasmtime) = &arguments.tools.wasmtime {
        let said = output(Command::new(wasmtime).arg("--version"))?;
        // The output continues with the commit and its date.
        let said: Vec<_> = said.split(' ').take(2).collect();
        versions.push(said.join(" "));
    }
    versions.push(mariadb_version(mariadb)?);
    Ok(versions)
}

/// Returns Cloakroom's version, with its commit.
pub fn cloakroom_version(cloakroom: &Path) -> anyhow::Result<String> {
    let mut version = output(Command::new(cloakroom).arg("--version"))?;
    // There is no commit if the sources are not a git clone.
    if let Ok(commit) = output(Command::new("git").args(["rev-parse", "--short=10", "HEAD"])) {
        version += &format!(" ({commit})");
    }
    Ok(version)
}

/// Returns the database's version.
pub fn mariadb_version(mariadb: &Mariadb) -> anyhow::Result<String> {
    let said = mariadb.query("SELECT VERSION()")?;
    // The output continues with the distribution's name.
    let version = said.split('-').next().unwrap_or_default();
    Ok(format!("MariaDB {version}"))
}

fn node_version(package: &str) -> anyhow::Result<String> {
    let path = Path::new(NODE_PACKAGES).join(package).join("package.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = (text.lines()).find_map(|line| line.trim().strip_prefix(r#""version": ""#));
    let version = line.and_then(|line| line.split('"').next());
    Ok(version.context("a package has a version")?.to_owned())
}

fn crate_version(package: &str) -> anyhow::Result<String> {
    let head = format!("name = \"{package}\"\nversion = \"");
    let found = LOCK
        .split_once(&head)
        .and_then(|(_, rest)| rest.split('"').next());
    Ok(found
        .with_context(|| format!("{package} is not locked"))?
        .to_owned())
}
