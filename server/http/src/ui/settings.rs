//! People, tokens, environments.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde_json::Value;
use switchback_app::tokens::TokenDraft;
use switchback_app::users::{UserChange, UserDraft};
use switchback_app::{AppError, EVERYWHERE, role_name};
use switchback_store::{NewEnvironment, Role, TokenKind, TokenRow, UserRow};

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit, go};
use super::words::{self, Words, word};
use super::{Answer, UiError, ok, unprocessable};

const ROLES: [(&str, &str); 4] =
    [("viewer", "Viewer"), ("editor", "Editor"), ("operator", "Operator"), ("admin", "Admin")];

struct Person {
    id: String,
    email: String,
    name: String,
    roles: Vec<(String, String)>,
    disabled: bool,
    created_at: i64,
    is_self: bool,
}

struct Token {
    id: String,
    name: String,
    kind: String,
    scope: String,
    role: String,
    hint: String,
    created_at: i64,
    created_by: String,
    last_used_at: Option<i64>,
    /// Clients that came with it and are connected now.
    connected: String,
    revoked: bool,
}

struct Place {
    key: String,
    name: String,
    kind: String,
    protected: bool,
    revision: u64,
    clients: String,
}

#[derive(Template)]
#[template(path = "pages/people.html")]
struct PeoplePage {
    frame: Frame,
    sentence: Words,
    people: Vec<Person>,
    places: Vec<String>,
    form: Fields,
    faults: Faults,
    show_form: bool,
}

#[derive(Template)]
#[template(path = "pages/tokens.html")]
struct TokensPage {
    frame: Frame,
    sentence: Words,
    tokens: Vec<Token>,
    places: Vec<String>,
    projects: Vec<String>,
    form: Fields,
    faults: Faults,
    /// The text of a token made just now: shown this once.
    made: Option<String>,
    /// The one that is about to be revoked: id, name, and who is connected with it.
    revoke: Option<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "pages/environments.html")]
struct EnvironmentsPage {
    frame: Frame,
    sentence: Words,
    places: Vec<Place>,
    form: Fields,
    faults: Faults,
}

impl PeoplePage {
    fn roles(&self) -> &'static [(&'static str, &'static str)] {
        &ROLES
    }
}

impl Person {
    fn role_in(&self, place: &str) -> &str {
        self.roles.iter().find(|(key, _)| key == place).map_or("", |(_, role)| role)
    }
}

impl TokensPage {
    fn roles(&self) -> &'static [(&'static str, &'static str)] {
        &ROLES
    }
}

/// `GET /ui/settings`.
pub async fn home(_visit: Visit) -> Answer {
    Ok(go("/ui/settings/people"))
}

/// `GET /ui/settings/people`.
pub async fn people(visit: Visit, query: Fields) -> Answer {
    ok(&people_page(&visit, query, Faults::default()).await?)
}

async fn people_page(visit: &Visit, form: Fields, faults: Faults) -> Result<PeoplePage, UiError> {
    let frame = visit.frame_anywhere("settings", "People").await?;
    let users = visit.list_users(&visit.who).await?;
    let able = users.iter().filter(|user| user.disabled_at.is_none()).count() as u64;
    let admins =
        users.iter().filter(|user| user.roles.get(EVERYWHERE) == Some(&Role::Admin)).count() as u64;
    let people_word = if able == 1 { "1 person".to_owned() } else { format!("{able} people") };
    let sentence = Words::default().strong(&people_word).and(&format!(
        " may sign in; {} the place.",
        if admins == 1 {
            "1 administrator runs".to_owned()
        } else {
            format!("{admins} administrators run")
        }
    ));
    let person = |user: UserRow| Person {
        is_self: visit.who.user_id.as_deref() == Some(&user.id),
        roles: user
            .roles
            .iter()
            .map(|(key, role)| (key.clone(), role_name(*role).to_owned()))
            .collect(),
        disabled: user.disabled_at.is_some(),
        id: user.id,
        email: user.email,
        name: user.name,
        created_at: user.created_at,
    };
    Ok(PeoplePage {
        sentence,
        people: users.into_iter().map(person).collect(),
        places: places(visit),
        show_form: !faults.none() || form.is("new"),
        form,
        faults,
        frame,
    })
}

