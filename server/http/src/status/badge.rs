//! A small image that says how things are, for other pages to show.

use switchback_app::status_page::Overall;
use switchback_store::ComponentStatus;

use super::bars::escape;
use super::shelf::Rendered;
use super::view::Scene;
use crate::ui::words::{title, word};

/// An average letter at 11 pixels; each text is fitted to what this reckons.
const LETTER_PX: usize = 7;
const PADDING_PX: usize = 16;
/// Letters of a name that are shown.
const LETTERS_MAX: usize = 40;

/// The badge of everything, or of one component; nothing when there is no such component.
pub fn draw(scene: &Scene<'_>, component: Option<&str>) -> Option<Rendered> {
    let (name, state, colour) = match component {
        None => {
            let overall = scene.board.overall();
            (scene.look.title.as_str(), overall.sentence().to_owned(), colour_of(overall))
        }
        Some(key) => {
            let found = scene.board.components.iter().find(|one| one.key == key)?;
            let colour = match found.status {
                ComponentStatus::PartialOutage => "#a03d00",
                other => colour_of(Overall::of(other)),
            };
            (found.name.as_str(), title(&word(&found.status)), colour)
        }
    };
    let name: String = name.chars().take(LETTERS_MAX).collect();
    let (left, right) = (width(&name), width(&state));
    let whole = left + right;
    let label = |text: &str, x: usize, wide: usize| {
        let fit = wide - PADDING_PX;
        format!("<text x=\"{x}\" y=\"14\" textLength=\"{fit}\">{}</text>", escape(text))
    };
    let text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole}\" height=\"20\" role=\"img\" aria-label=\"{both}\">\
         <title>{both}</title><clipPath id=\"r\"><rect width=\"{whole}\" height=\"20\" rx=\"4\"/></clipPath>\
         <g clip-path=\"url(#r)\"><path fill=\"#3b4744\" d=\"M0 0h{left}v20H0z\"/><path fill=\"{colour}\" d=\"M{left} 0h{right}v20H{left}z\"/></g>\
         <g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,Geneva,sans-serif\" font-size=\"11\">{}{}</g></svg>",
        label(&name, PADDING_PX / 2, left),
        label(&state, left + PADDING_PX / 2, right),
        both = escape(&format!("{name}: {state}")),
    );
    Some(Rendered { kind: "image/svg+xml", text, modified: scene.board.read_at })
}

fn width(text: &str) -> usize {
    text.chars().count() * LETTER_PX + PADDING_PX
}

fn colour_of(overall: Overall) -> &'static str {
    match overall {
        Overall::Operational => "#156c3b",
        Overall::Maintenance => "#2f5fa8",
        Overall::Degraded => "#7d4e00",
        Overall::Partial | Overall::Major => "#b3261e",
    }
}
