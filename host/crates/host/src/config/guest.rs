//! `[guest.NAME]`: a component, its grants and its limits.

mod build;
mod limits;
mod outbound;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ComponentFiles;
use super::rollout;
use crate::config_reader::environment::EnvReference;
use crate::config_reader::kinds::{
    Field, ValueError, boolean, count_in, existing_file, path, some_items, word,
};
use crate::config_reader::source::{TomlValue, ValueNode};
use crate::config_reader::{ConfigMode, Section};
use crate::route::{Route, Target};
use cloakroom_runtime::{GuestGrants, GuestSettings, StreamPolicy};
use cloakroom_session::{KeyPatterns, SessionAccessLevel, SessionGrant, VisitStart};

pub use build::BuildSettings;
use limits::LimitedSettings;
pub use limits::changed_limits;
pub(crate) use limits::{HostLimits, waiting_body};

/// Returns the guest for a component on the command line. It may write sessions, and has the default settings.
pub(crate) fn of_component(path: &Path) -> GuestSettings {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    let name: String = stem
        .iter()
        .flat_map(|stem| stem.chars())
        .map(|c| if is_name_character(c) { c } else { '-' })
        .take(NAME_BYTES_MAX)
        .collect();
    let name = if name.is_empty() {
        "guest".to_owned()
    } else {
        name
    };
    GuestSettings {
        grants: GuestGrants {
            session: Arc::new(SessionGrant::write()),
            ..GuestGrants::default()
        },
        ..GuestSettings::new(name, path)
    }
}

/// Returns routes that lead every request to a guest.
pub(crate) fn routes_of_everything(guest: &GuestSettings) -> Vec<Route> {
    vec![Route {
        path: "/{*rest}".to_owned(),
        methods: Vec::new(),
        host: None,
        target: Target::Guest(guest.name.clone()),
    }]
}

/// The maximum length of a guest's name.
const NAME_BYTES_MAX: usize = 64;

/// The maximum number of requests that one instance may serve.
const REUSE_MAX: usize = 1_000_000;

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Reads `[guest.NAME]`: the guest, and how it is built from its sources, if the configuration says so.
pub(crate) fn read(
    name: &str,
    mut section: Section<'_>,
    shared: HostLimits<'_>,
    components: ComponentFiles,
) -> (GuestSettings, Option<BuildSettings>) {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_name_character) {
        section.fault(
            "",
            "is not a valid guest name",
            "use letters, digits, `-` and `_`, at most 64",
        );
    }
    let build = build::read(section.section("build"));
    let component = match (components, &build) {
        (ComponentFiles::ToBeBuilt, Some(_)) => section.get("component", path),
        (ComponentFiles::MustExist, Some(build)) => {
            section.get("component", |field| built_file(field, build))
        }
        (_, None) => section.get("component", existing_file),
    };
    if section.is_missing("component") {
        section.fault(
            "component",
            "missing: a guest is a component",
            "write component = \"PATH.wasm\"",
        );
    }
    let stream = match section.get("stream", boolean) {
        Some(true) => StreamPolicy::Streamed,
        Some(false) | None => StreamPolicy::Buffered,
    };
    let LimitedSettings {
        guest: limits,
        session,
    } = limits::read(section.section("limits"), shared, stream);
    let guest = GuestSettings {
        name: name.to_owned(),
        component: component.unwrap_or_default(),
        grants: grants(&mut section, session),
        environment: section.get("environment", environment).unwrap_or_default(),
        start: match section.get("exclusive", boolean) {
            Some(true) => VisitStart::Exclusive,
            Some(false) | None => VisitStart::Optimistic,
        },
        stream,
        reuse: section.get("reuse", count_in(1, REUSE_MAX)).unwrap_or(1),
        limits,
        rollout: rollout::read(&mut section),
    };
    (guest, build)
}

