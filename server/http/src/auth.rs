//! Who is asking: a console session's cookie, or a token in `Authorization`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpRequest, web};
use base64::Engine as _;
use switchback_app::{AppError, Who};
use switchback_store::{TokenKind, TokenRow};

use super::State;
use crate::problem::Problem;

/// The console's cookie. `__Host-` wants HTTPS, so a plain-HTTP server has a name of its own.
const COOKIE: &str = "switchback_session";

/// Someone whom the management API may serve.
pub struct Caller(pub Who);

/// A token of an SDK.
pub struct Sdk(pub TokenRow);

/// A token that may report auth events and sessions: an events token, or a server token.
pub struct Reporter(pub TokenRow);

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(caller(&request).await?)) })
    }
}

/// Says why, on any write: percent-encoded UTF-8. A reason in the body comes first.
const REASON_HEADER: &str = "switchback-reason";

/// Finds out who asks, and why.
pub async fn caller(request: &HttpRequest) -> Result<Who, AppError> {
    let mut who = identify(request).await?;
    let reason = request.headers().get(REASON_HEADER).and_then(|value| value.to_str().ok());
    if let Some(text) = reason {
        let pair = format!("r={}", text.replace('&', "%26").replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
        who.reason = decoded.map(|(_, reason)| reason.into_owned()).unwrap_or_default();
    }
    Ok(who)
}

async fn identify(request: &HttpRequest) -> Result<Who, AppError> {
    let app = state(request)?;
    if let Some(text) = bearer(request) {
        let token = app.authenticate(&text).await?;
        if token.kind != TokenKind::Api {
            let message = "this is an SDK token; the management API takes an API token";
            return Err(AppError::WrongToken(message));
        }
        return Ok(Who::from_token(&token));
    }
    let secret = session_of(request).ok_or(AppError::Unauthorized)?;
    if !request.method().is_safe() {
        refuse_cross_site(request)?;
    }
    app.who_has_session(&secret).await
}

impl FromRequest for Sdk {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let text = bearer(&request).or_else(|| subprotocol_token(&request));
            let token = state(&request)?.authenticate(&text.ok_or(AppError::Unauthorized)?).await?;
            if matches!(token.kind, TokenKind::Api | TokenKind::Events) {
                let message = "an SDK takes a server or browser token; this one is neither";
                return Err(AppError::WrongToken(message).into());
            }
            Ok(Self(token))
        })
    }
}

impl FromRequest for Reporter {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let text = bearer(&request).ok_or(AppError::Unauthorized)?;
            let token = state(&request)?.authenticate(&text).await?;
            if !matches!(token.kind, TokenKind::Events | TokenKind::Server) {
                let message = "auth events and sessions take an events token or a server token";
                return Err(AppError::WrongToken(message).into());
            }
            Ok(Self(token))
        })
    }
}

pub(super) fn state(request: &HttpRequest) -> Result<web::Data<State>, AppError> {
    request
        .app_data::<web::Data<State>>()
        .cloned()
        .ok_or_else(|| AppError::Internal("the application is not attached".into()))
}

fn bearer(request: &HttpRequest) -> Option<String> {
    let text = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(text.strip_prefix("Bearer ").unwrap_or(text).trim().to_owned())
}

/// Browsers cannot send headers with a WebSocket: the token comes as `token.<base64url>`.
fn subprotocol_token(request: &HttpRequest) -> Option<String> {
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let coded = offered.split(',').find_map(|part| part.trim().strip_prefix("token."))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(coded).ok()?;
    String::from_utf8(bytes).ok()
}

/// The session cookie's secret.
pub fn session_of(request: &HttpRequest) -> Option<String> {
    request.cookie(COOKIE).map(|cookie| cookie.value().to_owned())
}

/// A cookie that signs someone in; an empty secret signs them out.
pub fn session_cookie(secret: &str, is_https: bool) -> Cookie<'static> {
    let mut cookie = Cookie::build(COOKIE, secret.to_owned())
        .path("/")
        .http_only(true)
        .secure(is_https)
        .same_site(SameSite::Lax)
        .finish();
    if secret.is_empty() {
        cookie.set_max_age(Duration::ZERO);
    }
    cookie
}

/// The address that a request comes from. `X-Forwarded-For` is believed from trusted networks only: the
/// last address in it that is not itself a trusted proxy.
pub fn client_address(request: &HttpRequest, trusted: &[ipnet::IpNet]) -> String {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let Some(peer) = request.peer_addr().map(|peer| peer.ip()) else { return String::new() };
    if !is_trusted(&peer) {
        return peer.to_string();
    }
    let forwarded = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
    forwarded
        .into_iter()
        .flat_map(|list| list.rsplit(','))
        .filter_map(|text| text.trim().parse::<IpAddr>().ok())
        .find(|address| !is_trusted(address))
        .unwrap_or(peer)
        .to_string()
}

/// Refuses requests that another site makes a signed-in browser send.
pub fn refuse_cross_site(request: &HttpRequest) -> Result<(), AppError> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let same = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = request.connection_info().host().to_owned();
            origin.split("://").nth(1) == Some(host.as_str())
        }
        (None, None) => false,
    };
    if same {
        return Ok(());
    }
    Err(AppError::Refused(
        "this request comes from another site and was not carried out".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_forwarded_address_is_believed_from_trusted_networks_only() {
        let from = |peer: &str, forwarded: &'static str| {
            let request = TestRequest::default()
                .peer_addr(format!("{peer}:1").parse().unwrap())
                .insert_header(("x-forwarded-for", forwarded))
                .to_http_request();
            client_address(&request, &["10.0.0.0/8".parse().unwrap()])
        };

        assert_eq!(from("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(from("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2"), "198.51.100.7");
        assert_eq!(from("10.0.0.1", "nonsense"), "10.0.0.1");
    }
}