/// `*`, then every environment.
fn places(visit: &Visit) -> Vec<String> {
    let known = visit.known_environments().into_iter().map(|environment| environment.key);
    std::iter::once(EVERYWHERE.to_owned()).chain(known).collect()
}

fn roles_of(form: &Fields) -> Result<BTreeMap<String, Role>, AppError> {
    let mut roles = BTreeMap::new();
    for (place, role) in form.under("roles.").into_iter().filter(|(_, role)| !role.is_empty()) {
        let role = serde_json::from_value(Value::String(role));
        roles.insert(place, role.map_err(|error| AppError::invalid("roles", error.to_string()))?);
    }
    Ok(roles)
}

/// `POST /ui/settings/people`.
pub async fn add_person(visit: Visit, form: Fields) -> Answer {
    let made = match roles_of(&form) {
        Ok(roles) => {
            let draft = UserDraft {
                email: form.text("email").to_owned(),
                name: form.text("name").to_owned(),
                password: form.all("password").into_iter().next().unwrap_or_default(),
                roles,
            };
            visit.create_user(&visit.who, draft).await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(user) => Ok(Visit::done(
            "/ui/settings/people",
            &Toast::say(format!("{} may sign in.", user.email)),
        )),
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&people_page(&visit, form, faults).await?)
        }
    }
}

/// `POST /ui/settings/people/{user}`: roles, or `disabled`.
pub async fn change_person(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let change = match form.text("do") {
        "disable" => UserChange { disabled: Some(true), ..UserChange::default() },
        "enable" => UserChange { disabled: Some(false), ..UserChange::default() },
        _ => UserChange { roles: Some(roles_of(&form)?), ..UserChange::default() },
    };
    let user = visit.update_user(&visit.who, &path, change).await?;
    let text = match form.text("do") {
        "disable" => format!("{} is locked out, and signed out everywhere.", user.email),
        "enable" => format!("{} may sign in again.", user.email),
        _ => format!("Roles of {} changed.", user.email),
    };
    Ok(Visit::done("/ui/settings/people", &Toast::say(text)))
}

/// `GET /ui/settings/tokens`.
pub async fn tokens(visit: Visit, query: Fields) -> Answer {
    ok(&tokens_page(&visit, query, Faults::default(), None).await?)
}

async fn tokens_page(
    visit: &Visit,
    form: Fields,
    faults: Faults,
    made: Option<String>,
) -> Result<TokensPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Tokens").await?;
    let rows = visit.list_tokens(&visit.who).await?;
    let open = visit.hub.token_use();
    let live = rows.iter().filter(|token| token.revoked_at.is_none());
    let (count, unused) = live.fold((0, 0), |(count, unused), token| {
        let is_unused = token.last_used_at.is_none() && !open.contains_key(&token.id);
        (count + 1, unused + u64::from(is_unused))
    });
    let mut sentence = Words::default().strong(&words::count(count, "token")).and(" can be used");
    sentence = sentence.and(&match unused {
        0 => ".".to_owned(),
        some => format!("; {} never used.", words::count(some, "was").replace("wass", "were")),
    });
    let wanted = form.text("revoke");
    let revoke = rows.iter().find(|token| token.id == wanted && token.revoked_at.is_none());
    let connected = |id: &str| match open.get(id) {
        Some(count) => words::count(*count, "client"),
        None => String::new(),
    };
    let revoke = revoke.map(|token| (token.id.clone(), token.name.clone(), connected(&token.id)));
    let token = |row: TokenRow| Token {
        kind: words::title(&word(&row.kind)),
        scope: format!("{}:{}", row.project, row.environment),
        role: if row.kind == TokenKind::Api {
            role_name(row.role).to_owned()
        } else {
            String::new()
        },
        revoked: row.revoked_at.is_some(),
        connected: connected(&row.id),
        id: row.id,
        name: row.name,
        hint: row.hint,
        created_at: row.created_at,
        created_by: row.created_by,
        last_used_at: row.last_used_at,
    };
    let projects = visit.list_projects(&visit.who).await?;
    let mut tokens: Vec<Token> = rows.into_iter().map(token).collect();
    tokens.sort_by_key(|token| (token.revoked, std::cmp::Reverse(token.created_at)));
    Ok(TokensPage {
        sentence,
        tokens,
        places: places(visit),
        projects: std::iter::once(EVERYWHERE.to_owned())
            .chain(projects.into_iter().map(|p| p.key))
            .collect(),
        form,
        faults,
        made,
        revoke,
        frame,
    })
}

