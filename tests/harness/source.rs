//! Line numbers of the workloads' sources, found by their marks: a test that names `# span: list` survives edits of
//! the file above it.

use crate::place;
use anyhow::{Context, Result};

/// Where something happens in a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// End of the file's path: `catalogue/pages.py`.
    pub file: String,
    pub line: u32,
}

/// The line of `file` (below `tests/workloads/shop`) that ends with `# mark`.
///
/// # Errors
/// When no line does.
pub fn site(file: &str, mark: &str) -> Result<Site> {
    below("shop", file, mark)
}

/// As [`site`], of a file directly below `tests/workloads`.
///
/// # Errors
/// When no line does.
pub fn site_in(file: &str, mark: &str) -> Result<Site> {
    below("", file, mark)
}

fn below(folder: &str, file: &str, mark: &str) -> Result<Site> {
    let path = place::workloads().join(folder).join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("could not read `{}`", path.display()))?;
    let wanted = format!("# {mark}");
    let line = (1..).zip(text.lines()).find(|(_, line)| line.ends_with(&wanted)).map(|(number, _)| number);
    let line = line.with_context(|| format!("no line of `{file}` ends with `{wanted}`"))?;
    Ok(Site { file: file.to_owned(), line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found() {
        let (list, category) = (
            site("catalogue/pages.py", "span: list").unwrap(),
            site("catalogue/pages.py", "span: category").unwrap(),
        );
        assert!(list.line < category.line);
        assert!(site("catalogue/pages.py", "span: nowhere").is_err());
    }
}
