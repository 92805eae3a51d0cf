//! A client that looks at it as it happens: each second how all applications fare, and of one of them everything; whole
//! transactions when it asks for one. It is sent only points that it has not had.

use super::client::{MAX_REQUEST, choose, write};
use crate::exports::Overviews;
use pyapm_model::service::{Ask, Figures, Overview, Response, State, Watch};
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// Points that are sent at once, at most; of more, the latest.
const MOST_POINTS: usize = 8_000;

/// Where one client stands.
struct Session<'a> {
    stream: &'a mut UnixStream,
    overview: Arc<Overview>,
    chosen: Option<u32>,
    /// Number of the last point that was sent.
    sent: u64,
    /// Of a line that has not come to its end.
    heard: Vec<u8>,
}

/// The client has left, does not take what it asked for, or talks nonsense.
struct Over;

/// Serves it to the end.
pub(super) async fn view(
    stream: &mut UnixStream,
    overviews: &mut Overviews,
    overview: Arc<Overview>,
    wanted: &Watch,
) {
    let chosen = match choose(&overview, wanted) {
        Ok(state) => Some(state.info.id),
        // It has not said which: it will, when it has seen which there are.
        Err(_) if *wanted == Watch::default() => None,
        Err(message) => {
            let _left = write(stream, &Response::Error { message }).await;
            return;
        }
    };
    let mut session = Session { stream, overview, chosen, sent: 0, heard: Vec::new() };
    let mut buffer = [0; 512];
    if session.tell().await.is_err() {
        return;
    }
    loop {
        let told = tokio::select! {
            overview = overviews.next() => {
                let Some(overview) = overview else { return };
                session.overview = overview;
                session.tell().await
            }
            count = session.stream.read(&mut buffer) => match count {
                Ok(count) if count > 0 => session.hear(buffer.get(..count).unwrap_or_default()).await,
                _ => return,
            },
        };
        if told.is_err() {
            return;
        }
    }
}

