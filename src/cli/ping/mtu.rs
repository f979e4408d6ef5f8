//! What is known about the path MTU in each direction from one side.

use std::fmt;

use serde_json::{Value, json};

use crate::probe::size::SizeProbe;

/// The longest packet in one direction, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// A packet of this length arrived; longer ones were not tried, or may have been lost in the other direction.
    AtLeast(usize),
    /// Longer packets do not arrive whole.
    Exactly(usize),
}

/// The path MTU, as echo requests to one address show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PathMtu {
    /// Length of the longest request that this host's device allows.
    pub(super) full: usize,
    /// From this host to the peer: requests have DF, so they arrive whole or not at all.
    pub(super) there: Limit,
    /// From the peer to this host: replies come without DF, so routers may fragment them.
    pub(super) back: Limit,
    /// Whether the replies came in fragments.
    pub(super) in_fragments: bool,
}

impl PathMtu {
    /// Measures it up to `full`; requests of `small` bytes are known to come back.
    pub(super) async fn measure(probe: &SizeProbe<'_>, small: usize, full: usize) -> Self {
        let whole = probe.whole(full).await;
        let both = match whole {
            Some(_) => full,
            None => probe.longest(small, full).await,
        };
        let (reply, longest_reply) = match whole {
            Some(reply) => (Some(reply), full),
            None => (probe.whole(both).await, probe.longest_reply(both, full).await),
        };
        Self::new(full, both, longest_reply, reply.and_then(|reply| reply.fragment))
    }

    /// `both` is the longest request that came back, `longest_reply` the longest reply that arrived at all, and
    /// `fragment` the longest fragment that the reply to a request of `both` bytes came in.
    fn new(full: usize, both: usize, longest_reply: usize, fragment: Option<usize>) -> Self {
        // A longer reply arrived to a request in fragments: it is the whole request that did not.
        let there = if longest_reply > both { Limit::Exactly(both) } else { Limit::AtLeast(both) };
        let back = match fragment {
            Some(fragment) => Limit::Exactly(fragment),
            None if longest_reply > both && longest_reply < full => Limit::Exactly(longest_reply),
            None => Limit::AtLeast(longest_reply),
        };
        Self { full, there, back, in_fragments: fragment.is_some() }
    }

    /// The longest packet that is known to pass in both directions.
    pub(super) fn both(&self) -> usize {
        self.there.bytes().min(self.back.bytes())
    }

    pub(super) fn json(&self) -> Value {
        let limit = |limit: Limit| json!({ "bytes": limit.bytes(), "at_least": matches!(limit, Limit::AtLeast(_)) });
        json!({
            "tried": self.full,
            "there": limit(self.there),
            "back": limit(self.back),
            "replies_in_fragments": self.in_fragments,
        })
    }
}

impl Limit {
    fn bytes(self) -> usize {
        match self {
            Self::AtLeast(bytes) | Self::Exactly(bytes) => bytes,
        }
    }
}

impl fmt::Display for PathMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { full, there, back, in_fragments } = self;
        if (*there, *back) == (Limit::AtLeast(*full), Limit::AtLeast(*full)) {
            return write!(
                f,
                "{full} bytes in both directions, the most that this host's device sends"
            );
        }
        if let (Limit::AtLeast(bytes), Limit::AtLeast(_)) = (there, back) {
            return write!(
                f,
                "{bytes} bytes in both directions; longer echoes do not come back, and this host cannot tell in \
                 which direction they are lost"
            );
        }
        write!(f, "{there} there, ")?;
        if *in_fragments {
            write!(f, "replies come back in fragments of at most {} bytes", back.bytes())
        } else {
            write!(f, "{back} back")
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bytes) => write!(f, "at least {bytes} bytes"),
            Self::Exactly(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_said_than_was_measured() {
        for (measured, text) in [
            ((1472, 1472, 1472, None), "1472 bytes in both directions, the most that"),
            ((1472, 1372, 1472, None), "1372 bytes there, at least 1472 bytes back"),
            ((1472, 1372, 1450, None), "1372 bytes there, 1450 bytes back"),
            ((1472, 1372, 1372, None), "1372 bytes in both directions; longer echoes do not"),
            (
                (1500, 1500, 1500, Some(1396)),
                "at least 1500 bytes there, replies come back in fragments of at most 1396",
            ),
        ] {
            let (full, both, reply, fragment) = measured;
            let mtu = PathMtu::new(full, both, reply, fragment).to_string();
            assert!(mtu.starts_with(text), "{measured:?}: {mtu}");
        }
        let mtu = PathMtu::new(1500, 1500, 1500, Some(1396));
        assert_eq!((mtu.both(), &mtu.json()["back"]["at_least"]), (1396, &json!(false)));
    }
}
