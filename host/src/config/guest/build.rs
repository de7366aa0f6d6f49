//! `[guest.NAME.build]`: how a guest is made from its sources, for `cloakroom dev` and `cloakroom test`. A host that only
//! serves makes nothing of it.

use std::path::PathBuf;

use crate::config::kinds::{Complaint, Field, path, text, texts};
use crate::config::reader::Section;

/// How a guest is made from its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSettings {
    /// The folder of the configuration: where all commands run.
    pub folder: PathBuf,
    /// What fetches the tools, before the first build.
    pub setup: Option<String>,
    /// What `setup` leaves behind: while it is there, `setup` has been done. None: it is done at each start.
    pub creates: Option<PathBuf>,
    /// What makes the component.
    pub command: String,
    /// The files and folders whose change asks for another build.
    pub watch: Vec<PathBuf>,
    /// What runs the guest's tests.
    pub test: Option<String>,
}

impl BuildSettings {
    /// The setup that is still to be done before a build. Looks at the file system.
    pub fn setup_due(&self) -> Option<&str> {
        let is_done = self.creates.as_ref().is_some_and(|path| path.exists());
        self.setup.as_deref().filter(|_| !is_done)
    }
}

/// Reads `[guest.NAME.build]`; `None` where it is not there.
pub(super) fn read(mut section: Section<'_>) -> Option<BuildSettings> {
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
            "missing: nothing would make the component",
            "write command = \"npm run build\", or whatever makes the guest's file",
        );
    }
    if creates.is_some() && section.is_missing("setup") {
        section.fault(
            "setup",
            "missing: `creates` says when it was done",
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

fn paths(field: &Field<'_>) -> Result<Vec<PathBuf>, Complaint> {
    let texts = texts(field)?;
    let base = field.reader.base();
    Ok(texts.iter().map(|text| base.join(text)).collect())
}
