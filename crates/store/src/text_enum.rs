//! Enums that are stored as text: one table generates the Rust type, its text and its parser.
//!
//! The same texts are in the `CHECK`s of the migrations; tests compare the two and store every value once.

/// Defines an enum in which every variant has one text in the database.
macro_rules! text_enum {
    ($(#[$doc:meta])* $visibility:vis enum $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $text:literal, )+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $name { $( $(#[$variant_doc])* $variant, )+ }

        impl $name {
            /// All variants, in the order of the database's `CHECK`.
            $visibility const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// The text in the database.
            $visibility fn as_str(self) -> &'static str { match self { $( Self::$variant => $text, )+ } }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text_enum::UnknownVariant;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.iter().copied().find(|value| value.as_str() == text);
                known.ok_or_else(|| $crate::text_enum::UnknownVariant(text.chars().take(40).collect()))
            }
        }
    };
}

pub(crate) use text_enum;

/// A text that is not one of the enum's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown value {0:?}")]
pub struct UnknownVariant(pub(crate) String);
