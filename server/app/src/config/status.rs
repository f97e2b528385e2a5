//! How the public status page looks: its name, logo, colours and links.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The page's own backgrounds, which texts in the accent colour stand on: light, then dark.
const BACKGROUNDS: [&str; 2] = ["#ffffff", "#0f1413"];
/// What a text needs against its background (WCAG 2.2, AA).
const CONTRAST_MIN: f64 = 4.5;
/// The logo travels inside the page; a larger file would make it slow. In bytes.
const LOGO_BYTES_MAX: u64 = 16 * 1024;
const LINKS_MAX: usize = 8;

/// What the public status page says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatusPage {
    /// The name at its top.
    pub title: String,
    /// Where people get help; empty: no link.
    pub support_url: String,
    /// An image beside the name (SVG, PNG, JPEG or WebP, at most 16 KiB); it travels inside the page.
    pub logo: Option<PathBuf>,
    /// The colour of links on light, as `#rrggbb`.
    pub accent: String,
    /// The colour of links on dark, as `#rrggbb`.
    pub accent_dark: String,
    /// Links at its top, each `Name=https://...`.
    pub links: Vec<String>,
}

/// What a page needs of the settings, ready to be shown anywhere: files are read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Look {
    /// The name at its top.
    pub title: String,
    /// Where people get help; empty: no link.
    pub support_url: String,
    /// The logo as a `data:` address; empty: none.
    pub logo: String,
    /// The colour of links on light.
    pub accent: String,
    /// The colour of links on dark.
    pub accent_dark: String,
    /// Names and addresses of links.
    pub links: Vec<(String, String)>,
}

impl Default for StatusPage {
    fn default() -> Self {
        Self {
            title: "Service status".to_owned(),
            support_url: String::new(),
            logo: None,
            accent: "#2f5fa8".to_owned(),
            accent_dark: "#8fbdf2".to_owned(),
            links: Vec::new(),
        }
    }
}

impl StatusPage {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let colours = [("status.accent", &self.accent), ("status.accent_dark", &self.accent_dark)];
        for ((key, colour), background) in colours.into_iter().zip(BACKGROUNDS) {
            let wrong = |why: &str| ConfigError(format!("{key} is `{colour}`; {why}"));
            let contrast = contrast(colour, background)
                .ok_or_else(|| wrong("it must be a colour such as #2f5fa8"))?;
            if contrast < CONTRAST_MIN {
                return Err(wrong(&format!(
                    "on {background} it has a contrast of {contrast:.1}, and people need {CONTRAST_MIN} to read it"
                )));
            }
        }
        if self.links.len() > LINKS_MAX {
            return Err(ConfigError(format!("status.links has more than {LINKS_MAX} links")));
        }
        for link in &self.links {
            read_link(link).ok_or_else(|| {
                ConfigError(format!("status.links has `{link}`; use `Name=https://...`"))
            })?;
        }
        if !self.support_url.is_empty() && !is_address(&self.support_url) {
            let url = &self.support_url;
            let hint = "it must begin with https://, http:// or mailto:";
            return Err(ConfigError(format!("status.support_url is `{url}`; {hint}")));
        }
        self.read_logo().map(drop)
    }

    /// What a page needs. A logo that can no longer be read is left out.
    pub fn look(&self) -> Look {
        let logo = self.read_logo().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            String::new()
        });
        Look {
            title: self.title.clone(),
            support_url: self.support_url.clone(),
            logo,
            accent: self.accent.clone(),
            accent_dark: self.accent_dark.clone(),
            links: self.links.iter().filter_map(|link| read_link(link)).collect(),
        }
    }

    fn read_logo(&self) -> Result<String, ConfigError> {
        let Some(path) = &self.logo else { return Ok(String::new()) };
        let wrong = |why: &str| ConfigError(format!("status.logo is {}; {why}", path.display()));
        let kind = kind_of(path).ok_or_else(|| wrong("use a file .svg, .png, .jpg or .webp"))?;
        let size = std::fs::metadata(path).map_err(|error| wrong(&error.to_string()))?.len();
        if size > LOGO_BYTES_MAX {
            return Err(wrong(&format!("it has {size} bytes, and {LOGO_BYTES_MAX} are allowed")));
        }
        let bytes = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        Ok(format!("data:{kind};base64,{text}"))
    }
}

fn kind_of(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

fn read_link(text: &str) -> Option<(String, String)> {
    let (name, address) = text.split_once('=')?;
    let (name, address) = (name.trim(), address.trim());
    let is_good = !name.is_empty() && is_address(address);
    is_good.then(|| (name.to_owned(), address.to_owned()))
}

/// Whether a link may lead there: a script may not stand in one.
fn is_address(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| ["https", "http", "mailto"].contains(&url.scheme()))
}

/// The contrast of two colours (WCAG 2.2), 1 to 21.
fn contrast(one: &str, other: &str) -> Option<f64> {
    let (one, other) = (luminance(one)?, luminance(other)?);
    Some((one.max(other) + 0.05) / (one.min(other) + 0.05))
}

fn luminance(colour: &str) -> Option<f64> {
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let mut light = 0.0;
    for (index, share) in [0.2126, 0.7152, 0.0722].into_iter().enumerate() {
        let part = digits.get(index * 2..index * 2 + 2)?;
        let value = f64::from(u8::from_str_radix(part, 16).ok()?) / 255.0;
        let linear =
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
        light += share * linear;
    }
    Some(light)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_that_cannot_be_read_is_refused() {
        let page = |accent: &str| StatusPage { accent: accent.to_owned(), ..StatusPage::default() };

        assert!(StatusPage::default().check().is_ok());
        for bad in ["#ffff00", "blue", "#12345", "#gggggg", "#€€"] {
            let error = page(bad).check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("status.accent is `{bad}`; ")), "{error}");
        }
    }

    #[test]
    fn a_link_cannot_be_a_script() {
        let page =
            |link: &str| StatusPage { links: vec![link.to_owned()], ..StatusPage::default() };

        assert!(page("Docs=https://docs.example.com/?a=b").check().is_ok());
        for bad in ["Docs", "=https://x.example", "Docs=javascript:alert(1)", "Docs=/here"] {
            assert!(page(bad).check().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_logo_travels_inside_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logo.svg");
        std::fs::write(&path, "<svg/>").unwrap();
        let page = StatusPage { logo: Some(path.clone()), ..StatusPage::default() };

        assert_eq!(page.look().logo, "data:image/svg+xml;base64,PHN2Zy8+");
        std::fs::write(&path, vec![b' '; 20_000]).unwrap();
        assert!(page.check().is_err() && page.look().logo.is_empty());
    }
}
