//! Requests to the kernel over rtnetlink(7): links, addresses, routes and queueing disciplines.
//!
//! All requests but one concern IPv4, and all the network namespace of the thread that calls
//! [`Netlink::connect`].

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, Prop,
};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkUnspec};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use crate::route::Cidr;

mod lookup;
mod queueing;
mod routes;

pub use self::lookup::{ChosenRoute, RoutingRule};
pub use self::routes::{DEFAULT_TABLE, MAIN_TABLE, RouteQuestion};

/// A routing socket.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    /// Serializes requests: the kernel runs one dump per socket at a time and rejects a second with
    /// `EBUSY` (`netlink_dump_start` in `net/netlink/af_netlink.c`).
    turn: Arc<Mutex<()>>,
    _driver: Arc<Driver>,
}

/// The task that serves a socket; dropping this value ends the task.
#[derive(Debug)]
pub(super) struct Driver(AbortHandle);

impl Driver {
    pub(super) fn spawn(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(connection).abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request that the kernel rejected, with the kernel's error.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct NetlinkError {
    what: String,
    source: io::Error,
}

impl NetlinkError {
    /// The kernel's error number, if the error has one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    pub(super) fn cannot_watch(source: io::Error) -> Self {
        Self::new("cannot watch interfaces and routes", source)
    }

    fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source }
    }
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Its other names (`altname` in ip-link(8)).
    pub alt_names: Vec<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether the interface is administratively up.
    pub up: bool,
    /// Whether it is up and connected: a TUN device, to a process.
    pub carrier: bool,
    /// Index of the bridge, bond or VRF that the interface is a port of.
    pub controller: Option<u32>,
    /// Whether no packet leaves the host through it: loopback, dummy, VRF.
    pub internal: bool,
}

/// Further attributes of a network interface, which only `doctor` reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkDetails {
    /// Interface index.
    pub index: u32,
    /// Length of the transmit queue, in packets.
    pub tx_queue_len: u32,
    /// Packets dropped on transmission, for a TUN device because its queue was full.
    pub tx_dropped: u64,
}

/// An IPv4 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// The host's own address.
    pub local: Ipv4Addr,
    /// Prefix length of its network.
    pub prefix_len: u8,
}

/// An IPv4 route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// Destination.
    pub destination: Cidr,
    /// Index of the output interface; the first one of a multipath route.
    pub oif: Option<u32>,
    /// Next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Metric; among routes with equal destinations the kernel uses that with the lowest.
    pub priority: u32,
    /// Preferred source address.
    pub source: Option<Ipv4Addr>,
    /// MTU that an administrator has given to the route.
    pub mtu: Option<u32>,
    /// Type of the route, unicast for most.
    pub kind: RouteType,
}

