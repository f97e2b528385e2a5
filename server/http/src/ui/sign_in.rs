//! Signing in and out, and the first administrator.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, http::header};
use askama::Template;
use switchback_app::users::UserDraft;
use switchback_app::{AppError, EVERYWHERE};
use switchback_store::Role;

use super::error::UiError;
use super::fields::{Faults, Fields};
use super::visit::{go, is_local, theme_of};
use super::{Answer, ok, unprocessable};
use crate::{State, auth};

#[derive(Template)]
#[template(path = "pages/sign_in.html")]
struct SignInPage<'a> {
    theme: &'a str,
    next: &'a str,
    email: &'a str,
    needs_setup: bool,
    faults: Faults,
}

#[derive(Template)]
#[template(path = "pages/setup.html")]
struct SetupPage<'a> {
    theme: &'a str,
    token: &'a str,
    email: &'a str,
    name: &'a str,
    refused: String,
    faults: Faults,
}

/// `GET /sign-in`.
pub async fn page(app: Data<State>, request: HttpRequest, query: Fields) -> Answer {
    let page = SignInPage {
        theme: theme_of(&request),
        next: query.text("next"),
        email: "",
        needs_setup: app.needs_setup().await.unwrap_or(false),
        faults: Faults::default(),
    };
    ok(&page)
}

/// `POST /sign-in`.
pub async fn sign_in(app: Data<State>, request: HttpRequest, form: Fields) -> Answer {
    auth::refuse_cross_site(&request)?;
    let (email, next) = (form.text("email"), form.text("next"));
    let address = auth::client_address(&request, &app.config.trusted_proxies);
    let signed_in = app.sign_in(email, &password(&form), &address, &agent(&request)).await;
    match signed_in {
        Ok(secret) => {
            let to = if is_local(next) { next } else { "/" };
            enter(&app, &secret, to)
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            let theme = theme_of(&request);
            unprocessable(&SignInPage { theme, next, email, needs_setup: false, faults })
        }
    }
}

/// `POST /sign-out`.
pub async fn sign_out(app: Data<State>, request: HttpRequest) -> Answer {
    auth::refuse_cross_site(&request)?;
    if let Some(secret) = auth::session_of(&request) {
        app.sign_out(&secret).await?;
    }
    enter(&app, "", "/sign-in")
}

/// `GET /setup?token=`.
pub async fn setup(app: Data<State>, request: HttpRequest, query: Fields) -> Answer {
    let token = query.text("token");
    let refused = match app.check_setup(token).await {
        Ok(()) => String::new(),
        Err(AppError::Refused(why)) => super::error::sentence(&why),
        Err(error) => return Err(error.into()),
    };
    let (theme, faults) = (theme_of(&request), Faults::default());
    ok(&SetupPage { theme, token, email: "", name: "", refused, faults })
}

/// `POST /setup`.
pub async fn set_up(app: Data<State>, request: HttpRequest, form: Fields) -> Answer {
    auth::refuse_cross_site(&request)?;
    let (token, email, name) = (form.text("token"), form.text("email"), form.text("name"));
    let draft = UserDraft {
        email: email.to_owned(),
        name: name.to_owned(),
        password: password(&form),
        roles: [(EVERYWHERE.to_owned(), Role::Admin)].into(),
    };
    match app.set_up(token, draft, &agent(&request)).await {
        Ok(secret) => enter(&app, &secret, "/"),
        Err(AppError::Refused(why)) => {
            let refused = super::error::sentence(&why);
            let (theme, faults) = (theme_of(&request), Faults::default());
            unprocessable(&SetupPage { theme, token, email, name, refused, faults })
        }
        Err(error) => {
            let (theme, refused, faults) = (theme_of(&request), String::new(), Faults::of(error)?);
            unprocessable(&SetupPage { theme, token, email, name, refused, faults })
        }
    }
}

/// A password keeps the spaces at its ends.
fn password(form: &Fields) -> String {
    form.all("password").into_iter().next().unwrap_or_default()
}

fn enter(app: &State, secret: &str, to: &str) -> Answer {
    let is_https = app.public_url.starts_with("https://");
    let mut answer: HttpResponse = go(to);
    answer
        .add_cookie(&auth::session_cookie(secret, is_https))
        .map_err(|error| UiError::from(AppError::Internal(error.to_string().into())))?;
    Ok(answer)
}

fn agent(request: &HttpRequest) -> String {
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.unwrap_or_default().to_owned()
}