/// Reads the guest's grants on the interfaces that it imports. `session` has the limits of its grant on the session.
fn grants(section: &mut Section<'_>, session: SessionGrant) -> GuestGrants {
    GuestGrants {
        session: Arc::new(session_grant(section, session)),
        outbound_hosts: section
            .get("outbound_hosts", outbound::hosts)
            .unwrap_or_default()
            .into(),
    }
}

fn session_grant(section: &mut Section<'_>, limits: SessionGrant) -> SessionGrant {
    let access = section.get(
        "session",
        word(&[
            ("none", SessionAccessLevel::None),
            ("read", SessionAccessLevel::Read),
            ("write", SessionAccessLevel::Write),
        ]),
    );
    let access = access.unwrap_or(SessionAccessLevel::None);
    let read_keys = section.get("read_keys", some_items(key_pattern));
    let write_keys = section.get("write_keys", some_items(key_pattern));
    for (key, least, remedy) in [
        (
            "read_keys",
            SessionAccessLevel::Read,
            "set session = \"read\" or \"write\", or leave it out",
        ),
        (
            "write_keys",
            SessionAccessLevel::Write,
            "set session = \"write\", or leave it out",
        ),
    ] {
        if section.is_given(key) && access < least {
            section.fault(key, "grants nothing without access to the session", remedy);
        }
    }
    SessionGrant {
        access,
        read_keys: KeyPatterns::new(read_keys.unwrap_or_default()),
        write_keys: KeyPatterns::new(write_keys.unwrap_or_default()),
        ..limits
    }
}

/// Reads the path of the file that a build creates. The file must exist.
fn built_file(field: &Field<'_>, build: &BuildSettings) -> Result<PathBuf, ValueError> {
    existing_file(field).map_err(|error| ValueError {
        remedy: format!(
            "build it: `cloakroom dev` does, and so does `{}`",
            build.command
        ),
        ..error
    })
}

/// Parses a key, or the beginning of keys followed by `*`.
fn key_pattern(pattern: &str) -> Result<String, ValueError> {
    if pattern.strip_suffix('*').unwrap_or(pattern).contains('*') {
        return Err(ValueError::new(
            format!("{pattern:?} has a `*` before its end"),
            "write a whole key, or its beginning followed by one `*`",
        ));
    }
    Ok(pattern.to_owned())
}

/// Reads variables and their values, which may be references.
fn environment(field: &Field<'_>) -> Result<Vec<(String, String)>, ValueError> {
    const REMEDY: &str = "write environment = { NAME = \"value\", TOKEN = \"env:NAME\" }";
    let TomlValue::Table(table) = field.value else {
        return Err(ValueError::new(
            format!("expected a table, found {}", field.value.kind()),
            REMEDY,
        ));
    };
    let variable = |(name, node): (&String, &ValueNode)| {
        let error_of = |problem: String, remedy: String| ValueError {
            item: format!(".{name}"),
            problem,
            remedy,
        };
        let TomlValue::Text(text) = &node.value else {
            let problem = format!("expected a string, found {}", node.value.kind());
            return Err(error_of(problem, REMEDY.to_owned()));
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(error_of(
                "is not a valid variable name".to_owned(),
                REMEDY.to_owned(),
            ));
        }
        let Some(reference) = EnvReference::parse(text) else {
            return Ok(Some((name.clone(), text.clone())));
        };
        let read = reference.read(field.reader.environment(), field.reader.base(), |warning| {
            field.reader.warn(warning)
        });
        if let (Err((problem, _)), ConfigMode::Test) = (&read, field.reader.mode()) {
            let warning = format!("the guest's variable {name} is left out: {problem}");
            field.reader.warn(warning);
            return Ok(None);
        }
        let bytes = read.map_err(|(problem, remedy)| error_of(problem, remedy))?;
        let value = String::from_utf8(bytes)
            .map_err(|_| error_of("is not UTF-8".to_owned(), REMEDY.to_owned()))?;
        Ok(Some((name.clone(), value)))
    };
    table
        .iter()
        .filter_map(|entry| variable(entry).transpose())
        .collect()
}
