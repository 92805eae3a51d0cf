//! One HTTP/1.1 connection: sends a request whole, in parts or ahead of its answers, and reads answers to their last
//! byte. It trusts the servers of the tests and is no general client.

use super::request::Request;
use anyhow::{Context, Result, bail};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server that does not answer for so long never will.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// `127.0.0.1:80` or `unix:/path`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Ok(Self::Unix(path.into())),
            None => Ok(Self::Tcp(text.parse().with_context(|| format!("`{text}` is no address"))?)),
        }
    }
}

/// One answer, read to its last byte.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// Without the chunks' marks.
    pub body: Vec<u8>,
    /// As they came over the connection: head, body and the chunks' marks.
    pub bytes: u64,
    /// From before the first byte was sent to after the last was read.
    pub elapsed: Duration,
}

impl Answer {
    /// The value of the first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The process that answered.
    ///
    /// # Errors
    /// When the workload did not say.
    pub fn worker(&self) -> Result<u32> {
        self.header("x-worker").and_then(|pid| pid.parse().ok()).context("no `X-Worker` in the answer")
    }
}

/// Either socket.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buffer),
            Self::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Stream>,
    /// Bytes taken out of `stream` so far.
    taken: u64,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: &Address) -> Result<Self> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, TIMEOUT)
                    .with_context(|| format!("could not connect to {address}"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)
                    .with_context(|| format!("could not connect to `{}`", path.display()))?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Stream::Unix(stream)
            }
        };
        Ok(Self { stream: BufReader::new(stream), taken: 0 })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// When the connection breaks first.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        let began = Instant::now();
        if request.waits() {
            self.send(&request.head_bytes())?;
            let status = self.read_status()?;
            if status != 100 {
                bail!("`{}`: expected `100 Continue`, got {status}", request.target);
            }
            self.read_headers()?;
            self.send(&request.body_bytes())?;
        } else {
            let mut bytes = request.head_bytes();
            bytes.extend(request.body_bytes());
            self.send(&bytes)?;
        }
        let mut answer = self.answer(request)?;
        answer.elapsed = began.elapsed();
        Ok(answer)
    }

    /// Sends bytes as they are: a part of a request, or several requests at once.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("the connection broke while sending")
    }

    /// Reads the answer to a request that has been sent. Its `elapsed` counts from this call.
    ///
    /// # Errors
    /// When the connection breaks first.
    pub fn answer(&mut self, request: &Request) -> Result<Answer> {
        let (began, before) = (Instant::now(), self.taken);
        let status = self.read_status()?;
        let headers = self.read_headers()?;
        let value =
            |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if request.method == "HEAD" || status == 204 || status == 304 {
            // RFC 9112 section 6.3: these never have a body, whatever their headers say.
        } else if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            self.read_chunks(&mut body)?;
        } else if let Some(length) = value("content-length") {
            let length: usize = length.parse().context("a Content-Length that is no number")?;
            body.resize(length, 0);
            self.stream.read_exact(&mut body).context("the body ended early")?;
            self.taken += length as u64;
        } else {
            self.taken += self.stream.read_to_end(&mut body).context("the body ended early")? as u64;
        }
        Ok(Answer { status, headers, body, bytes: self.taken - before, elapsed: began.elapsed() })
    }

    /// Reads the head of an answer that goes on; returns its status.
    ///
    /// # Errors
    /// When the connection breaks first.
    pub fn head(&mut self) -> Result<u16> {
        let status = self.read_status()?;
        self.read_headers()?;
        Ok(status)
    }

    /// Sends one request and reads until the server closes the connection. Its `elapsed` reaches to that moment,
    /// which comes after the server's last send has returned; the last byte may come before.
    ///
    /// # Errors
    /// When the connection breaks first, or more than the answer comes.
    pub fn ask_until_closed(mut self, request: &Request) -> Result<Answer> {
        let began = Instant::now();
        let mut answer = self.ask(request)?;
        if self.read_some(1)? != 0 {
            bail!("`{}`: more came than the answer", request.target);
        }
        answer.elapsed = began.elapsed();
        Ok(answer)
    }

    /// Reads at most `count` bytes of whatever comes, once.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn read_some(&mut self, count: usize) -> Result<usize> {
        let mut buffer = vec![0; count];
        self.stream.read(&mut buffer).context("the connection broke while reading")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).context("the connection broke while reading")?;
        if read == 0 {
            bail!("the server closed the connection before its answer ended");
        }
        self.taken += read as u64;
        Ok(line.trim_end().to_owned())
    }

    fn read_status(&mut self) -> Result<u16> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.with_context(|| format!("`{line}` is no status line"))
    }

    fn read_headers(&mut self) -> Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { return Ok(headers) };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .with_context(|| format!("`{line}` is no size of a chunk"))?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..]).context("a chunk ended early")?;
            self.taken += size as u64;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that reads nothing in particular and says this.
    fn saying(words: &'static [u8]) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0);
            stream.write_all(words).unwrap();
        });
        address
    }

    #[test]
    fn a_chunked_answer_is_put_together() {
        let address = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Worker: 7\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
        let answer = Connection::open(&address).unwrap().ask(&Request::get("/")).unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), answer.worker().unwrap()), (200, &b"abcd"[..], 7));
        assert_eq!(answer.bytes, 79);
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let address = saying(b"HTTP/1.0 200 OK\r\n\r\nall of it");
        let answer = Connection::open(&address).unwrap().ask(&Request::get("/")).unwrap();
        assert_eq!(answer.body, b"all of it");
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let address = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour");
        assert!(Connection::open(&address).unwrap().ask(&Request::get("/")).is_err());
    }
}