/// `POST /ui/settings/tokens`: the answer shows the token's text, this once.
pub async fn make_token(visit: Visit, form: Fields) -> Answer {
    let draft = || -> Result<TokenDraft, AppError> {
        let parse = |field: &str| Value::String(form.text(field).to_owned());
        let wrong = |field: &'static str| {
            move |error: serde_json::Error| AppError::invalid(field, error.to_string())
        };
        Ok(TokenDraft {
            name: form.text("name").to_owned(),
            kind: serde_json::from_value(parse("kind")).map_err(wrong("kind"))?,
            project: form.text("project").to_owned(),
            environment: form.text("environment").to_owned(),
            role: serde_json::from_value(parse("role")).map_err(wrong("role"))?,
        })
    };
    let made = match draft() {
        Ok(draft) => visit.create_token(&visit.who, draft).await,
        Err(error) => Err(error),
    };
    match made {
        Ok((_, text)) => {
            ok(&tokens_page(&visit, Fields::default(), Faults::default(), Some(text)).await?)
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&tokens_page(&visit, form, faults, None).await?)
        }
    }
}

/// `POST /ui/settings/tokens/{token}/revoke`.
pub async fn revoke_token(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let token = visit.revoke_token(&visit.who, &path, form.text("reason")).await?;
    let text = format!("{} is revoked; its connections are closed.", token.name);
    Ok(Visit::done("/ui/settings/tokens", &Toast::say(text)))
}

/// `GET /ui/settings/environments`.
pub async fn environments(visit: Visit) -> Answer {
    ok(&environments_page(&visit, Fields::default(), Faults::default()).await?)
}

async fn environments_page(
    visit: &Visit,
    form: Fields,
    faults: Faults,
) -> Result<EnvironmentsPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Environments").await?;
    let all = visit.list_environments(&visit.who).await?;
    let names: Vec<String> =
        all.iter().filter(|one| one.protected).map(|one| one.name.clone()).collect();
    let sentence = Words::default().strong(&words::count(all.len() as u64, "environment"));
    let sentence = match names.as_slice() {
        [] => sentence.and("; none asks for a reason before a change."),
        [one] => sentence.and(&format!("; {one} is protected: each change there needs a reason.")),
        some => sentence.and(&format!(
            "; {} are protected: each change there needs a reason.",
            words::list(some, "and")
        )),
    };
    let place = |environment: switchback_store::Environment| Place {
        clients: words::number(visit.hub.convergence(&environment.key, None).connected),
        key: environment.key,
        name: environment.name,
        kind: environment.kind,
        protected: environment.protected,
        revision: environment.revision,
    };
    let places = all.into_iter().map(place).collect();
    Ok(EnvironmentsPage { frame, sentence, places, form, faults })
}

/// `POST /ui/settings/environments`.
pub async fn make_environment(visit: Visit, form: Fields) -> Answer {
    let new = NewEnvironment {
        key: form.text("key").to_owned(),
        name: form.some("name").unwrap_or_else(|| words::title(form.text("key"))),
        kind: form.text("kind").to_owned(),
        protected: form.is("protected"),
        position: visit.known_environments().len() as i64,
    };
    match visit.create_environment(&visit.who, new).await {
        Ok(made) => {
            let text = format!("{} made; every boolean flag is off in it.", made.name);
            Ok(Visit::done("/ui/settings/environments", &Toast::say(text)))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&environments_page(&visit, form, faults).await?)
        }
    }
}

/// `POST /ui/settings/environments/{key}/protection`.
pub async fn protect(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let protected = form.is("protected");
    let environment = visit.protect_environment(&visit.who, &path, protected).await?;
    let text = if protected {
        format!("{} is protected: each change needs a reason.", environment.name)
    } else {
        format!("{} is no longer protected.", environment.name)
    };
    let undo = if protected { "false" } else { "true" };
    let toast = Toast::say(text)
        .undo(format!("/ui/settings/environments/{path}/protection"), &[("protected", undo)]);
    Ok(Visit::done("/ui/settings/environments", &toast))
}
