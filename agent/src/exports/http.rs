//! A small HTTP server for pages that machines fetch: answers GET and HEAD, closes on whoever is slow, and lets in
//! no more clients than it can bear. It knows no page.

use anyhow::{Context, bail};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Connections at one time; further ones wait in the kernel's queue.
const CLIENTS: usize = 64;
/// For the head of a request, and for a TLS handshake.
const HEAD: Duration = Duration::from_secs(5);
/// For everything on one connection: scrapers come back.
const CONNECTION: Duration = Duration::from_secs(120);

/// Where to listen, and whom to let in.
#[derive(Clone, Default)]
pub struct Door {
    tls: Option<TlsAcceptor>,
    token: Option<Arc<str>>,
}

/// What a page is asked with.
#[derive(Debug)]
pub struct Asked<'a> {
    pub path: &'a str,
    /// The header `Accept`; empty when there is none.
    pub accept: &'a str,
}

/// A page: its type and its bytes.
pub type Page = (&'static str, Vec<u8>);

impl Door {
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub fn new(token: Option<&Path>, certificate: Option<&Path>, key: Option<&Path>) -> anyhow::Result<Self> {
        let token = token.map(read_token).transpose()?;
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
            _ => None,
        };
        Ok(Self { tls, token })
    }

    /// Serves until it is dropped. `page` answers `None` for a path that there is not.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve<F>(self, listen: SocketAddr, page: F) -> anyhow::Result<Infallible>
    where
        F: Fn(&Asked<'_>) -> Option<Page> + Clone + Send + Sync + 'static,
    {
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
        let clients = Arc::new(Semaphore::new(CLIENTS));
        // Connections end with the listener.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let permit = Arc::clone(&clients).acquire_owned().await.context("the server is closed")?;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or the client has gone: neither ends the server.
                    tracing::debug!("a connection was not taken: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let (door, page) = (self.clone(), page.clone());
            connections.spawn(async move {
                let _held_until_the_end = permit;
                if let Err(error) = door.connection(stream, page).await {
                    tracing::debug!("a client of the HTTP server: {error:#}");
                }
            });
        }
    }

    async fn connection<F>(&self, stream: tokio::net::TcpStream, page: F) -> anyhow::Result<()>
    where
        F: Fn(&Asked<'_>) -> Option<Page> + Send + Sync + 'static,
    {
        match &self.tls {
            None => self.http(stream, page).await,
            Some(acceptor) => {
                let stream = timeout(HEAD, acceptor.accept(stream)).await.context("handshake too slow")??;
                self.http(stream, page).await
            }
        }
    }

    async fn http<S, F>(&self, stream: S, page: F) -> anyhow::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(&Asked<'_>) -> Option<Page> + Send + Sync + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let response = self.answer(&request, &page);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        timeout(CONNECTION, connection).await.context("too slow")??;
        Ok(())
    }

    fn answer<F>(&self, request: &Request<Incoming>, page: &F) -> Response<Full<Bytes>>
    where
        F: Fn(&Asked<'_>) -> Option<Page>,
    {
        if !self.may(request) {
            let mut response = plain(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            return response;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET alone\n");
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let asked = Asked { path: request.uri().path(), accept: accept.unwrap_or_default() };
        match page(&asked) {
            Some((kind, bytes)) => {
                let mut response = Response::new(Full::from(bytes));
                response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
                response
            }
            None => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn may(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        given.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|given| same(given, token))
    }
}

/// Takes as long for any two texts of one length, so that nothing is learnt from it.
fn same(one: &str, other: &str) -> bool {
    let difference = one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && difference == 0
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn read_token(path: &Path) -> anyhow::Result<Arc<str>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token `{}`", path.display()))?;
    match text.lines().next().map(str::trim) {
        Some(token) if !token.is_empty() => Ok(token.into()),
        _ => bail!("the first line of `{}` is empty, and no token", path.display()),
    }
}

fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read certificates from `{}`", certificate.display()))?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a private key from `{}`", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no TLS version is usable")?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("`{}` and `{}` do not fit", certificate.display(), key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
