//! Declares the settings of the configuration file. Each setting is declared once, in [`settings!`](settings): the struct's field,
//! its default, its range and its lines in `anteroom.example.toml` come from that declaration.

use std::{fmt::Write as _, ops::RangeInclusive};

/// Declares a section of the configuration file: a struct whose fields are settings.
///
/// ```text
/// settings! {
///     /// The section's documentation.
///     pub struct Machines {
///         /// The setting's documentation, which is also its comment in the example file.
///         memory_mib: u32 = 1_536, within 512..=65_536;
///         /// Without a range: not a number, or a number of any size.
///         accelerator: RequestedAccelerator = RequestedAccelerator::Auto;
///         /// The example file shows this value as a comment, instead of the default.
///         public_url: Option<String> = None, example "\"https://anteroom.example\"";
///         /// The example file shows these lines as a comment at the end of the section.
///         overrides: BTreeMap<String, SocketAddr> = BTreeMap::new(), lines "[overrides]\n\"a:1\" = \"127.0.0.1:2\"";
///     }
///     sections {
///         /// A table below this one.
///         limits: Limits;
///     }
/// }
/// ```
///
/// It yields the struct with these public fields, `Default`, `Serialize`, `Deserialize` (a missing key has its default) and
/// [`Section`].
macro_rules! settings {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident {
            $(
                $(#[doc = $key_doc:literal])+
                $key:ident: $Type:ty = $default:expr
                    $(, within $range:expr)? $(, example $example:literal)? $(, lines $lines:literal)?;
            )*
        }
        $(sections { $( $(#[doc = $section_doc:literal])+ $section:ident: $Section:ty; )+ })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $Name {
            $( $(#[doc = $key_doc])+ pub $key: $Type, )*
            $( $( $(#[doc = $section_doc])+ pub $section: $Section, )+ )?
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $( $key: $default, )* $( $( $section: <$Section>::default(), )+ )? }
            }
        }

        impl $crate::settings::Section for $Name {
            fn settings(&self) -> Vec<$crate::settings::Setting> {
                vec![$(
                    $crate::settings::Setting::new(stringify!($key), &[$($key_doc),+], &self.$key)
                        $(.with_range($range))? $(.with_example($example))? $(.with_example_lines($lines))?
                ),*]
            }

            fn sections(&self) -> Vec<$crate::settings::Subsection<'_>> {
                vec![$( $( $crate::settings::Subsection {
                    key: stringify!($section),
                    doc: &[$($section_doc),+],
                    section: &self.$section,
                } ),+ )?]
            }
        }
    };
}
pub(crate) use settings;

/// A section of the configuration file; implemented by [`settings!`](settings).
pub(crate) trait Section {
    /// The settings in this section, in the order of the example file.
    fn settings(&self) -> Vec<Setting>;

    /// The sections below this one.
    fn sections(&self) -> Vec<Subsection<'_>>;
}

/// One setting and its current value.
pub(crate) struct Setting {
    name: &'static str,
    doc: &'static [&'static str],
    /// `None`: an optional setting that is not set.
    value: Option<toml::Value>,
    range: Option<RangeInclusive<i64>>,
    example: Option<&'static str>,
    lines: Option<&'static str>,
}

/// A section below another.
pub(crate) struct Subsection<'a> {
    /// Its key.
    pub key: &'static str,
    /// Its documentation, line by line.
    pub doc: &'static [&'static str],
    /// Its content.
    pub section: &'a dyn Section,
}

impl Setting {
    /// A setting without a range; the example file shows this value.
    pub(crate) fn new(name: &'static str, doc: &'static [&'static str], value: &impl serde::Serialize) -> Self {
        Self { name, doc, value: toml::Value::try_from(value).ok(), range: None, example: None, lines: None }
    }

    /// Its key in its section.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its value; `None`: it is not set.
    pub(crate) fn value(&self) -> Option<&toml::Value> {
        self.value.as_ref()
    }

    /// Limits a number to a range.
    pub(crate) fn with_range(self, range: RangeInclusive<i64>) -> Self {
        Self { range: Some(range), ..self }
    }

    /// Shows this TOML value in the example file instead of the current one.
    pub(crate) fn with_example(self, value: &'static str) -> Self {
        Self { example: Some(value), ..self }
    }

    /// Shows these lines, as comments, in the example file instead of the current value.
    pub(crate) fn with_example_lines(self, lines: &'static str) -> Self {
        Self { lines: Some(lines), ..self }
    }

    /// The setting's lines in the example file.
    fn write_example(&self, out: &mut String) {
        write_comment(out, self.doc);
        if let Some(range) = &self.range {
            let _ = write!(out, " Range: {} to {}.", range.start(), range.end());
        }
        out.push('\n');
        let value = || self.value.as_ref().map(ToString::to_string).unwrap_or_default();
        // A list that is empty by default has nothing to show either.
        let default = self.value.as_ref().filter(|value| value.as_array().is_none_or(|list| !list.is_empty()));
        let _ = match (self.lines, self.example, default) {
            (Some(lines), _, _) => lines.lines().try_for_each(|line| writeln!(out, "# {line}")),
            (None, Some(example), _) => writeln!(out, "# {} = {example}", self.name),
            (None, None, _) => writeln!(out, "{} = {}", self.name, value()),
        };
    }
}

/// Writes lines of documentation as comments, without the last line's end.
fn write_comment(out: &mut String, doc: &[&str]) {
    out.push('#');
    out.push_str(&doc.join("\n#"));
}

/// One sentence for each number that is outside its range. `prefix` is the section's full name with a dot.
pub(crate) fn validate_ranges(section: &dyn Section, prefix: &str) -> Vec<String> {
    let number =
        |setting: &Setting| setting.value.as_ref().and_then(toml::Value::as_integer).zip(setting.range.clone());
    let out_of_range = section.settings().into_iter().filter_map(|setting| {
        let (value, range) = number(&setting).filter(|(value, range)| !range.contains(value))?;
        Some(format!("{prefix}{} is {value}; it must be {} to {}", setting.name, range.start(), range.end()))
    });
    let below = section
        .sections()
        .into_iter()
        .flat_map(|below| validate_ranges(below.section, &format!("{prefix}{}.", below.key)));
    out_of_range.chain(below).collect()
}

/// Writes the settings of a section and the sections below it as an example file. `prefix` is the section's full name with a dot.
pub(crate) fn write_example(section: &dyn Section, prefix: &str, out: &mut String) {
    let (lines, values): (Vec<_>, Vec<_>) = section.settings().into_iter().partition(|setting| setting.lines.is_some());
    for setting in values {
        setting.write_example(out);
    }
    for below in section.sections() {
        // A section of which the example file shows only comments needs no header.
        if below.section.settings().iter().any(|setting| setting.lines.is_none()) {
            out.push('\n');
            write_comment(out, below.doc);
            let _ = writeln!(out, "\n[{prefix}{}]", below.key);
        }
        write_example(below.section, &format!("{prefix}{}.", below.key), out);
    }
    for setting in lines {
        out.push('\n');
        setting.write_example(out);
    }
}

/// The full names of the settings for which the example file shows another value, and these values.
#[cfg(test)]
pub(crate) fn list_examples(section: &dyn Section, prefix: &str) -> Vec<(String, &'static str)> {
    let here = section.settings().into_iter();
    let here = here.filter_map(|setting| Some((format!("{prefix}{}", setting.name), setting.example?)));
    let below = section.sections().into_iter();
    here.chain(below.flat_map(|below| list_examples(below.section, &format!("{prefix}{}.", below.key)))).collect()
}
