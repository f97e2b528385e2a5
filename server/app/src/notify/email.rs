//! E-mail: letters in plain text and HTML, threaded by incident, with one-click unsubscribing, over SMTP with TLS.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use askama::Template;
use lettre::address::{Address, Envelope};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransportBuilder, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use switchback_core::model::Millis;
use switchback_playbook::says::one_line;
use url::Url;

use super::text::cut;
use super::{Message, Refusal, Stamp};
use crate::config::Mail;

/// How long one command may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long sending a letter may take, also to a server that answers each command just in time: well under a lease.
const ATTEMPT_MAX: Duration = Duration::from_mins(1);
/// Connections to the server at most.
const CONNECTIONS_MAX: u32 = 8;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(20);
/// What is said of a server that takes longer.
const TOO_SLOW: &str = "the mail server takes too long";
/// Longer subjects are cut, in characters.
const SUBJECT_MAX: usize = 200;

/// The way to the mail server.
#[derive(Debug)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    reply_to: Option<Mailbox>,
}

/// A message to somebody.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'l> {
    /// What is said.
    pub message: &'l Message,
    /// Its id, which becomes the `Message-ID`, and the time.
    pub stamp: Stamp<'l>,
    /// Where a subscriber ends this.
    pub unsubscribe: Option<&'l str>,
}

/// How a letter to several mailboxes went.
#[derive(Debug, Default)]
pub struct Sent {
    /// Those that took it.
    pub taken: Vec<String>,
    /// Those that never will, each with why.
    pub refused: Vec<String>,
    /// Those that may later, each with why.
    pub later: Vec<String>,
}

#[derive(Template)]
#[template(path = "mail/message.html")]
struct Html<'h> {
    title: &'h str,
    paragraphs: Vec<&'h str>,
    own: Option<&'h str>,
    facts: &'h [(String, String)],
    links: &'h [(String, String)],
    unsubscribe: Option<&'h str>,
}

#[derive(Template)]
#[template(path = "mail/message.txt")]
struct Plain<'p> {
    text: &'p str,
    facts: &'p [(String, String)],
    links: &'p [(String, String)],
    unsubscribe: Option<&'p str>,
}

impl Mailer {
    /// The way that is configured; `None` when there is none. Belongs in a runtime: it keeps connections.
    ///
    /// # Errors
    /// What is wrong with the configuration, without the password.
    pub fn new(config: &Mail) -> Result<Option<Self>, String> {
        let plan = plan(config)?;
        Ok(plan.map(|(builder, from, reply_to)| Self {
            transport: builder.build(),
            from,
            reply_to,
        }))
    }

    /// Whether the configuration is sound.
    ///
    /// # Errors
    /// As [`Mailer::new`].
    pub fn check(config: &Mail) -> Result<(), String> {
        plan(config).map(drop)
    }

    /// Sends a letter to an address.
    ///
    /// # Errors
    /// Why the server did not take it.
    pub async fn send(&self, to: &str, letter: &Letter<'_>) -> Result<(), Refusal> {
        let mail = self.write(&[to.to_owned()], letter)?;
        let sent = tokio::time::timeout(ATTEMPT_MAX, self.transport.send(mail)).await;
        let sent = sent.map_err(|_| Refusal::Later(TOO_SLOW.to_owned(), None))?;
        sent.map(drop).map_err(|error| refusal(&error))
    }

    /// Sends one letter to some addresses, each by itself, since a server that refuses one of several takes none. Those that
    /// are `known` to have it are left out.
    ///
    /// # Errors
    /// The letter cannot be written.
    pub async fn send_each(
        &self,
        to: &[String],
        known: &BTreeSet<String>,
        letter: &Letter<'_>,
    ) -> Result<Sent, Refusal> {
        let mail = self.write(to, letter)?.formatted();
        let mut sent = Sent::default();
        let patience = tokio::time::sleep(ATTEMPT_MAX);
        tokio::pin!(patience);
        for address in to.iter().filter(|address| !known.contains(*address)) {
            let one = vec![address_of(address).map_err(Refusal::Never)?];
            let envelope = Envelope::new(Some(self.from.email.clone()), one)
                .map_err(|error| Refusal::Never(error.to_string()))?;
            let answered = tokio::select! {
                answered = self.transport.send_raw(&envelope, &mail) => answered,
                () = &mut patience => {
                    sent.later.push(format!("{address}: {TOO_SLOW}"));
                    break;
                }
            };
            match answered {
                Ok(_) => sent.taken.push(address.clone()),
                Err(error) => {
                    let list =
                        if error.is_permanent() { &mut sent.refused } else { &mut sent.later };
                    list.push(format!("{address}: {}", in_words(&error)));
                    if !error.is_permanent() && !error.is_transient() {
                        break; // the server is not there for the others either
                    }
                }
            }
        }
        Ok(sent)
    }

