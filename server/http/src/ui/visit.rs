//! A request of someone who is signed in, and what goes back to them.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, FromRequest, HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use switchback_app::{App, AppError, Who};
use switchback_store::Role;

use super::error::UiError;
use super::frame::Frame;
use crate::{State, auth};

const TOAST: &str = "switchback_toast";
const ENVIRONMENT: &str = "switchback_environment";
/// Pages below `/ui` that belong to no environment.
const PLACELESS: [&str; 3] = ["settings", "checks", "repairs"];
/// The cookie that keeps light or dark.
pub const THEME: &str = "switchback_theme";

/// Someone who is signed in and asks for a page.
pub struct Visit {
    app: Data<State>,
    /// Who it is.
    pub who: Who,
    /// What they ask.
    pub request: HttpRequest,
}

impl Deref for Visit {
    type Target = Arc<App>;

    fn deref(&self) -> &Arc<App> {
        &self.app
    }
}

impl FromRequest for Visit {
    type Error = UiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, UiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            auth::refuse_cross_site(&request)?;
            let who = auth::caller(&request).await.map_err(|error| UiError::at(error, &request))?;
            let app = request.app_data::<Data<State>>().cloned();
            let app =
                app.ok_or_else(|| AppError::Internal("the application is not attached".into()))?;
            Ok(Self { app, who, request })
        })
    }
}

/// What a page says at its corner after something was done.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Toast {
    /// What was done.
    pub text: String,
    /// The form that takes it back, if there is one: where to, and its fields.
    pub undo: Option<(String, Vec<(String, String)>)>,
}

impl Toast {
    /// Something that has no undo.
    pub fn say(text: impl Into<String>) -> Self {
        Self { text: text.into(), undo: None }
    }

    /// With the way back.
    #[must_use]
    pub fn undo(mut self, action: String, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.undo = Some((action, fields.collect()));
        self
    }

    /// What the request's cookie says, if it is ours.
    pub fn read(request: &HttpRequest) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(request.cookie(TOAST)?.value()).ok()?;
        let mut toast: Self = serde_json::from_slice(&bytes).ok()?;
        toast.undo = toast.undo.filter(|(action, _)| action.starts_with("/ui/"));
        Some(toast)
    }
}

impl Visit {
    /// The frame of a page in an environment.
    pub async fn frame(
        &self,
        environment: &str,
        nav: &'static str,
        title: impl Into<String>,
    ) -> Result<Frame, UiError> {
        let all = self.app.list_environments(&self.who).await?;
        let own = self.app.get_environment(environment).await?;
        self.who.must(Role::Viewer, environment, "look")?;
        if let Err(error) = self.app.note_visit(&self.who, environment).await {
            tracing::debug!(error = %error, "a visit is not noted");
        }
        let mut frame = Frame::new(&self.app, &self.who, &own, all, nav, title.into());
        frame.theme = theme_of(&self.request);
        frame.automation_off = self.app.automation_off().await?.map(|off| off.reason);
        frame.toast = Toast::read(&self.request);
        frame.flag = flag_in(self.request.path());
        Ok(frame)
    }

    /// The frame of a page that belongs to no environment.
    pub async fn frame_anywhere(
        &self,
        nav: &'static str,
        title: impl Into<String>,
    ) -> Result<Frame, UiError> {
        let environment = self.environment().await?;
        self.frame(&environment, nav, title).await
    }

    /// The environment that they looked at last, else the first that they may look at.
    pub async fn environment(&self) -> Result<String, UiError> {
        let all = self.app.list_environments(&self.who).await?;
        let last = self.request.cookie(ENVIRONMENT).map(|cookie| cookie.value().to_owned());
        let known = last.filter(|key| all.iter().any(|environment| environment.key == *key));
        let first = || all.first().map(|environment| environment.key.clone());
        known.or_else(first).ok_or_else(|| {
            AppError::Refused(
                "you may not look at any environment; ask an administrator".to_owned(),
            )
            .into()
        })
    }

    /// Sends them on after something was done, and says so there.
    pub fn done(to: &str, toast: &Toast) -> HttpResponse {
        let text = serde_json::to_vec(toast).unwrap_or_default();
        let mut answer = go(to);
        let cookie = small_cookie(TOAST, &URL_SAFE_NO_PAD.encode(text), 30);
        let _ = answer.add_cookie(&cookie); // only fails on characters that base64 does not have
        answer
    }
}

/// 303 to another page.
pub fn go(to: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((header::LOCATION, to)).finish()
}

/// Light, dark, or what the system says.
pub fn theme_of(request: &HttpRequest) -> &'static str {
    match request.cookie(THEME).as_ref().map(Cookie::value) {
        Some("light") => "light",
        Some("dark") => "dark",
        _ => "auto",
    }
}

/// A cookie that only keeps what a page looks like.
pub fn small_cookie(name: &'static str, value: &str, seconds: i64) -> Cookie<'static> {
    Cookie::build(name, value.to_owned())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(Duration::seconds(seconds))
        .finish()
}

/// Whether the address of a page to go to leads nowhere else.
pub fn is_local(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n'])
}

/// The flag whose page an address is, as its own part of it.
fn flag_in(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip(3);
    let flag = parts.next().filter(|part| *part == "flags").and_then(|_| parts.next())?;
    Some(flag.to_owned()).filter(|flag| flag != "new")
}

/// Around every page: a toast is shown once, the environment looked at is remembered, and while the
/// database is away the flags are shown from memory.
pub async fn remember<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_page = request.method() == Method::GET
        && !["/ui/parts/", "/ui/events", "/ui/search"]
            .iter()
            .any(|p| request.path().starts_with(p));
    let had_toast = request.cookie(TOAST).is_some();
    let environment = request.path().split('/').nth(2).unwrap_or_default().to_owned();
    let last = request.cookie(ENVIRONMENT).map(|cookie| cookie.value().to_owned());
    let mut response = next.call(request).await?.map_into_boxed_body();
    if is_page
        && response.status() == StatusCode::SERVICE_UNAVAILABLE
        && let Some(outage) = super::outage::page(response.request()).await
    {
        let mut response = response.into_response(outage);
        let _ = response.response_mut().add_removal_cookie(&small_cookie(TOAST, "", 0));
        return Ok(response);
    }
    if !is_page || response.status() != StatusCode::OK {
        return Ok(response);
    }
    let head = response.response_mut();
    if had_toast {
        let _ = head.add_removal_cookie(&small_cookie(TOAST, "", 0));
    }
    if !PLACELESS.contains(&environment.as_str()) && last.as_deref() != Some(&environment) {
        let _ = head.add_cookie(&small_cookie(ENVIRONMENT, &environment, 31_536_000));
    }
    Ok(response)
}
