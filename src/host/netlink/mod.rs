//! The few questions and orders that the daemon has for the kernel's routing sockets.
//!
//! All of it concerns IPv4 and the network namespace of the thread that calls [`Netlink::connect`].

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkUnspec};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;

use crate::route::Cidr;

mod queueing;
mod routes;

/// A connection to the kernel's routing tables.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    /// The kernel answers one dump a socket at a time and refuses a second with `EBUSY`.
    turn: Arc<Mutex<()>>,
    _driver: Arc<Driver>,
}

/// The task that serves a socket; it ends with this value.
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

/// What the kernel said when it refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct NetlinkError {
    what: String,
    source: io::Error,
}

impl NetlinkError {
    /// The kernel's error number, if it gave one.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
}

/// More about a network interface than the daemon needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkDetails {
    /// Interface index.
    pub index: u32,
    /// Packets that may wait to be sent.
    pub tx_queue_len: u32,
    /// Packets not sent for lack of room.
    pub tx_dropped: u64,
    /// Index of the bridge (or bond) that the interface is a port of.
    pub controller: Option<u32>,
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
pub struct Route {
    /// Where to.
    pub destination: Cidr,
    /// Index of the interface it leaves through; the first one of a multipath route.
    pub oif: Option<u32>,
    /// Next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Metric; the lowest wins among equal destinations.
    pub priority: u32,
    /// Preferred source address.
    pub source: Option<Ipv4Addr>,
    /// Kind of the route, unicast for most.
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

    /// Every interface, by index.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut links: Vec<_> = self.link_messages().await?.iter().map(link_of).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// What else there is to know about every interface.
    pub async fn link_details(&self) -> Result<Vec<LinkDetails>, NetlinkError> {
        Ok(self.link_messages().await?.iter().map(details_of).collect())
    }

    async fn link_messages(&self) -> Result<Vec<LinkMessage>, NetlinkError> {
        let _turn = self.turn().await;
        let messages = self.handle.link().get().execute().try_collect().await;
        messages.map_err(to("list interfaces"))
    }

    /// One interface by index; `None` if there is none.
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

    /// How many packets the kernel has dropped instead of sending them through an interface; for a
    /// TUN device, those that nobody read in time.
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

    /// Every IPv4 address, in the kernel's order.
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

    /// Sets the MTU of an interface and takes it up.
    pub async fn set_mtu_and_up(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        let change = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
        let what = format!("set MTU {mtu} and up on interface {index}");
        self.handle.link().change(change).execute().await.map_err(to(what))
    }

    /// Gives an interface an address with a /32 prefix, no peer and no broadcast.
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

    /// Takes an address off an interface.
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

pub(super) fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

fn details_of(message: &LinkMessage) -> LinkDetails {
    let mut details = LinkDetails { index: message.header.index, ..LinkDetails::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::TxQueueLen(packets) => details.tx_queue_len = *packets,
            LinkAttribute::Controller(index) => details.controller = Some(*index),
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
