//! When a lease is renewed.

use std::time::Duration;

/// Time until a lease that ends in `left` is renewed, `margin` before its end; `random` is below 1.
///
/// A renewal comes up to a twentieth of that time early, so that hosts that started together do not
/// renew together. The wait is never zero, whatever the margin: a lease that does not last longer
/// than the margin is renewed after a third of its life, and at most every half minute.
pub(super) fn wait(left: Duration, margin: Duration, random: f64) -> Duration {
    let before_margin = left.saturating_sub(margin).mul_f64(1.0 - random * JITTER);
    let least = (left / 3).clamp(LEAST_WAIT, LONGEST_LEAST_WAIT);
    before_margin.max(least)
}

/// Upper limit of the random lead of a renewal, as a share of the wait.
const JITTER: f64 = 0.05;
/// The least wait for a lease of any length, and for one that has ended.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// The least wait for a lease that lasts minutes or more. The longest margin that the daemon allows
/// leaves a minute of a lease of flannel's 24 h.
const LONGEST_LEAST_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    #[test]
    fn every_allowed_margin_of_a_days_lease_is_kept() {
        for margin in 1..=1439 {
            let slack = DAY - minutes(margin);
            let earliest = wait(DAY, minutes(margin), 0.999_999);
            assert_eq!(wait(DAY, minutes(margin), 0.0), slack, "{margin} min");
            assert!(
                earliest >= slack.mul_f64(0.949) && earliest <= slack,
                "{margin}: {earliest:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_wait_is_bounded_for_any_margin_and_any_lease(
            margin in 1u64..=1439,
            // Of any order of magnitude: milliseconds up to etcd's longest, 9,000,000,000 s.
            left in (0u32..=43).prop_flat_map(|bits| 0u64..1 << bits),
            random in 0.0..1.0f64,
        ) {
            let (left, margin) = (Duration::from_millis(left), minutes(margin));
            let wait = wait(left, margin, random);
            prop_assert!(wait >= LEAST_WAIT);
            prop_assert!(wait <= left.max(LEAST_WAIT), "after the lease's end");
            prop_assert!(wait >= LONGEST_LEAST_WAIT || wait >= left / 3, "{wait:?} of {left:?}");
        }
    }
}
