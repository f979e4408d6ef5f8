//! Queueing disciplines (tc(8)).

use futures::TryStreamExt;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, NetlinkError, to};

impl Netlink {
    /// Removes the queueing discipline of an interface if it is the kernel's default for an
    /// interface with several queues (`mq`), which no administrator chose. Returns whether it
    /// removed one.
    ///
    /// Asks on a connection of its own, for the reason given at [`Self::rules`].
    pub async fn drop_default_queueing(&self, index: u32) -> Result<bool, NetlinkError> {
        let own = Self::connect()?;
        let what = format!("look up the queueing disciplines of interface {index}");
        let found = own.handle.qdisc().get().index(index as i32).execute();
        let found: Vec<TcMessage> = found.try_collect().await.map_err(to(what))?;
        if !found.iter().any(|message| is_default_of(index, message)) {
            return Ok(false);
        }
        let mut message = TcMessage::with_index(index as i32);
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("noqueue".into()));
        let what = format!("remove the queueing discipline of interface {index}");
        own.replace_queueing(message).await.map_err(to(what))?;
        Ok(true)
    }

    async fn replace_queueing(&self, message: TcMessage) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = futures::StreamExt::next(&mut answers).await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

fn is_default_of(index: u32, message: &TcMessage) -> bool {
    let header = &message.header;
    let is_mq = |attribute: &TcAttribute| matches!(attribute, TcAttribute::Kind(k) if k == "mq");
    header.index == index as i32
        && header.parent == TcHandle::ROOT
        // Only a discipline that a program has set has a handle.
        && header.handle == TcHandle::UNSPEC
        && message.attributes.iter().any(is_mq)
}
