//! Reads sections key by key and collects every fault. A key that is never requested is unknown.
//!
//! Keys are requested even if their section is absent. The requested keys are therefore the complete schema. The remedies for
//! unknown keys are derived from it, and a test compares `example.toml` with it. This module does not know the meaning of any
//! key.

pub(crate) mod environment;
pub(crate) mod fault;
pub(crate) mod kinds;
mod quantity;
pub(crate) mod random_secret;
pub(crate) mod source;
mod unknown;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use environment::{Environment, VARIABLE_PREFIX, variable_name};
use fault::{ConfigFault, SettingOrigin};
use kinds::{Field, ValueError};
use source::{Table, TomlValue, ValueNode};
use unknown::UnknownKey;

/// The purpose for which a configuration is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigMode {
    /// To serve visitors.
    #[default]
    Serve,
    /// To test the guests without visitors. Sessions are kept in memory and signed with temporary secrets. Settings of the
    /// database and of secrets are only checked for their form, so that neither has to exist. A guest's environment variable
    /// whose reference cannot be resolved is left out, with a warning.
    Test,
}

/// Collects faults and warnings while sections are read.
pub(crate) struct ConfigReader<'a> {
    environment: &'a dyn Environment,
    base: PathBuf,
    mode: ConfigMode,
    faults: RefCell<Vec<ConfigFault>>,
    warnings: RefCell<Vec<String>>,
    /// Every variable that was requested, whether it is set or not. Other variables with our prefix are unknown.
    queried: RefCell<BTreeSet<String>>,
    /// Every key that can be set by a variable.
    settable: RefCell<BTreeSet<String>>,
    schema: RefCell<BTreeSet<String>>,
    unknown: RefCell<Vec<UnknownKey>>,
}

impl<'a> ConfigReader<'a> {
    /// Creates a reader that looks up variables in `environment` and resolves relative paths of the file against `base`.
    pub(crate) fn new(environment: &'a dyn Environment, base: &Path, mode: ConfigMode) -> Self {
        Self {
            environment,
            base: base.to_owned(),
            mode,
            faults: RefCell::default(),
            warnings: RefCell::default(),
            queried: RefCell::default(),
            settable: RefCell::default(),
            schema: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    /// Returns the root section of the configuration.
    pub(crate) fn root(&self, table: Table) -> Section<'_> {
        Section {
            reader: self,
            path: String::new(),
            schema: String::new(),
            origin: SettingOrigin::Nowhere,
            overridable: EnvironmentOverride::ByEnvironment,
            is_broken: false,
            entries: table,
            given: BTreeMap::new(),
        }
    }

    /// Returns the source of environment variables.
    pub(crate) fn environment(&self) -> &dyn Environment {
        self
    }

    /// Returns the directory that relative paths of the file are resolved against.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Returns the purpose for which the configuration is read.
    pub(crate) fn mode(&self) -> ConfigMode {
        self.mode
    }

    /// Adds a warning about a setting that is allowed and probably not intended.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    /// Adds a fault.
    pub(crate) fn fault(&self, fault: ConfigFault) {
        self.faults.borrow_mut().push(fault);
    }

    /// Returns the faults in the order of the file, the warnings, and the schema.
    pub(crate) fn finish(self) -> ReaderFindings {
        let schema = self.schema.into_inner();
        let mut faults = self.faults.into_inner();
        for key in self.unknown.into_inner() {
            faults.push(unknown::fault(&key, &schema));
        }
        // The sort is stable: faults of the same line stay in the order in which they were found. Faults without a place come
        // last.
        faults.sort_by_key(|fault| match fault.origin {
            SettingOrigin::Flag(_) => (0, 0),
            SettingOrigin::Environment(_) => (1, 0),
            SettingOrigin::File { line, .. } => (2, line.unwrap_or(0)),
            SettingOrigin::Nowhere => (3, 0),
        });
        let mut warnings = self.warnings.into_inner();
        let (queried, settable) = (self.queried.into_inner(), self.settable.into_inner());
        let mut names = self.environment.names(VARIABLE_PREFIX);
        names.sort();
        for name in names.iter().filter(|name| !queried.contains(*name)) {
            let value = self.environment.get(name);
            warnings.extend(unknown::variable(name, value.as_deref(), &settable));
        }
        ReaderFindings {
            faults,
            warnings,
            #[cfg(test)]
            schema,
        }
    }
}

/// Records the variables that are requested.
impl Environment for ConfigReader<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.queried.borrow_mut().insert(name.to_owned());
        self.environment.get(name)
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.environment.names(prefix)
    }
}

