//! The next steps, printed after a project was created.

use super::NewProject;
use super::tools::{RequiredTool, ToolState};

/// Returns the text, with a line break at the end.
pub(crate) fn next_steps(project: &NewProject, tools: &[RequiredTool]) -> String {
    let folder = project.folder.display();
    let language = project.language.title();
    let mut text = format!("Made {} ({language}) in {folder}. Next:\n\n", project.name);
    let steps = [
        (format!("cd {folder}"), ""),
        (
            "cloakroom dev".to_owned(),
            "serves it, builds it again when a source changes, shows requests and sessions",
        ),
        ("cloakroom test".to_owned(), "runs its tests"),
    ];
    text += &columns(&steps);
    text += "\nIt is built with:\n\n";
    let tools: Vec<_> = tools.iter().map(line).collect();
    text + &columns(&tools)
}

fn line(tool: &RequiredTool) -> (String, String) {
    let status = match &tool.state {
        ToolState::Here { version } if version.is_empty() => "is here".to_owned(),
        ToolState::Here { version } => format!("{version} is here"),
        ToolState::TooOld { version, least } => {
            format!("{version} IS TOO OLD, {least} is required: {}", tool.remedy)
        }
        ToolState::Missing => format!("IS MISSING: {}", tool.remedy),
    };
    (tool.name.to_owned(), status)
}

fn columns(rows: &[(String, impl AsRef<str>)]) -> String {
    let width = rows.iter().map(|(left, _)| left.chars().count()).max();
    let width = width.unwrap_or(0);
    let row = |(left, right): &(String, _)| {
        let line = format!("  {left:width$}   {}", AsRef::<str>::as_ref(right));
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Language;
    use super::*;

    #[test]
    fn a_missing_tool_is_listed_with_its_remedy() {
        let project = NewProject {
            name: "shop".parse().unwrap(),
            language: Language::Python,
            folder: "a/shop".into(),
        };
        let tool = |name, state| RequiredTool {
            name,
            state,
            remedy: "ask the shop",
        };
        let here = ToolState::Here {
            version: "3.11.2".to_owned(),
        };
        let old = ToolState::TooOld {
            version: "1.0".to_owned(),
            least: "2.0".to_owned(),
        };
        let tools = [
            tool("python3", here),
            tool("pip", ToolState::Missing),
            tool("uv", old),
        ];
        assert_eq!(
            next_steps(&project, &tools),
            "Made shop (Python) in a/shop. Next:

  cd a/shop
  cloakroom dev    serves it, builds it again when a source changes, shows requests and sessions
  cloakroom test   runs its tests

It is built with:

  python3   3.11.2 is here
  pip       IS MISSING: ask the shop
  uv        1.0 IS TOO OLD, 2.0 is required: ask the shop
"
        );
    }
}
