//! Steps of a group that are under way at the same time.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::runner::DriveError;

type Flight<'f> = Pin<Box<dyn Future<Output = Result<(), DriveError>> + Send + 'f>>;

/// What is under way.
#[derive(Default)]
pub(crate) struct Flights<'f> {
    /// The steps, by their index in the plan.
    pub(crate) busy: BTreeSet<usize>,
    flying: Vec<(usize, Flight<'f>)>,
}

impl<'f> Flights<'f> {
    /// Takes one more on. It goes on only while somebody waits in [`land`](Self::land).
    pub(crate) fn begin(
        &mut self,
        step: usize,
        flight: impl Future<Output = Result<(), DriveError>> + Send + 'f,
    ) {
        self.busy.insert(step);
        self.flying.push((step, Box::pin(flight)));
    }

    /// Waits until one of them ends. When one tells that the journal is gone, the others first come to their ends: what
    /// they have begun may be on its way.
    pub(crate) async fn land(&mut self) -> Result<(), DriveError> {
        let landed = self.next().await;
        if !matches!(landed, Ok(()) | Err(DriveError::Fenced)) {
            while !self.flying.is_empty() {
                let _ = self.next().await;
            }
        }
        landed
    }

    /// The first that ends; without any it never does.
    async fn next(&mut self) -> Result<(), DriveError> {
        poll_fn(|context| {
            for at in 0..self.flying.len() {
                let Some((step, flight)) = self.flying.get_mut(at) else { break };
                if let Poll::Ready(ended) = flight.as_mut().poll(context) {
                    self.busy.remove(step);
                    drop(self.flying.swap_remove(at));
                    return Poll::Ready(ended);
                }
            }
            Poll::Pending
        })
        .await
    }
}
