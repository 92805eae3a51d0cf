//! One HTTP/1.1 request, as bytes. It does not send them.

/// What a request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    #[default]
    None,
    /// So many bytes, their number told before.
    Length(usize),
    /// So many bytes in chunks of at most the second number.
    Chunked(usize, usize),
}

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    /// With its query string.
    pub target: String,
    pub body: Body,
    close: bool,
    expect: bool,
}

impl Request {
    /// A GET on a connection that stays open.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self { method: "GET", target: target.to_owned(), body: Body::None, close: false, expect: false }
    }

    /// A HEAD on a connection that stays open.
    #[must_use]
    pub fn head(target: &str) -> Self {
        Self { method: "HEAD", ..Self::get(target) }
    }

    /// A POST on a connection that stays open.
    #[must_use]
    pub fn post(target: &str, body: Body) -> Self {
        Self { method: "POST", body, ..Self::get(target) }
    }

    /// The same, asking the server to close the connection after it.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The same, sending the body only after the server's `100 Continue`.
    #[must_use]
    pub fn expect_continue(mut self) -> Self {
        self.expect = true;
        self
    }

    /// Whether the body waits for `100 Continue`.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.expect
    }

    /// Whether the connection ends with it.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The target without its query string: what pyapm reports.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Request line and headers, with the empty line.
    #[must_use]
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: load\r\n", self.method, self.target);
        match self.body {
            Body::None => {}
            Body::Length(length) => {
                head.push_str(&format!(
                    "Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n"
                ));
            }
            Body::Chunked(..) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        if self.expect {
            head.push_str("Expect: 100-continue\r\n");
        }
        if self.close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The body with its chunks' marks.
    #[must_use]
    pub fn body_bytes(&self) -> Vec<u8> {
        match self.body {
            Body::None => Vec::new(),
            Body::Length(length) => vec![b'b'; length],
            Body::Chunked(length, largest) => {
                let mut bytes = Vec::new();
                let mut left = length;
                while left > 0 {
                    let size = left.min(largest.max(1));
                    bytes.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                    bytes.resize(bytes.len() + size, b'c');
                    bytes.extend_from_slice(b"\r\n");
                    left -= size;
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
                bytes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_marked() {
        let request = Request::post("/upload?x=1", Body::Chunked(5, 3));
        assert_eq!(request.body_bytes(), b"3\r\nccc\r\n2\r\ncc\r\n0\r\n\r\n");
        assert_eq!(request.path(), "/upload");
        assert!(String::from_utf8(request.head_bytes()).unwrap().contains("Transfer-Encoding: chunked\r\n"));
    }
}
