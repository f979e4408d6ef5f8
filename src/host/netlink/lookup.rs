//! What decides where the kernel sends a packet, and the kernel's own answer.

use std::net::Ipv4Addr;

use futures::TryStreamExt;
use rtnetlink::packet_route::route::{RouteFlags, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::routes::{route_of, table_of};
use super::{KernelRoute, Netlink, NetlinkError, RouteQuestion, to};
use crate::route::Cidr;

/// The route that the kernel chose for one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenRoute {
    /// The routing table that it was found in; before Linux 4.4 always the main table.
    pub table: u32,
    /// The route itself; its destination is the packet's.
    pub route: KernelRoute,
}

/// A policy routing rule, `ip rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutingRule {
    /// Its priority; the kernel begins with the lowest.
    pub priority: u32,
    /// The table that it leads to; 0 for a rule without one.
    pub table: u32,
    /// The destinations that it is for.
    pub to: Cidr,
}

impl Netlink {
    /// Lists every IPv4 route with its table, of all tables.
    ///
    /// The kernel also lists what it has learnt about single destinations, such as a path MTU by an ICMP error that
    /// anybody can forge (`fib_dump_info_fnhe` in `net/ipv4/route.c`). Those are nobody's routes, and left out.
    pub async fn routes_of_all_tables(&self) -> Result<Vec<(u32, KernelRoute)>, NetlinkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let _turn = self.turn().await;
        let answer = self.handle.route().get(all).execute().try_collect::<Vec<RouteMessage>>();
        let messages = answer.await.map_err(to("list routes"))?;
        let added = messages.iter().filter(|m| !m.header.flags.contains(RouteFlags::Cloned));
        Ok(added.map(|message| (table_of(message), route_of(message))).collect())
    }

    /// Lists every IPv4 policy routing rule; none if the kernel has no policy routing.
    ///
    /// Asks on a connection of its own: QEMU's user-mode emulation refuses to send the request
    /// (`linux-user/fd-trans.c`), which ends the connection.
    pub async fn rules(&self) -> Result<Vec<RoutingRule>, NetlinkError> {
        let own = Self::connect()?;
        let answer = own.handle.rule().get(IpVersion::V4).execute();
        match answer.try_collect::<Vec<RuleMessage>>().await.map_err(to("list routing rules")) {
            Ok(messages) => Ok(messages.iter().map(rule_of).collect()),
            // CONFIG_IP_MULTIPLE_TABLES is not set, or the connection has ended.
            Err(error)
                if matches!(error.errno(), None | Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the route that the kernel chooses for a packet, and the table that it comes from.
    ///
    /// # Errors
    /// The kernel drops the packet, with the error number that it gives.
    pub async fn chosen_route(
        &self,
        question: &RouteQuestion,
    ) -> Result<ChosenRoute, NetlinkError> {
        let mut message = question.message();
        message.header.flags = RouteFlags::LookupTable;
        let answer = self.ask(message, question.destination).await?;
        Ok(ChosenRoute { table: table_of(&answer), route: route_of(&answer) })
    }

    /// Asks for the route of one packet, with a message about its `destination`.
    pub(super) async fn ask(
        &self,
        message: RouteMessage,
        destination: Ipv4Addr,
    ) -> Result<RouteMessage, NetlinkError> {
        let what = format!("find the route to {destination}");
        let _turn = self.turn().await;
        let answer = self.handle.route().get(message).execute().try_next().await;
        answer
            .map_err(to(what.clone()))?
            .ok_or_else(|| NetlinkError::new(what, std::io::ErrorKind::NotFound.into()))
    }
}

fn rule_of(message: &RuleMessage) -> RoutingRule {
    let mut rule = RoutingRule {
        priority: 0,
        table: message.header.table.into(),
        to: Cidr::new(Ipv4Addr::UNSPECIFIED, 0),
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Destination(std::net::IpAddr::V4(address)) => {
                rule.to = Cidr::new(*address, message.header.dst_len.min(32));
            }
            _ => {}
        }
    }
    rule
}
