//! Which stacks a recording keeps: by patterns on the function or file of any of their frames.

use globset::{Glob, GlobSet, GlobSetBuilder};
use pyapm_model::line::Frame;

#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a pattern; `*`, `?`, `[a-z]` and `{{a,b}}` stand for what they do in a shell")]
pub struct BadPattern {
    pattern: String,
    #[source]
    source: globset::Error,
}

/// Patterns of stacks that are kept and of stacks that are not. `*` goes over `/` and `.` too.
#[derive(Clone, Debug)]
pub struct Selection {
    /// `None`: every stack.
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Selection {
    /// A stack is kept if `include` is empty or matches one of its frames, and `exclude` matches none.
    ///
    /// # Errors
    /// On a pattern that is none.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, BadPattern> {
        Ok(Self {
            include: if include.is_empty() { None } else { Some(set(include)?) },
            exclude: set(exclude)?,
        })
    }

    #[must_use]
    pub fn keeps(&self, frames: &[Frame]) -> bool {
        let any = |set: &GlobSet| {
            !set.is_empty()
                && frames.iter().any(|frame| set.is_match(&frame.function) || set.is_match(&frame.file))
        };
        self.include.as_ref().is_none_or(&any) && !any(&self.exclude)
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, BadPattern> {
    let mut set = GlobSetBuilder::new();
    let failed = |pattern: &str| {
        let pattern = pattern.to_owned();
        move |source| BadPattern { pattern, source }
    };
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(failed(pattern))?);
    }
    set.build().map_err(failed(&patterns.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(include: &[&str], exclude: &[&str]) -> bool {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let frame = |function: &str, file: &str| Frame {
            function: function.into(),
            file: file.into(),
            line: Some(1),
        };
        let frames = [frame("Shop.price", "/srv/shop/work.py"), frame("<module>", "/srv/shop/app.py")];
        Selection::new(&owned(include), &owned(exclude)).unwrap().keeps(&frames)
    }

    #[test]
    fn by_function_and_by_file() {
        assert!(keeps(&[], &[]));
        assert!(keeps(&["Shop.*"], &[]));
        assert!(keeps(&["*/work.py"], &[]));
        assert!(keeps(&["nothing", "<module>"], &[]));
        assert!(!keeps(&["price"], &[]));
        assert!(!keeps(&[], &["*/shop/*"]));
        assert!(!keeps(&["Shop.*"], &["<module>"]));
        assert!(keeps(&[], &["*/site-packages/*"]));
    }

    #[test]
    fn what_is_no_pattern() {
        let error = Selection::new(&[], &["[a".to_owned()]).unwrap_err();
        assert!(error.to_string().starts_with("`[a` is not a pattern"));
    }
}
