//! The order in which endpoints are tried.
//!
//! Attempts are numbered; the number modulo the number of endpoints selects the endpoint. An
//! endpoint that fails moves the current attempt on by one, so that all later calls use the next
//! endpoint.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The current attempt of one connector.
#[derive(Debug)]
pub(super) struct EndpointRotation {
    endpoints: usize,
    /// Number of the current attempt.
    current: AtomicUsize,
    /// Watches that are being started at this moment.
    starting: AtomicUsize,
}

impl EndpointRotation {
    /// A rotation over so many endpoints, at least one.
    pub(super) fn new(endpoints: usize) -> Self {
        Self { endpoints, current: AtomicUsize::new(0), starting: AtomicUsize::new(0) }
    }

    /// The current attempt.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The index of the attempt's endpoint.
    pub(super) fn endpoint(&self, attempt: usize) -> usize {
        attempt % self.endpoints
    }

    /// Moves on to the next endpoint, unless another call has moved on already.
    pub(super) fn mark_failed(&self, attempt: usize) {
        let next = attempt.wrapping_add(1);
        let _ = self.current.compare_exchange(attempt, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes the attempt, whose endpoint works, the current one.
    pub(super) fn mark_healthy(&self, attempt: usize) {
        self.current.fetch_max(attempt, Ordering::Relaxed);
    }

    /// The attempts of one more watch that is being started. Watches that are started at the same
    /// time begin at different endpoints.
    pub(super) fn start(&self) -> WatchAttempts<'_> {
        let ahead = self.starting.fetch_add(1, Ordering::Relaxed);
        WatchAttempts { first: self.current().wrapping_add(ahead), rotation: self }
    }
}

/// The attempts of one watch that is being started.
pub(super) struct WatchAttempts<'a> {
    first: usize,
    rotation: &'a EndpointRotation,
}

impl WatchAttempts<'_> {
    /// One attempt per endpoint.
    pub(super) fn attempts(&self) -> impl Iterator<Item = usize> + use<> {
        let first = self.first;
        (0..self.rotation.endpoints).map(move |step| first.wrapping_add(step))
    }
}

impl Drop for WatchAttempts<'_> {
    fn drop(&mut self) {
        self.rotation.starting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_endpoint_is_followed_by_the_next() {
        let rotation = EndpointRotation::new(3);
        rotation.mark_failed(0);
        rotation.mark_failed(0);
        assert_eq!(rotation.current(), 1, "the second report of one failure moves nothing");
        rotation.mark_healthy(5);
        rotation.mark_healthy(2);
        assert_eq!((rotation.current(), rotation.endpoint(5)), (5, 2));
    }

    #[test]
    fn watches_that_start_together_begin_at_different_endpoints() {
        let rotation = EndpointRotation::new(2);
        let one = rotation.start();
        let two = rotation.start();
        assert_eq!(one.attempts().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(two.attempts().collect::<Vec<_>>(), [1, 2]);
        drop((one, two));
        assert_eq!(rotation.start().attempts().next(), Some(0));
    }
}