    fn write(&self, to: &[String], letter: &Letter<'_>) -> Result<lettre::Message, Refusal> {
        let Letter { message, stamp, unsubscribe } = letter;
        let email = message.says.email.as_ref();
        let subject = email.map_or(message.title.as_str(), |email| &email.subject);
        let text = email.map_or(message.text.as_str(), |email| &email.text);
        let own = email.and_then(|email| email.html.as_deref());
        let paragraphs = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
        let (facts, links) = (message.facts.as_slice(), message.links.as_slice());
        let html = Html {
            title: &message.title,
            paragraphs: paragraphs.collect(),
            own,
            facts,
            links,
            unsubscribe: *unsubscribe,
        };
        let plain = Plain { text: text.trim(), facts, links, unsubscribe: *unsubscribe };
        let failed = |what: String| Refusal::Never(format!("the mail cannot be written: {what}"));
        let host = self.from.email.domain();
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(cut(&one_line(subject), SUBJECT_MAX))
            .date(system_time(stamp.now))
            .message_id(Some(format!("<{}@{host}>", stamp.id)));
        for address in to {
            builder = builder.to(Mailbox::new(None, address_of(address).map_err(Refusal::Never)?));
        }
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        if let Some(first) = first_of_thread(message, stamp.id) {
            let first = format!("<{first}@{host}>");
            builder = builder.in_reply_to(first.clone()).references(first);
        }
        let mut raw = vec![("Auto-Submitted", "auto-generated".to_owned())];
        if let Some(url) = unsubscribe {
            raw.push(("List-Unsubscribe", format!("<{url}>")));
            raw.push(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
        }
        for (name, value) in raw {
            let name =
                HeaderName::new_from_ascii(name.to_owned()).map_err(|e| failed(e.to_string()))?;
            builder = builder.raw_header(HeaderValue::new(name, value));
        }
        let html = html.render().map_err(|error| failed(error.to_string()))?;
        let plain = plain.render().map_err(|error| failed(error.to_string()))?;
        builder
            .multipart(MultiPart::alternative_plain_html(plain, html))
            .map_err(|error| failed(error.to_string()))
    }
}

/// What the server's answer means for the next attempt.
fn refusal(error: &lettre::transport::smtp::Error) -> Refusal {
    let why = in_words(error);
    if error.is_permanent() { Refusal::Never(why) } else { Refusal::Later(why, None) }
}

/// What the server said, in its own words; they hold no password.
fn in_words(error: &lettre::transport::smtp::Error) -> String {
    let said = cut(&one_line(&error.to_string()), 300);
    if error.is_permanent() {
        format!("the mail server refused it: {said}")
    } else if error.is_transient() {
        format!("the mail server said: {said}")
    } else {
        format!("the mail server did not answer as it should: {said}")
    }
}

type Plan = (AsyncSmtpTransportBuilder, Mailbox, Option<Mailbox>);

/// Reads the configuration without opening anything.
fn plan(config: &Mail) -> Result<Option<Plan>, String> {
    if config.url.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(&config.url).map_err(|_| "mail.url is not an address".to_owned())?;
    let host = url.host_str().ok_or("mail.url names no host")?.to_owned();
    let wish = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value);
    let parameters = || tls(&host, config.ca_file.as_deref());
    let (port, tls) = match (url.scheme(), wish.as_deref()) {
        ("smtps", None) => (465, Tls::Wrapper(parameters()?)),
        ("smtp", Some("required")) => (587, Tls::Required(parameters()?)),
        ("smtp", Some("opportunistic")) => (587, Tls::Opportunistic(parameters()?)),
        ("smtp", Some("none")) => (25, Tls::None),
        ("smtp", None) if is_here(&host) => (25, Tls::None),
        ("smtp", None) => {
            return Err(
                "mail.url says nothing of TLS: use `smtps://`, or `smtp://...?tls=required` \
                            (or `opportunistic`, or `none` for a server that has none)"
                    .to_owned(),
            );
        }
        _ => {
            return Err(
                "mail.url is `smtp://host:port?tls=required` or `smtps://host:port`".to_owned()
            );
        }
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
        .port(url.port().unwrap_or(port))
        .tls(tls)
        .timeout(Some(TIMEOUT))
        .pool_config(PoolConfig::new().max_size(CONNECTIONS_MAX).idle_timeout(IDLE));
    if let Some(password) = url.password() {
        let plain =
            |text: &str| decode(text).ok_or("mail.url: the user or the password cannot be read");
        builder = builder.credentials(Credentials::new(plain(url.username())?, plain(password)?));
    }
    let from = mailbox(&config.from).map_err(|why| format!("mail.from {why}"))?;
    let reply_to = match config.reply_to.as_str() {
        "" => None,
        text => Some(mailbox(text).map_err(|why| format!("mail.reply_to {why}"))?),
    };
    Ok(Some((builder, from, reply_to)))
}

/// The id of the first letter about the same thing to the same recipient: `inc_1.0.sub_2` for `inc_1.upd_3.sub_2`.
fn first_of_thread(message: &Message, id: &str) -> Option<String> {
    let thread = message.thread.as_deref()?.strip_prefix("inc:")?;
    let (_, recipient) = id.strip_prefix(thread)?.strip_prefix('.')?.split_once('.')?;
    let first = format!("{thread}.0.{recipient}");
    (first != id).then_some(first)
}

/// Reads an e-mail address.
///
/// # Errors
/// What is wrong with it.
pub fn address_of(text: &str) -> Result<Address, String> {
    let bad = || format!("`{}` is not an e-mail address", cut(&one_line(text), 80));
    let is_plain = text.len() <= 254 && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if !is_plain {
        return Err(bad());
    }
    Address::from_str(text).map_err(|_| bad())
}

/// Reads `Name <a@b.example>` or `a@b.example`.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    let plain = one_line(text);
    Mailbox::from_str(&plain).map_err(|_| {
        format!("is `{plain}`; it must be `name@example.org` or `Name <name@example.org>`")
    })
}

