//! Why packets are dropped.

use crate::packet::Malformed;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was not carried.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in statistics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// Fewer than the 20 bytes of an IPv4 header.
    TooShort = "too-short",
    /// The version is not 4.
    NotIpv4 = "not-ipv4",
    /// The header length is below 20 or beyond the packet.
    BadHeaderLength = "bad-header-length",
    /// The total length is below the header's or beyond the packet.
    Truncated = "truncated",
    /// To be sent, longer than the overlay MTU and not to be fragmented.
    OverMtu = "over-mtu",
    /// The TTL ran out here.
    TtlExpired = "ttl-expired",
    /// No lease holds the destination.
    NoRoute = "no-route",
    /// A datagram of the daemon itself: one that it has sent, back from the TUN device, or one to its
    /// own socket inside another.
    OwnDatagram = "own-datagram",
    /// The `virtio_net_hdr` of the TUN contradicts its packet.
    BadVnetHeader = "bad-vnet-header",
    /// The UDP socket stayed full.
    SendQueueFull = "send-queue-full",
    /// The kernel had no buffer for the send (`ENOBUFS`, `ENOMEM`).
    SendNoBuffers = "send-no-buffers",
    /// The kernel has no way to the next hop (`ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`, `EACCES`).
    SendUnreachable = "send-unreachable",
    /// A firewall of this host refused the send (`EPERM`).
    SendRefused = "send-refused",
    /// The next hop cannot be sent so long a datagram (`EMSGSIZE`).
    SendTooBig = "send-too-big",
    /// The send failed otherwise.
    SendFailed = "send-failed",
    /// The inner source does not belong to the lease of the outer sender.
    SourceMismatch = "source-mismatch",
    /// The inner destination is not in the own subnet.
    DestinationMismatch = "destination-mismatch",
    /// The TUN device was down (`EIO`).
    TunDown = "tun-down",
    /// The TUN device had no room (`EAGAIN`, `ENOBUFS`, `ENOMEM`).
    TunFull = "tun-full",
    /// The kernel refused the packet at the TUN device.
    TunRefused = "tun-refused",
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooShort => Self::TooShort,
            Malformed::BadVersion => Self::NotIpv4,
            Malformed::BadHeaderLength => Self::BadHeaderLength,
            Malformed::BadTotalLength | Malformed::BadExtension => Self::Truncated,
        }
    }
}
