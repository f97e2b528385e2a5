//! Waiting for a condition, never for a time.

use std::time::Duration;

const EVERY: Duration = Duration::from_millis(20);
const AT_MOST: Duration = Duration::from_mins(1);

/// Asks again and again until there is an answer; panics after a minute with what was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::time::timeout(AT_MOST, asked).await.unwrap_or_else(|_| panic!("never: {what}"))
}
