//! The files for new projects that `build.rs` has embedded in this binary.

include!(concat!(env!("OUT_DIR"), "/vendor.rs"));

/// Returns the paths relative to the root of our repository, sorted, and the contents.
pub(crate) fn files() -> &'static [(&'static str, &'static [u8])] {
    FILES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendored_files_include_the_interfaces_and_no_build_artifacts() {
        let paths: Vec<_> = files().iter().map(|(path, _)| *path).collect();
        assert!(paths.contains(&"wit/session.wit"), "{paths:?}");
        assert!(paths.is_sorted());
        let lies_about = |path: &&str| path.contains("/node_modules/") || path.contains("/target/");
        assert_eq!(paths.iter().find(|path| lies_about(path)), None);
    }
}
