//! Declares counters: everything that a counter needs comes from its one line.

/// Declares the counters of a thread and their sum.
///
/// Of each line `name: Kind => metric,` the macro makes a field of the counters, a field of the sum
/// (which is also its name in JSON, unless `name["other"]` gives another), its part of reading and
/// adding sums, and its entry in `METRICS`; a counter without `=> metric` is not exported as a metric.
/// Fields under `and` are a thread's own: neither summed nor exported.
macro_rules! counters {
    (
        $(#[$attribute:meta])*
        pub struct $counters:ident, summed in $stats:ident {
            $(
                $(#[$doc:meta])*
                $field:ident $([$json:literal])?: $cell:ty $(=> $metric:expr)?,
            )*
        }
        and {
            $($(#[$own_doc:meta])* $own_vis:vis $own:ident: $own_type:ty,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Default, Debug)]
        // Two cache lines, as processors fetch them in pairs.
        #[repr(align(128))]
        pub struct $counters {
            $($(#[$doc])* pub $field: $cell,)*
            $($(#[$own_doc])* $own_vis $own: $own_type,)*
        }

        #[doc = concat!("[`", stringify!($counters), "`] at one moment, summed over threads.")]
        #[derive(Clone, Default, PartialEq, Eq, Debug, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default)]
        pub struct $stats {
            $(
                $(#[$doc])*
                $(#[serde(rename = $json)])?
                pub $field: <$cell as $crate::dataplane::counters::Cell>::Sum,
            )*
        }

        impl $stats {
            /// The counters that are exported as metrics.
            pub const METRICS: &'static [$crate::dataplane::counters::metric::CounterMetric<Self>] = &[
                $($(
                    $crate::dataplane::counters::metric::CounterMetric {
                        metric: $metric,
                        kind: <$cell as $crate::dataplane::counters::Cell>::KIND,
                        read: |stats| {
                            <$cell as $crate::dataplane::counters::Cell>::reading(&stats.$field)
                        },
                    },
                )?)*
            ];
        }

        impl From<&$counters> for $stats {
            fn from(counters: &$counters) -> Self {
                Self {
                    $($field: $crate::dataplane::counters::Cell::read(&counters.$field),)*
                }
            }
        }

        impl ::std::ops::AddAssign<&Self> for $stats {
            fn add_assign(&mut self, other: &Self) {
                $(<$cell as $crate::dataplane::counters::Cell>::add(&mut self.$field, &other.$field);)*
            }
        }
    };
}

pub(super) use counters;
