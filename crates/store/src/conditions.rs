//! The `WHERE` clause of a list: only the conditions of filters that are set are in the text, so that the database can use an index.

use crate::row_reader::to_sql_integer;
use sqlx::{Any, any::AnyArguments, query::Query};

/// The value of a parameter.
#[derive(Debug, Clone)]
pub(crate) enum Parameter {
    Text(String),
    Integer(i64),
}

impl From<&str> for Parameter {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Parameter {
    fn from(number: u64) -> Self {
        Self::Integer(to_sql_integer(number))
    }
}

/// Conditions that are all required, with the values of their parameters.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    text: String,
    parameters: Vec<Parameter>,
}

impl Conditions {
    /// Adds a condition without a parameter.
    pub(crate) fn require(&mut self, condition: &'static str) -> &mut Self {
        self.text.push_str(if self.text.is_empty() { "WHERE " } else { " AND " });
        self.text.push_str(condition);
        self
    }

    /// Adds a condition in which `$n` is the value; without a value nothing is required.
    pub(crate) fn require_if(&mut self, condition: &'static str, value: Option<impl Into<Parameter>>) -> &mut Self {
        let Some(value) = value else { return self };
        self.parameters.push(value.into());
        let number = format!("${}", self.parameters.len());
        self.text.push_str(if self.text.is_empty() { "WHERE " } else { " AND " });
        self.text.push_str(&condition.replace("$n", &number));
        self
    }

    /// The clause: empty, or `WHERE …`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Binds the parameters, in their order.
    pub(crate) fn bind<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        self.parameters.iter().fold(query, |query, parameter| match parameter {
            Parameter::Text(text) => query.bind(text.clone()),
            Parameter::Integer(number) => query.bind(*number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_filters_that_are_set_are_in_the_text() {
        let mut conditions = Conditions::default();
        assert_eq!(conditions.text(), "");
        conditions.require_if("a = $n", None::<&str>).require_if("b IN ($n, LOWER($n))", Some("x"));
        conditions.require("c IS NULL").require_if("d < $n", Some(7));
        assert_eq!(conditions.text(), "WHERE b IN ($1, LOWER($1)) AND c IS NULL AND d < $2");
    }
}
