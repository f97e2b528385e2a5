//! A form's fields, in the order in which they came; names such as `rules.0.percent` nest.

use std::future::{Future, ready};
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web::Bytes};
use switchback_app::{AppError, Wrong};

use super::error::UiError;

/// A posted form, or a query.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=b&c=d`.
    pub fn parse(bytes: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// A field's text without surrounding space; empty when it was not sent.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim())
    }

    /// A field's text, if there is any.
    pub fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// All values of a field: checkboxes with one name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a checkbox was ticked.
    pub fn is(&self, name: &str) -> bool {
        matches!(self.text(name), "on" | "true" | "1" | "yes")
    }

    /// Values separated by commas or lines.
    pub fn list(&self, name: &str) -> Vec<String> {
        split(self.text(name))
    }

    /// The indexes in `prefix.<index>.…`, in the order in which they came.
    pub fn indexes(&self, prefix: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (key, _) in &self.0 {
            let rest = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
            let Some((index, _)) = rest.and_then(|rest| rest.split_once('.')) else { continue };
            if !found.iter().any(|known| known == index) {
                found.push(index.to_owned());
            }
        }
        found
    }

    /// A number, or the error that names the field.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, AppError> {
        let text = self.text(name);
        text.parse().map_err(|_| AppError::invalid(name, format!("`{text}` is not a whole number")))
    }

    /// Fields whose names begin so, with the rest of their names.
    pub fn under(&self, prefix: &str) -> Vec<(String, String)> {
        self.0
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect()
    }
}

/// Parts between commas and line ends, without space, without empty ones.
pub fn split(text: &str) -> Vec<String> {
    text.split([',', '\n'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

impl FromRequest for Fields {
    type Error = UiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, UiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if request.method().is_safe() {
            return Box::pin(ready(Ok(Self::parse(request.query_string().as_bytes()))));
        }
        let body = Bytes::from_request(request, payload);
        Box::pin(async move {
            let wrong = |error: actix_web::Error| AppError::invalid("", error.to_string());
            Ok(Self::parse(&body.await.map_err(wrong)?))
        })
    }
}

/// What is wrong with a form, to be shown beside its fields.
#[derive(Clone, Debug, Default)]
pub struct Faults(pub Vec<Wrong>);

impl Faults {
    /// An error that a form can show; others become a page of their own.
    pub fn of(error: AppError) -> Result<Self, UiError> {
        match error {
            AppError::Invalid(wrong) => Ok(Self(wrong)),
            AppError::Exists { .. }
            | AppError::Refused(_)
            | AppError::TooMany { .. }
            | AppError::NotFound { .. } => {
                Ok(Self(vec![Wrong { field: String::new(), message: error.to_string() }]))
            }
            error => Err(error.into()),
        }
    }

    /// Nothing is wrong.
    pub fn none(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with one field; empty when nothing.
    pub fn on(&self, field: &str) -> String {
        let of = self.0.iter().filter(|wrong| wrong.field == field);
        of.map(|wrong| super::error::sentence(&wrong.message)).collect::<Vec<_>>().join(" ")
    }

    /// What is wrong, but with none of these fields: for the top of the form.
    pub fn beside(&self, shown: &[&str]) -> Vec<String> {
        let rest = self.0.iter().filter(|wrong| !shown.contains(&wrong.field.as_str()));
        rest.map(|wrong| match wrong.field.as_str() {
            "" => super::error::sentence(&wrong.message),
            field => super::error::sentence(&format!("{field}: {}", wrong.message)),
        })
        .collect()
    }
}