impl Netlink {
    /// Opens a routing socket and serves it on the current tokio runtime.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|e| NetlinkError::new("cannot open a netlink routing socket", e))?;
        let driver = Driver::spawn(connection);
        Ok(Self { handle, turn: Arc::default(), _driver: Arc::new(driver) })
    }

    async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Lists every interface, sorted by index.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut links: Vec<_> = self.link_messages().await?.iter().map(link_of).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Lists the further attributes of every interface.
    pub async fn link_details(&self) -> Result<Vec<LinkDetails>, NetlinkError> {
        Ok(self.link_messages().await?.iter().map(details_of).collect())
    }

    async fn link_messages(&self) -> Result<Vec<LinkMessage>, NetlinkError> {
        let _turn = self.turn().await;
        let messages = self.handle.link().get().execute().try_collect().await;
        messages.map_err(to("list interfaces"))
    }

    /// Returns the interface with an index; `None` if there is none.
    pub async fn link(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let _turn = self.turn().await;
        match self.handle.link().get().match_index(index).execute().try_next().await {
            Ok(message) => Ok(message.as_ref().map(link_of)),
            Err(error) => match to(format!("look up interface {index}"))(error) {
                error if error.errno() == Some(libc::ENODEV) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Returns how many packets the kernel has dropped instead of sending them through an
    /// interface; for a TUN device, those that arrived while its queue was full.
    pub async fn send_drops(&self, name: &str) -> Result<u64, NetlinkError> {
        let _turn = self.turn().await;
        let what = format!("look up {name}");
        let request = self.handle.link().get().match_name(name.to_owned());
        let message = request.execute().try_next().await.map_err(to(what))?;
        let attributes = message.into_iter().flat_map(|message| message.attributes);
        Ok(attributes
            .filter_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(stats.tx_dropped),
                _ => None,
            })
            .sum())
    }

    /// Lists every IPv4 address, in the kernel's order.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let _turn = self.turn().await;
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(to("list addresses"))?;
        Ok(messages.iter().filter_map(address_of).collect())
    }

    /// Sets the MTU of an interface, and then its link up or down.
    pub async fn set_mtu_and_state(
        &self,
        index: u32,
        mtu: u32,
        up: bool,
    ) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        let change = LinkUnspec::new_with_index(index).mtu(mtu);
        let (change, state) = if up { (change.up(), "up") } else { (change.down(), "down") };
        let change = change.build();
        let what = format!("set MTU {mtu} and {state} on interface {index}");
        self.handle.link().change(change).execute().await.map_err(to(what))
    }

    /// Keeps the kernel from giving an interface an IPv6 link-local address when its link comes up
    /// (`ip link set dev NAME addrgenmode none`, Linux 3.17).
    pub async fn set_no_link_local(&self, index: u32) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let families = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
        let change = LinkUnspec::new_with_index(index).append_extra_attribute(families).build();
        let what = format!("set addrgenmode none on interface {index}");
        self.handle.link().change(change).execute().await.map_err(to(what))
    }

    /// Adds an address with prefix length 32 to an interface, without peer and broadcast addresses.
    pub async fn add_host_address(
        &self,
        index: u32,
        address: Ipv4Addr,
    ) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        let mut request = self.handle.address().add(index, address.into(), 32);
        request
            .message_mut()
            .attributes
            .retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
        request.execute().await.map_err(to(format!("add address {address}/32")))
    }

    /// Removes an address from an interface.
    pub async fn remove_address(&self, address: Address) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = address.index;
        message.header.prefix_len = address.prefix_len;
        message.attributes.push(AddressAttribute::Local(address.local.into()));
        let what = format!("remove address {}/{}", address.local, address.prefix_len);
        self.handle.address().del(message).execute().await.map_err(to(what))
    }
}

fn to(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let what = format!("cannot {}", what.into());
    move |error| match error {
        rtnetlink::Error::NetlinkError(message) => {
            NetlinkError::new(what, io::Error::from_raw_os_error(message.raw_code().abs()))
        }
        other => NetlinkError::new(what, io::Error::other(other.to_string())),
    }
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        internal: message.header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::PropList(list) => {
                link.alt_names.extend(list.iter().filter_map(alt_name))
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(info) => {
                let is_internal = |info: &LinkInfo| {
                    matches!(info, LinkInfo::Kind(InfoKind::Dummy | InfoKind::Vrf))
                };
                link.internal |= info.iter().any(is_internal);
            }
            _ => {}
        }
    }
    link
}

fn alt_name(property: &Prop) -> Option<String> {
    match property {
        Prop::AltIfName(name) => Some(name.clone()),
        _ => None,
    }
}

fn details_of(message: &LinkMessage) -> LinkDetails {
    let mut details = LinkDetails { index: message.header.index, ..LinkDetails::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::TxQueueLen(packets) => details.tx_queue_len = *packets,
            LinkAttribute::Stats64(stats) => details.tx_dropped = stats.tx_dropped,
            _ => {}
        }
    }
    details
}

fn address_of(message: &AddressMessage) -> Option<Address> {
    let mut peer = None;
    let mut local = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(std::net::IpAddr::V4(addr)) => local = Some(*addr),
            AddressAttribute::Address(std::net::IpAddr::V4(addr)) => peer = Some(*addr),
            _ => {}
        }
    }
    Some(Address {
        index: message.header.index,
        local: local.or(peer)?,
        prefix_len: message.header.prefix_len,
    })
}
