//! How a section is written down: one definition gives the struct, its defaults, and the texts of `config init`.

/// One key of a section, as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
    /// What to show where there is no default to show.
    pub example: Option<&'static str>,
    /// Keys of the tables that it is a list of.
    pub tables: Option<&'static [Key]>,
}

/// What `config init` and the check for unknown keys go by.
pub trait Described {
    const ABOUT: &'static [&'static str];
    const KEYS: &'static [Key];
}

/// A value that the types allow and that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// From the section down: keys, and places in lists.
    pub path: Vec<String>,
    pub message: String,
}

impl Wrong {
    #[must_use]
    pub fn key(key: &str, message: impl Into<String>) -> Self {
        Self { path: vec![key.to_owned()], message: message.into() }
    }
}

/// Says what is wrong with values; by default nothing is.
pub trait Checked {
    fn check(&self) -> Vec<Wrong> {
        Vec::new()
    }
}

/// Defines a section. After each key come its type and its default; for one without a default that could be shown, an
/// example after `=>`; for a list of tables, the tables' type after `of`.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty = $default:expr $(=> $example:literal)? $(; of $table:ty)?,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $key: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }

        impl $crate::config::Described for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const KEYS: &'static [$crate::config::Key] = &[
                $( $crate::config::Key {
                    name: stringify!($key),
                    about: &[$($doc),*],
                    example: $crate::config::section::first(&[$($example)?]),
                    tables: $crate::config::section::first(
                        &[$(<$table as $crate::config::Described>::KEYS)?]
                    ),
                }, )*
            ];
        }
    };
}
pub(super) use section;

/// Of a list of none or one.
pub(super) const fn first<T: Copy>(list: &[T]) -> Option<T> {
    match list {
        [one, ..] => Some(*one),
        [] => None,
    }
}

/// Defines the whole file.
macro_rules! sections {
    ($($key:ident: $type:ident,)*) => {
        /// The whole file.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $( pub $key: $type, )*
        }

        impl Config {
            /// Every section: its name, what it is about, its keys.
            pub(crate) const SECTIONS: &'static [(&'static str, &'static [&'static str], &'static [Key])] =
                &[$( (stringify!($key), <$type as Described>::ABOUT, <$type as Described>::KEYS), )*];

            /// What is wrong with values, paths from the section down.
            pub(crate) fn wrong(&self) -> Vec<Wrong> {
                let mut wrong = Vec::new();
                $( wrong.extend(self.$key.check().into_iter().map(|mut one| {
                    one.path.insert(0, stringify!($key).to_owned());
                    one
                })); )*
                wrong
            }
        }
    };
}
pub(super) use sections;