fn tls(host: &str, ca_file: Option<&std::path::Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let shown = path.display();
        let pem =
            std::fs::read(path).map_err(|e| format!("mail.ca_file {shown} cannot be read: {e}"))?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|_| format!("mail.ca_file {shown} holds no certificate in PEM form"))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| format!("mail: TLS cannot be set up: {error}"))
}

/// Whether a host is this machine, where a password cannot be overheard.
fn is_here(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn decode(text: &str) -> Option<String> {
    let joined = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(joined.as_bytes()).next().map(|(_, value)| value.into_owned())
}

fn system_time(at: Millis) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use switchback_playbook::says::{EmailText, Says};

    use super::*;

    fn mailer() -> Mailer {
        let config = Mail {
            url: "smtp://127.0.0.1:25".to_owned(),
            from: "Shop status <status@shop.example>".to_owned(),
            ..Mail::default()
        };
        Mailer::new(&config).unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_letter_is_threaded_unsubscribable_and_escaped() {
        let message = Message {
            title: "Sign-in <b>down</b>".into(),
            text: "One & two\n\nThree".into(),
            thread: Some("inc:inc_1".into()),
            ..Message::default()
        };
        let stamp = Stamp { id: "inc_1.upd_2.sub_3", now: 0, public_url: "https://sb.test" };
        let unsubscribe = Some("https://sb.test/status/unsubscribe?token=t");

        let mail = mailer().write(
            &["ann@shop.example".to_owned()],
            &Letter { message: &message, stamp, unsubscribe },
        );
        let mail = String::from_utf8(mail.unwrap().formatted()).unwrap();

        for line in [
            "Message-ID: <inc_1.upd_2.sub_3@shop.example>",
            "References: <inc_1.0.sub_3@shop.example>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            "Subject: Sign-in <b>down</b>",
        ] {
            assert!(mail.contains(line), "{line} in\n{mail}");
        }
        assert!(mail.contains("&#60;b&#62;") || mail.contains("&lt;b&gt;"), "{mail}");
    }

    #[tokio::test]
    async fn a_value_never_starts_a_header() {
        let says = Says {
            email: Some(EmailText {
                subject: "a\r\nBcc: evil@x.test".into(),
                text: "t".into(),
                html: None,
            }),
            ..Says::default()
        };
        let message = Message { says, ..Message::default() };
        let stamp = Stamp { id: "m.c", now: 0, public_url: "" };
        let letter = Letter { message: &message, stamp, unsubscribe: None };

        let mail = mailer().write(&["ann@shop.example".to_owned()], &letter).unwrap();
        assert!(!String::from_utf8(mail.formatted()).unwrap().contains("\r\nBcc:"));
        for address in ["a@b.example\r\nBcc: c@d.example", "a b@c.example", "nobody", ""] {
            assert!(mailer().write(&[address.to_owned()], &letter).is_err(), "{address:?}");
        }
    }

    #[test]
    fn a_server_elsewhere_is_reached_with_tls_or_on_purpose_without() {
        let read = |url: &str| {
            let config =
                Mail { url: url.to_owned(), from: "a@b.example".to_owned(), ..Mail::default() };
            plan(&config).map(|found| found.is_some())
        };

        assert_eq!(read(""), Ok(false));
        for good in [
            "smtps://u:p@mail.example",
            "smtp://mail.example?tls=required",
            "smtp://localhost:1025",
        ] {
            assert_eq!(read(good), Ok(true), "{good}");
        }
        let error = read("smtp://u:hunter2@mail.example").unwrap_err();
        assert!(error.contains("TLS") && !error.contains("hunter2"), "{error}");
    }
}
