//! Refuses query parameters that an operation does not have: a filter with a typing error must not be ignored.

use super::{error_response::ErrorResponse, routes::as_get};
use anteroom_controller::api_error::ApiError;
use anteroom_wire::Problem;
use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// The longest name of a parameter that an error quotes, characters.
const NAME_CHARS_MAX: usize = 40;

/// The query parameters of each operation, by its method and the pattern of its path.
#[derive(Debug, Clone)]
pub(super) struct KnownQueries(Arc<HashMap<(String, String), Vec<Parameter>>>);

/// A query parameter.
#[derive(Debug)]
struct Parameter {
    name: String,
    /// The largest number that it may be; `None`: it is no number.
    max: Option<u64>,
}

impl Parameter {
    /// The parameter of the document, if it is one of the query.
    fn of(parameter: &Value) -> Option<Self> {
        let name = parameter["name"].as_str().filter(|_| parameter["in"] == "query")?.to_owned();
        let schema = &parameter["schema"];
        let is_number = schema["type"] == "integer" || schema["type"][0] == "integer";
        let of_format = if schema["format"] == "int32" { i32::MAX as u64 } else { i64::MAX as u64 };
        Some(Self { name, max: is_number.then(|| schema["maximum"].as_u64().unwrap_or(of_format)) })
    }
}

impl KnownQueries {
    /// Those of the paths of the OpenAPI document.
    pub(super) fn of_paths(paths: &Value) -> Self {
        let mut known = HashMap::new();
        for (path, methods) in paths.as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                known.insert((method.to_uppercase(), path.clone()), parameters.filter_map(Parameter::of).collect());
            }
        }
        Self(Arc::new(known))
    }

    /// What is wrong with the query of a request.
    fn fault(&self, request: &Request) -> Option<String> {
        let query = request.uri().query().filter(|query| !query.is_empty())?;
        let pattern = request.extensions().get::<MatchedPath>()?.as_str();
        let method = as_get(request.method()).as_str();
        let known = self.0.get(&(method.to_owned(), pattern.to_owned()))?;
        query.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match known.iter().find(|parameter| parameter.name == name) {
                None => Some(unknown_parameter(name, known)),
                Some(Parameter { max: Some(max), .. }) if value.parse::<u64>().is_ok_and(|number| number > *max) => {
                    Some(format!("{name} is at most {max}"))
                }
                Some(_) => None,
            }
        })
    }
}

fn unknown_parameter(name: &str, known: &[Parameter]) -> String {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let known: Vec<_> = known.iter().map(|parameter| parameter.name.as_str()).collect();
    match known.as_slice() {
        [] => format!("unknown query parameter {name:?}: this operation has none"),
        known => format!("unknown query parameter {name:?}: there are {}", known.join(", ")),
    }
}

/// Answers 400 to a request with a parameter that its operation does not have, or with too large a number.
pub(super) async fn refuse_unknown_queries(known: KnownQueries, request: Request, next: Next) -> Response {
    match known.fault(&request) {
        Some(detail) => ErrorResponse(ApiError::new(Problem::Malformed, detail)).into_response(),
        None => next.run(request).await,
    }
}
