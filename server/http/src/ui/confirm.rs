//! What a playbook wants of whoever starts it in the console.

use switchback_app::AppError;
use switchback_playbook::format::Playbook;
use switchback_playbook::triggers::Confirm;

use super::visit::Visit;
use super::words;

/// The roles that start a playbook, when the reader has none of them.
pub fn others(visit: &Visit, playbook: &Playbook, environment: &str) -> String {
    let roles = &playbook.triggers.manual.roles;
    if visit.who.has_one_of(roles, environment) { String::new() } else { words::list(roles, "or") }
}

/// Whether the name was typed, where the playbook wants that.
pub fn confirmed(visit: &Visit, name: &str, typed: &str) -> Result<(), AppError> {
    let wanted = visit.catalogue.load().get(name)?.triggers.manual.confirm == Confirm::TypeName;
    if wanted && typed != name {
        return Err(AppError::invalid("confirm", format!("type {name} to confirm")));
    }
    Ok(())
}