/// The result of reading a configuration.
pub(crate) struct ReaderFindings {
    pub(crate) faults: Vec<ConfigFault>,
    pub(crate) warnings: Vec<String>,
    /// Every requested key: `session.cookie.path`, `guest.NAME.component`, `route.path`.
    #[cfg(test)]
    pub(crate) schema: BTreeSet<String>,
}

/// Whether environment variables can set the keys of a section.
#[derive(Clone, Copy, PartialEq)]
enum EnvironmentOverride {
    ByEnvironment,
    No,
}

/// A table of the configuration. Dropping it reports the keys that were not requested as faults.
pub(crate) struct Section<'r> {
    pub(crate) reader: &'r ConfigReader<'r>,
    /// The path used in messages, such as `guest.counter` or `route[0]`. Empty for the root.
    path: String,
    /// The path in the schema, such as `guest.NAME` or `route`.
    schema: String,
    origin: SettingOrigin,
    overridable: EnvironmentOverride,
    /// Whether the value is not a table. That is a fault, so missing keys are not reported in addition.
    is_broken: bool,
    entries: Table,
    given: BTreeMap<&'static str, SettingOrigin>,
}

impl<'r> Section<'r> {
    /// Returns the value of the key as read by `kind`. Returns `None` if the key is not given or its value is invalid. An
    /// invalid value is reported as a fault.
    pub(crate) fn get<T>(
        &mut self,
        key: &'static str,
        kind: impl FnOnce(&Field<'_>) -> Result<T, ValueError>,
    ) -> Option<T> {
        let node = self.take(key)?;
        let field = Field {
            value: &node.value,
            origin: &node.origin,
            reader: self.reader,
        };
        match kind(&field) {
            Ok(value) => Some(value),
            Err(ValueError {
                item,
                problem,
                remedy,
            }) => {
                let key = format!("{}{item}", self.full(key));
                self.reader
                    .fault(ConfigFault::new(key, problem, remedy).at(node.origin));
                None
            }
        }
    }

    /// Replaces `setting` by the value of the key. The setting keeps its value, a default, if [`Section::get`] returns `None`.
    pub(crate) fn set<T>(
        &mut self,
        key: &'static str,
        setting: &mut T,
        kind: impl FnOnce(&Field<'_>) -> Result<T, ValueError>,
    ) {
        if let Some(value) = self.get(key, kind) {
            *setting = value;
        }
    }

    /// Returns the raw value: from the command line, otherwise from the environment, otherwise from the file.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<ValueNode> {
        let schema = join(&self.schema, key);
        self.reader.schema.borrow_mut().insert(schema);
        let mut node = self.entries.remove(key);
        let is_flag = matches!(&node, Some(node) if matches!(node.origin, SettingOrigin::Flag(_)));
        if self.overridable == EnvironmentOverride::ByEnvironment {
            let path = self.full(key);
            let name = variable_name(&path);
            self.reader.settable.borrow_mut().insert(path);
            if let Some(text) = self.reader.get(&name)
                && !text.is_empty()
                && !is_flag
            {
                node = Some(ValueNode {
                    value: TomlValue::Text(text),
                    origin: SettingOrigin::Environment(name),
                });
            }
        }
        let node = node?;
        self.given.insert(key, node.origin.clone());
        Some(node)
    }

    /// Returns the table under `key`, or an empty one if the key is absent or not a table.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'r> {
        let schema = join(&self.schema, key);
        self.reader.schema.borrow_mut().insert(schema.clone());
        let node = self.entries.remove(key);
        self.below(self.full(key), schema, self.overridable, node)
    }

