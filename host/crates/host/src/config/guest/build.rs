//! `[guest.NAME.build]`: how a guest is built from its sources, for `cloakroom dev` and `cloakroom test`. `cloakroom serve`
//! does not use it.

use std::path::PathBuf;

use crate::config_reader::Section;
use crate::config_reader::kinds::{Field, ValueError, path, text, texts};

/// How a guest is built from its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSettings {
    /// The directory of the configuration, in which all commands run.
    pub folder: PathBuf,
    /// The command that installs the tools, before the first build.
    pub setup: Option<String>,
    /// A path that `setup` creates. While it exists, `setup` is not run again. With `None`, `setup` runs at each start.
    pub creates: Option<PathBuf>,
    /// The command that builds the component.
    pub command: String,
    /// The files and directories whose changes trigger another build.
    pub watch: Vec<PathBuf>,
    /// The command that runs the guest's tests.
    pub test: Option<String>,
}

impl BuildSettings {
    /// Returns the setup command if it must run before a build. Accesses the file system.
    pub fn setup_due(&self) -> Option<&str> {
        let is_done = self.creates.as_ref().is_some_and(|path| path.exists());
        self.setup.as_deref().filter(|_| !is_done)
    }
}

/// Reads `[guest.NAME.build]`. Returns `None` if the section does not exist.
pub(crate) fn read(mut section: Section<'_>) -> Option<BuildSettings> {
    let setup = section.get("setup", text);
    let creates = section.get("creates", path);
    let command = section.get("command", text);
    let watch = section.get("watch", paths);
    let test = section.get("test", text);
    let is_there = ["setup", "creates", "command", "watch", "test"]
        .iter()
        .any(|key| section.is_given(key));
    if !is_there {
        return None;
    }
    if section.is_missing("command") {
        section.fault(
            "command",
            "missing: there is no command to build the component",
            "write command = \"npm run build\", or another command that builds the guest's file",
        );
    }
    if creates.is_some() && section.is_missing("setup") {
        section.fault(
            "setup",
            "missing: `creates` only has an effect with it",
            "write setup = \"npm install\", or leave out `creates`",
        );
    }
    Some(BuildSettings {
        folder: section.base().to_owned(),
        setup,
        creates,
        command: command.unwrap_or_default(),
        watch: watch.unwrap_or_default(),
        test,
    })
}

fn paths(field: &Field<'_>) -> Result<Vec<PathBuf>, ValueError> {
    let texts = texts(field)?;
    let base = field.reader.base();
    Ok(texts.iter().map(|text| base.join(text)).collect())
}
