//! A shop that asks its flags: `shop URL TOKEN` prints how users sign in, and changes as they come.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::error::Error;

use switchback_sdk::{Context, Switchback};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let token = arguments.next().ok_or("usage: shop URL TOKEN")?;

    let flags = Switchback::builder()
        .url(url)
        .token(token)
        .app("shop")
        .app_version(env!("CARGO_PKG_VERSION"))
        .platform("server")
        .cache_dir(std::env::temp_dir().join("switchback-shop"))
        .build()
        .await?;
    let user = Context::new().user_id("u-17").groups(["beta"]).platform("ios").app_version("3.2");
    println!("{:?}", flags.status());
    println!("users sign in: {}", flags.auth_mode(&user));

    let _notices = flags.on_notice(|notice| println!("notice: {}", notice.title));
    let mut changes = flags.changes();
    loop {
        tokio::select! {
            Some(change) = changes.next() => {
                println!("revision {}: {}", change.revision, flags.auth_mode(&user));
                for key in &change.keys {
                    let found = flags.evaluation(key, &user);
                    println!("  {key}: {} ({}) = {}", found.enabled, found.reason, found.value);
                }
            }
            _ = tokio::signal::ctrl_c() => break,
            else => break,
        }
    }
    flags.shutdown().await;
    Ok(())
}
