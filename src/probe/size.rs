//! The longest packet that a path carries, as echo requests find it.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::join_all;

use super::echo::{Echo, EchoOutcome, EchoReply};

/// Echo requests of different lengths to one address. All lengths are in bytes, IPv4 header included.
pub(crate) struct SizeProbe<'a> {
    pub(crate) echo: &'a Echo,
    pub(crate) to: Ipv4Addr,
    /// How long to wait for a reply.
    pub(crate) timeout: Duration,
    /// Number of requests of a length that must be lost before it counts as too long. Path MTU discovery may
    /// itself consume the first.
    pub(crate) attempts: u32,
}

impl SizeProbe<'_> {
    /// Sends requests of `len` bytes with DF until one comes back.
    pub(crate) async fn whole(&self, len: usize) -> Option<EchoReply> {
        for _ in 0..self.attempts {
            let outcome = self.echo.ping(self.to, len, self.timeout).await;
            if let Ok(EchoOutcome::Reply(reply)) = outcome {
                return Some(reply);
            }
        }
        None
    }

    /// As [`Self::whole`], but the request is sent in fragments of at most `fragment` bytes, while the reply, which
    /// has the same length, is sent by a kernel that knows nothing of them.
    async fn in_fragments(&self, len: usize, fragment: usize) -> Option<EchoReply> {
        for _ in 0..self.attempts {
            let outcome = self.echo.ping_in_fragments(self.to, len, fragment, self.timeout).await;
            if let Ok(EchoOutcome::Reply(reply)) = outcome {
                return Some(reply);
            }
        }
        None
    }

    /// The longest request below `bad` that comes back whole, where `good` does and `bad` does not.
    pub(crate) async fn longest(&self, good: usize, bad: usize) -> usize {
        search(good, bad, async |len| self.whole(len).await.is_some()).await
    }

    /// The longest reply up to `full` that arrives to requests in fragments of at most `good` bytes.
    pub(crate) async fn longest_reply(&self, good: usize, full: usize) -> usize {
        if self.in_fragments(full, good).await.is_some() {
            return full;
        }
        search(good, full, async |len| self.in_fragments(len, good).await.is_some()).await
    }
}

/// Narrows the range between a length that passes and one that does not, in rounds of several lengths at once.
async fn search(mut good: usize, mut bad: usize, passes: impl AsyncFn(usize) -> bool) -> usize {
    while bad - good > 1 {
        let step = ((bad - good) / SIZES_PER_ROUND).max(1);
        let sizes: Vec<usize> = (good + step..bad).step_by(step).collect();
        let outcomes = join_all(sizes.iter().map(|size| passes(*size))).await;
        let passed = sizes.iter().zip(outcomes).filter(|(_, ok)| *ok).map(|(size, _)| *size).max();
        good = passed.unwrap_or(good);
        bad = sizes.into_iter().find(|size| *size > good).unwrap_or(bad);
    }
    good
}

/// Number of lengths that are tried in one round.
const SIZES_PER_ROUND: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_that_passes_is_found() {
        for limit in [84, 85, 100, 1371, 1372, 1470, 1471] {
            assert_eq!(search(84, 1472, async |len| len <= limit).await, limit);
        }
    }
}
