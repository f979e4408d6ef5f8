//! A minimal HTTP/1.0 client without TLS: for what etcd serves outside of gRPC, and for the metrics of other hosts.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server's response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    /// The server's clock from its `Date` header, in seconds since 1970.
    pub(crate) date: Option<i64>,
    pub(crate) body: String,
}

/// Requests `path` from `authority` (`host:port`), and reads at most `max` bytes.
///
/// # Errors
/// There is no valid response within `limit`.
pub(crate) async fn get(
    authority: &str,
    path: &str,
    limit: Duration,
    max: u64,
) -> io::Result<HttpResponse> {
    let talk = async {
        let mut stream = TcpStream::connect(authority).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(max).read_to_end(&mut bytes).await?;
        parse(&String::from_utf8_lossy(&bytes))
            .ok_or_else(|| io::Error::other("the server there does not speak HTTP"))
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, talk).await.map_err(|_| late())?
}

fn parse(text: &str) -> Option<HttpResponse> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let date = lines.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("date").then(|| date(value)).flatten()
    });
    Some(HttpResponse { status, date, body: body.to_owned() })
}

/// Parses a date such as `Tue, 24 Nov 2026 19:06:08 GMT` (RFC 9110 §5.6.7).
fn date(text: &str) -> Option<i64> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000),
        ] {
            assert_eq!(date(text), Some(seconds), "{text}");
        }
        for bad in ["", "yesterday", "Sun, 06 Xyz 1994 08:49:37 GMT"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    #[test]
    fn answers() {
        let answer = parse("HTTP/1.0 200 OK\r\nDATE: Thu, 01 Jan 1970 00:00:07 GMT\r\n\r\n{}");
        assert_eq!(answer, Some(HttpResponse { status: 200, date: Some(7), body: "{}".into() }));
        assert_eq!(parse("garbage"), None);
    }
}
