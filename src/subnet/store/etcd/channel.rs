//! The channel to one endpoint: name, TCP, TLS, HTTP/2.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::Channel;
use futures::future::{BoxFuture, select_ok};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;

use super::options::EtcdOptions;
use crate::names::Names;

/// A channel to `endpoint`, over TLS if there is a configuration for it. It connects when the first
/// request is sent.
///
/// # Errors
/// An endpoint that is no URL.
pub(super) fn open(
    options: &EtcdOptions,
    endpoint: &str,
    tls: Option<ClientConfig>,
    names: &Arc<Names>,
) -> Result<Channel, tonic::transport::Error> {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, authority)| authority);
    // TLS belongs to the connector, so the library has to see a plain URL; servers see the true one.
    let target = Endpoint::try_from(format!("http://{authority}"))?
        .connect_timeout(options.connect_timeout)
        .keep_alive_while_idle(true)
        .http2_keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(options.keep_alive / 2);
    let target = match &tls {
        Some(_) => target.origin(Endpoint::try_from(format!("https://{authority}"))?.uri().clone()),
        None => target,
    };
    let connector = Connector {
        tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
        names: Arc::clone(names),
        keep_alive: options.keep_alive,
        name_limit: options.connect_timeout.mul_f64(NAME_SHARE),
    };
    Ok(Channel::Tonic(target.connect_with_connector_lazy(connector)))
}

/// Opens connections to an endpoint.
#[derive(Clone)]
struct Connector {
    tls: Option<TlsConnector>,
    names: Arc<Names>,
    keep_alive: Duration,
    name_limit: Duration,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(connector.connect(&uri).await?)) })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> io::Result<Box<dyn Stream>> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let stream = self.tcp(host, port).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }

    /// The first of the host's addresses that answers. Each is given a lead before the next one is
    /// tried beside it (RFC 8305, section 5).
    async fn tcp(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let addresses = self.names.resolve(host, port, self.name_limit).await?;
        let attempts = addresses.into_iter().zip(0u32..).map(|(address, number)| {
            Box::pin(async move {
                sleep(ATTEMPT_DELAY * number).await;
                TcpStream::connect(address).await
            })
        });
        let (stream, _) = select_ok(attempts).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(self.keep_alive))?;
        Ok(stream)
    }
}

/// Lead of one address over the next: "Connection Attempt Delay" of RFC 8305, section 8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Part of the time for a connection within which a name has to be resolved, so that an error can
/// say that it was not.
const NAME_SHARE: f64 = 0.6;
