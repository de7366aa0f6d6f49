//! A report as text: names on the left and their values on the right. Each value is printed on one line, with its control
//! characters escaped.

use std::fmt;

use super::grants::GrantReport;
use super::{InspectReport, ProducerEntry};
use cloakroom_base::telemetry::counted;
use cloakroom_base::telemetry::escape;
use cloakroom_host::admin::command::size;

/// The width of the column of names.
const NAMES_WIDTH: usize = 11;

impl fmt::Display for InspectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", escape(&self.file))?;
        row(f, "size", &[self.size()])?;
        row(f, "digest", std::slice::from_ref(&self.digest))?;
        row(f, "world", std::slice::from_ref(&self.world))?;
        row(f, "made by", &[made_by(&self.made_by)])?;
        let fits = match &self.reason {
            None => "this host compiles and links it".to_owned(),
            Some(reason) => format!("no: {reason}"),
        };
        row(f, "fits", &[fits])?;
        row(f, "exports", &self.exports)?;
        let imports = &self.imports;
        let groups = [
            ("cloakroom", &imports.cloakroom),
            ("wasi", &imports.wasi),
            ("unknown", &imports.unknown),
        ];
        writeln!(f, "Imports")?;
        for (name, group) in groups {
            row(f, name, group)?;
        }
        for grants in &self.grants {
            match &self.config {
                None => writeln!(f, "Granted by `cloakroom serve {}`", escape(&self.file))?,
                Some(file) => {
                    let line = format!("Granted by {file} to the guest {}", grants.guest);
                    writeln!(f, "{}", escape(&line))?;
                }
            }
            write_grants(f, grants)?;
        }
        match &self.config {
            Some(file) if self.grants.is_empty() => {
                let line = format!("No guest of {file} has this file as its component");
                writeln!(f, "{}", escape(&line))
            }
            _ => Ok(()),
        }
    }
}

impl InspectReport {
    fn size(&self) -> String {
        let parts = &self.parts;
        let named = [
            ("code", parts.code),
            ("data", parts.data),
            ("names and debug information", parts.custom),
        ];
        let named = named.iter().filter(|(_, bytes)| *bytes > 0);
        let named: String = named
            .map(|(name, bytes)| format!("{name} {}, ", bytes_of(*bytes)))
            .collect();
        let modules = counted(parts.modules, "module");
        let other = bytes_of(parts.other);
        format!(
            "{} in {modules}: {named}other {other}",
            bytes_of(self.bytes)
        )
    }
}

fn write_grants(f: &mut fmt::Formatter<'_>, grants: &GrantReport) -> fmt::Result {
    for (name, lines) in &grants.lines {
        row(f, name, lines)?;
    }
    row(f, "environment", &grants.environment)?;
    let instances = match grants.reuse {
        1 => "a fresh one for each request".to_owned(),
        uses => format!("each serves up to {uses} requests (reuse)"),
    };
    row(f, "instances", &[instances])?;
    let limits: Vec<_> = grants
        .limits
        .iter()
        .map(|limit| format!("{} {}", limit.key, limit.value))
        .collect();
    if limits.is_empty() {
        row(f, "limits", &["the defaults".to_owned()])?;
    } else {
        row(f, "limits", &limits)?;
    }
    let denied: Vec<_> = grants
        .denied
        .iter()
        .map(|denied| format!("imports {}, and {}", denied.import, denied.consequence))
        .collect();
    if !denied.is_empty() {
        row(f, "denied", &denied)?;
    }
    Ok(())
}

/// Returns the languages, then the tools that processed the component, for example `Rust; wit-component 0.241.2`.
fn made_by(tools: &[ProducerEntry]) -> String {
    let named = |tool: &ProducerEntry| format!("{} {}", tool.name, tool.version).trim().to_owned();
    let of = |is_wanted: fn(&str) -> bool| {
        let wanted = tools.iter().filter(|tool| is_wanted(&tool.role));
        wanted.map(named).collect::<Vec<_>>().join(", ")
    };
    let groups = [of(|role| role == "language"), of(|role| role != "language")];
    let line: Vec<_> = groups.into_iter().filter(|it| !it.is_empty()).collect();
    match line.as_slice() {
        [] => "it does not say".to_owned(),
        line => line.join("; "),
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, values: &[String]) -> fmt::Result {
    let nothing = ["none".to_owned()];
    let values = if values.is_empty() { &nothing } else { values };
    for (index, value) in values.iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        writeln!(f, "  {name:NAMES_WIDTH$}  {}", escape(value))?;
    }
    Ok(())
}

fn bytes_of(bytes: u64) -> String {
    size(usize::try_from(bytes).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::{HostInterfaceUse, ImportReport, SectionSizes};
    use super::*;

    fn report() -> InspectReport {
        InspectReport {
            file: "a.wasm".to_owned(),
            config: None,
            bytes: 4096,
            digest: "ab".repeat(32),
            world: "wasi:http 0.2".to_owned(),
            parts: SectionSizes {
                modules: 1,
                code: 2048,
                data: 1024,
                custom: 0,
                other: 1024,
            },
            made_by: Vec::new(),
            fits: false,
            reason: Some("it imports evil\u{1b}[2J".to_owned()),
            exports: vec!["wasi:http/incoming-handler@0.2.10".to_owned()],
            imports: ImportReport::of(&["x:y/z".to_owned(), "wasi:io/poll@0.2.10".to_owned()]),
            uses: HostInterfaceUse(Vec::new()),
            grants: Vec::new(),
        }
    }

    #[test]
    fn the_report_aligns_its_columns_and_escapes_control_characters() {
        let text = report().to_string();
        let column = |start: &str| {
            text.lines()
                .find(|line| line.trim_start().starts_with(start))
        };
        for (name, value) in [
            (
                "size",
                "4.0 KiB in 1 module: code 2.0 KiB, data 1.0 KiB, other 1.0 KiB",
            ),
            ("made by", "it does not say"),
            ("fits", "no: it imports evil\\u{1b}[2J"),
            ("cloakroom", "none"),
            ("wasi ", "wasi:io/poll@0.2.10"),
            ("unknown", "x:y/z"),
        ] {
            let line = column(name).unwrap_or_else(|| panic!("{name}: {text}"));
            assert_eq!(&line[4 + NAMES_WIDTH..], value, "{text}");
        }
    }

    #[test]
    fn languages_are_listed_before_tools() {
        let tool = |role: &str, name: &str, version: &str| ProducerEntry {
            role: role.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let tools = [
            tool("processed-by", "rustc", "1.95.0"),
            tool("language", "Rust", ""),
            tool("sdk", "wit-bindgen", "0.61.1"),
        ];
        assert_eq!(made_by(&tools), "Rust; rustc 1.95.0, wit-bindgen 0.61.1");
    }
}
