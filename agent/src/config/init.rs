//! The text of `pyapm config init`: every section and key with what it means and its default, all commented out, so that
//! what is not decided here follows the defaults of later versions.

use super::Config;
use super::section::Key;

const INTRODUCTION: &str = "\
# pyapm: which Python applications are watched, and what becomes of it.
#
# Every key is here with its default. A line is in force without its `#`.
# `pyapm config check` says what is wrong with this file; `systemctl reload pyapm` (SIGHUP) takes it over.
";

/// The whole file.
#[must_use]
pub fn init() -> String {
    let mut text = INTRODUCTION.to_owned();
    let defaults = toml::Value::try_from(Config::default()).ok();
    for (section, about, keys) in Config::SECTIONS {
        text.push('\n');
        sentences(&mut text, about);
        text.push_str(&format!("[{section}]\n"));
        for key in keys.iter().filter(|key| key.tables.is_none()) {
            sentences(&mut text, key.about);
            let default = defaults.as_ref().and_then(|all| all.get(section)?.get(key.name));
            one(&mut text, key, default);
        }
        for key in *keys {
            if let Some(inner) = key.tables {
                text.push('\n');
                sentences(&mut text, key.about);
                text.push_str(&format!("#[[{section}.{}]]\n", key.name));
                for key in inner {
                    sentences(&mut text, key.about);
                    one(&mut text, key, None);
                }
            }
        }
    }
    text
}

fn sentences(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("# {}\n", line.trim()));
    }
}

fn one(text: &mut String, key: &Key, default: Option<&toml::Value>) {
    match (key.example, default) {
        // Not set unless somebody sets it: this is how it would look.
        (Some(example), _) => text.push_str(&format!("#{} = {example}\n", key.name)),
        (None, Some(default)) => text.push_str(&format!("#{} = {default}\n", key.name)),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// Lines that hold a key or a table have no blank after the `#`.
    fn in_force(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '[') => {
                rest.to_owned()
            }
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn as_written_it_changes_nothing() {
        assert_eq!(parse(&init()).unwrap(), Config::default());
    }

    #[test]
    fn every_line_is_valid_and_says_the_default() {
        let config = parse(&in_force(&init())).unwrap_or_else(|problems| panic!("{problems:?}"));
        let ([include], [exclude]) = (&config.discovery.include[..], &config.discovery.exclude[..]) else {
            panic!("the example tables are missing")
        };
        assert_eq!(include, exclude);
        // But for what has an example, all is as by default.
        let plain = |config: Config| {
            let mut all = toml::Table::try_from(config).unwrap();
            for (section, _, keys) in Config::SECTIONS {
                let Some(toml::Value::Table(section)) = all.get_mut(*section) else { panic!("{section}") };
                for key in keys.iter().filter(|key| key.example.is_some() || key.tables.is_some()) {
                    section.remove(key.name);
                }
            }
            all
        };
        assert_eq!(plain(config), plain(Config::default()));
    }

    #[test]
    fn every_key_is_documented_and_shown() {
        let text = init();
        for (section, about, keys) in Config::SECTIONS {
            assert!(!about.is_empty(), "{section}");
            for key in *keys {
                assert!(!key.about.is_empty(), "{section}.{}", key.name);
                let shown = match key.tables {
                    Some(_) => format!("#[[{section}.{}]]\n", key.name),
                    None => format!("#{} = ", key.name),
                };
                assert!(text.contains(&shown), "{shown}");
            }
        }
    }
}