impl Session<'_> {
    fn state(&self, application: u32) -> Option<&Arc<State>> {
        self.overview.applications.iter().find(|state| state.info.id == application)
    }

    async fn say(&mut self, response: &Response) -> Result<(), Over> {
        write(self.stream, response).await.map_err(|_left| Over)
    }

    /// Everything that is due each second.
    async fn tell(&mut self) -> Result<(), Over> {
        let all = self.overview.applications.iter();
        let applications = all.map(|state| Figures::of(&state.info, &state.snapshot)).collect();
        self.say(&Response::Figures { applications }).await?;
        let Some(application) = self.chosen else { return Ok(()) };
        // One that has been forgotten is no longer among the figures, by which the client knows.
        let Some(state) = self.state(application).cloned() else { return Ok(()) };
        let points = state.snapshot.recent.since(self.sent, MOST_POINTS);
        self.say(&Response::Snapshot(state)).await?;
        if let Some(last) = points.points.last() {
            self.sent = last.number;
        }
        self.say(&Response::Points { application, points }).await
    }

    async fn hear(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.heard.extend_from_slice(bytes);
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            match serde_json::from_slice::<Ask>(&line) {
                Ok(ask) => self.answer(&ask).await?,
                Err(error) => {
                    self.say(&Response::Error { message: format!("not a question: {error}") }).await?;
                    return Err(Over);
                }
            }
        }
        if self.heard.len() > MAX_REQUEST { Err(Over) } else { Ok(()) }
    }

    async fn answer(&mut self, ask: &Ask) -> Result<(), Over> {
        match *ask {
            Ask::Choose { application } => {
                self.chosen = Some(application);
                self.sent = 0;
                self.tell().await
            }
            Ask::Transaction { application, number } => {
                let state = self.state(application);
                let transaction = state.and_then(|state| state.snapshot.recent.whole(number)).cloned();
                self.say(&Response::Transaction { application, number, transaction }).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exports::Publisher;
    use pyapm_model::recent::{Point, Recent, Whole};
    use pyapm_model::service::ApplicationInfo;
    use pyapm_model::snapshot::Snapshot;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::task::JoinHandle;

    fn overview(numbers: &[u64]) -> Overview {
        let point = |number: &u64| Point {
            number: *number,
            ended_ns: *number,
            duration_ns: 5,
            name: "GET /".into(),
            status: Some(200),
            is_error: false,
            pid: 1,
            is_whole: true,
        };
        let whole = numbers.iter().map(|number| Whole { number: *number, transaction: Arc::default() });
        let recent = Recent {
            seconds: vec![Arc::new(numbers.iter().map(point).collect())],
            whole: whole.collect(),
            left_out: 3,
        };
        let state = |id: u32| {
            let info = ApplicationInfo { id, name: format!("shop{id}"), ..ApplicationInfo::default() };
            let snapshot = Snapshot { recent: recent.clone(), ..Snapshot::default() };
            Arc::new(State { info: Arc::new(info), snapshot, ..State::default() })
        };
        Overview { applications: vec![state(1), state(2)], ..Overview::default() }
    }

    struct Client {
        stream: BufReader<UnixStream>,
        publisher: Publisher,
        served: JoinHandle<()>,
    }

    impl Client {
        fn start(wanted: Watch) -> Self {
            let publisher = Publisher::new(4);
            publisher.publish_overview(overview(&[1, 2]));
            let mut overviews = publisher.overviews();
            let (near, mut far) = UnixStream::pair().unwrap();
            let first = overviews.newest();
            let served = tokio::spawn(async move { view(&mut far, &mut overviews, first, &wanted).await });
            Self { stream: BufReader::new(near), publisher, served }
        }

        async fn next(&mut self) -> Option<Response> {
            let mut line = String::new();
            let count = self.stream.read_line(&mut line).await.unwrap();
            (count > 0).then(|| serde_json::from_str(&line).unwrap())
        }

        async fn say(&mut self, line: &str) {
            self.stream.get_mut().write_all(line.as_bytes()).await.unwrap();
        }

        /// The numbers of the points in the next round, which begins with the figures.
        async fn round(&mut self) -> Vec<u64> {
            assert!(
                matches!(self.next().await, Some(Response::Figures { applications }) if applications.len() == 2)
            );
            assert!(matches!(self.next().await, Some(Response::Snapshot(_))));
            match self.next().await {
                Some(Response::Points { points, .. }) => {
                    points.points.iter().map(|point| point.number).collect()
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_view_is_sent_each_point_once_and_what_it_asks_for() {
        let mut client = Client::start(Watch { application: Some(1), ..Watch::default() });
        assert_eq!(client.round().await, [1, 2]);
        client.publisher.publish_overview(overview(&[1, 2, 3, 4]));
        assert_eq!(client.round().await, [3, 4]);
        for (number, there) in [(4, true), (99, false)] {
            // In two pieces: a line is a line however it comes.
            client.say("{\"type\":\"transaction\",\"applica").await;
            client.say(&format!("tion\":1,\"number\":{number}}}\n")).await;
            let Some(Response::Transaction { number: answered, transaction, .. }) = client.next().await
            else {
                panic!("no answer");
            };
            assert_eq!((answered, transaction.is_some()), (number, there));
        }
        client.say("{\"type\":\"choose\",\"application\":2}\n").await;
        assert_eq!(client.round().await, [1, 2, 3, 4]);
        drop(client.stream);
        client.served.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_say_which_is_told_of_all_and_may_choose() {
        let mut client = Client::start(Watch::default());
        assert!(matches!(client.next().await, Some(Response::Figures { .. })));
        client.say("{\"type\":\"choose\",\"application\":7}\n").await;
        assert!(matches!(client.next().await, Some(Response::Figures { .. })));
        client.say("{\"type\":\"choose\",\"application\":2}\n").await;
        assert_eq!(client.round().await, [1, 2]);
        let mut client = Client::start(Watch { name: Some("other".to_owned()), ..Watch::default() });
        assert!(matches!(client.next().await, Some(Response::Error { .. })));
        assert_eq!(client.next().await, None);
    }

    #[tokio::test]
    async fn nonsense_ends_it() {
        for nonsense in ["\n", "{}\n", "[1]\n", "{\"type\":\"transaction\",\"number\":-1}\n"] {
            let mut client = Client::start(Watch::default());
            assert!(matches!(client.next().await, Some(Response::Figures { .. })));
            client.say(nonsense).await;
            assert!(matches!(client.next().await, Some(Response::Error { .. })), "{nonsense}");
            assert_eq!(client.next().await, None);
            client.served.await.unwrap();
        }
        let mut client = Client::start(Watch::default());
        assert!(matches!(client.next().await, Some(Response::Figures { .. })));
        // A line without an end.
        client.say(&"a".repeat(MAX_REQUEST + 1_000)).await;
        client.served.await.unwrap();
    }
}