    /// Returns the table under `key`, which also accepts values of other kinds. Returns an empty table if the value is of
    /// another kind, and leaves the value to [`Section::get`]. A table counts as given.
    pub(crate) fn section_if_table(&mut self, key: &'static str) -> Section<'r> {
        let schema = join(&self.schema, key);
        let node = match self.entries.get(key) {
            Some(node) if matches!(node.value, TomlValue::Table(_)) => self.entries.remove(key),
            _ => None,
        };
        if let Some(node) = &node {
            self.given.insert(key, node.origin.clone());
        }
        self.below(self.full(key), schema, self.overridable, node)
    }

    /// Returns the tables under `key`, with the names that the operator chose.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(String, Section<'r>)> {
        let schema = join(&join(&self.schema, key), "NAME");
        let Some(node) = self.entries.remove(key) else {
            return Vec::new();
        };
        self.given.insert(key, node.origin.clone());
        let TomlValue::Table(tables) = node.value else {
            let kind = node.value.kind();
            let remedy = format!("write a table [{key}.NAME] for each");
            let fault = ConfigFault::new(
                self.full(key),
                format!("expected tables, found {kind}"),
                remedy,
            );
            self.reader.fault(fault.at(node.origin));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, node) in tables {
            let path = join(&self.full(key), &name);
            let section = self.below(path, schema.clone(), EnvironmentOverride::No, Some(node));
            sections.push((name, section));
        }
        sections
    }

    /// Returns the tables of the list under `key` (`[[key]]`).
    pub(crate) fn list(&mut self, key: &'static str) -> Vec<Section<'r>> {
        let schema = join(&self.schema, key);
        let Some(node) = self.entries.remove(key) else {
            return Vec::new();
        };
        self.given.insert(key, node.origin.clone());
        let TomlValue::List(items) = node.value else {
            let problem = format!("expected a list of tables, found {}", node.value.kind());
            let remedy = format!("write [[{key}]] with two brackets");
            self.reader
                .fault(ConfigFault::new(self.full(key), problem, remedy).at(node.origin));
            return Vec::new();
        };
        let section = |(index, node)| {
            let path = format!("{}[{index}]", self.full(key));
            self.below(path, schema.clone(), EnvironmentOverride::No, Some(node))
        };
        items.into_iter().enumerate().map(section).collect()
    }

    fn below(
        &self,
        path: String,
        schema: String,
        overridable: EnvironmentOverride,
        node: Option<ValueNode>,
    ) -> Section<'r> {
        let mut is_broken = false;
        let (entries, origin) = match node {
            None => (Table::new(), SettingOrigin::Nowhere),
            Some(ValueNode {
                value: TomlValue::Table(table),
                origin,
            }) => (table, origin),
            Some(ValueNode { value, origin }) => {
                let problem = format!("expected a table, found {}", value.kind());
                let remedy = format!("write [{path}] and its keys below");
                self.reader
                    .fault(ConfigFault::new(&path, problem, remedy).at(origin.clone()));
                is_broken = true;
                (Table::new(), origin)
            }
        };
        Section {
            reader: self.reader,
            path,
            schema,
            origin,
            overridable,
            is_broken,
            entries,
            given: BTreeMap::new(),
        }
    }

    /// Returns the directory that relative paths of the file are resolved against.
    pub(crate) fn base(&self) -> &Path {
        self.reader.base()
    }

    /// Adds a fault of `key` at the place where it was given, or otherwise at the place of its section.
    pub(crate) fn fault(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        let fault = ConfigFault::new(self.full(key), problem, remedy);
        self.reader.fault(fault.at(self.origin_of(key)));
    }

    /// Adds a warning about a setting that is allowed and probably not intended.
    pub(crate) fn warn(&self, key: &str, text: &str) {
        self.reader.warn(format!("{}: {text}", self.full(key)));
    }

    /// Returns the place where `key` was given, or otherwise the place of its section.
    pub(crate) fn origin_of(&self, key: &str) -> SettingOrigin {
        self.given.get(key).unwrap_or(&self.origin).clone()
    }

    /// Returns whether `key` was requested and is given, whether its value is valid or not.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Returns whether `key` is given, whether it was requested or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        let is_set = || {
            let text = self.reader.get(&variable_name(&self.full(key)));
            text.is_some_and(|text| !text.is_empty())
        };
        self.is_given(key)
            || self.entries.contains_key(key)
            || (self.overridable == EnvironmentOverride::ByEnvironment && is_set())
    }

    /// Returns whether `key` was requested and is not given.
    pub(crate) fn is_missing(&self, key: &str) -> bool {
        !self.is_broken && !self.is_given(key)
    }

    /// Returns the full path of the key for messages.
    pub(crate) fn full(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        let unknown = entries.into_iter().map(|(key, node)| UnknownKey {
            section: self.path.clone(),
            schema: self.schema.clone(),
            key,
            origin: node.origin,
        });
        self.reader.unknown.borrow_mut().extend(unknown);
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else if key.is_empty() {
        path.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
