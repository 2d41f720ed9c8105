//! Words in the database: one table for each closed list, from which come the Rust type, its text and its reading back.
//!
//! The same words stand in the migrations' `CHECK`s; a test holds the two together and stores every word once.

/// Makes an enum whose every variant has one word in the database.
macro_rules! text_enum {
    ($(#[$doc:meta])* $visibility:vis enum $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $word:literal, )+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $name { $( $(#[$variant_doc])* $variant, )+ }

        impl $name {
            /// All of them, in the order of the database's `CHECK`.
            $visibility const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// The word in the database.
            $visibility fn as_str(self) -> &'static str { match self { $( Self::$variant => $word, )+ } }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text_enum::UnknownVariant;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.iter().copied().find(|word| word.as_str() == text);
                known.ok_or_else(|| $crate::text_enum::UnknownVariant(text.chars().take(40).collect()))
            }
        }
    };
}

pub(crate) use text_enum;

/// A text that is not in its list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a word known here")]
pub struct UnknownVariant(pub(crate) String);
